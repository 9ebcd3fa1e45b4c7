//! One connection: the state, the control block and what a program does with them. Segments come in through
//! `input`, go out through `output`, and time passes through `timer`.

use super::challenge::Challenge;
use super::config::{Error, PathLimits, Report, Secrets, Settings, TcpConfig};
use super::congestion;
use super::listen::Request;
use super::receive::{ReceiveCounters, Run, UrgentPlace};
use super::segment::Segment;
use super::send::SendCounters;
use super::seq::Seq;
use super::state::{Closed, FinWait2, Origin, State, StateName, SynReceived, SynSent};
use super::tcb::Tcb;
use super::time_wait::{Awaits, Remnant};
use super::urgent::NoUrgent;
use crate::buffer::Chain;
use crate::lazy::Cow;
use crate::link::NicId;
use crate::memory;
use crate::time::Instant;
use crate::wire::tcp::Flags;
use std::sync::Arc;

/// What a segment did.
#[derive(Clone, Debug)]
pub enum Disposition {
    /// It was taken.
    Accepted,
    /// It was dropped; an acknowledgment may be due.
    Ignored(DropReason),
    /// It is answered by this reset, and changed nothing.
    SendReset(Box<Segment>),
    /// It completed the handshake.
    Established,
    /// It ended the connection.
    Ended,
    /// It asks for a new connection over one in TIME-WAIT: give it to the listener.
    Reopen,
}

/// Whether a look takes what it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// It leaves it.
    Peek,
    /// It takes it.
    Away,
}

/// Why a segment was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// It is older than what was accepted (RFC 7323).
    Paws,
    /// The same, of an acknowledgment of what is acknowledged already.
    PawsOldAck,
    /// It lies outside of the window.
    OutOfWindow,
    /// Its acknowledgment is too old or too new (RFC 5961); a challenge answered it if that was in order.
    BadAck(Challenge),
    /// It might be an attack, and was answered by a challenge (RFC 5961) if that was in order.
    Challenged(Challenge),
    /// The same, of a SYN.
    SynChallenged(Challenge),
    /// It has no acknowledgment, or makes no sense in this state.
    NoUse,
}

/// A connection, or what is left of one.
#[derive(Debug)]
pub struct Connection {
    pub(super) state: State,
    pub(super) tcb: Tcb,
}

impl Connection {
    /// An active open: the SYN waits in [`Connection::poll_transmit`].
    pub fn connect(
        now: Instant,
        config: Arc<TcpConfig>,
        settings: impl Into<Cow<Settings>>,
        secrets: Secrets,
        limits: PathLimits,
    ) -> Connection {
        let mut tcb = Tcb::new(now, config, settings.into(), secrets, limits);
        tcb.accounts.active = true;
        Connection { state: State::SynSent(SynSent), tcb }
    }

    /// A passive open by a SYN that a listener took.
    pub fn from_syn(
        now: Instant,
        config: Arc<TcpConfig>,
        settings: impl Into<Cow<Settings>>,
        secrets: Secrets,
        limits: PathLimits,
        syn: &Segment,
    ) -> Connection {
        let mut tcb = Tcb::new(now, config, settings.into(), secrets, limits);
        tcb.take_syn(now, syn);
        // Linux's tcp_create_openreq_child: the SYN is a segment that came.
        tcb.accounts.segments_in = 1;
        Connection { state: State::SynReceived(SynReceived { origin: Origin::Passive }), tcb }
    }

    /// The SYN-ACK of a connection that will be made from a request.
    pub fn syn_ack(
        now: Instant,
        config: Arc<TcpConfig>,
        settings: impl Into<Cow<Settings>>,
        limits: PathLimits,
        request: &Request,
    ) -> Segment {
        let mut young =
            Connection::from_syn(now, config, settings, request.secrets(), limits, &request.syn());
        young.tcb.build_syn(now, Flags::SYN | Flags::ACK)
    }

