//! /proc/PID/mounts, mountinfo and mountstats.

use std::sync::Arc;

use sentry_kernel::error::Result;
use sentry_kernel::task::Task;
use sentry_kernel::vfs::{Mount, Path};

use super::Shared;
use super::process::resources;

/// One mount as its lines need it.
struct Line {
    mount: Arc<Mount>,
    point: Vec<u8>,
}

/// The mounts below the task's root, parents first.
fn visible(task: &Task) -> Result<Vec<Line>> {
    let fs = resources(task)?.fs;
    let root = fs.root();
    let line = |mount: Arc<Mount>| {
        let top = Path { mount: mount.clone(), dentry: mount.root().clone() };
        let point = top.to_bytes_from(&root).ok()?;
        Some(Line { mount, point: escape(&point) })
    };
    Ok(fs.namespace().list().into_iter().filter_map(line).collect())
}

/// Space, tab, newline and backslash as octal escapes.
fn escape(text: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => {
                escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes());
            }
            _ => escaped.push(*byte),
        }
    }
    escaped
}

fn joined(flags: String, more: &str) -> String {
    if more.is_empty() { flags } else { format!("{flags},{more}") }
}

fn source(mount: &Mount) -> Vec<u8> {
    if mount.source().is_empty() { b"none".to_vec() } else { escape(mount.source()) }
}

/// `SOURCE POINT TYPE OPTIONS 0 0` for each.
pub(super) fn mounts(_: &Shared, task: &Task) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for Line { mount, point } in visible(task)? {
        let filesystem = mount.filesystem();
        let options = joined(mount.flags().options(), &filesystem.options());
        text.extend(source(&mount));
        text.push(b' ');
        text.extend(point);
        text.extend(format!(" {} {options} 0 0\n", filesystem.type_name()).into_bytes());
    }
    Ok(text)
}

/// `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS - TYPE SOURCE SUPER` for each (proc_pid_mountinfo(5)).
pub(super) fn mountinfo(_: &Shared, task: &Task) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for Line { mount, point } in visible(task)? {
        let filesystem = mount.filesystem();
        let parent = mount.attached().map_or(mount.id(), |below| below.mount.id());
        let dev = mount.root().inode().attributes().map_or(0, |attributes| attributes.dev);
        let (major, minor) = (sentry_kernel::device::major(dev), sentry_kernel::device::minor(dev));
        text.extend(format!("{} {parent} {major}:{minor} ", mount.id()).into_bytes());
        text.extend(escape(&place_in_filesystem(&mount)));
        text.push(b' ');
        text.extend(point);
        let options = mount.flags().options();
        text.extend(format!(" {options} - {} ", filesystem.type_name()).into_bytes());
        text.extend(source(&mount));
        text.extend(format!(" {}\n", joined("rw".to_owned(), &filesystem.options())).into_bytes());
    }
    Ok(text)
}

/// The directory of the filesystem that is the mount's top: `/` unless it is a bind mount.
fn place_in_filesystem(mount: &Mount) -> Vec<u8> {
    let mut parts = Vec::new();
    let mut at = mount.root().clone();
    while let Some(parent) = at.parent() {
        parts.push(at.name());
        at = parent;
    }
    let mut path = Vec::new();
    for part in parts.iter().rev() {
        path.push(b'/');
        path.extend_from_slice(part);
    }
    if path.is_empty() { b"/".to_vec() } else { path }
}

/// `device SOURCE mounted on POINT with fstype TYPE` for each.
pub(super) fn mountstats(_: &Shared, task: &Task) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for Line { mount, point } in visible(task)? {
        text.extend(b"device ");
        text.extend(source(&mount));
        text.extend(b" mounted on ");
        text.extend(point);
        text.extend(format!(" with fstype {}\n", mount.filesystem().type_name()).into_bytes());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_in_names_are_escaped_in_octal() {
        assert_eq!(escape(b"/a b\tc\\"), b"/a\\040b\\011c\\134");
    }
}
