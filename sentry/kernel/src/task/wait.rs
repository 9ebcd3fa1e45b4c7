//! Waiting for children, and what children and parents are told of each other.

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_abi::signal::{SA_NOCLDSTOP, SA_NOCLDWAIT, SI_KERNEL, SIG_IGN, SigInfo, Signal};
use sentry_abi::time::{NSEC_PER_SEC, USER_HZ};
use sentry_abi::wait::WaitOptions;

use crate::error::Result;
use crate::signal::Job;
use crate::task::current::CurrentTask;
use crate::task::group::{ThreadGroup, Usage};
use crate::task::namespace::{INIT_PID, Node, PidNamespace, Tree, Zombie};
use crate::task::status::WaitStatus;
use crate::wait::Events;

/// Which children a wait is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitSelect {
    /// Any.
    Any,
    /// The one of this id.
    Process(u32),
    /// Those of a process group.
    ProcessGroup(u32),
}

/// What a wait found.
#[derive(Clone, Copy, Debug)]
pub struct Waited {
    /// The child.
    pub pid: u32,
    /// Its real user id.
    pub uid: u32,
    /// What happened.
    pub status: WaitStatus,
    /// What it used.
    pub usage: Usage,
}

impl CurrentTask {
    /// wait4(2), waitid(2): the next change of a child that `options` ask for; `None` where none is there and WNOHANG was given.
    /// Errors: ECHILD; an interruption.
    pub fn wait_child(&self, select: WaitSelect, options: WaitOptions) -> Result<Option<Waited>> {
        let group = self.thread_group().clone();
        let pids = self.pids();
        let look = || match pids.look_at_children(&group, select, options) {
            Ok(None) if options.contains(WaitOptions::NOHANG) => Some(Ok(None)),
            Ok(None) => None,
            Ok(Some(found)) => Some(Ok(Some(found))),
            Err(error) => Some(Err(error)),
        };
        let found = self.wait_for(group.children_changed(), Events::IN, None, look)??;
        if let Some(found) = &found
            && matches!(found.status, WaitStatus::Exited(_) | WaitStatus::Signaled(_))
            && !options.contains(WaitOptions::NOWAIT)
        {
            group.add_children_usage(found.usage);
        }
        Ok(found)
    }
}

fn eligible(node: &Node, select: WaitSelect, options: WaitOptions) -> bool {
    let chosen = match select {
        WaitSelect::Any => true,
        WaitSelect::Process(pid) => node.group.pid() == pid,
        WaitSelect::ProcessGroup(id) => node.process_group.id() == id,
    };
    // wait(2): a "clone child" tells another signal than SIGCHLD, or none.
    let is_clone = node.group.exit_signal() != Some(Signal::SIGCHLD);
    let wanted =
        options.contains(WaitOptions::ALL) || is_clone == options.contains(WaitOptions::CLONE);
    chosen && wanted
}

fn ticks(ns: u64) -> u64 {
    ns / (NSEC_PER_SEC / USER_HZ)
}

/// The SIGCHLD of a change.
fn child_info(group: &ThreadGroup, uid: u32, status: WaitStatus, usage: Usage) -> SigInfo {
    let (code, value) = status.code_and_status();
    let times = (ticks(usage.cpu.user_ns), ticks(usage.cpu.system_ns));
    SigInfo::child(code, group.pid(), uid, value, times)
}

