//! /proc/PID/fd and /proc/PID/fdinfo.

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_kernel::error::Result;
use sentry_kernel::file::FileDescription;
use sentry_kernel::task::Task;
use sentry_kernel::vfs::FileType;

use super::Shared;
use super::node::{Body, Entries, Node, Owner, number};
use super::process::{resources, viewpoint};
use crate::listing::Entry;

fn parse(name: &[u8]) -> Result<i32> {
    let text = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
    let fine =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if fine { text.parse().map_err(|_| Errno::ENOENT.into()) } else { Err(Errno::ENOENT.into()) }
}

fn file(task: &Task, fd: i32) -> Result<Arc<FileDescription>> {
    resources(task)?.fds.any(fd).map_err(|_| Errno::ENOENT.into())
}

fn list(task: &Task, kind: &'static str, file_type: FileType) -> Result<Vec<Entry>> {
    let fds = resources(task)?.fds.list();
    let entry =
        |fd: i32| Entry::new(fd.to_string().as_bytes(), number((task.tid(), kind, fd)), file_type);
    Ok(fds.into_iter().map(entry).collect())
}

/// /proc/PID/fd
pub(super) struct Descriptors {
    pub(super) shared: Arc<Shared>,
    pub(super) task: Arc<Task>,
}

impl Entries for Descriptors {
    fn find(&self, name: &[u8]) -> Result<Arc<Node>> {
        let fd = parse(name)?;
        let flags = file(&self.task, fd)?.flags();
        let mut permissions = 0;
        if flags.readable() {
            permissions |= 0o500;
        }
        if flags.writable() {
            permissions |= 0o300;
        }
        let (shown, task) = (self.task.clone(), self.task.clone());
        let body = Body::Magic {
            text: Box::new(move || Ok(file(&shown, fd)?.link_name(&viewpoint(&shown)?))),
            target: Box::new(move || {
                // Sockets and the like can be looked at there but not opened again: open(2) answers ENXIO.
                Ok(file(&task, fd)?.place())
            }),
        };
        let owner = Owner::Guarded(self.task.clone());
        let ino = number((self.task.tid(), "fd", fd));
        Ok(Node::new(&self.shared, ino, permissions, owner, body))
    }

    fn list(&self) -> Result<Vec<Entry>> {
        list(&self.task, "fd", FileType::Symlink)
    }
}

/// /proc/PID/fdinfo
pub(super) struct Infos {
    pub(super) shared: Arc<Shared>,
    pub(super) task: Arc<Task>,
}

/// Bits of the flags that are those of the descriptor.
const O_CLOEXEC: u32 = 0o2000000;

fn info(task: &Task, fd: i32) -> Result<Vec<u8>> {
    let file = file(task, fd)?;
    // A read or write in progress holds the position; it will be elsewhere by the time anybody looks.
    let position = file.position().try_lock().map_or(0, |position| *position);
    let mut flags = file.flags().bits() & !O_CLOEXEC;
    let fds = resources(task)?.fds;
    if fds.on_exec(fd).is_ok_and(|on_exec| on_exec == sentry_kernel::file::OnExec::Close) {
        flags |= O_CLOEXEC;
    }
    let mount = file.path().map_or(0, |path| path.mount.id());
    let ino = file.attributes().map_or(0, |attributes| attributes.ino);
    let details = file.ops().details();
    Ok(format!("pos:\t{position}\nflags:\t0{flags:o}\nmnt_id:\t{mount}\nino:\t{ino}\n{details}")
        .into_bytes())
}

impl Entries for Infos {
    fn find(&self, name: &[u8]) -> Result<Arc<Node>> {
        let fd = parse(name)?;
        file(&self.task, fd)?;
        let task = self.task.clone();
        let body = Body::File { read: Box::new(move || info(&task, fd)), write: None };
        let owner = Owner::Guarded(self.task.clone());
        let ino = number((self.task.tid(), "fdinfo", fd));
        Ok(Node::new(&self.shared, ino, 0o444, owner, body))
    }

    fn list(&self) -> Result<Vec<Entry>> {
        list(&self.task, "fdinfo", FileType::Regular)
    }
}
