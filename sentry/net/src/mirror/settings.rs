//! Copies the settings of a namespace (/proc/sys/net) that the stack has too. They are read when an interface is taken: the host
//! tells nobody of changes.

use std::sync::Arc;

use netstack_host::netns::{Namespace, TakeError};
use sentry_kernel::settings::Settings;

use crate::netns::NetNamespace;
use crate::sysctl::row::Row;
use crate::sysctl::{TABLES, Tree};

fn rows() -> impl Iterator<Item = &'static Row> {
    TABLES.iter().flat_map(|rows| rows.iter()).filter(|row| row.mode & 0o200 != 0)
}

/// The files of one interface, of "default" or of "all".
pub fn of(name: &str) -> Vec<String> {
    let patterns = rows().filter(|row| row.path.contains('*'));
    patterns.map(|row| row.path.replace('*', name)).collect()
}

/// The files of all rows that can be written, in the order in which one may overrule another: what stands for all interfaces,
/// for those that come, for each of `names`.
pub fn of_all(names: &[String]) -> Vec<String> {
    let plain = rows().filter(|row| !row.path.contains('*')).map(|row| row.path.to_owned());
    let instances = ["all", "default"].into_iter().chain(names.iter().map(String::as_str));
    plain.chain(instances.flat_map(of)).collect()
}

/// Copies what differs. What the stack refuses is told to `problems`. Errors: the namespace cannot be entered.
pub fn copy(
    net: &Arc<NetNamespace>,
    host: &Namespace,
    paths: &[String],
    problems: &mut Vec<String>,
) -> Result<(), TakeError> {
    let told = host.settings(paths)?;
    let tree = Tree::new(net);
    for path in paths {
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
