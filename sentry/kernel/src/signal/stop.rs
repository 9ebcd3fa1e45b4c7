//! Job control: stopping a thread group, resuming it, and telling the parent.

use std::sync::atomic::Ordering;

use sentry_abi::signal::Signal;

use crate::task::{Attention, CurrentTask, ThreadGroup, WaitStatus};

use super::Job;

impl ThreadGroup {
    /// Makes all tasks stop; nothing where the group ends, stops already or was continued meanwhile.
    pub(crate) fn begin_stop(&self, signal: Signal) {
        let members = self.members.lock();
        if members.exiting.is_some() || members.exec.is_some() {
            return;
        }
        let mut signals = self.signals.lock();
        if signals.job != Job::Running {
            return;
        }
        signals.job = Job::Stopping(signal);
        for task in &members.tasks {
            task.demand(Attention::STOP);
        }
    }

    /// Settles a stop once every task is parked. True where the parent is to be told.
    pub(crate) fn settle_stop(&self) -> Option<WaitStatus> {
        let members = self.members.lock();
        let mut signals = self.signals.lock();
        let Job::Stopping(signal) = signals.job else { return None };
        if members.tasks.is_empty()
            || !members.tasks.iter().all(|t| t.stopped.load(Ordering::SeqCst))
        {
            return None;
        }
        signals.job = Job::Stopped(signal);
        Some(WaitStatus::Stopped(signal))
    }

    /// Takes the fact that SIGCONT resumed the group.
    pub(crate) fn take_continued(&self) -> bool {
        std::mem::take(&mut self.signals.lock().continued)
    }
}

impl CurrentTask {
    /// Parks this task while its group is stopped. Ends by SIGCONT, SIGKILL or the end of the group.
    pub(crate) fn park_stopped(&self) {
        let task = self.task();
        let group = task.thread_group();
        task.clear_attention(Attention::STOP);
        if group.job() == Job::Running {
            return;
        }
        task.stopped.store(true, Ordering::SeqCst);
        if let Some(status) = group.settle_stop() {
            self.pids().job_changed(group, status);
        }
        self.account().change(crate::task::Mode::Blocked, self.kernel().now());
        while group.job() != Job::Running && !task.attention().contains(Attention::EXIT) {
            self.park(None);
        }
        self.account().change(crate::task::Mode::System, self.kernel().now());
        task.stopped.store(false, Ordering::SeqCst);
        task.clear_attention(Attention::STOP);
        // A new stop may have begun between the last look and the clearing.
        if group.job() != Job::Running {
            task.demand(Attention::STOP);
        }
    }
}
