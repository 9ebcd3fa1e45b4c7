//! Takes the interfaces of a namespace: a packet socket on each, and silence for the host's stack on them.

use std::io;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::stat::stat;

use super::Namespace;
use super::follow::{self, Watch};
use super::foreign::{self, Foreign, Found};
use super::read::{self, LinkInfo, Snapshot};
use super::silence::Silence;
use crate::device::{Device, Offloading};
use crate::loopback::DockerResolver;
use crate::packet::{Filtering, PacketConfig, PacketDevice, PacketError};
use crate::tap::{Tap, TapError};

/// What becomes of a namespace whose host's stack has rules that ours cannot honour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Rules {
    /// It is not taken.
    #[default]
    Refuse,
    /// It is taken, and they have no effect.
    Ignore,
}

/// How a namespace is taken.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Taking {
    /// What devices do for what is sent.
    pub offloading: Offloading,
    /// What devices take.
    pub filtering: Filtering,
    /// What becomes of rules.
    pub rules: Rules,
    /// Interfaces whose frames somebody redirects.
    pub redirected: Vec<Redirected>,
}

/// An interface whose frames pass a TAP device of the same namespace, both ways (tc at the ingress of both).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redirected {
    /// The interface.
    pub name: String,
    /// The TAP device, which must be there.
    pub tap: String,
}

impl Taking {
    fn tap_of(&self, link: &LinkInfo) -> Option<&str> {
        let all = self.redirected.iter();
        all.filter(|one| one.name == link.name).map(|one| one.tap.as_str()).next()
    }

    /// Whether the link is the TAP device of another one, and not an interface of its own.
    fn is_tap(&self, link: &LinkInfo) -> bool {
        self.redirected.iter().any(|one| one.tap == link.name)
    }
}

/// Why a namespace was not taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The descriptor is of none, or it may not be entered.
    #[error("cannot enter the network namespace: {0}")]
    Enter(Errno),
    /// rtnetlink.
    #[error("cannot read the network namespace: {0}")]
    Read(Errno),
    /// It is that of the machine.
    #[error(
        "this is the network namespace of the machine itself, which would be cut off from its network: name another one"
    )]
    Initial,
    /// Somebody has it.
    #[error(
        "another sandbox serves this network namespace already: two stacks cannot have the same addresses"
    )]
    Busy,
    /// No privilege for nftables.
    #[error(
        "not permitted to silence the host's stack in the network namespace: run as root or with CAP_NET_ADMIN over it"
    )]
    NotPermitted,
    /// nftables.
    #[error(
        "cannot silence the host's stack on {device} ({errno}): this needs nftables with tables that have an owner (Linux 5.12, module nf_tables)"
    )]
    Silence {
        /// The interface, or what else.
        device: String,
        /// The host's answer.
        errno: Errno,
    },
    /// An interface of a kind that the stack does not have.
    #[error("the interface {name} cannot be served: {why}")]
    Unsupported {
        /// Its name.
        name: String,
        /// What of it.
        why: String,
    },
    /// Rules that would be lost.
    #[error(
        "the network namespace has rules that would have no effect on the sandbox: {}. Remove them, or go on without them (--ignore-host-rules)",
        .0.iter().cloned().collect::<Vec<_>>().join(", ")
    )]
    Foreign(Foreign),
    /// The packet socket.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// The TAP device.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

impl TakeError {
    pub(super) fn enter(errno: Errno) -> TakeError {
        TakeError::Enter(errno)
    }
}

/// An interface of the namespace, and what carries its frames.
pub struct TakenNic {
    /// The interface.
    pub link: LinkInfo,
    /// Its device.
    pub device: Arc<dyn Device>,
}

/// A namespace that is served from now on, until what it holds is dropped.
pub struct Taken {
    /// The namespace.
    pub namespace: Namespace,
    /// The interfaces that are taken.
    pub nics: Vec<TakenNic>,
    /// What stood there when they had been taken.
    pub snapshot: Snapshot,
    /// Whether Docker's resolver is there.
    pub resolver: DockerResolver,
    /// What tells of changes, and keeps the host's stack silent.
    pub watch: Watch,
}

/// Whether an interface is one to take. Errors: Unsupported.
fn is_wanted(link: &LinkInfo, all: &[LinkInfo]) -> Result<bool, TakeError> {
    let refuse = |why: String| Err(TakeError::Unsupported { name: link.name.clone(), why });
    // A port belongs to its bridge or bond, which is taken in its place.
    if link.is_loopback() || link.master.is_some() {
        return Ok(false);
    }
    if !link.is_ethernet() {
        // Tunnels that are there in every namespace once their module is loaded (tunl0, sit0) are down.
        return match link.up {
            true => refuse("its frames are not Ethernet's; take it down (ip link set down)".into()),
            false => Ok(false),
        };
    }
    let lower = all.iter().find(|other| link.lower == Some(other.ifindex));
    match lower {
        Some(lower) if link.up => refuse(format!(
            "it lies on {}, whose frames would not reach it; take it down (ip link set down)",
            lower.name
        )),
        Some(_) => Ok(false),
        None => Ok(true),
    }
}

