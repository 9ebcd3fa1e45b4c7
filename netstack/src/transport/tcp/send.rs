//! The sending half: the queue of unacknowledged and unsent data, the peer's window, loss recovery
//! (RFC 5681, 6582, 6675, 8985), Nagle's rule and silly-window avoidance (RFC 9293 section 3.8.6.2.1).

use super::congestion::{Burst, Control};
use super::flight::Flight;
use super::mtu_search::{MtuProbe, MtuVerdict, Supply};
use super::pacing::{self, Pacer};
use super::rtt::Rtt;
use super::seq::Seq;
use super::undo::Frto;
use crate::buffer::Chain;
use crate::lazy::Lazy;
use crate::time::{Duration, Instant};
use crate::wire::tcp::SackBlocks;
use core::ops::{Deref, DerefMut};

/// Where loss recovery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No loss is being repaired.
    Open,
    /// The window shrinks though nothing was lost (Linux's CWR), until more than `point` is acknowledged.
    Cwr {
        /// What had been sent when the network complained.
        point: Seq,
    },
    /// Fast recovery until `point` is acknowledged.
    Recovery {
        /// What had been sent when loss was detected.
        point: Seq,
    },
    /// Recovery by timeout until `point` is acknowledged.
    Loss {
        /// What had been sent when the timer expired.
        point: Seq,
    },
}

/// How eagerly small segments are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Push {
    /// Nagle's rule (RFC 9293 section 3.7.4, in Minshall's form as Linux has it).
    #[default]
    Nagle,
    /// At once (TCP_NODELAY).
    NoDelay,
    /// Only full segments (TCP_CORK).
    Cork,
}

/// What an acknowledgment says, without the connection around it.
#[derive(Clone, Copy, Debug)]
pub struct Ack<'a> {
    /// SEG.SEQ.
    pub seq: Seq,
    /// SEG.ACK, not beyond what was sent.
    pub ack: Seq,
    /// The window, scaled.
    pub window: usize,
    /// SACK blocks.
    pub sack: &'a SackBlocks,
    /// SEG.LEN: a segment with data is no duplicate acknowledgment.
    pub len: usize,
    /// Round-trip time by the echoed timestamp.
    pub echo_rtt: Option<Duration>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckOutcome {
    /// Sequence numbers newly acknowledged.
    pub advanced: usize,
    /// Sequence numbers newly known to have arrived, in order or by SACK.
    pub delivered: usize,
    /// Whether our FIN is acknowledged.
    pub fin_acked: bool,
}

/// A piece of the stream to put into a segment.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Its first sequence number.
    pub seq: Seq,
    /// Its bytes.
    pub payload: Chain,
    /// Whether the FIN follows them.
    pub fin: bool,
    /// Whether nothing follows in the queue.
    pub push: bool,
    /// Whether it was sent before.
    pub retransmission: bool,
}