impl PidNamespace {
    fn look_at_children(
        &self,
        parent: &ThreadGroup,
        select: WaitSelect,
        options: WaitOptions,
    ) -> Result<Option<Waited>> {
        let mut tree = self.lock();
        let children = tree.node(parent.pid()).map(|n| n.children.clone()).unwrap_or_default();
        let keep = options.contains(WaitOptions::NOWAIT);
        let mut any = false;
        let mut reap = None;
        for pid in children {
            let Some(node) = tree.node_mut(pid) else { continue };
            if !eligible(node, select, options) {
                continue;
            }
            any = true;
            if let Some(zombie) = node.zombie {
                if options.contains(WaitOptions::EXITED) {
                    reap = Some((pid, zombie));
                    break;
                }
                continue;
            }
            let wanted = match node.job_event {
                Some(WaitStatus::Stopped(_)) => options.contains(WaitOptions::UNTRACED),
                Some(_) => options.contains(WaitOptions::CONTINUED),
                None => false,
            };
            if let (true, Some(status)) = (wanted, node.job_event) {
                if !keep {
                    node.job_event = None;
                }
                let group = node.group.clone();
                drop(tree);
                let uid = group.leader().map_or(0, |t| t.credentials().uid);
                return Ok(Some(Waited { pid, uid, status, usage: group.usage() }));
            }
        }
        match reap {
            Some((pid, Zombie { status, uid, usage })) => {
                if !keep {
                    tree.reap(pid);
                }
                Ok(Some(Waited { pid, uid, status, usage }))
            }
            None if any => Ok(None),
            None => Err(Errno::ECHILD.into()),
        }
    }

    /// A group's last task has ended: orphans find a new parent, the parent is told. Returns the parent, whose waiters the caller wakes.
    pub(crate) fn group_ended(
        &self,
        group: &Arc<ThreadGroup>,
        status: WaitStatus,
        uid: u32,
    ) -> Option<Arc<ThreadGroup>> {
        let usage = group.usage().plus(group.children_usage());
        let mut tree = self.lock();
        let connected = connected_groups(&tree, group);
        let heir = reparent_children(&mut tree, group);
        tell_orphaned_groups(&tree, group, &connected);
        let node = tree.node_mut(group.pid())?;
        node.zombie = Some(Zombie { status, uid, usage });
        node.job_event = None;
        let parent_pid = node.parent;
        let parent = tree.node(parent_pid).filter(|n| n.zombie.is_none()).map(|n| n.group.clone());
        match &parent {
            Some(parent) => tell_end(&mut tree, parent, group, uid, status, usage),
            // Init has no parent: its keeper has heard.
            None if group.pid() != INIT_PID => _ = tree.reap(group.pid()),
            None => {}
        }
        drop(tree);
        if let Some(heir) = heir {
            heir.children_changed().notify(Events::IN);
        }
        parent
    }

    /// A group stopped or went on: the parent's waiters and, unless SA_NOCLDSTOP, its SIGCHLD.
    pub(crate) fn job_changed(&self, group: &ThreadGroup, status: WaitStatus) {
        let uid = group.leader().map_or(0, |t| t.credentials().uid);
        let usage = group.usage();
        let parent = {
            let mut tree = self.lock();
            let Some(node) = tree.node_mut(group.pid()) else { return };
            node.job_event = Some(status);
            let parent = node.parent;
            let Some(parent) = tree.node(parent).map(|n| n.group.clone()) else { return };
            parent
        };
        let action = parent.handlers().action(Signal::SIGCHLD);
        if action.handler != SIG_IGN && action.flags & SA_NOCLDSTOP == 0 {
            let _ = parent.send_signal(Signal::SIGCHLD, child_info(group, uid, status, usage));
        }
        parent.children_changed().notify(Events::IN);
    }

    /// Forgets a group that never ran.
    pub(crate) fn forget(&self, pid: u32) {
        let mut tree = self.lock();
        if let Some(node) = tree.node_mut(pid) {
            let status = WaitStatus::Signaled(Signal::SIGKILL);
            node.zombie = Some(Zombie { status, uid: 0, usage: Usage::default() });
        }
        tree.reap(pid);
    }
}

