//! /proc/PID and /proc/PID/task/TID: a row per entry, and the directories below.

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_kernel::cred::Capabilities;
use sentry_kernel::error::Result;
use sentry_kernel::namespaces;
use sentry_kernel::task::{self, Resources, Task};
use sentry_kernel::vfs::{FileType, Path};

use super::Shared;
use super::node::{Body, Entries, Node, Owner, Write, number};
use super::{fd, memory, mounts, status};
use crate::listing::Entry;

/// Makes a task's file.
type Make = fn(&Shared, &Task) -> Result<Vec<u8>>;

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guard {
    /// Whoever the permissions let.
    Open,
    /// Only who may trace the task.
    Traced,
}

/// Files of a task: name, permissions, guard, content.
// tidy: table
const FILES: [(&str, u32, Guard, Make); 32] = [
    ("auxv", 0o400, Guard::Traced, memory::auxv),
    ("cgroup", 0o444, Guard::Open, |_, _| Ok(b"0::/\n".to_vec())),
    ("cmdline", 0o444, Guard::Open, memory::cmdline),
    ("comm", 0o644, Guard::Open, status::comm),
    ("coredump_filter", 0o444, Guard::Open, |_, _| Ok(b"00000033\n".to_vec())),
    ("cpuset", 0o444, Guard::Open, |_, _| Ok(b"/\n".to_vec())),
    ("environ", 0o400, Guard::Traced, memory::environ),
    ("gid_map", 0o644, Guard::Open, id_map),
    ("io", 0o400, Guard::Traced, status::io),
    ("limits", 0o444, Guard::Open, status::limits),
    ("loginuid", 0o644, Guard::Open, |_, _| Ok(b"4294967295".to_vec())),
    ("maps", 0o444, Guard::Traced, memory::maps),
    ("mountinfo", 0o444, Guard::Open, mounts::mountinfo),
    ("mounts", 0o444, Guard::Open, mounts::mounts),
    ("mountstats", 0o400, Guard::Open, mounts::mountstats),
    ("oom_adj", 0o444, Guard::Open, |_, _| Ok(b"0\n".to_vec())),
    ("oom_score", 0o444, Guard::Open, |_, _| Ok(b"0\n".to_vec())),
    ("oom_score_adj", 0o644, Guard::Open, oom_score_adj),
    ("personality", 0o400, Guard::Traced, status::personality),
    ("projid_map", 0o644, Guard::Open, id_map),
    ("schedstat", 0o444, Guard::Open, status::schedstat),
    ("sessionid", 0o444, Guard::Open, |_, _| Ok(b"4294967295".to_vec())),
    ("setgroups", 0o644, Guard::Open, |_, _| Ok(b"allow\n".to_vec())),
    ("smaps", 0o444, Guard::Traced, memory::smaps),
    ("smaps_rollup", 0o444, Guard::Traced, memory::smaps_rollup),
    ("stack", 0o400, Guard::Traced, |_, _| Ok(Vec::new())),
    ("stat", 0o444, Guard::Open, status::stat),
    ("statm", 0o444, Guard::Open, status::statm),
    ("status", 0o444, Guard::Open, status::status),
    ("timerslack_ns", 0o444, Guard::Traced, status::timer_slack),
    ("uid_map", 0o644, Guard::Open, id_map),
    ("wchan", 0o444, Guard::Open, |_, _| Ok(b"0".to_vec())),
];

/// Magic links of a task.
const LINKS: [&str; 3] = ["cwd", "exe", "root"];
/// Directories of a task: name and permissions.
const DIRECTORIES: [(&str, u32); 5] =
    [("fd", 0o500), ("fdinfo", 0o555), ("net", 0o555), ("ns", 0o511), ("task", 0o555)];
/// Namespaces: link, kind, number as Linux gives the first of each kind, which is the only one of those that containers share.
const NAMESPACES: [(&str, &str, u32); 10] = [
    ("cgroup", "cgroup", 4_026_531_835),
    ("ipc", "ipc", 4_026_531_839),
    ("mnt", "mnt", 4_026_531_841),
    ("net", "net", 4_026_531_840),
    ("pid", "pid", 4_026_531_836),
    ("pid_for_children", "pid", 4_026_531_836),
    ("time", "time", 4_026_531_834),
    ("time_for_children", "time", 4_026_531_834),
    ("user", "user", 4_026_531_837),
    ("uts", "uts", 4_026_531_838),
];

/// A process or thread id as a name: decimal without leading zeros.
pub(super) fn parse_id(name: &str) -> Option<u32> {
    let fine = name.bytes().all(|byte| byte.is_ascii_digit()) && !name.starts_with('0');
    if fine { name.parse().ok() } else { None }
}

fn id_map(_: &Shared, _: &Task) -> Result<Vec<u8>> {
    Ok(format!("{:>10} {:>10} {:>10}\n", 0, 0, u32::MAX).into_bytes())
}

fn oom_score_adj(shared: &Shared, task: &Task) -> Result<Vec<u8>> {
    let value = shared.oom_adjustments.lock().get(&task.pid()).copied().unwrap_or(0);
    Ok(format!("{value}\n").into_bytes())
}