/// Bounds of one transmission.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// The most payload that one segment may hold before segmentation.
    pub gso_max: usize,
    /// How eager to be.
    pub push: Push,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct LossProbe {
    pub(super) end: Seq,
    pub(super) retransmitted: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fin {
    #[default]
    Open,
    Queued,
    Sent,
}

/// Counters of one connection's sending half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendCounters {
    /// Payload bytes sent, with retransmissions.
    pub bytes_sent: u64,
    /// Payload bytes acknowledged.
    pub bytes_acked: u64,
    /// Payload bytes sent again.
    pub bytes_retransmitted: u64,
    /// Segments sent again.
    pub retransmissions: u32,
    /// Segments that arrived with a mark of congestion, as far as the peer tells (tcpi_delivered_ce).
    pub delivered_marked: u32,
    /// Of those, in fast recovery (TCPFastRetrans).
    pub fast_retransmissions: u32,
    /// Of those, in slow start after a timeout (TCPSlowStartRetrans).
    pub slow_start_retransmissions: u32,
    /// Fast recoveries entered by SACK (TCPSackRecovery).
    pub recoveries: u32,
    /// Fast recoveries entered by duplicate acknowledgments (TCPRenoRecovery).
    pub reno_recoveries: u32,
    /// Timeouts (TCPTimeouts).
    pub timeouts: u32,
    /// Series of timeouts without progress between (tcpi_total_rto_recoveries).
    pub timeout_series: u32,
    /// How long they lasted altogether, in milliseconds (tcpi_total_rto_time).
    pub timeout_time_ms: u32,
    /// D-SACKs received (TCPDSACKRecv).
    pub duplicates_reported: u32,
    /// Segments that they reported (TCPDSACKRecvSegs).
    pub duplicate_segments_reported: u32,
    /// Tail loss probes sent (TCPLossProbes).
    pub loss_probes: u32,
    /// Probes of an idle peer.
    pub keepalives: u32,
    /// Probes of a closed window.
    pub window_probes: u32,
    /// Probes of the path's MTU that arrived (TCPMTUPSuccess).
    pub mtu_probes_arrived: u32,
    /// Probes of the path's MTU that were lost (TCPMTUPFail).
    pub mtu_probes_lost: u32,
    /// Of those, the ones that repaired a loss (TCPLossProbeRecovery).
    pub loss_probe_recoveries: u32,
    /// Retransmitted segments that were lost again (TCPLostRetransmit).
    pub lost_retransmissions: u32,
    /// Recoveries taken back when they ended (TCPFullUndo).
    pub undone_wholly: u32,
    /// Recoveries taken back within (TCPPartialUndo).
    pub undone_partially: u32,
    /// Recoveries taken back by D-SACK (TCPDSACKUndo).
    pub undone_by_report: u32,
    /// Timeouts taken back (TCPLossUndo).
    pub undone_losses: u32,
    /// Of those, by F-RTO (TCPSpuriousRTOs).
    pub spurious_timeouts: u32,
}

impl SendCounters {
    /// Nothing was counted.
    pub(super) const NONE: SendCounters = SendCounters {
        bytes_sent: 0,
        bytes_acked: 0,
        bytes_retransmitted: 0,
        retransmissions: 0,
        delivered_marked: 0,
        fast_retransmissions: 0,
        slow_start_retransmissions: 0,
        recoveries: 0,
        reno_recoveries: 0,
        timeouts: 0,
        duplicates_reported: 0,
        duplicate_segments_reported: 0,
        loss_probes: 0,
        keepalives: 0,
        window_probes: 0,
        mtu_probes_arrived: 0,
        mtu_probes_lost: 0,
        loss_probe_recoveries: 0,
        lost_retransmissions: 0,
        undone_wholly: 0,
        undone_partially: 0,
        undone_by_report: 0,
        undone_losses: 0,
        spurious_timeouts: 0,
        timeout_series: 0,
        timeout_time_ms: 0,
    };
}

/// The sending half of a connection. While nothing is under way it is no more than what stands here; the rest is a [`Flight`], whose
/// fields are reached as if they were its own.
#[derive(Debug)]
pub struct Sender {
    /// Initial sequence number.
    pub iss: Seq,
    /// SND.UNA.
    pub una: Seq,
    /// SND.NXT: never goes back; retransmissions are marks on the scoreboard.
    pub nxt: Seq,
    /// SND.WND in bytes.
    pub window: usize,
    /// The largest window that the peer ever offered.
    pub max_window: usize,
    /// Shift of the windows that the peer sends.
    pub window_shift: u8,
    /// Whether both ends do SACK.
    pub sack: bool,
    /// Payload bytes of a full segment.
    pub mss: usize,
    /// Congestion control.
    pub congestion: Control,
    /// Payload bytes sent, with retransmissions.
    pub(super) bytes_sent: u64,
    /// Payload bytes acknowledged.
    pub bytes_acked: u64,
    pub(super) wl1: Seq,
    pub(super) queue: Chain,
    pub(super) queue_start: Seq,
    pub(super) fin: Fin,
    /// SO_MAX_PACING_RATE in bytes a second.
    pub max_pacing_rate: Option<u64>,
    /// RFC 6582's recover: no fast recovery begins before more than this is acknowledged.
    pub(super) recover: Seq,
    /// F-RTO (tcp_frto).
    pub detects_spurious_timeouts: bool,
    /// Whether an unused window shrinks (tcp_slow_start_after_idle).
    pub slow_start_after_idle: bool,
    /// Where the present round trip ends.
    pub(super) round_end: Seq,
    pub(super) small_end: Seq,
    pub(super) last_sent_at: Instant,
    /// The delivery rate that the last flight measured.
    told_rate: Option<(u64, bool)>,
    pub(super) flight: Lazy<Flight>,
}

