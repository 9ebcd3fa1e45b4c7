//! Keeps a stack like a network namespace of the host: its interfaces, addresses, routes, rules, neighbours and settings as they
//! stand there, and what changes later. What programs inside have changed beside that stays.
//!
//! `view` reads what the host tells, by the same parsers that read the requests of programs; `apply` brings the stack from one view
//! to the next; `settings` copies /proc/sys/net once.

mod apply;
mod settings;
mod view;

use std::sync::{Arc, Weak};

use netstack::link::NicId;
use netstack_host::netns::{
    Follower, Following, LinkInfo, Namespace, Snapshot, TakeError, Taken, TakenNic,
};
use sentry_kernel::log::{Level, Log};

use crate::netns::{NetError, NetNamespace, NicLink, NicSetup};
use view::View;

/// Puts something between the stack and an interface's device, such as faults.
pub type Wrap = Box<dyn Fn(&TakenNic) -> NicLink + Send>;

/// Who brings a stack along.
struct Mirror {
    net: Weak<NetNamespace>,
    host: Namespace,
    last: View,
    wrap: Wrap,
    log: Arc<dyn Log>,
    /// What was told to be without effect, so that it is not told again with every other change.
    told: Vec<String>,
}

/// Makes a stack like a namespace that was taken, and keeps it so until what is returned is dropped. What has no place in the
/// stack is told to the log. Errors: an interface cannot be added; the namespace cannot be read; no thread is to be had.
pub(crate) fn start(
    net: &Arc<NetNamespace>,
    taken: Taken,
    wrap: Wrap,
    log: Arc<dyn Log>,
) -> Result<Following, NetError> {
    for nic in &taken.nics {
        add(net, nic, &wrap)?;
    }
    let mut problems = Vec::new();
    let names: Vec<String> = net.stack().nics().into_iter().map(|nic| nic.name).collect();
    let paths = settings::of_all(&names);
    settings::copy(net, &taken.namespace, &paths, &mut problems).map_err(NetError::Host)?;
    let new = view::parse(net, &taken.snapshot, &mut problems);
    apply::apply(net, &view::of_stack(net), &new, &mut problems);
    let (host, told) = (taken.namespace, Vec::new());
    let mut mirror = Mirror { net: Arc::downgrade(net), host, last: new, wrap, log, told };
    mirror.tell(problems);
    taken.watch.start(Box::new(mirror)).map_err(NetError::Driver)
}

/// Adds an interface with the number that it has on the host, and without the address that it brings: the host tells its own.
fn add(net: &NetNamespace, nic: &TakenNic, wrap: &Wrap) -> Result<(), NetError> {
    let LinkInfo { ifindex, name, mac, mtu, .. } = &nic.link;
    let setup = NicSetup {
        name: name.clone(),
        link: wrap(nic),
        mac: *mac,
        addresses: Vec::new(),
        mtu: *mtu,
    };
    let id = net.add_device(Some(NicId(*ifindex)), setup)?;
    for (_, own) in net.stack().addresses().into_iter().filter(|(nic, _)| *nic == id) {
        // It is there, as was just told.
        let _ = net.stack().remove_address(id, own.cidr);
    }
    Ok(())
}

impl Mirror {
    fn tell(&mut self, problems: Vec<String>) {
        for problem in problems.iter().filter(|problem| !self.told.contains(problem)) {
            self.log.write(Level::Warn, format_args!("{problem}"));
        }
        self.told = problems;
    }
}

impl Follower for Mirror {
    fn changed(&mut self, snapshot: Snapshot, added: Vec<TakenNic>, gone: Vec<u32>) {
        let Some(net) = self.net.upgrade() else { return };
        let mut problems = Vec::new();
        for ifindex in gone {
            net.remove_device(NicId(ifindex));
            self.last.forget(NicId(ifindex));
        }
        for nic in &added {
            let paths = settings::of(&nic.link.name);
            let added = add(&net, nic, &self.wrap)
                .and_then(|()| Ok(settings::copy(&net, &self.host, &paths, &mut problems)?));
            if let Err(error) = added {
                problems.push(error.to_string());
            }
        }
        // What an interface brings with itself is compared with what the host has on it.
        self.last.adopt(&view::of_stack(&net), added.iter().map(|nic| NicId(nic.link.ifindex)));
        let new = view::parse(&net, &snapshot, &mut problems);
        apply::apply(&net, &self.last, &new, &mut problems);
        self.last = new;
        self.tell(problems);
    }

    fn failed(&mut self, error: &TakeError) {
        self.log.write(
            Level::Warn,
            format_args!("a change of the network namespace has no effect: {error}"),
        );
    }
}
