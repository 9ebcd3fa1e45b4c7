//! Copies the settings of a namespace (/proc/sys/net) that the stack has too. They are read once: the host tells nobody of changes.

use std::sync::Arc;

use netstack_host::netns::{Namespace, TakeError};
use sentry_kernel::settings::Settings;

use crate::netns::NetNamespace;
use crate::sysctl::{TABLES, Tree};

/// The files of all rows that can be written, in the order in which one may overrule another: what stands for all interfaces,
/// for those that come, for each.
fn paths(net: &NetNamespace) -> Vec<String> {
    let rows = || TABLES.iter().flat_map(|rows| rows.iter()).filter(|row| row.mode & 0o200 != 0);
    let plain = rows().filter(|row| !row.path.contains('*')).map(|row| row.path.to_owned());
    let names: Vec<String> = net.stack().nics().into_iter().map(|nic| nic.name).collect();
    let instances = ["all", "default"].into_iter().map(str::to_owned).chain(names);
    let each = instances.flat_map(|name| {
        let patterns = rows().filter(|row| row.path.contains('*'));
        patterns.map(move |row| row.path.replace('*', &name)).collect::<Vec<_>>()
    });
    plain.chain(each).collect()
}

/// Copies what differs. What the stack refuses is told to `problems`. Errors: the namespace cannot be entered.
pub fn copy(
    net: &Arc<NetNamespace>,
    host: &Namespace,
    problems: &mut Vec<String>,
) -> Result<(), TakeError> {
    let paths = paths(net);
    let told = host.settings(&paths)?;
    let tree = Tree::new(net);
    for path in &paths {
        let Some(wanted) = told.get(path) else { continue };
        // The neighbours of "all" interfaces are those of new ones, which have a file of their own.
        let Ok(mut own) = tree.read(path) else { continue };
        if own.last() == Some(&b'\n') {
            own.pop();
        }
        if own != *wanted && tree.write(path, wanted).is_err() {
            let value = String::from_utf8_lossy(wanted);
            problems.push(format!(
                "the setting {} = {value} of the network namespace has no effect inside",
                path.replace('/', ".")
            ));
        }
    }
    Ok(())
}