    /// The connection of a request whose SYN-ACK went out, in SYN-RECEIVED: the next segment completes it.
    pub fn from_request(
        now: Instant,
        config: Arc<TcpConfig>,
        settings: impl Into<Cow<Settings>>,
        limits: PathLimits,
        request: &Request,
    ) -> Connection {
        let mut young =
            Connection::from_syn(now, config, settings, request.secrets(), limits, &request.syn());
        let tcb = &mut young.tcb;
        let sent = tcb.build_syn(request.began, Flags::SYN | Flags::ACK);
        tcb.pending.syn = false;
        tcb.syn_transmissions = 1 + u32::from(request.repeats);
        tcb.syn_sent_at = request.began;
        if request.was_sent() {
            // What was promised stays, though the listener's buffers were changed since.
            tcb.receive.edge = tcb.receive.nxt + usize::from(request.ours.window);
            if sent.options.window_scale.is_some() {
                tcb.receive.window_shift = request.ours.shift;
            }
        }
        young
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// The state's name.
    pub fn state_name(&self) -> StateName {
        self.state.name()
    }

    /// When the peer was last heard.
    pub fn heard_at(&self) -> Instant {
        self.tcb.heard_at
    }

    /// Whether nothing can happen any more and nothing waits to be sent.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_)) && !self.tcb.pending.reset
    }

    /// Whether the handshake is under way.
    pub fn is_connecting(&self) -> bool {
        match self.state {
            State::SynSent(_) => true,
            State::SynReceived(state) => state.origin != Origin::FastOpen,
            _ => false,
        }
    }

    /// Why it ended, if an error ended it.
    pub fn error(&self) -> Option<Error> {
        self.tcb.error
    }

    /// Takes the error.
    pub fn take_error(&mut self) -> Option<Error> {
        self.tcb.error.take()
    }

    /// What the stack gave it.
    pub fn config(&self) -> &TcpConfig {
        &self.tcb.config
    }

    /// What the program has set.
    pub fn settings(&self) -> &Settings {
        &self.tcb.settings
    }

    /// Changes what the program has set, and acts on it.
    pub fn configure(&mut self, now: Instant, change: impl FnOnce(&mut Settings)) {
        change(&mut self.tcb.settings);
        let tcb = &mut self.tcb;
        if self.state.is_synchronized() {
            tcb.arm_keepalive(now);
        }
        if let Some(bytes) = tcb.settings.receive_buffer {
            tcb.receive.space.lock(bytes);
        }
        tcb.receive.set_window_clamp(tcb.limits.clamp(&tcb.settings));
        let wanted = tcb.settings.congestion.filter(|name| *name != tcb.send.congestion.name());
        if let Some(fresh) = wanted.and_then(congestion::by_name) {
            tcb.send.congestion.switch_to(fresh);
        }
        tcb.send.max_pacing_rate = tcb.settings.max_pacing_rate;
        tcb.apply_bounds();
        tcb.apply_limits(tcb.limits);
    }

    /// TCP_QUICKACK on: acknowledge at once for a while.
    pub fn quick_ack(&mut self) {
        self.tcb.receive.leave_interactive();
    }

    /// TCP_QUICKACK off: let acknowledgments ride on data.
    pub fn delayed_ack(&mut self) {
        self.tcb.receive.enter_interactive();
    }

    /// Bytes that a send may add now.
    pub fn send_room(&self) -> usize {
        match self.state.may_send() && !self.tcb.send.is_finished() {
            true => self.tcb.send_capacity().saturating_sub(self.tcb.send.queued()),
            false => 0,
        }
    }

    /// Linux's rule for POLLOUT: a third of the buffer is free.
    pub fn is_writable(&self) -> bool {
        let queued = self.tcb.send.queued();
        self.tcb.send_capacity().saturating_sub(queued) >= queued / 2
    }

    /// Whether the program has ended its stream, or the connection is over.
    pub fn is_send_shut(&self) -> bool {
        self.tcb.send.is_finished() || matches!(self.state, State::Closed(_))
    }

    /// Whether no more data can come.
    pub fn is_receive_shut(&self) -> bool {
        self.tcb.shut_read
            || self.tcb.receive.is_finished()
            || matches!(self.state, State::Closed(_))
    }

    /// Whether the peer's FIN has come and nothing is left before it.
    pub fn is_stream_ended(&self) -> bool {
        self.tcb.receive.is_finished()
    }

    /// Queues data; the caller has asked for [`Connection::send_room`].
    pub fn send(&mut self, data: Chain) {
        if self.state.may_send() && !self.tcb.send.is_finished() {
            self.tcb.send.push(data);
        }
    }

    /// The send queue's tail, to append small writes in place under the same condition.
    pub fn send_queue(&mut self) -> Option<&mut Chain> {
        let open = self.state.may_send() && !self.tcb.send.is_finished();
        open.then(|| self.tcb.send.queue_mut())
    }

    /// The memory that queued data keeps alive, both ways.
    pub fn held(&self) -> usize {
        self.tcb.send.held() + self.tcb.receive.held()
    }

