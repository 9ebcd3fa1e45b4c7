//! /proc/sys/net: the settings of a namespace as a tree of files, a row each. What the stack does not have is absent.

pub mod absent;
mod conf;
pub mod docs;
mod general;
pub mod row;
mod tcp;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use netstack::ip::conf::ConfTarget;
use sentry_abi::Errno;
use sentry_kernel::Result;
use sentry_kernel::settings::{Setting, Settings};

use crate::netns::NetNamespace;
use row::{At, Row};

/// All rows, by table.
pub const TABLES: &[&[Row]] =
    &[general::ROWS, tcp::ROWS, conf::IPV4_ROWS, conf::IPV6_ROWS, conf::NEIGHBOUR_ROWS];

/// The tree of a namespace.
pub struct Tree(Weak<NetNamespace>);

impl Tree {
    /// The tree of a namespace, which it does not keep alive.
    pub fn new(net: &Arc<NetNamespace>) -> Self {
        Self(Arc::downgrade(net))
    }

    fn net(&self) -> Result<Arc<NetNamespace>> {
        self.0.upgrade().ok_or_else(|| Errno::ENOENT.into())
    }
}

fn rows() -> impl Iterator<Item = &'static Row> {
    TABLES.iter().flat_map(|rows| rows.iter())
}

/// The instance that a directory's name means.
fn target(net: &NetNamespace, pattern: &str, name: &str) -> Option<ConfTarget> {
    match name {
        "all" if pattern.contains("/conf/") => Some(ConfTarget::All),
        "default" => Some(ConfTarget::Default),
        _ => {
            let nics = net.stack().nics();
            nics.iter().find(|nic| nic.name == name).map(|nic| ConfTarget::Nic(nic.id))
        }
    }
}

/// The names that a `*` stands for.
fn instances(net: &NetNamespace, pattern: &str) -> Vec<String> {
    let mut names = vec!["default".to_owned()];
    if pattern.contains("/conf/") {
        names.push("all".to_owned());
    }
    names.extend(net.stack().nics().into_iter().map(|nic| nic.name));
    names
}

/// How a path meets a row's pattern.
enum Meets {
    /// It is the row's file, of this instance.
    File(ConfTarget),
    /// It is a directory above it, and this comes next.
    Above(&'static str),
    /// It is neither.
    No,
}

fn meets(net: &NetNamespace, row: &'static Row, path: &str) -> Meets {
    let mut pattern = row.path.split('/');
    let mut at = ConfTarget::Default;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        match pattern.next() {
            Some("*") => match target(net, row.path, name) {
                Some(target) => at = target,
                None => return Meets::No,
            },
            Some(part) if part == name => {}
            _ => return Meets::No,
        }
    }
    pattern.next().map_or(Meets::File(at), Meets::Above)
}

impl Settings for Tree {
    fn find(&self, path: &str) -> Option<Setting> {
        let net = self.net().ok()?;
        let mut found = None;
        for row in rows() {
            match meets(&net, row, path) {
                Meets::File(_) => return Some(Setting::File { mode: row.mode }),
                Meets::Above(_) => found = Some(Setting::Directory),
                Meets::No => {}
            }
        }
        found
    }

    fn list(&self, path: &str) -> Vec<(String, Setting)> {
        let Ok(net) = self.net() else { return Vec::new() };
        let mut names = BTreeMap::new();
        for row in rows() {
            let Meets::Above(next) = meets(&net, row, path) else { continue };
            let last = row.path.ends_with(&format!("/{next}")) && !path.is_empty();
            let depth = path.split('/').filter(|name| !name.is_empty()).count();
            let is_file = last && row.path.split('/').count() == depth + 1;
            let kind = if is_file { Setting::File { mode: row.mode } } else { Setting::Directory };
            match next {
                "*" => {
                    names.extend(instances(&net, row.path).into_iter().map(|name| (name, kind)));
                }
                name => {
                    names.insert(name.to_owned(), kind);
                }
            }
        }
        names.into_iter().collect()
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        let net = self.net()?;
        let found = rows().find_map(|row| match meets(&net, row, path) {
            Meets::File(target) => Some((row, target)),
            _ => None,
        });
        let (row, target) = found.ok_or(Errno::ENOENT)?;
        row.read(&At { net: &net, target })
    }

    fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let net = self.net()?;
        let found = rows().find_map(|row| match meets(&net, row, path) {
            Meets::File(target) => Some((row, target)),
            _ => None,
        });
        let (row, target) = found.ok_or(Errno::ENOENT)?;
        row.write(&At { net: &net, target }, bytes)
    }
}

#[cfg(test)]
mod tests;
