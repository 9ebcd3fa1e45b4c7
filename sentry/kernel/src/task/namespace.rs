//! The pid namespace: tasks, thread groups, their parents and children, process groups and sessions by id, under one lock.

use std::collections::BTreeMap;
use std::sync::Arc;

use sentry_abi::Errno;
use sentry_abi::signal::{SI_KERNEL, SigInfo, Signal};

use crate::error::Result;
use crate::namespaces;
use crate::sync::{Mutex, MutexGuard, Rank};
use crate::task::group::{ThreadGroup, Usage};
use crate::task::session::{ControllingTerminal, ProcessGroup, Session};
use crate::task::status::WaitStatus;
use crate::task::task::Task;

/// Ids are below this (kernel.pid_max).
pub const PID_MAX: u32 = 32_768;
/// The process that everything descends from.
pub const INIT_PID: u32 = 1;

/// How a group ended, until its parent has waited for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Zombie {
    pub(crate) status: WaitStatus,
    pub(crate) uid: u32,
    pub(crate) usage: Usage,
}

/// A group's place among the others.
pub(crate) struct Node {
    pub(crate) group: Arc<ThreadGroup>,
    pub(crate) parent: u32,
    pub(crate) children: Vec<u32>,
    pub(crate) process_group: Arc<ProcessGroup>,
    pub(crate) zombie: Option<Zombie>,
    /// A stop or continuation that the parent has not yet waited for.
    pub(crate) job_event: Option<WaitStatus>,
}

/// Everything by id.
#[derive(Default)]
pub(crate) struct Tree {
    last: u32,
    tasks: BTreeMap<u32, Arc<Task>>,
    nodes: BTreeMap<u32, Node>,
}

impl Tree {
    pub(crate) fn node(&self, pid: u32) -> Option<&Node> {
        self.nodes.get(&pid)
    }

    pub(crate) fn node_mut(&mut self, pid: u32) -> Option<&mut Node> {
        self.nodes.get_mut(&pid)
    }

    /// The living groups of a process group.
    pub(crate) fn in_process_group(&self, id: u32) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(move |n| n.process_group.id() == id)
    }

    pub(crate) fn process_group(&self, id: u32) -> Option<Arc<ProcessGroup>> {
        self.in_process_group(id).next().map(|n| n.process_group.clone())
    }

    /// True where no member has a parent in another process group of the same session: nobody could continue it (POSIX). Init is a parent
    /// like any other, as in a PID namespace of Linux: a sandbox's first program may be a shell with jobs.
    /// `without` is a group that is about to end and does not count.
    pub(crate) fn is_orphaned(&self, id: u32, without: Option<u32>) -> bool {
        !self.in_process_group(id).any(|node| {
            let counts = node.zombie.is_none() && Some(node.group.pid()) != without;
            counts
                && self.nodes.get(&node.parent).is_some_and(|parent| {
                    parent.process_group.id() != id
                        && parent.process_group.session().id() == node.process_group.session().id()
                })
        })
    }

    /// Takes a zombie out of the tree.
    pub(crate) fn reap(&mut self, pid: u32) -> Option<Zombie> {
        let zombie = self.nodes.get(&pid)?.zombie?;
        let node = self.nodes.remove(&pid)?;
        self.tasks.remove(&pid);
        if let Some(parent) = self.nodes.get_mut(&node.parent) {
            parent.children.retain(|c| *c != pid);
        }
        Some(zombie)
    }

    fn is_free(&self, id: u32) -> bool {
        !self.tasks.contains_key(&id)
            && !self.nodes.contains_key(&id)
            && !self
                .nodes
                .values()
                .any(|n| n.process_group.id() == id || n.process_group.session().id() == id)
    }
}

/// The namespace. Its lock is the first of those about tasks.
///
/// Namespaces do not nest: none is seen in another, as those of a pod's containers on Linux, whose common parent is the host's.
pub struct PidNamespace {
    number: u32,
    tree: Mutex<Tree>,
}

impl PidNamespace {
    /// A namespace of this number ([`crate::namespaces`]) without tasks.
    pub fn new(number: u32) -> Arc<Self> {
        Arc::new(Self { number, tree: Mutex::new(Rank::PID_NAMESPACE, Tree::default()) })
    }

    /// What /proc/PID/ns shows.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether the end of its init is the end of all.
    pub fn is_first(&self) -> bool {
        self.number == namespaces::FIRST_PID
    }

    /// Whether there is an init that has not ended.
    pub fn has_init(&self) -> bool {
        self.tree.lock().nodes.get(&INIT_PID).is_some_and(|node| node.zombie.is_none())
    }