    /// How much memory the stack lets the connection hold from now on.
    pub fn set_allowance(&mut self, bytes: usize) {
        let tcb = &mut self.tcb;
        tcb.allowance = bytes;
        tcb.receive.set_allowance(match bytes {
            usize::MAX => usize::MAX,
            bytes => bytes.saturating_sub(tcb.send.held()).max(memory::LEAST),
        });
    }

    /// What the receiving half counted since it was last asked.
    pub fn take_receive_counters(&mut self) -> Option<ReceiveCounters> {
        self.tcb.receive.take_counters()
    }

    /// Bytes that can be read.
    pub fn readable(&self) -> usize {
        self.tcb.receive.readable()
    }

    /// The readable bytes.
    pub fn receive_queue(&self) -> &Chain {
        self.tcb.receive.queue()
    }

    /// Where the program wants urgent data.
    pub(super) fn urgent_place(&self) -> UrgentPlace {
        match self.tcb.settings.oob_inline {
            true => UrgentPlace::Inline,
            false => UrgentPlace::Apart,
        }
    }

    /// What a read from `offset` bytes on may take.
    pub fn run(&self, offset: usize) -> Run {
        self.tcb.receive.run(offset, self.urgent_place())
    }

    /// Whether the peer announced urgent data since this was asked last (SIGURG).
    pub fn take_urgent_news(&mut self) -> bool {
        core::mem::take(&mut self.tcb.receive.urgent_news)
    }

    /// The urgent byte (MSG_OOB); [`Take::Peek`] leaves it.
    pub fn urgent(&mut self, take: Take) -> Result<u8, NoUrgent> {
        if self.tcb.settings.oob_inline {
            return Err(NoUrgent::Nothing);
        }
        match take {
            Take::Peek => self.tcb.receive.urgent.peek(),
            Take::Away => self.tcb.receive.urgent.take(),
        }
    }

    /// Whether an urgent byte waits (POLLPRI).
    pub fn is_urgent(&self) -> bool {
        self.tcb.receive.urgent.is_here()
    }

    /// Whether the program has read up to the urgent mark (SIOCATMARK).
    pub fn is_at_mark(&self) -> bool {
        self.tcb.receive.is_at_mark()
    }

    /// The last byte that is queued is urgent (MSG_OOB).
    pub fn mark_urgent(&mut self) {
        self.tcb.send.mark_urgent();
    }

    /// Bytes before the urgent mark, or all (SIOCINQ).
    pub fn readable_to_mark(&self) -> usize {
        let readable = self.tcb.receive.readable();
        let mark = self.tcb.receive.urgent.mark().filter(|_| !self.tcb.settings.oob_inline);
        let to_mark = mark.map(|mark| mark.since(self.tcb.receive.read_seq()));
        to_mark.map_or(readable, |to_mark| if to_mark < readable { to_mark } else { readable })
    }

    /// Whether there is as much to read as the program waits for, or no room for more of it (Linux's
    /// tcp_stream_is_readable).
    pub fn is_readable(&self, at_least: usize) -> bool {
        let readable = self.tcb.receive.readable();
        let marked = !self.tcb.settings.oob_inline && self.is_at_mark();
        let wanted = at_least.max(1) + usize::from(marked);
        readable >= wanted || readable > usize::from(marked) && self.tcb.receive.is_nearly_closed()
    }

    /// SO_RCVLOWAT: the buffer grows to what the program waits for.
    pub fn want_at_least(&mut self, bytes: usize) {
        self.tcb.receive.want_at_least(bytes);
    }

    /// The program took `n` bytes from the front: the window may open.
    pub fn consume(&mut self, now: Instant, n: usize) {
        self.tcb.receive.consume(now, n);
        if !self.state.is_synchronized() {
            self.tcb.receive.ack_due = super::receive::AckDue::No;
        }
    }

