//! Sending signals: who may, what is dropped, and which task is told (kill(2), signal(7)).

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_abi::resource::Resource;
use sentry_abi::signal::{SIG_DFL, SigAction, SigInfo, SigSet, Signal};

use crate::cred::{Capabilities, Credentials};
use crate::error::Result;
use crate::sync::MutexGuard;
use crate::task::{Attention, Task, ThreadGroup};
use crate::wait::Events;

use super::{GroupSignals, Job};

/// True where a sender with `sender` may signal a task with `target` (kill(2)).
pub fn may_signal(sender: &Credentials, target: &Credentials) -> bool {
    sender.has(Capabilities::KILL)
        || [sender.euid, sender.uid].iter().any(|id| *id == target.suid || *id == target.uid)
}

impl ThreadGroup {
    /// Sends a signal to the group: any task that does not block it takes it. Errors: EAGAIN where a queue is full.
    pub fn send_signal(&self, signal: Signal, info: SigInfo) -> Result<()> {
        self.send(None, signal, info)
    }

    fn send(&self, target: Option<&Task>, signal: Signal, info: SigInfo) -> Result<()> {
        let limit = self.soft_limit(Resource::Sigpending);
        {
            let members = self.members.lock();
            let mut signals = self.signals.lock();
            self.undo_opposites(&members.tasks, &mut signals, signal);
            let judge = target.or(members.tasks.first().map(Arc::as_ref));
            let Some(judge) = judge else { return Ok(()) }; // A zombie takes signals and does nothing.
            let hidden = {
                let own = judge.signals.lock();
                own.blocked.union(own.waiting_for)
            };
            if !hidden.contains(signal)
                && self.handlers().ignores(signal)
                && !signal.eq(&Signal::SIGKILL)
            {
                return Ok(());
            }
            match target {
                Some(task) => {
                    task.signals.lock().pending.push(signal, info, limit)?;
                    task.demand(Attention::SIGNAL);
                }
                None => {
                    signals.pending.push(signal, info, limit)?;
                    tell_one(&members.tasks, signal);
                }
            }
        }
        self.signal_came().notify(Events::IN);
        Ok(())
    }

    /// A stop signal undoes a pending SIGCONT and the reverse; SIGCONT and SIGKILL resume a stopped group at once, before any delivery.
    fn undo_opposites(
        &self,
        tasks: &[Arc<Task>],
        signals: &mut MutexGuard<'_, GroupSignals>,
        signal: Signal,
    ) {
        let opposite = match signal {
            Signal::SIGCONT => SigSet::STOPS,
            s if SigSet::STOPS.contains(s) => Signal::SIGCONT.to_set(),
            Signal::SIGKILL => SigSet::EMPTY,
            _ => return,
        };
        signals.pending.discard(opposite);
        for task in tasks {
            task.signals.lock().pending.discard(opposite);
        }
        if matches!(signal, Signal::SIGCONT | Signal::SIGKILL) && signals.job != Job::Running {
            let was_stopped = matches!(signals.job, Job::Stopped(_));
            signals.job = Job::Running;
            for task in tasks {
                task.clear_attention(Attention::STOP);
                task.waker().nudge();
            }
            if signal == Signal::SIGCONT && was_stopped {
                // The parent is told by a task of this group, which is free to take the locks that this needs.
                signals.continued = true;
                if let Some(task) = tasks.first() {
                    task.demand(Attention::SIGNAL);
                }
            }
        }
    }
}

/// Tells a task that does not block the signal; where all do, nobody: it stays pending.
fn tell_one(tasks: &[Arc<Task>], signal: Signal) {
    if signal == Signal::SIGKILL {
        // Every task must end anyway: no need to wait for one to say it.
        tasks.iter().for_each(|t| t.demand(Attention::SIGNAL));
        return;
    }
    let open = |t: &&Arc<Task>| {
        let own = t.signals.lock();
        !own.blocked.without(own.waiting_for).contains(signal)
            && !t.attention().contains(Attention::EXIT)
    };
    if let Some(task) = tasks.iter().find(open) {
        task.demand(Attention::SIGNAL);
    }
}

impl Task {
    /// Sends a signal to this task alone. Errors: EAGAIN where its queue is full.
    pub fn send_signal(&self, signal: Signal, info: SigInfo) -> Result<()> {
        self.thread_group().send(Some(self), signal, info)
    }

    /// Sends a signal that cannot be refused: where it is blocked or ignored, its action goes back to the default first
    /// (a fault that the program would otherwise repeat for ever).
    pub fn force_signal(&self, signal: Signal, info: SigInfo) {
        let handlers = self.thread_group().handlers();
        let blocked = self.signals.lock().blocked.contains(signal);
        if blocked || handlers.ignores(signal) {
            handlers.set_action(signal, SigAction { handler: SIG_DFL, ..SigAction::default() });
            self.signals.lock().blocked.remove(signal);
        }
        let _ = self.send_signal(signal, info);
    }

    /// True where a signal is pending that the mask lets through.
    pub(crate) fn has_deliverable_signal(&self) -> bool {
        let group = self.thread_group().signals.lock();
        let own = self.signals.lock();
        group.continued
            || !group
                .pending
                .set()
                .union(own.pending.set())
                .without(own.blocked.without(own.waiting_for))
                .is_empty()
    }

    /// Looks again whether something is deliverable, after the mask or the queues changed.
    pub(crate) fn recheck_signals(&self) {
        if self.has_deliverable_signal() {
            self.demand(Attention::SIGNAL);
        }
    }