/// Tells the parent of an end; reaps at once where it does not want to wait (SIG_IGN, SA_NOCLDWAIT).
fn tell_end(
    tree: &mut Tree,
    parent: &Arc<ThreadGroup>,
    group: &ThreadGroup,
    uid: u32,
    status: WaitStatus,
    usage: Usage,
) {
    let Some(exit_signal) = group.exit_signal() else { return };
    let action = parent.handlers().action(Signal::SIGCHLD);
    let chld = exit_signal == Signal::SIGCHLD;
    let careless = chld && (action.handler == SIG_IGN || action.flags & SA_NOCLDWAIT != 0);
    if !(chld && action.handler == SIG_IGN) {
        let mut info = child_info(group, uid, status, usage);
        info.signo = exit_signal.number();
        let _ = parent.send_signal(exit_signal, info);
    }
    if careless {
        tree.reap(group.pid());
    }
}

/// Gives the children to the nearest living subreaper, or to init (prctl(2), PR_SET_CHILD_SUBREAPER).
fn reparent_children(tree: &mut Tree, group: &ThreadGroup) -> Option<Arc<ThreadGroup>> {
    let pid = group.pid();
    let children = std::mem::take(&mut tree.node_mut(pid)?.children);
    if children.is_empty() {
        return None;
    }
    let heir_pid = find_heir(tree, pid);
    for child in &children {
        if let Some(node) = tree.node_mut(*child) {
            node.parent = heir_pid;
            let child_group = node.group.clone();
            send_parent_death(&child_group);
        }
    }
    let heir = match tree.node_mut(heir_pid) {
        Some(node) => {
            node.children.extend(&children);
            node.group.clone()
        }
        None => {
            children.iter().for_each(|c| _ = tree.reap(*c));
            return None;
        }
    };
    let zombies: Vec<_> = children
        .iter()
        .filter_map(|c| tree.node(*c))
        .filter_map(|n| Some((n.group.clone(), n.zombie?)))
        .collect();
    for (child, zombie) in zombies {
        tell_end(tree, &heir, &child, zombie.uid, zombie.status, zombie.usage);
    }
    Some(heir)
}

fn find_heir(tree: &Tree, pid: u32) -> u32 {
    let mut at = pid;
    while let Some(node) = tree.node(at).and_then(|n| tree.node(n.parent)) {
        if node.zombie.is_none() && (node.group.is_subreaper() || node.group.pid() == INIT_PID) {
            return node.group.pid();
        }
        at = node.group.pid();
    }
    INIT_PID
}

/// PR_SET_PDEATHSIG.
fn send_parent_death(child: &ThreadGroup) {
    for task in child.tasks() {
        if let Ok(signal) = Signal::new(task.details(|d| d.parent_death_signal)) {
            let _ = task.send_signal(signal, SigInfo::new(signal, sentry_abi::signal::SI_USER));
        }
    }
}

/// The process groups that this end may orphan: its own and its children's, as far as they are not orphaned yet.
fn connected_groups(tree: &Tree, ending: &ThreadGroup) -> Vec<u32> {
    let Some(own) = tree.node(ending.pid()) else { return Vec::new() };
    let children = own.children.iter().filter_map(|c| tree.node(*c));
    let mut ids: Vec<u32> =
        core::iter::once(own).chain(children).map(|n| n.process_group.id()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.retain(|id| !tree.is_orphaned(*id, None));
    ids
}

/// POSIX: process groups that this end orphans and that hold a stopped member get SIGHUP and SIGCONT.
fn tell_orphaned_groups(tree: &Tree, ended: &ThreadGroup, connected: &[u32]) {
    for &id in connected {
        let members: Vec<_> = tree
            .in_process_group(id)
            .filter(|n| n.zombie.is_none() && n.group.pid() != ended.pid())
            .map(|n| n.group.clone())
            .collect();
        let stopped = members.iter().any(|g| matches!(g.job(), Job::Stopped(_)));
        if stopped && tree.is_orphaned(id, Some(ended.pid())) {
            for signal in [Signal::SIGHUP, Signal::SIGCONT] {
                for group in &members {
                    let _ = group.send_signal(signal, SigInfo::new(signal, SI_KERNEL));
                }
            }
        }
    }
}