    /// What the program has set, for changes that need no action.
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.tcb.settings
    }

    /// What the sending half counted since this was asked last: before and now, where anything was.
    pub fn take_send_counters(&mut self) -> Option<(SendCounters, SendCounters)> {
        self.tcb.send.take_counters()
    }

    /// Payload bytes that the peer has acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.tcb.send.bytes_acked
    }

    /// Counters of the sending half.
    pub fn counters(&self) -> SendCounters {
        self.tcb.send.counters()
    }

    /// Whether an acknowledgment is to go out at once.
    pub fn owes_ack(&self) -> bool {
        self.tcb.receive.ack_due == super::receive::AckDue::Now
    }

    /// Whether the acknowledgment that is due may wait for the segments that came with this one: not where something is
    /// missing, because the sender counts those acknowledgments.
    pub fn may_coalesce(&self) -> bool {
        self.state.is_synchronized() && !self.tcb.receive.has_blocks()
    }

    /// Payload bytes received in order so far.
    pub fn received(&self) -> u64 {
        self.tcb.receive.bytes_received
    }

    /// Bytes not sent yet (SIOCOUTQNSD).
    pub fn unsent(&self) -> usize {
        self.tcb.send.unsent()
    }

    /// There is no way to the peer at present: what is due goes out by the timers, once there is one.
    pub fn on_no_route(&mut self, now: Instant) {
        if self.tcb.pending.reset {
            self.tcb.pending.reset = false;
        }
        let waits = self.tcb.pending.syn || self.tcb.send.is_stuck();
        if !matches!(self.state, State::Closed(_)) && waits && self.tcb.send.rto_at.is_none() {
            self.tcb.send.rto_at = Some(now + self.tcb.rtt.rto());
        }
    }

    /// Bytes queued for sending and not acknowledged (SIOCOUTQ).
    pub fn send_queued(&self) -> usize {
        self.tcb.send.queued()
    }

    /// Ends our stream after what is queued (SHUT_WR).
    pub fn shutdown_write(&mut self, now: Instant) {
        if let State::SynSent(_) = self.state {
            self.end(None);
            return;
        }
        if let State::SynReceived(SynReceived { origin: Origin::FastOpen }) = self.state {
            // The FIN may go out; FIN-WAIT-1 begins once the handshake is complete.
            self.tcb.send.finish();
            return;
        }
        if let Some(next) = self.state.on_close() {
            self.tcb.send.finish();
            // What cork held back goes out with the FIN.
            self.state = next;
            self.limit_orphan(now);
        }
    }

    /// No more reading (SHUT_RD): what comes is still acknowledged, as on Linux.
    pub fn shutdown_read(&mut self) {
        self.tcb.shut_read = true;
    }

    /// The program closed the socket. Unread data makes it a reset (RFC 9293 section 3.6.1, RFC 2525 section 2.17).
    pub fn close(&mut self, now: Instant) {
        self.tcb.orphan = true;
        let unread = self.tcb.receive.readable() > 0;
        let no_linger = self.tcb.settings.linger.is_some_and(|time| time.is_zero());
        let alive = match self.state {
            State::SynReceived(state) => state.origin == Origin::FastOpen,
            State::TimeWait(_) => false,
            state => state.is_synchronized(),
        };
        if alive && (unread || no_linger) {
            self.abort();
        } else if let State::SynReceived(_) | State::Established(_) | State::CloseWait(_) =
            self.state
        {
            self.shutdown_write(now);
        } else if let State::SynSent(_) = self.state {
            self.end(None);
        } else {
            self.limit_orphan(now);
        }
        self.tcb.receive.discard();
    }

    /// FIN-WAIT-2 of a closed socket does not last forever.
    pub(super) fn limit_orphan(&mut self, now: Instant) {
        let Tcb { orphan, settings, config, .. } = &self.tcb;
        let wait = settings.fin_timeout.unwrap_or(config.fin_timeout);
        if let State::FinWait2(state @ FinWait2 { deadline: None, .. }) = &mut self.state
            && *orphan
        {
            if wait.is_zero() {
                // TCP_LINGER2 below zero: nobody waits for the peer's FIN.
                return self.abort();
            }
            state.deadline = Some(now + wait);
            // Linux's tcp_close: a longer wait than TIME-WAIT's is done by the connection itself at first.
            state.settled = wait <= config.time_wait;
        }
    }

    /// Ends the connection with a reset.
    pub fn abort(&mut self) {
        let tell = match self.state {
            State::SynReceived(_)
            | State::Established(_)
            | State::FinWait1(_)
            | State::FinWait2(_)
            | State::CloseWait(_) => true,
            State::Closing(_) | State::LastAck(_) => true,
            State::Closed(_) | State::SynSent(_) | State::TimeWait(_) => false,
        };
        self.tcb.pending.reset |= tell;
        self.end(None);
    }

    /// The connection is over.
    pub(super) fn end(&mut self, error: Option<Error>) {
        self.state = State::Closed(Closed);
        if error.is_some() {
            self.tcb.error = error;
        }
        self.tcb.stop();
    }

    /// Whether a segment that starts at `seq` is under way: only such a one can have met an error (RFC 5927
    /// section 4).
    pub fn is_in_flight(&self, seq: Seq) -> bool {
        seq >= self.tcb.send.una && seq < self.tcb.send.nxt
    }

    /// ICMP says something about a segment of ours that began at `seq`.
    pub fn on_report(&mut self, seq: Seq, report: Report) {
        if !self.is_in_flight(seq) || matches!(self.state, State::Closed(_) | State::TimeWait(_)) {
            return;
        }
        match report {
            Report::Unreachable(error) if self.is_connecting() => self.end(Some(error)),
            // RFC 1122 section 4.2.3.9: "soft" errors do not end a connection.
            Report::Unreachable(error) => self.tcb.soft_error = Some(error),
            // What asks for no smaller segments than we send would only make us send them again (RFC 5927 section 7).
            Report::PacketTooBig { mss } if mss < self.tcb.limits.mss => {
                self.tcb.send.on_packet_too_big();
            }
            Report::PacketTooBig { .. } => {}
        }
    }

    /// What must be remembered of a connection that only waits, and whose last acknowledgment went out; None of
    /// others. `nic` is where a link-local peer is.
    pub fn remnant(&self, nic: Option<NicId>) -> Option<Remnant> {
        if self.owes_ack() {
            return None;
        }
        let (awaits, expires) = match self.state {
            State::TimeWait(state) => (Awaits::Silence, state.expires),
            State::FinWait2(FinWait2 { deadline: Some(at), settled: true }) => (Awaits::Fin, at),
            _ => return None,
        };
        Some(Remnant::new(awaits, expires, &self.tcb, nic))
    }

    /// A remnant has taken its place: as on Linux, the socket is closed from here on; what came can be read.
    pub fn retire(&mut self) {
        self.end(None);
    }

    /// The next sequence number that we would send, for the initial one of a successor (RFC 6191).
    pub fn send_next(&self) -> Seq {
        self.tcb.send.nxt
    }

    /// Nothing happened for a while: gives back the memory that only activity needs.
    pub fn rest(&mut self) {
        self.tcb.send.rest();
        self.tcb.receive.rest();
    }

    /// Numbers for TCP_INFO.
    pub fn info(&self) -> Info {
        let tcb = &self.tcb;
        let (sacked, lost) = tcb.send.sacked_and_lost();
        Info {
            state: self.state.name(),
            accounts: tcb.accounts,
            phase: tcb.send.phase(),
            rto: tcb.rtt.rto(),
            rtt: tcb.rtt.smoothed().unwrap_or_default(),
            rtt_variation: tcb.rtt.variation(),
            min_rtt: tcb.rtt.min().unwrap_or_default(),
            mss: tcb.send.mss,
            peer_mss: tcb.receive.peer_mss,
            window: tcb.send.congestion.window(),
            ssthresh: tcb.send.congestion.ssthresh(),
            outstanding: tcb.send.outstanding(),
            sacked,
            lost,
            retries: tcb.send.retries,
            probes: tcb.send.probes,
            backoff: tcb.rtt.backoff(),
            send_window: tcb.send.window,
            receive_window: tcb.receive.window(),
            receive_capacity: tcb.receive.space.capacity,
            send_capacity: tcb.send_capacity(),
            send_shift: tcb.send.window_shift,
            receive_shift: tcb.receive.window_shift,
            timestamps: tcb.timestamps.is_some(),
            sack: tcb.send.sack,
            path_mss: tcb.limits.mss,
            bytes_received: tcb.receive.bytes_received,
            unsent: tcb.send.unsent(),
            counters: tcb.send.counters(),
            send_next: tcb.send.nxt,
            held: tcb.send.held() + tcb.receive.held(),
            receive_rtt: tcb.receive.rtt().unwrap_or_default(),
            receive_space: tcb.receive.space_used(),
            receive_ssthresh: tcb.receive.space.ssthresh(),
            window_clamp: tcb.receive.space.clamp(),
            quick_ack: tcb.receive.is_quick(),
            congestion: tcb.send.congestion.name(),
            syn_data: tcb.syn_data.acked,
            ack_delay: tcb.receive.ack_delay(),
            delivery_rate: tcb.send.delivery_rate(),
            lost_so_far: tcb.send.rate.lost(),
            fin_acked: tcb.send.is_fin_acked(),
            fin_received: tcb.receive.is_finished(),
            stalled_since: tcb.send.stalled_since,
            reorderings: tcb.send.rack.reorderings(),
            reordering: tcb.send.rack.reordering(),
            retransmissions_out: tcb.send.board.retransmissions_out(),
            ecn: tcb.ecn.mode(),
            ecn_seen: tcb.ecn.is_seen(),
            ecn_received: tcb.ecn.received(),
            pacing_rate: tcb.send.pacing_rate(&tcb.rtt),
        }
    }
}