    /// Sets the mask (SIGKILL and SIGSTOP are never blocked); returns the old one.
    pub fn set_blocked(&self, mask: SigSet) -> SigSet {
        let old = {
            let mut own = self.signals.lock();
            std::mem::replace(&mut own.blocked, mask.without(SigSet::UNBLOCKABLE))
        };
        let newly = mask.without(old);
        self.recheck_signals();
        if !newly.is_empty() {
            self.thread_group().pass_on(self, newly);
        }
        old
    }

    /// Takes a pending signal of `wanted`, its own first. For sigtimedwait and signal descriptors.
    pub fn take_signal(&self, wanted: SigSet) -> Option<(Signal, SigInfo)> {
        let wanted = wanted.without(SigSet::UNBLOCKABLE);
        let taken = {
            let mut group = self.thread_group().signals.lock();
            let mut own = self.signals.lock();
            own.pending.take(wanted).or_else(|| group.pending.take(wanted))
        };
        if let Some((_, info)) = &taken {
            self.thread_group().timers().signal_taken(info);
        }
        taken
    }
}

impl ThreadGroup {
    /// A task will not take what it was told of (it blocks it now, or ends): other tasks look whether they can.
    pub(crate) fn pass_on(&self, not: &Task, signals: SigSet) {
        let members = self.members.lock();
        let pending = self.signals.lock().pending.set().intersection(signals);
        for signal in pending.iter() {
            let others: Vec<_> =
                members.tasks.iter().filter(|t| t.tid() != not.tid()).cloned().collect();
            tell_one(&others, signal);
        }
    }

    /// Forgets the pending signals of a set that the group now ignores (sigaction with SIG_IGN).
    pub fn discard_pending(&self, set: SigSet) {
        let members = self.members.lock();
        let mut signals = self.signals.lock();
        signals.pending.discard(set);
        for task in &members.tasks {
            task.signals.lock().pending.discard(set);
        }
    }
}

/// Who kill(2) means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KillTarget {
    /// One thread group.
    Process(u32),
    /// All of a process group.
    ProcessGroup(u32),
    /// All that the caller may signal, but itself and init.
    All,
}

impl Task {
    /// kill(2). Errors: ESRCH, EPERM where none may be signalled.
    pub fn kill(&self, target: KillTarget, signal: Option<Signal>, info: SigInfo) -> Result<()> {
        let pids = self.pids();
        let groups = match target {
            KillTarget::Process(pid) => match pids.group(pid) {
                Some(group) => vec![group],
                None => match pids.task(pid) {
                    // kill(2) takes the id of any task and means its group.
                    Some(task) => vec![task.thread_group().clone()],
                    None => Vec::new(),
                },
            },
            KillTarget::ProcessGroup(id) => pids.members_of(id),
            KillTarget::All => {
                let mut all = pids.groups();
                all.retain(|g| g.pid() != 1 && g.pid() != self.pid());
                all
            }
        };
        if groups.is_empty() {
            return Err(Errno::ESRCH.into());
        }
        let mut refused = None;
        let mut done = false;
        for group in groups {
            match self.kill_group(&group, signal, info) {
                Ok(()) => done = true,
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            // To all means to all that may be signalled, be it nobody; only that there is nobody else is an error.
            Some(error) if error.is(Errno::EPERM) && target == KillTarget::All => Ok(()),
            Some(error) if !done => Err(error),
            _ => Ok(()),
        }
    }

    /// Signals one group after the permission check. Errors: EPERM, EAGAIN.
    pub fn kill_group(
        &self,
        group: &ThreadGroup,
        signal: Option<Signal>,
        info: SigInfo,
    ) -> Result<()> {
        let pids = self.pids();
        if let Some(target) = pids.task(group.pid()) {
            let same_session = || {
                let session = |pid| pids.process_group_of(pid).map(|g| g.session().id());
                session(self.pid()) == session(group.pid())
            };
            let allowed = self.pid() == group.pid()
                || may_signal(&self.credentials(), &target.credentials())
                || (signal == Some(Signal::SIGCONT) && same_session());
            if !allowed {
                return Err(Errno::EPERM.into());
            }
        }
        match signal {
            Some(signal) => group.send_signal(signal, info),
            None => Ok(()),
        }
    }
}

impl crate::task::CurrentTask {
    /// sigtimedwait(2): takes a signal of `wanted`, waiting for one until `deadline`.
    pub fn wait_for_signal(
        &self,
        wanted: SigSet,
        deadline: Option<crate::time::Instant>,
    ) -> Result<(Signal, SigInfo), crate::task::Unblocked> {
        if let Some(found) = self.task().take_signal(wanted) {
            return Ok(found);
        }
        // While it waits, a sender finds this task although it blocks the signal, and does not drop what is ignored.
        self.task().signals.lock().waiting_for = wanted;
        let result = loop {
            if let Some(found) = self.task().take_signal(wanted) {
                break Ok(found);
            }
            let ended = self.block_for_signal(wanted, deadline);
            if let Err(reason) = ended {
                break self.task().take_signal(wanted).ok_or(reason);
            }
        };
        self.task().signals.lock().waiting_for = SigSet::EMPTY;
        result
    }

    /// Sleeps until a signal of `wanted` is pending, or as [`Self::block`].
    fn block_for_signal(
        &self,
        wanted: SigSet,
        deadline: Option<crate::time::Instant>,
    ) -> Result<(), crate::task::Unblocked> {
        // The sender demands attention, which ends the block; where nothing else is deliverable, it was for us.
        match self.block(deadline) {
            Err(crate::task::Unblocked::Interrupted) if self.has_pending(wanted) => Ok(()),
            other => other,
        }
    }

    fn has_pending(&self, set: SigSet) -> bool {
        let all = self.thread_group().pending().union(self.task().pending());
        !all.intersection(set).is_empty()
    }
}