impl Deref for Sender {
    type Target = Flight;
    fn deref(&self) -> &Flight {
        &self.flight
    }
}

impl DerefMut for Sender {
    fn deref_mut(&mut self) -> &mut Flight {
        &mut self.flight
    }
}

impl Sender {
    /// A sender that has sent nothing.
    pub fn new(now: Instant, iss: Seq, mss: usize, congestion: Control) -> Sender {
        Sender {
            iss,
            una: iss,
            nxt: iss,
            window: 0,
            max_window: 0,
            window_shift: 0,
            sack: false,
            mss,
            congestion,
            bytes_sent: 0,
            bytes_acked: 0,
            wl1: Seq(0),
            queue: Chain::new(),
            queue_start: iss + 1,
            fin: Fin::Open,
            max_pacing_rate: None,
            recover: iss,
            detects_spurious_timeouts: true,
            slow_start_after_idle: true,
            round_end: iss,
            small_end: iss,
            last_sent_at: now,
            told_rate: None,
            flight: Lazy::PLAIN,
        }
    }

    /// Bytes a second as last delivered, and whether the program set that pace.
    pub fn delivery_rate(&self) -> Option<(u64, bool)> {
        self.flight.rate.delivery_rate().or(self.told_rate)
    }

    /// What was counted.
    pub fn counters(&self) -> SendCounters {
        SendCounters {
            bytes_sent: self.bytes_sent,
            bytes_acked: self.bytes_acked,
            ..self.flight.counters
        }
    }

    /// What was counted of sending since this was asked last: before and now, where anything was.
    pub fn take_counters(&mut self) -> Option<(SendCounters, SendCounters)> {
        let flight = self.flight.own_mut()?;
        if flight.counters == flight.told {
            return None;
        }
        let before = core::mem::replace(&mut flight.told, flight.counters);
        Some((before, flight.counters))
    }

    /// The parts of the flight, each to be changed by itself.
    pub(super) fn parts(&mut self) -> (&mut Flight, &mut Control) {
        (&mut self.flight, &mut self.congestion)
    }

    /// Nothing was sent for a while: gives back what only a flight needs, where it has nothing to remember.
    pub fn rest(&mut self) {
        let own = self.flight.is_own();
        if own && self.is_calm() && !self.congestion.hears_all() && self.flight.is_forgettable() {
            self.told_rate = self.flight.rate.delivery_rate();
            self.flight.reset();
        }
        if self.queue.is_empty() {
            self.queue = Chain::new();
        }
        self.congestion.rest();
    }

    /// Where recovery stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The memory that the queue keeps alive.
    pub fn held(&self) -> usize {
        self.queue.held()
    }

    /// Bytes in the queue, sent or not.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Bytes not sent yet.
    pub fn unsent(&self) -> usize {
        self.queue_end().since(self.nxt)
    }

    /// Bytes on their way, as far as is known.
    pub fn in_flight(&self) -> usize {
        let in_flight = self.board.in_flight();
        if self.sack {
            return in_flight;
        }
        // Without SACK each duplicate acknowledgment tells of one segment that left the network.
        in_flight.saturating_sub(self.duplicates * self.mss)
    }

    /// Sequence numbers sent and not acknowledged.
    pub fn outstanding(&self) -> usize {
        self.nxt.since(self.una)
    }

    /// What SACK and loss detection hold: (sacked, lost) bytes.
    pub fn sacked_and_lost(&self) -> (usize, usize) {
        (self.board.sacked(), self.board.lost())
    }

    pub(super) fn queue_end(&self) -> Seq {
        self.queue_start + self.queue.len()
    }

