//! What a listing shows of a connection beyond TCP_INFO: which of its timers runs.

use super::config::Error;
use super::connection::Connection;
use super::state::State;
use crate::time::Instant;

/// Linux's groups of TCP timers, with the numbers of `inet_diag_msg.idiag_timer` and `/proc/net/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerKind {
    /// Retransmission, loss probe or reordering.
    Retransmit = 1,
    /// Keepalive, or the end of FIN-WAIT-2.
    KeepAlive = 2,
    /// The end of TIME-WAIT.
    TimeWait = 3,
    /// Probe of a closed window.
    Probe = 4,
}

/// A timer that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingTimer {
    /// Which.
    pub kind: TimerKind,
    /// When it is due.
    pub at: Instant,
    /// How often it has run without success.
    pub retries: u32,
}

impl Connection {
    /// Ends the connection with a reset to the peer and an error for the program.
    pub fn abort_with(&mut self, error: Error) {
        self.abort();
        self.tcb.error = Some(error);
    }

    /// The timer that Linux would name: the first that runs of retransmission, probe, keepalive.
    pub fn pending_timer(&self) -> Option<PendingTimer> {
        let send = &self.tcb.send;
        let sooner = [send.rto_at, send.probe_at, send.reorder_at].into_iter().flatten().min();
        let (kind, at, retries) = match (self.state, sooner, send.persist_at) {
            (State::TimeWait(state), ..) => (TimerKind::TimeWait, state.expires, 0),
            (_, Some(at), _) => (TimerKind::Retransmit, at, send.retries),
            (_, None, Some(at)) => (TimerKind::Probe, at, send.probes),
            (State::FinWait2(state), None, None) if state.deadline.is_some() => {
                (TimerKind::KeepAlive, state.deadline?, 0)
            }
            _ => (TimerKind::KeepAlive, self.tcb.keepalive_at?, self.tcb.keepalive_probes),
        };
        Some(PendingTimer { kind, at, retries })
    }
}
