//! Pending signals: a set, and what is known of each.

use std::collections::VecDeque;

use sentry_abi::Errno;
use sentry_abi::signal::{SI_KERNEL, SI_TIMER, SI_USER, SigInfo, SigSet, Signal};

use crate::error::Result;

/// Signals that were sent and not yet delivered, to a task or to a thread group.
#[derive(Default)]
pub struct PendingSignals {
    set: SigSet,
    queue: VecDeque<SigInfo>,
}

impl PendingSignals {
    /// Which are pending.
    pub fn set(&self) -> SigSet {
        self.set
    }

    /// Adds one. A standard signal that is pending already is not queued again; a queue of `limit` entries takes only the fact
    /// that the signal is pending. Errors: EAGAIN where a queued real-time signal (sigqueue, timer) finds no room.
    pub fn push(&mut self, signal: Signal, info: SigInfo, limit: u64) -> Result<()> {
        if !signal.is_realtime() && self.set.contains(signal) {
            return Ok(());
        }
        if info.code == SI_TIMER
            && let Some(queued) = self.queue.iter_mut().find(|i| {
                i.signo == info.signo && i.code == SI_TIMER && i.timer_id() == info.timer_id()
            })
        {
            // timer_getoverrun(2): a timer has one signal queued at most; more expiries count as overruns.
            let total = queued.overrun().saturating_add(info.overrun()).saturating_add(1);
            *queued = SigInfo::timer(signal, info.timer_id(), total, info.value());
            return Ok(());
        }
        let room = (self.queue.len() as u64) < limit || info.code == SI_KERNEL;
        if !room && signal.is_realtime() && info.code != SI_USER {
            return Err(Errno::EAGAIN.into());
        }
        self.set.insert(signal);
        if room {
            self.queue.push_back(info);
        }
        Ok(())
    }

    /// Takes the next signal that is in `wanted`: synchronous ones first, then the lowest number.
    pub fn take(&mut self, wanted: SigSet) -> Option<(Signal, SigInfo)> {
        let candidates = self.set.intersection(wanted);
        let urgent = candidates.intersection(SigSet::SYNCHRONOUS);
        let signal = urgent.first().or(candidates.first())?;
        let at = self.queue.iter().position(|i| i.signo == signal.number());
        let info = match at.and_then(|at| self.queue.remove(at)) {
            Some(info) => info,
            // The queue was full when it came: only the fact is known.
            None => SigInfo::new(signal, SI_USER),
        };
        if !self.queue.iter().any(|i| i.signo == signal.number()) {
            self.set.remove(signal);
        }
        Some((signal, info))
    }

    /// Forgets the signals of a set.
    pub fn discard(&mut self, set: SigSet) {
        if self.set.intersection(set).is_empty() {
            return;
        }
        self.set = self.set.without(set);
        let kept = self.set;
        self.queue.retain(|i| Signal::new(i.signo).is_ok_and(|s| kept.contains(s)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(signal: Signal, code: i32) -> SigInfo {
        SigInfo::new(signal, code)
    }

    #[test]
    fn standard_signals_merge_and_realtime_ones_queue_in_order() {
        let mut pending = PendingSignals::default();
        let rt = Signal::new(40).unwrap();
        for pid in 1..=3 {
            pending.push(rt, SigInfo::user(rt, -1, pid, 0), 10).unwrap();
            let usr1 = SigInfo::user(Signal::SIGUSR1, SI_USER, pid, 0);
            pending.push(Signal::SIGUSR1, usr1, 10).unwrap();
        }
        assert_eq!(pending.take(SigSet::ALL).unwrap().1.pid(), 1);
        assert!(!pending.set().contains(Signal::SIGUSR1));
        let pids: Vec<_> =
            std::iter::from_fn(|| pending.take(SigSet::ALL)).map(|(_, i)| i.pid()).collect();
        assert_eq!(pids, [1, 2, 3]);
    }

    #[test]
    fn a_full_queue_refuses_sigqueue_but_keeps_the_fact_of_a_kill() {
        let mut pending = PendingSignals::default();
        let rt = Signal::new(34).unwrap();
        assert!(pending.push(rt, info(rt, -1), 0).is_err());
        pending.push(Signal::SIGTERM, info(Signal::SIGTERM, SI_USER), 0).unwrap();
        assert_eq!(pending.take(SigSet::ALL).unwrap().0, Signal::SIGTERM);
    }

    #[test]
    fn faults_come_before_lower_numbers_and_discarded_signals_do_not_come() {
        let mut pending = PendingSignals::default();
        for signal in [Signal::SIGHUP, Signal::SIGSEGV, Signal::SIGTSTP] {
            pending.push(signal, info(signal, SI_USER), 10).unwrap();
        }
        pending.discard(SigSet::STOPS);
        assert_eq!(pending.take(SigSet::ALL).unwrap().0, Signal::SIGSEGV);
        assert_eq!(pending.take(SigSet::ALL).unwrap().0, Signal::SIGHUP);
        assert!(pending.take(SigSet::ALL).is_none());
    }
}