/// The interfaces to take. Errors: Unsupported.
pub(super) fn wanted<'a>(
    links: &'a [LinkInfo],
    how: &Taking,
) -> Result<Vec<&'a LinkInfo>, TakeError> {
    let mut all = Vec::new();
    for link in links.iter().filter(|link| !how.is_tap(link)) {
        if is_wanted(link, links)? {
            all.push(link);
        }
    }
    Ok(all)
}

/// Takes one interface of the caller's namespace.
pub(super) fn one(
    link: &LinkInfo,
    how: &Taking,
    silence: &mut Silence,
) -> Result<TakenNic, TakeError> {
    let device: Arc<dyn Device> = match how.tap_of(link) {
        Some(tap) => Tap::join(tap, link.mtu, how.offloading)?,
        None => PacketDevice::open(&PacketConfig {
            name: link.name.clone(),
            ifindex: link.ifindex,
            offloading: how.offloading,
            filtering: how.filtering,
        })?,
    };
    silence
        .add(link.ifindex, &link.name)
        .map_err(|errno| TakeError::Silence { device: link.name.clone(), errno })?;
    Ok(TakenNic { link: link.clone(), device })
}

/// Whether the caller is in the namespace of the first process. Where that one hides, it is another's.
fn is_initial() -> bool {
    let of = |path| stat(path).map(|file| (file.st_dev, file.st_ino)).ok();
    let first = of("/proc/1/ns/net");
    first.is_some() && first == of("/proc/thread-self/ns/net")
}

fn silence() -> Result<Silence, TakeError> {
    Silence::new().map_err(|errno| match errno {
        // The owner of a table is the only one who may name it.
        _ if Silence::is_there() => TakeError::Busy,
        Errno::EPERM | Errno::EACCES => TakeError::NotPermitted,
        errno => TakeError::Silence { device: "its interfaces".into(), errno },
    })
}

/// Takes all interfaces of a namespace and reads it.
pub fn take(namespace: &Namespace, how: Taking) -> Result<Taken, TakeError> {
    namespace.within(|| {
        if is_initial() {
            return Err(TakeError::Initial);
        }
        // Listen first: no change falls between what is read and what is told.
        let notices = follow::listen().map_err(TakeError::Read)?;
        let links = read::links().map_err(TakeError::Read)?;
        let wanted = wanted(&links, &how)?;
        // What redirects an interface's frames to its TAP device is how they come here.
        let foreign =
            foreign::find(wanted.iter().copied().filter(|link| how.tap_of(link).is_none()));
        let Found { foreign, resolver } = foreign;
        if how.rules == Rules::Refuse && !foreign.is_empty() {
            return Err(TakeError::Foreign(foreign));
        }
        let mut silence = silence()?;
        let mut nics = Vec::new();
        for link in wanted {
            nics.push(one(link, &how, &mut silence)?);
        }
        let snapshot = read::snapshot().map_err(TakeError::Read)?;
        let taken = nics.iter().map(|nic| nic.link.clone()).collect();
        let watch = Watch { namespace: namespace.clone(), how, silence, notices, taken };
        Ok(Taken { namespace: namespace.clone(), nics, snapshot, resolver, watch })
    })
}

#[cfg(test)]
mod tests {
    use netstack::link::MacAddr;

    use super::*;

    fn link(ifindex: u32, hardware: u16, state: &str, lower: Option<u32>) -> LinkInfo {
        LinkInfo {
            ifindex,
            name: format!("n{ifindex}"),
            hardware,
            kind: String::new(),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            up: state == "up",
            lower,
            master: None,
        }
    }

    #[test]
    fn interfaces_are_taken_left_out_or_refused() {
        const LOOPBACK: u16 = 772;
        const SIT: u16 = 776;
        let port = LinkInfo { master: Some(4), ..link(3, 1, "up", None) };
        let usual = [
            link(1, LOOPBACK, "up", None),
            link(2, SIT, "down", None),
            port,
            link(4, 1, "up", None),
            link(5, 1, "down", None),
            link(6, 1, "down", Some(4)),
        ];
        let plain = Taking::default();
        let taken: Vec<u32> =
            wanted(&usual, &plain).unwrap().iter().map(|link| link.ifindex).collect();
        assert_eq!(taken, [4, 5]);
        let told = |links: &[LinkInfo]| wanted(links, &plain).unwrap_err().to_string();
        assert!(told(&[link(2, SIT, "up", None)]).contains("n2 cannot be served"));
        let stacked = [link(4, 1, "up", None), link(6, 1, "up", Some(4))];
        assert!(told(&stacked).contains("it lies on n4"));
        // A lower device in another namespace is none of ours: a macvlan of a pod.
        assert_eq!(wanted(&stacked[1..], &plain).unwrap().len(), 1);
        // The TAP device behind an interface is none of its own.
        let one = Redirected { name: "n4".into(), tap: "n5".into() };
        let how = Taking { redirected: vec![one], ..plain };
        let taken: Vec<u32> = wanted(&usual, &how).unwrap().iter().map(|l| l.ifindex).collect();
        assert_eq!(taken, [4]);
    }
}