    /// Forgets everything once init and all others have ended: what is in it holds the namespace.
    pub(crate) fn sweep(&self) {
        let mut tree = self.tree.lock();
        if tree.nodes.values().any(|node| node.zombie.is_none()) {
            return;
        }
        let gone = (std::mem::take(&mut tree.nodes), std::mem::take(&mut tree.tasks));
        drop(tree);
        drop(gone);
    }

    /// All tasks by ascending id, leaders of zombies too.
    pub(crate) fn tasks(&self) -> Vec<Arc<Task>> {
        self.tree.lock().tasks.values().cloned().collect()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock()
    }

    /// An id that nothing uses. Errors: EAGAIN where all are in use.
    pub(crate) fn allocate(&self) -> Result<u32> {
        let mut tree = self.tree.lock();
        for _ in 0..PID_MAX {
            tree.last = if tree.last + 1 >= PID_MAX { 300 } else { tree.last + 1 };
            if tree.is_free(tree.last) {
                return Ok(tree.last);
            }
        }
        Err(Errno::EAGAIN.into())
    }

    /// Adds a task. A leader adds its group too, as a child of `parent` in the parent's process group (init founds its own).
    pub(crate) fn insert(&self, task: &Arc<Task>, parent: u32) {
        let mut tree = self.tree.lock();
        tree.tasks.insert(task.tid(), task.clone());
        if !task.is_leader() {
            return;
        }
        let pid = task.pid();
        let process_group = match tree.nodes.get_mut(&parent) {
            Some(node) => {
                node.children.push(pid);
                node.process_group.clone()
            }
            None => ProcessGroup::new(pid, Session::new(pid)),
        };
        let group = task.thread_group().clone();
        let node = Node {
            group,
            parent,
            children: Vec::new(),
            process_group,
            zombie: None,
            job_event: None,
        };
        tree.nodes.insert(pid, node);
    }

    /// Forgets an ended task that leads no group.
    pub(crate) fn remove_task(&self, tid: u32) {
        let gone = self.tree.lock().tasks.remove(&tid);
        drop(gone);
    }

    /// Gives a task the id of its group: execve by a task that was not the leader.
    pub(crate) fn become_leader(&self, task: &Arc<Task>) {
        let mut tree = self.tree.lock();
        let old = tree.tasks.remove(&task.tid());
        task.set_tid(task.pid());
        let former = tree.tasks.insert(task.pid(), task.clone());
        drop(tree);
        drop((old, former));
    }

    /// The task of this id; a zombie's leader is still found.
    pub fn task(&self, tid: u32) -> Option<Arc<Task>> {
        self.tree.lock().tasks.get(&tid).cloned()
    }

    /// The thread group of this id; a zombie is still found.
    pub fn group(&self, pid: u32) -> Option<Arc<ThreadGroup>> {
        self.tree.lock().nodes.get(&pid).map(|n| n.group.clone())
    }

    /// All thread groups by ascending id, zombies too.
    pub fn groups(&self) -> Vec<Arc<ThreadGroup>> {
        self.tree.lock().nodes.values().map(|n| n.group.clone()).collect()
    }

    /// How many tasks there are.
    pub fn task_count(&self) -> usize {
        self.tree.lock().tasks.len()
    }

    /// The id given out last, for /proc/loadavg.
    pub fn last_pid(&self) -> u32 {
        self.tree.lock().last
    }

    /// The parent's id; 0 for init.
    pub fn parent(&self, pid: u32) -> u32 {
        self.tree.lock().nodes.get(&pid).map_or(0, |n| n.parent)
    }

    /// The children's ids.
    pub fn children(&self, pid: u32) -> Vec<u32> {
        self.tree.lock().nodes.get(&pid).map(|n| n.children.clone()).unwrap_or_default()
    }

    /// The process group of a thread group.
    pub fn process_group_of(&self, pid: u32) -> Option<Arc<ProcessGroup>> {
        self.tree.lock().nodes.get(&pid).map(|n| n.process_group.clone())
    }

    /// The process group of this id.
    pub fn process_group(&self, id: u32) -> Option<Arc<ProcessGroup>> {
        self.tree.lock().process_group(id)
    }

    /// The thread groups of a process group, without zombies.
    pub fn members_of(&self, process_group: u32) -> Vec<Arc<ThreadGroup>> {
        let tree = self.tree.lock();
        let living = tree.in_process_group(process_group).filter(|n| n.zombie.is_none());
        living.map(|n| n.group.clone()).collect()
    }

    /// True where a process group is orphaned: a stop by the terminal would last for ever.
    pub fn is_orphaned(&self, process_group: u32) -> bool {
        self.tree.lock().is_orphaned(process_group, None)
    }