/// Stores what nothing but later readers use: there is no OOM killer inside the sandbox.
fn set_oom_score_adj(shared: &Shared, task: &Task, text: &[u8]) -> Result<()> {
    let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    let value: i32 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
    if !(-1000..=1000).contains(&value) {
        return Err(Errno::EINVAL.into());
    }
    let known = shared.oom_adjustments.lock().get(&task.pid()).copied().unwrap_or(0);
    let privileged =
        task::current().is_none_or(|by| by.credentials().has(Capabilities::SYS_RESOURCE));
    if value < known && !privileged {
        return Err(Errno::EACCES.into());
    }
    let container = shared.container()?;
    let mut adjustments = shared.oom_adjustments.lock();
    if adjustments.len() > 4096 {
        drop(adjustments);
        let living: Vec<u32> = container.pids().groups().iter().map(|group| group.pid()).collect();
        adjustments = shared.oom_adjustments.lock();
        adjustments.retain(|pid, _| living.contains(pid));
    }
    adjustments.insert(task.pid(), value);
    Ok(())
}

/// What a task shares; ENOENT for one that has ended, as its links and descriptors are gone.
pub(super) fn resources(task: &Task) -> Result<Resources> {
    task.resources().ok_or(Errno::ENOENT.into())
}

/// The root directory of the caller, from which paths are shown.
pub(super) fn viewpoint(task: &Task) -> Result<Path> {
    match task::current().and_then(|caller| caller.resources()) {
        Some(caller) => Ok(caller.fs.root()),
        None => Ok(resources(task)?.fs.root()),
    }
}

