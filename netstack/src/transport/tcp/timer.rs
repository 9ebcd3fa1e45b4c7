//! Time passes: retransmission, loss probes, window probes, delayed acknowledgments, keepalive, and the ends of
//! FIN-WAIT-2 and TIME-WAIT.

use super::config::{Error, MtuProbing};
use super::connection::Connection;
use super::state::{FinWait2, Origin, State, SynReceived};
use crate::time::{Duration, Instant};

/// A stream with fewer segments out is thin (Linux's tcp_stream_is_thin).
const THIN_SEGMENTS: usize = 4;
/// Linux's TCP_THIN_LINEAR_RETRIES.
const THIN_RETRIES: u32 = 6;

fn take_due(deadline: &mut Option<Instant>, now: Instant) -> bool {
    let due = deadline.is_some_and(|at| at <= now);
    if due {
        *deadline = None;
    }
    due
}

impl Connection {
    /// When [`Connection::on_timeout`] wants to be called, if no segment comes before.
    pub fn next_deadline(&self) -> Option<Instant> {
        let own = match self.state {
            State::Closed(_) => return None,
            State::TimeWait(state) => return Some(state.expires),
            State::FinWait2(state) if !state.settled => {
                state.deadline.map(|at| at - self.tcb.config.time_wait)
            }
            State::FinWait2(state) => state.deadline,
            _ => None,
        };
        [own, self.tcb.next_deadline()].into_iter().flatten().min()
    }

    /// Does what is due by `now`; what is to be sent comes out of [`Connection::poll_transmit`].
    pub fn on_timeout(&mut self, now: Instant) {
        match self.state {
            State::Closed(_) => return,
            State::TimeWait(state) => {
                if state.expires <= now {
                    self.end(None);
                }
                return;
            }
            State::FinWait2(FinWait2 { deadline: Some(at), .. }) if at <= now => {
                self.end(None);
                return;
            }
            State::FinWait2(state @ FinWait2 { deadline: Some(at), settled: false })
                if at - self.tcb.config.time_wait <= now =>
            {
                self.state = State::FinWait2(FinWait2 { settled: true, ..state });
            }
            _ => {}
        }
        // A probe that is due with the timeout takes its place, and the timeout begins anew.
        if take_due(&mut self.tcb.send.probe_at, now) {
            self.tcb.send.on_loss_probe(now, &self.tcb.rtt);
        }
        if take_due(&mut self.tcb.send.rto_at, now) {
            match matches!(self.state, State::SynSent(_) | State::SynReceived(_)) {
                true => self.retransmit_syn(now),
                false => self.retransmit(now),
            }
        }
        if take_due(&mut self.tcb.send.reorder_at, now) {
            self.tcb.send.detect_losses(now, &self.tcb.rtt);
        }
        // What pacing held back goes out by the poll that follows.
        take_due(&mut self.tcb.send.pace_at, now);
        if take_due(&mut self.tcb.send.persist_at, now) {
            self.persist(now);
        }
        self.tcb.receive.on_delay_over(now, self.tcb.rtt.rto());
        if take_due(&mut self.tcb.keepalive_at, now) {
            self.keep_alive(now);
        }
    }

    fn retransmit_syn(&mut self, now: Instant) {
        let active =
            matches!(self.state, State::SynReceived(SynReceived { origin: Origin::Active }))
                || matches!(self.state, State::SynSent(_));
        let config = &self.tcb.config;
        // Linux: the first time-outs of a SYN are alike, and count besides.
        let linear = match self.state {
            State::SynSent(_) => config.syn_linear_timeouts,
            _ => 0,
        };
        let limit = match active {
            false => config.synack_retries,
            true => self.tcb.settings.syn_count.unwrap_or(config.syn_retries) + linear,
        };
        self.tcb.send.note_stall(now);
        if self.tcb.send.retries >= limit || self.is_past_user_timeout(now) {
            self.time_out();
            return;
        }
        self.tcb.send.retries += 1;
        if self.tcb.send.retries > linear {
            self.tcb.rtt.back_off();
        }
        self.tcb.pending.syn = true;
        self.tcb.send.rto_at = Some(self.clamp(now, now + self.tcb.rtt.rto()));
    }

    fn retransmit(&mut self, now: Instant) {
        if self.tcb.send.outstanding() == 0 {
            return;
        }
        if self.tcb.send.retries >= self.retry_limit() || self.is_past_user_timeout(now) {
            self.time_out();
            return;
        }
        self.doubt_segment_size(now);
        self.tcb.send.on_timeout(now, &mut self.tcb.rtt);
        if self.is_thin() {
            self.tcb.rtt.reset_backoff();
            self.tcb.send.rto_at = Some(now + self.tcb.rtt.rto());
        }
        self.tcb.send.rto_at = self.tcb.send.rto_at.map(|at| self.clamp(now, at));
    }