/// What TCP_INFO tells. Sizes are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Segments, times and what held it up.
    pub accounts: super::accounts::Accounts,
    /// Where loss recovery stands.
    pub phase: super::send::Phase,
    /// The state.
    pub state: StateName,
    /// The retransmission timeout with its backoff.
    pub rto: crate::time::Duration,
    /// Smoothed round-trip time.
    pub rtt: crate::time::Duration,
    /// Its variation.
    pub rtt_variation: crate::time::Duration,
    /// The least one lately.
    pub min_rtt: crate::time::Duration,
    /// Payload of our full segments.
    pub mss: usize,
    /// The largest segment that the peer sent.
    pub peer_mss: usize,
    /// Congestion window.
    pub window: usize,
    /// Slow-start threshold.
    pub ssthresh: usize,
    /// Sent and not acknowledged.
    pub outstanding: usize,
    /// Of that, reported by SACK.
    pub sacked: usize,
    /// Of that, taken for lost.
    pub lost: usize,
    /// Timeouts without progress.
    pub retries: u32,
    /// Window probes without an answer.
    pub probes: u32,
    /// Doublings of the timeout.
    pub backoff: u32,
    /// The peer's window.
    pub send_window: usize,
    /// Our window.
    pub receive_window: usize,
    /// The receive buffer.
    pub receive_capacity: usize,
    /// The send buffer.
    pub send_capacity: usize,
    /// The peer's window shift.
    pub send_shift: u8,
    /// Our window shift.
    pub receive_shift: u8,
    /// Whether timestamps are used.
    pub timestamps: bool,
    /// Whether SACK is used.
    pub sack: bool,
    /// Payload that the path would take.
    pub path_mss: usize,
    /// Payload received in order.
    pub bytes_received: u64,
    /// Payload not yet sent.
    pub unsent: usize,
    /// Counters of the sending half.
    pub counters: SendCounters,
    /// SND.NXT.
    pub send_next: Seq,
    /// The memory that queued data keeps alive, both ways.
    pub held: usize,
    /// The round-trip time as the receiving half sees it.
    pub receive_rtt: crate::time::Duration,
    /// What the program reads in that time, in bytes (tcpi_rcv_space).
    pub receive_space: usize,
    /// How far our window is opened so far.
    pub receive_ssthresh: usize,
    /// The largest window that is offered (TCP_WINDOW_CLAMP).
    pub window_clamp: usize,
    /// Whether acknowledgments are sent at once.
    pub quick_ack: bool,
    /// The congestion controller.
    pub congestion: &'static str,
    /// Whether data of a SYN was taken (TCPI_OPT_SYN_DATA).
    pub syn_data: bool,
    /// How long an acknowledgment waits (tcpi_ato).
    pub ack_delay: crate::time::Duration,
    /// Bytes a second as last delivered, and whether the program set that pace.
    pub delivery_rate: Option<(u64, bool)>,
    /// Bytes that were taken for lost.
    pub lost_so_far: u64,
    /// Whether our FIN is acknowledged.
    pub fin_acked: bool,
    /// Whether the peer's FIN was reached.
    pub fin_received: bool,
    /// Since when a timer has expired without progress.
    pub stalled_since: Option<Instant>,
    /// How often the path was seen to reorder.
    pub reorderings: u32,
    /// By how many segments it was seen to, or what is borne before any was.
    pub reordering: u32,
    /// Sent again and on its way, in bytes.
    pub retransmissions_out: usize,
    /// What both ends agreed on for ECN.
    pub ecn: super::ecn::Mode,
    /// Whether something came as ECN-capable.
    pub ecn_seen: bool,
    /// With accurate feedback: packets that came with a mark, and payload by ECT(0), CE and ECT(1).
    pub ecn_received: Option<(u32, [u32; 3])>,
    /// Bytes a second that go out at most; None when unpaced.
    pub pacing_rate: Option<u64>,
}