    /// How a group ended, while it is a zombie.
    pub fn zombie_status(&self, pid: u32) -> Option<WaitStatus> {
        self.tree.lock().nodes.get(&pid).and_then(|n| n.zombie).map(|z| z.status)
    }

    /// Sends a signal of the kernel's own to every task group of a process group (the terminal's ^C and ^Z).
    pub fn signal_process_group(&self, process_group: u32, signal: Signal) {
        for group in self.members_of(process_group) {
            // A full queue keeps the fact that the signal came.
            let _ = group.send_signal(signal, SigInfo::new(signal, SI_KERNEL));
        }
    }

    /// Makes a terminal the controlling one of the session that `pid` leads, with its process group in the foreground (TIOCSCTTY).
    /// A session that had it before loses it. Errors: ESRCH; EPERM where `pid` leads no session or the session has another terminal.
    pub fn set_terminal(&self, pid: u32, terminal: Arc<dyn ControllingTerminal>) -> Result<()> {
        let tree = self.tree.lock();
        let group = tree.nodes.get(&pid).ok_or(Errno::ESRCH)?.process_group.clone();
        let session = group.session();
        if session.id() != pid || session.terminal().is_some() {
            return Err(Errno::EPERM.into());
        }
        if let Some(old) = terminal.session()
            && let Some(node) = tree.nodes.get(&old)
        {
            node.process_group.session().set_terminal(None);
        }
        terminal.set_session(Some(pid));
        terminal.set_foreground_group(Some(group.id()));
        session.set_terminal(Some(terminal));
        Ok(())
    }

    /// The session that `pid` leads gives its terminal up: the foreground group gets SIGHUP and SIGCONT (TIOCNOTTY).
    /// For another member of the session nothing happens. Errors: ESRCH, ENOTTY without a terminal.
    pub fn release_terminal(&self, pid: u32) -> Result<()> {
        let group = self.process_group_of(pid).ok_or(Errno::ESRCH)?;
        let terminal = group.session().terminal().ok_or(Errno::ENOTTY)?;
        if group.session().id() != pid {
            return Ok(());
        }
        let foreground = terminal.foreground_group();
        group.session().set_terminal(None);
        terminal.set_session(None);
        terminal.set_foreground_group(None);
        if let Some(foreground) = foreground {
            self.signal_process_group(foreground, Signal::SIGHUP);
            self.signal_process_group(foreground, Signal::SIGCONT);
        }
        Ok(())
    }

    /// Ends every group.
    pub fn kill_all(&self) {
        self.groups().iter().for_each(|group| group.kill());
    }

    /// setsid(2): `pid` founds a session and a process group. Errors: EPERM where it leads a process group.
    pub fn set_session(&self, pid: u32) -> Result<u32> {
        let mut tree = self.tree.lock();
        if tree.in_process_group(pid).next().is_some() {
            return Err(Errno::EPERM.into());
        }
        let node = tree.nodes.get_mut(&pid).ok_or(Errno::ESRCH)?;
        node.process_group = ProcessGroup::new(pid, Session::new(pid));
        Ok(pid)
    }

    /// setpgid(2) by the group `caller` on `pid` (0 is the caller); `process_group` 0 is the target's own id.
    /// Errors: ESRCH, EACCES for a child that has executed a program, EPERM.
    pub fn set_process_group(&self, caller: u32, pid: u32, process_group: u32) -> Result<()> {
        let pid = if pid == 0 { caller } else { pid };
        let id = if process_group == 0 { pid } else { process_group };
        let mut tree = self.tree.lock();
        let session = tree.nodes.get(&caller).ok_or(Errno::ESRCH)?.process_group.session().id();
        let target = tree.nodes.get(&pid).ok_or(Errno::ESRCH)?;
        if pid != caller {
            if target.parent != caller {
                return Err(Errno::ESRCH.into());
            }
            if target.process_group.session().id() != session {
                return Err(Errno::EPERM.into());
            }
            if target.group.has_executed() {
                return Err(Errno::EACCES.into());
            }
        }
        let target_session = target.process_group.session().clone();
        if target_session.id() == pid {
            return Err(Errno::EPERM.into()); // A session leader stays where it is.
        }
        let new = if id == pid {
            let own = tree.process_group(id).filter(|g| g.session().id() == target_session.id());
            own.unwrap_or_else(|| ProcessGroup::new(id, target_session))
        } else {
            let found = tree.process_group(id).ok_or(Errno::EPERM)?;
            if found.session().id() != session {
                return Err(Errno::EPERM.into());
            }
            found
        };
        if let Some(node) = tree.nodes.get_mut(&pid) {
            node.process_group = new;
        }
        Ok(())
    }
}