/// /proc/PID. Errors: ENOENT. A thread's id works, too, though it is not listed.
pub(super) fn directory(shared: &Arc<Shared>, pid: u32) -> Result<Arc<Node>> {
    let container = shared.container()?;
    let pids = container.pids();
    let leader = pids.group(pid).and_then(|group| group.leader());
    let task = leader.or_else(|| pids.task(pid)).ok_or(Errno::ENOENT)?;
    Ok(task_directory(shared, task, Scope::Process))
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Scope {
    Process,
    Thread,
}

fn task_directory(shared: &Arc<Shared>, task: Arc<Task>, scope: Scope) -> Arc<Node> {
    let ino = match scope {
        Scope::Process => number(("process", task.tid())),
        Scope::Thread => number(("thread", task.tid())),
    };
    let owner = Owner::Task(task.clone());
    let body = Body::Directory(Box::new(Directory { shared: shared.clone(), task, scope }));
    Node::new(shared, ino, 0o555, owner, body)
}

struct Directory {
    shared: Arc<Shared>,
    task: Arc<Task>,
    scope: Scope,
}

impl Directory {
    fn number(&self, name: &str) -> u64 {
        number((self.scope, self.task.tid(), name))
    }

    fn file(&self, row: &'static (&str, u32, Guard, Make)) -> Arc<Node> {
        let (name, permissions, guard, make) = *row;
        let (shared, task) = (self.shared.clone(), self.task.clone());
        let read = Box::new(move || make(&shared, &task));
        let owner = match guard {
            Guard::Open => Owner::Task(self.task.clone()),
            Guard::Traced => Owner::Guarded(self.task.clone()),
        };
        let body = Body::File { read, write: self.writer(name) };
        Node::new(&self.shared, self.number(name), permissions, owner, body)
    }

    fn writer(&self, name: &str) -> Option<Write> {
        let (shared, task) = (self.shared.clone(), self.task.clone());
        match name {
            "comm" => Some(Box::new(move |bytes| status::set_comm(&task, bytes))),
            "oom_score_adj" => {
                Some(Box::new(move |bytes| set_oom_score_adj(&shared, &task, bytes)))
            }
            _ => None,
        }
    }

    fn link(&self, name: &'static str) -> Arc<Node> {
        let (task, shown) = (self.task.clone(), self.task.clone());
        let target = move |task: &Task| match name {
            "cwd" => Ok(resources(task)?.fs.cwd()),
            "root" => Ok(resources(task)?.fs.root()),
            _ => {
                let file = task.thread_group().executable().ok_or(Errno::ENOENT)?;
                file.path().cloned().ok_or(Errno::ENOENT.into())
            }
        };
        let text = Box::new(move || Ok(target(&shown)?.to_bytes(&viewpoint(&shown)?)));
        let body = Body::Magic { text, target: Box::new(move || target(&task)) };
        let owner = Owner::Guarded(self.task.clone());
        Node::new(&self.shared, self.number(name), 0o777, owner, body)
    }

    fn below(&self, name: &str, permissions: u32) -> Arc<Node> {
        let (shared, task) = (self.shared.clone(), self.task.clone());
        let traced = Owner::Guarded(task.clone());
        let open = Owner::Task(task.clone());
        let (owner, entries): (Owner, Box<dyn Entries>) = match name {
            "fd" => (traced, Box::new(fd::Descriptors { shared, task })),
            "fdinfo" => (traced, Box::new(fd::Infos { shared, task })),
            "net" => (open, Box::new(Net { shared })),
            "ns" => (traced, Box::new(Namespaces { shared, task })),
            _ => (open, Box::new(Threads { shared, task })),
        };
        let body = Body::Directory(entries);
        Node::new(&self.shared, self.number(name), permissions, owner, body)
    }

    fn has(&self, directory: &str) -> bool {
        directory != "task" || self.scope == Scope::Process
    }
}

impl Entries for Directory {
    fn find(&self, name: &[u8]) -> Result<Arc<Node>> {
        let name = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        if let Some(row) = FILES.iter().find(|row| row.0 == name) {
            return Ok(self.file(row));
        }
        if let Some(link) = LINKS.iter().find(|link| **link == name) {
            return Ok(self.link(link));
        }
        let found = DIRECTORIES.iter().find(|(known, _)| *known == name && self.has(name));
        let (name, permissions) = found.ok_or(Errno::ENOENT)?;
        Ok(self.below(name, *permissions))
    }

    fn list(&self) -> Result<Vec<Entry>> {
        let entry = |name: &str, kind| Entry::new(name.as_bytes(), self.number(name), kind);
        let mut all: Vec<Entry> = FILES.iter().map(|row| entry(row.0, FileType::Regular)).collect();
        all.extend(LINKS.iter().map(|name| entry(name, FileType::Symlink)));
        let directories = DIRECTORIES.iter().filter(|(name, _)| self.has(name));
        all.extend(directories.map(|(name, _)| entry(name, FileType::Directory)));
        Ok(all)
    }
}

/// /proc/PID/task
struct Threads {
    shared: Arc<Shared>,
    task: Arc<Task>,
}

impl Entries for Threads {
    fn find(&self, name: &[u8]) -> Result<Arc<Node>> {
        let name = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let tid = parse_id(name).ok_or(Errno::ENOENT)?;
        let group = self.task.thread_group();
        // A leader that has ended stays until it is waited for.
        let ended = || self.task.pids().task(tid).filter(|task| task.is_leader());
        let task = group.tasks().into_iter().find(|task| task.tid() == tid);
        let task = task.or_else(|| ended().filter(|task| task.pid() == group.pid()));
        let task = task.ok_or(Errno::ENOENT)?;
        Ok(task_directory(&self.shared, task, Scope::Thread))
    }

    fn list(&self) -> Result<Vec<Entry>> {
        let group = self.task.thread_group();
        let mut tids: Vec<u32> = group.tasks().iter().map(|task| task.tid()).collect();
        tids.push(group.pid());
        tids.sort_unstable();
        tids.dedup();
        let entry = |tid: u32| {
            Entry::new(tid.to_string().as_bytes(), number(("thread", tid)), FileType::Directory)
        };
        Ok(tids.into_iter().map(entry).collect())
    }
}

/// /proc/PID/ns
struct Namespaces {
    shared: Arc<Shared>,
    task: Arc<Task>,
}

impl Entries for Namespaces {
    fn find(&self, name: &[u8]) -> Result<Arc<Node>> {
        let found = NAMESPACES.iter().find(|(known, ..)| known.as_bytes() == name);
        let (name, kind, first) = *found.ok_or(Errno::ENOENT)?;
        let container = self.task.container();
        let id = match kind {
            "ipc" => container.segments().number(),
            "mnt" => namespaces::FIRST_MNT.wrapping_add(container.number()),
            "pid" => container.pids().number(),
            "uts" => container.uts().number(),
            _ => first,
        };
        let body = Body::Link(Box::new(move || Ok(format!("{kind}:[{id}]").into_bytes())));
        let owner = Owner::Guarded(self.task.clone());
        Ok(Node::new(&self.shared, number((self.task.tid(), "ns", name)), 0o777, owner, body))
    }

    fn list(&self) -> Result<Vec<Entry>> {
        let tid = self.task.tid();
        let entry = |(name, ..): &(&str, &str, u32)| {
            Entry::new(name.as_bytes(), number((tid, "ns", *name)), FileType::Symlink)
        };
        Ok(NAMESPACES.iter().map(entry).collect())
    }
}

/// /proc/PID/net: what the network registered.
struct Net {
    shared: Arc<Shared>,
}

impl Entries for Net {
    fn find(&self, name: &[u8]) -> Result<Arc<Node>> {
        let files = self.shared.net.0.read();
        let found = files.iter().find(|(known, _)| known.as_bytes() == name);
        let (name, generator) = found.ok_or(Errno::ENOENT)?;
        let generator = generator.clone();
        let body = Body::File { read: Box::new(move || generator()), write: None };
        Ok(Node::new(&self.shared, number(("net", *name)), 0o444, Owner::Root, body))
    }

    fn list(&self) -> Result<Vec<Entry>> {
        let files = self.shared.net.0.read();
        let entry =
            |name: &&str| Entry::new(name.as_bytes(), number(("net", *name)), FileType::Regular);
        Ok(files.keys().map(entry).collect())
    }
}