    /// Whether all that was queued, with the FIN, is acknowledged.
    pub fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.una == self.nxt && self.fin != Fin::Queued
    }

    /// Whether the stream was ended.
    pub fn is_finished(&self) -> bool {
        self.fin != Fin::Open
    }

    /// Appends data.
    pub fn push(&mut self, data: Chain) {
        self.queue.append(data);
    }

    /// The tail of the queue for appending small writes in place.
    pub fn queue_mut(&mut self) -> &mut Chain {
        &mut self.queue
    }

    /// The last byte that is queued is urgent.
    pub fn mark_urgent(&mut self) {
        if !self.queue.is_empty() {
            self.urgent_end = Some(self.queue_end());
        }
    }

    /// Whether urgent data is on its way: each segment then tells, and goes alone.
    pub fn is_urgent(&self) -> bool {
        self.urgent_end.is_some_and(|end| end > self.una)
    }

    /// The urgent pointer of a segment at `seq`: the distance to the byte after the urgent one (RFC 6093 section 3.1), or
    /// the farthest that can be told.
    pub fn urgent_pointer(&self, seq: Seq) -> Option<u16> {
        let end = self.urgent_end.filter(|end| *end > self.una && *end > seq)?;
        match u16::try_from(end.since(seq)) {
            Ok(pointer) => Some(pointer),
            // It lies too far ahead; a segment with all that was sent so far still warns of it.
            Err(_) => (seq + usize::from(u16::MAX) > self.nxt).then_some(u16::MAX),
        }
    }

    /// Whether our FIN is acknowledged.
    pub fn is_fin_acked(&self) -> bool {
        self.fin == Fin::Sent && self.una > self.queue_end()
    }

    /// Ends the stream after what is queued.
    pub fn finish(&mut self) {
        if self.fin == Fin::Open {
            self.fin = Fin::Queued;
        }
    }

    /// Our SYN went out.
    pub fn syn_sent(&mut self, now: Instant) {
        self.nxt = self.iss + 1;
        self.last_sent_at = now;
    }

    /// Our SYN is acknowledged; `window` is the scaled window of the segment that said so.
    pub fn syn_acked(&mut self, seq: Seq, window: usize) {
        self.una = self.iss + 1;
        self.rto_at = None;
        self.retries = 0;
        self.stalled_since = None;
        self.set_window(seq, window);
    }

    /// Takes a window as RFC 9293 section 3.10.7.4 says.
    pub fn set_window(&mut self, seq: Seq, window: usize) {
        self.wl1 = seq;
        self.window = window;
        self.max_window = self.max_window.max(window);
    }

    /// The segment size changed.
    pub fn set_mss(&mut self, mss: usize) {
        self.mss = mss.max(1);
        self.congestion.set_mss(self.mss);
    }

    /// The persist timer expired: what is held back goes out though it is small.
    pub fn force(&mut self) {
        self.forced = true;
    }

    /// Whether data or the FIN waits while nothing is outstanding: then only the persist timer can move it.
    pub fn is_stuck(&self) -> bool {
        self.board.is_empty() && (self.unsent() > 0 || self.fin == Fin::Queued)
    }

    /// Whether all that was sent is acknowledged, and nothing is being repaired.
    pub fn is_calm(&self) -> bool {
        let repairs = self.phase != Phase::Open || self.loss_probe_due || self.mtu_probe.is_some();
        self.board.is_empty() && self.una == self.nxt && !repairs
    }

    /// Whether all was sent, once and in order, and the program has nothing more: a look for something to send would find nothing.
    pub fn is_spent(&self) -> bool {
        let flight = &*self.flight;
        let repairs = flight.board.lost() > 0 || flight.loss_probe_due || flight.frto != Frto::Off;
        self.unsent() == 0 && self.fin != Fin::Queued && !repairs && !flight.forced
    }

    /// Whether it is so, and the last burst was judged already.
    pub fn has_nothing_due(&self) -> bool {
        let flight = &*self.flight;
        let judged = !flight.bursting && !flight.window_held;
        let timers = flight.persist_at.is_some() || flight.pace_at.is_some();
        self.is_spent() && judged && !timers && flight.urgent_end.is_none()
    }

    /// Whether an acknowledgment can bring no news but of the window: nothing is under way, and it is no report of anything.
    pub(super) fn expects_nothing(&self, ack: &Ack<'_>) -> bool {
        let news = self.una != self.nxt || ack.ack != self.una || !ack.sack.is_empty();
        // A flight that nobody has begun is quiet.
        let quiet = !self.flight.is_own()
            || self.is_calm() && self.flight.is_quiet() && self.undo.first_at.is_none();
        !news && quiet && self.is_spent() && !self.congestion.hears_all()
    }

    /// Bytes of the window that are open.
    pub fn usable_window(&self) -> usize {
        (self.una + self.window).since(self.nxt)
    }

    /// The next piece to send, if anything may go out.
    pub fn poll(&mut self, now: Instant, rtt: &Rtt, budget: Budget) -> Option<Outgoing> {
        if self.is_spent() {
            if self.pace_at.is_some() {
                self.pace_at = None;
            }
            self.end_burst(now, rtt);
            return None;
        }
        let budget = self.urgent_budget(budget);
        let pace = self.pacing_rate(rtt);
        let (budget, wait) = match pace {
            Some(rate) => {
                let piece = Pacer::piece(rate, self.mss);
                let gso_max = budget.gso_max.min(piece).max(self.mss);
                (Budget { gso_max, ..budget }, self.pacer.wait_until(now))
            }
            None => (budget, None),
        };
        self.pace_at = None;
        if wait.is_some() && self.has_more() {
            self.pace_at = wait;
            self.end_burst(now, rtt);
            return None;
        }
        let (in_flight, mss) = (self.board.in_flight(), self.mss);
        self.board.stamp = self.flight.rate.stamp(now, in_flight, mss);
        let Some(out) = self.poll_next(now, rtt, budget) else {
            self.end_burst(now, rtt);
            return None;
        };
        if let Some(rate) = pace {
            self.pacer.on_sent(now, out.payload.len(), rate);
        }
        self.bursting = true;
        self.note_sent(now, &out);
        if self.rto_at.is_none() {
            self.rto_at = Some(now + rtt.rto());
        }
        if !out.retransmission {
            self.schedule_loss_probe(now, rtt);
        }
        Some(out)
    }

    /// What a probe of the path's MTU would be made of; None while something is being repaired.
    pub fn mtu_supply(&self) -> Option<Supply> {
        let calm = self.phase == Phase::Open && self.board.sacked() == 0 && !self.is_urgent();
        (calm && self.mtu_probe.is_none()).then(|| Supply {
            unsent: self.unsent(),
            open: self.usable_window(),
            room: self.congestion.window().saturating_sub(self.in_flight()),
            congestion: self.congestion.window(),
            mss: self.mss,
        })
    }

    /// Sends queued data in one segment of `len` bytes, whatever the segment size.
    pub fn poll_mtu_probe(&mut self, now: Instant, rtt: &Rtt, len: usize) -> Outgoing {
        self.mtu_probe = Some(MtuProbe { start: self.nxt, len });
        let out = self.take_new(now, len);
        self.note_sent(now, &out);
        self.rto_at.get_or_insert(now + rtt.rto());
        self.schedule_loss_probe(now, rtt);
        out
    }

    /// RFC 4821 section 7.6.2: a probe that is lost alone "is not an indication of congestion". It is sent again in
    /// segments of the usual size.
    pub(super) fn lost_only_the_mtu_probe(&mut self) -> bool {
        let Some(probe) = self.mtu_probe else { return false };
        let alone = self.una == probe.start && self.board.lost() == probe.len;
        if alone {
            self.mtu_probe = None;
            self.mtu_probe_lost = true;
            self.fast_due = true;
        }
        alone
    }

    /// What became of the probe: None while it is on its way or where there was none.
    pub fn take_mtu_verdict(&mut self) -> Option<MtuVerdict> {
        if core::mem::take(&mut self.mtu_probe_lost) {
            return Some(MtuVerdict::Lost);
        }
        let probe = self.mtu_probe?;
        let repairing = matches!(self.phase, Phase::Recovery { .. } | Phase::Loss { .. });
        if self.una >= probe.end() {
            self.mtu_probe = None;
            // What had to be repaired may have arrived in pieces.
            return Some(if repairing { MtuVerdict::Unclear } else { MtuVerdict::Arrived });
        }
        if repairing {
            self.mtu_probe = None;
            return Some(MtuVerdict::Unclear);
        }
        None
    }

    /// Urgent data does not wait, nor do its segments share a header.
    fn urgent_budget(&mut self, budget: Budget) -> Budget {
        match self.urgent_end {
            None => budget,
            Some(end) if end <= self.una => {
                self.urgent_end = None;
                budget
            }
            Some(_) => Budget { gso_max: self.mss, push: Push::NoDelay },
        }
    }

    /// Bytes a second that go out at most: what the controller or the program says. None is unpaced.
    pub fn pacing_rate(&self, rtt: &Rtt) -> Option<u64> {
        let most = self.max_pacing_rate;
        let wanted = self.congestion.pacing_rate().or_else(|| {
            let (window, ssthresh) = (self.congestion.window(), self.congestion.ssthresh());
            pacing::rate_of_window(window, ssthresh, rtt.smoothed()).filter(|_| most.is_some())
        });
        match (wanted, most) {
            (Some(wanted), Some(most)) => Some(wanted.min(most)),
            (wanted, most) => wanted.or(most),
        }
    }

    /// Whether anything waits to go out, now or again.
    fn has_more(&self) -> bool {
        self.unsent() > 0 || self.board.lost() > 0 || self.fin == Fin::Queued
    }

    fn poll_next(&mut self, now: Instant, rtt: &Rtt, budget: Budget) -> Option<Outgoing> {
        if let Some(probe) = self.poll_loss_probe(now) {
            return Some(probe);
        }
        if self.frto == Frto::Probing {
            // RFC 5682 section 2.1 step 2.b: new data first; only "if there are no new data to send" the conventional way.
            let eager = Budget { push: Push::NoDelay, ..budget };
            let fresh = self.poll_new(now, rtt, eager);
            let sent = matches!(self.phase, Phase::Loss { point } if self.nxt > point);
            if fresh.is_some() || sent {
                return fresh;
            }
            self.frto = Frto::Off;
        }
        let repair = if self.holds { None } else { self.poll_retransmission(now, budget) };
        repair.or_else(|| self.poll_new(now, rtt, budget))
    }

    fn note_sent(&mut self, now: Instant, out: &Outgoing) {
        let len = out.payload.len();
        self.bytes_sent += len as u64;
        if out.retransmission {
            let segments = len.div_ceil(self.mss).max(1) as u32;
            self.counters.bytes_retransmitted += len as u64;
            self.counters.retransmissions += segments;
        }
        self.congestion.on_sent(len);
        self.last_sent_at = now;
    }

    /// Nothing more goes out for now: tells the controller what ended the burst.
    fn end_burst(&mut self, now: Instant, rtt: &Rtt) {
        if !self.flight.bursting && !self.flight.window_held {
            return;
        }
        let held = core::mem::take(&mut self.window_held);
        self.bursting = false;
        let in_flight = self.in_flight();
        // "C.write_seq - SND.NXT < SND.MSS", nothing to repair, and the window open: the program sets the pace.
        if self.unsent() < self.mss && self.board.lost() == 0 && !held {
            self.rate.on_app_limited(in_flight);
        }
        let full = in_flight + self.mss > self.congestion.window();
        self.congestion.validate(&Burst {
            now,
            una: self.una,
            nxt: self.nxt,
            limited: held || full,
            in_flight: self.outstanding(),
            rto: rtt.rto(),
            may_decay: self.slow_start_after_idle && self.phase == Phase::Open,
        });
    }

    pub(super) fn outgoing(&self, seq: Seq, len: usize, retransmission: bool) -> Outgoing {
        let end = self.queue_end();
        let bytes = len.min(end.since(seq));
        let payload = self.queue.range(seq.since(self.queue_start), bytes);
        let fin = self.fin != Fin::Open && seq + len > end;
        Outgoing { seq, push: seq + bytes == end && bytes > 0, payload, fin, retransmission }
    }

    fn poll_retransmission(&mut self, now: Instant, budget: Budget) -> Option<Outgoing> {
        let lost = self.board.first_lost()?;
        let mut room = self.congestion.window().saturating_sub(self.in_flight());
        if core::mem::take(&mut self.fast_due) {
            room = room.max(self.mss);
        }
        if room < lost.len().min(self.mss) {
            self.window_held = true;
            return None;
        }
        let whole = room.min(budget.gso_max) / self.mss * self.mss;
        let mut len = lost.len().min(whole.max(self.mss));
        // What lies beyond the window waits, except the first segment, which probes it.
        let limit = (self.una + self.window).since(lost.start);
        if lost.start != self.una {
            if limit == 0 {
                return None;
            }
            len = len.min(limit);
        } else {
            len = len.min(limit.max(self.mss));
        }
        self.board.retransmitted(now, lost.start, len);
        let segments = len.div_ceil(self.mss);
        self.note_retransmission(now, segments);
        match (core::mem::take(&mut self.head_due), self.phase) {
            (true, _) => {}
            (false, Phase::Loss { .. }) => {
                self.counters.slow_start_retransmissions += segments as u32;
            }
            (false, _) => self.counters.fast_retransmissions += segments as u32,
        }
        Some(self.outgoing(lost.start, len, true))
    }

    fn poll_new(&mut self, now: Instant, rtt: &Rtt, budget: Budget) -> Option<Outgoing> {
        let unsent = self.unsent();
        let forced = core::mem::take(&mut self.forced);
        if unsent == 0 {
            return self.poll_fin(now);
        }
        if self.board.is_empty() {
            self.congestion.on_restart();
        }
        let idle = now.since(self.last_sent_at);
        if self.board.is_empty() && self.slow_start_after_idle && idle > rtt.rto() {
            self.congestion.on_idle(now, idle, rtt.rto());
        }
        let room = self.congestion.window().saturating_sub(self.in_flight());
        let open = self.usable_window();
        let len = unsent.min(open);
        if len > 0 && room < len.min(self.mss) {
            self.window_held = true;
            return None;
        }
        if len == 0 {
            return None;
        }
        let whole = len.min(room).min(budget.gso_max.max(self.mss)) / self.mss * self.mss;
        if len == unsent && unsent <= room && unsent <= budget.gso_max.max(self.mss) {
            // All of it fits. The part beyond full segments may have to wait.
            if forced || unsent.is_multiple_of(self.mss) || self.may_send_small(budget.push) {
                return Some(self.take_new(now, unsent));
            }
        }
        if whole > 0 {
            return Some(self.take_new(now, whole));
        }
        // RFC 9293 section 3.8.6.2.1 (3): "if at least a fraction Fs of the maximum window can be sent".
        if forced || open < unsent && len >= self.max_window / 2 {
            return Some(self.take_new(now, len));
        }
        None
    }

    fn may_send_small(&self, push: Push) -> bool {
        match push {
            Push::NoDelay => true,
            Push::Cork => self.fin != Fin::Open,
            Push::Nagle => self.fin != Fin::Open || self.small_end <= self.una,
        }
    }

    pub(super) fn take_new(&mut self, now: Instant, len: usize) -> Outgoing {
        let mut out = self.outgoing(self.nxt, len, false);
        let mut taken = len;
        if len == self.unsent() && self.fin == Fin::Queued {
            out.fin = true;
            taken += 1;
            self.fin = Fin::Sent;
        }
        let mss = self
            .mtu_probe
            .filter(|probe| probe.start == self.nxt)
            .map_or(self.mss, |probe| probe.len);
        self.flight.board.sent(now, self.nxt, self.nxt + taken, mss);
        self.nxt += taken;
        if !len.is_multiple_of(self.mss) {
            self.small_end = self.nxt;
        }
        self.persist_at = None;
        out
    }

    fn poll_fin(&mut self, now: Instant) -> Option<Outgoing> {
        if self.fin != Fin::Queued {
            return None;
        }
        Some(self.take_new(now, 0))
    }

    /// Drops all data and timers: the connection is gone.
    pub fn clear(&mut self) {
        self.queue = Chain::new();
        self.queue_start = self.nxt;
        self.board.clear();
        self.rto_at = None;
        self.probe_at = None;
        self.reorder_at = None;
        self.persist_at = None;
        self.pace_at = None;
        self.loss_probe_due = false;
    }
}