    /// RFC 4821 section 7.7: "full-stop timeouts" may mean a path that swallows large segments without a word.
    fn doubt_segment_size(&mut self, now: Instant) {
        let config = self.tcb.config.clone();
        let doubted = self.tcb.send.retries >= config.retries_soft;
        if doubted && config.mtu_probing != MtuProbing::Off {
            self.tcb.mtu.on_black_hole(now, &config);
            self.tcb.apply_limits(self.tcb.limits);
        }
    }

    /// Whether the timeout stays as it is: too little is out for anything but a timeout to find a loss, and Linux's
    /// TCP_THIN_LINEAR_RETRIES are not used up.
    fn is_thin(&self) -> bool {
        let wanted = self.tcb.settings.thin_linear_timeouts || self.tcb.config.thin_linear_timeouts;
        let send = &self.tcb.send;
        let few = send.outstanding().div_ceil(send.mss) < THIN_SEGMENTS;
        let established = matches!(self.state, State::Established(_));
        wanted && established && few && send.retries <= THIN_RETRIES
    }

    fn retry_limit(&self) -> u32 {
        match self.tcb.orphan {
            true => self.tcb.config.orphan_retries,
            false => self.tcb.config.retries,
        }
    }

    fn is_past_user_timeout(&self, now: Instant) -> bool {
        match (self.tcb.settings.user_timeout, self.tcb.send.stalled_since) {
            (Some(limit), Some(since)) => now.since(since) >= limit,
            _ => false,
        }
    }

    /// A deadline that does not miss the end of TCP_USER_TIMEOUT.
    pub(super) fn clamp(&self, now: Instant, at: Instant) -> Instant {
        match (self.tcb.settings.user_timeout, self.tcb.send.stalled_since) {
            (Some(limit), Some(since)) => at.min((since + limit).max(now)),
            _ => at,
        }
    }

    /// Gives up: with what ICMP said last, if it said anything (RFC 1122 section 4.2.3.9).
    fn time_out(&mut self) {
        let error = self.tcb.soft_error.unwrap_or(Error::TimedOut);
        self.end(Some(error));
    }

    /// The interval of window probes: the timeout, doubled with each probe.
    pub(super) fn persist_interval(&self) -> Duration {
        let doublings = self.tcb.send.probe_backoff.min(10);
        self.tcb.rtt.rto().saturating_mul(1 << doublings).min(self.tcb.rtt.bounds().most)
    }

    fn persist(&mut self, now: Instant) {
        if !self.tcb.send.is_stuck() {
            return;
        }
        if self.tcb.send.usable_window() > 0 {
            // Cork or silly-window avoidance held it back long enough.
            self.tcb.send.force();
            return;
        }
        // As on Linux the user's timeout counts from the first probe, though the peer answers all of them.
        if self.tcb.send.probes >= self.retry_limit() || self.is_past_user_timeout(now) {
            self.time_out();
            return;
        }
        self.tcb.send.note_stall(now);
        self.tcb.send.probes += 1;
        self.tcb.send.probe_backoff += 1;
        self.tcb.send.counters.window_probes += 1;
        self.tcb.pending.probe = true;
    }

    /// RFC 9293 section 3.8.4: "keep-alive packets MUST only be sent when no sent data is outstanding, and no data
    /// or acknowledgment packets have been received for the connection within an interval".
    fn keep_alive(&mut self, now: Instant) {
        let busy = self.tcb.send.outstanding() > 0 || self.tcb.send.is_stuck();
        if self.is_connecting() || !self.tcb.settings.keep_alive {
            return;
        }
        if busy {
            self.tcb.keepalive_at = Some(now + self.tcb.keep_idle());
            return;
        }
        let expired = match self.tcb.settings.user_timeout {
            Some(limit) => self.tcb.keepalive_probes > 0 && now.since(self.tcb.heard_at) >= limit,
            None => self.tcb.keepalive_probes >= self.tcb.keep_count(),
        };
        if expired {
            self.tcb.pending.reset = true;
            self.time_out();
            return;
        }
        self.tcb.keepalive_probes += 1;
        self.tcb.send.counters.keepalives += 1;
        self.tcb.pending.probe = true;
        self.tcb.arm_keepalive(now);
    }
}
