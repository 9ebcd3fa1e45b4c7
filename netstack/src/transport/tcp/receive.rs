//! The receiving half: in-order and out-of-order data within bounded memory, the window that is offered
//! (RFC 9293 section 3.8.6.2.2, never taken back), urgent data, and what makes an acknowledgment due.

use super::acking::Acking;
use super::reassembly::{Inserted, Reassembly};
use super::receive_space::Space;
use super::right_sizing::{RightSizing, Wanted};
use super::segment::Segment;
use super::seq::Seq;
use super::urgent::Urgent;
use crate::buffer::Chain;
use crate::lazy::{Lazy, Plain};
use crate::time::{Duration, Instant};
use crate::wire::tcp::SackBlocks;

pub use super::acking::{AckDue, Pace};

/// The peer's segment size before anything came (RFC 9293 section 3.7.1).
const MSS_FIRST: usize = 536;
/// The least that counts as a full segment (Linux's TCP_MIN_MSS).
const MSS_MIN: usize = 88;
/// What a connection may hold for receiving however short the stack is of memory (tcp_rmem[0]).
pub const RECEIVE_MIN: usize = 4096;
/// Shorter segments open the window no further: they cost more memory than they are worth.
const OPENS_FROM: usize = 128;

/// The data and FIN of a segment.
#[derive(Debug)]
pub struct Text {
    /// Where it begins.
    pub seq: Seq,
    /// Its bytes.
    pub data: Chain,
    /// Whether the stream ends after them.
    pub fin: bool,
    /// Whether the sender had no more to send.
    pub push: bool,
}

/// What became of a segment's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Bytes that became readable.
    pub readable: usize,
    /// Whether the peer's FIN was reached.
    pub fin: bool,
    /// Whether all of it had come before.
    pub duplicate: bool,
    /// Whether it came out of order.
    pub out_of_order: bool,
    /// Whether some was dropped for want of memory.
    pub dropped: bool,
    /// Whether the urgent byte is in it.
    pub urgent: bool,
}

/// What a read takes at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Bytes that are passed over: the urgent one, which is no part of the stream.
    pub skip: usize,
    /// Bytes up to the next mark, or all.
    pub len: usize,
}

/// Where urgent data is read (SO_OOBINLINE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrgentPlace {
    /// By MSG_OOB.
    Apart,
    /// In the stream.
    Inline,
}

/// What the receiving half counts, in Linux's names (`TcpExt`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveCounters {
    /// PruneCalled
    pub prune_called: u32,
    /// RcvPruned
    pub receive_pruned: u32,
    /// OfoPruned
    pub out_of_order_pruned: u32,
    /// TCPOFOQueue
    pub out_of_order_queued: u32,
    /// TCPOFODrop
    pub out_of_order_dropped: u32,
    /// TCPOFOMerge
    pub out_of_order_merged: u32,
    /// TCPRcvQDrop
    pub queue_dropped: u32,
    /// TCPRcvCoalesce
    pub coalesced: u32,
    /// TCPDSACKOldSent
    pub duplicates_old: u32,
    /// TCPDSACKOfoSent
    pub duplicates_out_of_order: u32,
    /// DelayedACKs
    pub delayed: u32,
    /// DelayedACKLost
    pub delayed_lost: u32,
    /// TCPAckCompressed
    pub compressed: u32,
    /// TCPToZeroWindowAdv
    pub to_zero: u32,
    /// TCPFromZeroWindowAdv
    pub from_zero: u32,
    /// TCPWantZeroWindowAdv
    pub want_zero: u32,
    /// PAWSActive
    pub foreign_echoes: u32,
}

impl ReceiveCounters {
    /// Nothing happened.
    const NONE: ReceiveCounters = ReceiveCounters {
        prune_called: 0,
        receive_pruned: 0,
        out_of_order_pruned: 0,
        out_of_order_queued: 0,
        out_of_order_dropped: 0,
        out_of_order_merged: 0,
        queue_dropped: 0,
        coalesced: 0,
        duplicates_old: 0,
        duplicates_out_of_order: 0,
        delayed: 0,
        delayed_lost: 0,
        compressed: 0,
        to_zero: 0,
        from_zero: 0,
        want_zero: 0,
        foreign_echoes: 0,
    };
}

/// What only a receiver has to whom not all comes in order, or that has news to count.
#[derive(Clone, Debug)]
struct Odd {
    /// What happened since it was last asked.
    counters: ReceiveCounters,
    reassembly: Reassembly,
    duplicate: Option<(Seq, Seq)>,
}

impl Plain for Odd {
    const PLAIN: &'static Odd =
        &Odd { counters: ReceiveCounters::NONE, reassembly: Reassembly::EMPTY, duplicate: None };
}

/// The receiving half of a connection.
#[derive(Debug)]
pub struct Receiver {
    /// The peer's initial sequence number.
    pub irs: Seq,
    /// RCV.NXT.
    pub nxt: Seq,
    /// The right edge of the window that was offered.
    pub edge: Seq,
    /// RCV.NXT as last acknowledged (Linux's rcv_wup).
    pub acked: Seq,
    /// Shift of the windows that we send.
    pub window_shift: u8,
    /// The buffer's size.
    pub space: Space,
    /// What the peer sends as a full segment (Linux's rcv_mss).
    pub peer_mss: usize,
    /// What one segment on the wire can hold: a longer one is a train that the link has joined.
    pub mss_limit: usize,
    /// Whether both ends do SACK.
    pub sack: bool,
    /// Whether an acknowledgment is owed.
    pub ack_due: AckDue,
    /// Payload bytes received in order.
    pub bytes_received: u64,
    /// Urgent data.
    pub urgent: Urgent,
    /// The peer announced urgent data, and nobody was told yet.
    pub urgent_news: bool,
    acking: Acking,
    sizing: RightSizing,
    /// How far the program has read.
    read: Seq,
    queue: Chain,
    odd: Lazy<Odd>,
    fin_at: Option<Seq>,
    finished: bool,
    small_size: usize,
    /// Data was dropped for want of memory: the next window says zero.
    starved: bool,
    told_zero: bool,
}

impl Receiver {
    /// A receiver before the peer's SYN.
    pub fn new(now: Instant, capacity: usize, capacity_max: usize) -> Receiver {
        Receiver {
            irs: Seq(0),
            nxt: Seq(0),
            edge: Seq(0),
            acked: Seq(0),
            window_shift: 0,
            space: Space::new(capacity, capacity_max),
            peer_mss: MSS_FIRST,
            mss_limit: MSS_FIRST,
            sack: false,
            ack_due: AckDue::No,
            bytes_received: 0,
            urgent: Urgent::default(),
            urgent_news: false,
            acking: Acking::new(now),
            sizing: RightSizing::new(now),
            read: Seq(0),
            queue: Chain::new(),
            odd: Lazy::PLAIN,
            fin_at: None,
            finished: false,
            small_size: 0,
            starved: false,
            told_zero: false,
        }
    }

    /// The peer's SYN came. What was offered before it, in a SYN of ours, counts from here.
    pub fn start(&mut self, irs: Seq) {
        let window = self.window();
        self.irs = irs;
        self.nxt = irs + 1;
        self.acked = self.nxt;
        self.edge = self.nxt + window;
        self.read = self.nxt;
    }

    /// The handshake is over.
    pub fn establish(&mut self, now: Instant) {
        let window = self.window();
        self.space.start(window, self.mss_limit);
        self.peer_mss = MSS_FIRST.min(window / 2).min(self.mss_limit).max(MSS_MIN);
        let space = self.space.ssthresh().min(window).min(10 * self.mss_limit);
        self.sizing.start(now, self.read, space);
    }

    /// Bytes that can be read.
    pub fn readable(&self) -> usize {
        self.queue.len()
    }

    /// The readable bytes.
    pub fn queue(&self) -> &Chain {
        &self.queue
    }

    /// The sequence number of the next byte to be read.
    pub fn read_seq(&self) -> Seq {
        self.read
    }

    /// What a read from `offset` bytes on may take: it stops at the urgent mark, and goes on behind it the next time
    /// (RFC 6093 section 3.2, as Linux's tcp_recvmsg).
    pub fn run(&self, offset: usize, place: UrgentPlace) -> Run {
        let left = self.queue.len().saturating_sub(offset);
        let from = self.read + offset;
        match self.urgent.mark() {
            Some(mark) if mark > from => Run { skip: 0, len: left.min(mark.since(from)) },
            Some(mark) if mark == from && place == UrgentPlace::Apart => {
                let skip = left.min(1);
                Run { skip, len: left - skip }
            }
            _ => Run { skip: 0, len: left },
        }
    }

    /// Whether the program has read up to the urgent mark (SIOCATMARK).
    pub fn is_at_mark(&self) -> bool {
        self.urgent.mark() == Some(self.read)
    }

    /// Takes note of the urgent byte where data at `seq` has it. Answers whether it does.
    pub fn find_urgent(&mut self, seq: Seq, data: &Chain) -> bool {
        self.urgent.arrived(seq, data.len(), |at| data.range(at, 1).first().first().copied())
    }

    /// A segment at `seq` has an urgent pointer.
    pub fn announce_urgent(&mut self, now: Instant, seq: Seq, pointer: u16, place: UrgentPlace) {
        let before = self.urgent.mark();
        let news = self.urgent.announce(seq, pointer, self.read, self.nxt);
        // The byte of the mark before was not read and is no data: it would be with its mark gone.
        let orphan = news && before == Some(self.read) && self.read != self.nxt;
        if orphan && place == UrgentPlace::Apart && !self.queue.is_empty() {
            self.consume(now, 1);
        }
        self.urgent_news |= news;
    }

    /// Whether the peer's FIN was reached.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Bytes out of order.
    pub fn out_of_order(&self) -> usize {
        self.odd.reassembly.len()
    }

    /// The memory that received data keeps alive.
    pub fn held(&self) -> usize {
        self.queue.held() + self.odd.reassembly.held()
    }

    /// TCP_WINDOW_CLAMP.
    pub fn set_window_clamp(&mut self, clamp: Option<usize>) {
        self.space.set_clamp(clamp, self.window());
    }

    /// What the program read in a round trip, in bytes.
    pub fn space_used(&self) -> usize {
        self.sizing.space()
    }

    /// How much memory may be held for receiving.
    pub fn set_allowance(&mut self, bytes: usize) {
        self.space.allow(bytes, self.peer_mss);
    }

    /// The round-trip time as the receiver sees it.
    pub fn rtt(&self) -> Option<Duration> {
        self.sizing.rtt()
    }

    /// Data came with the echo of a timestamp that we sent `age` ago.
    pub fn on_echo(&mut self, echo: u32, age: Duration) {
        self.sizing.on_echo(echo, age);
    }

    /// The offered window that is left.
    pub fn window(&self) -> usize {
        self.edge.since(self.nxt)
    }

    /// Whether so little of the window is left that a reader must not wait for more.
    pub fn is_nearly_closed(&self) -> bool {
        self.window() <= self.peer_mss
            || self.held() > self.space.capacity - self.space.capacity / 8
    }

    /// RFC 9293 section 3.10.7.4, table 6, in Linux's form (tcp_sequence): a segment is acceptable that ends at or after
    /// what was acknowledged and begins within the window or right at its edge. One whose data reaches beyond is taken
    /// where nothing waits to be read, and as a whole.
    pub fn is_acceptable(&self, segment: &Segment) -> bool {
        let edge = self.edge.max(self.nxt);
        let fits = segment.seq + segment.payload.len() <= edge || self.queue.is_empty();
        segment.end() >= self.acked && segment.seq <= edge && fits
    }

    /// The window of a SYN; `mss` is what a segment of the peer will hold, of which the route lets us offer so many
    /// (RTAX_INITRWND).
    pub fn offer_first(&mut self, mss: usize, most_segments: Option<usize>) -> u16 {
        let window = match self.window() {
            0 => {
                let most = most_segments.map_or(usize::MAX, |n| n.saturating_mul(mss));
                self.space.first_window(mss).min(most)
            }
            // What was offered stays: the SYN goes again, or the peer's SYN crossed it.
            offered => offered.min(usize::from(u16::MAX)),
        };
        self.edge = self.nxt + window;
        window as u16
    }

    /// The window field for a segment that goes out now; moves the edge.
    pub fn offer(&mut self) -> u16 {
        let field = self.window_field();
        match (field == 0, self.told_zero) {
            (true, false) => self.odd.counters.to_zero += 1,
            (false, true) => self.odd.counters.from_zero += 1,
            _ => {}
        }
        self.told_zero = field == 0;
        field
    }

    fn window_field(&mut self) -> u16 {
        if core::mem::take(&mut self.starved) {
            // What was offered still counts, should memory come back before the data does.
            return 0;
        }
        if self.space.free(self.held()) < self.space.most() / 2 {
            self.acking.stop_quick();
        }
        let wanted = self.wanted_window();
        if wanted == 0 && self.window() > 0 {
            self.odd.counters.want_zero += 1;
        }
        let window = self.next_window();
        self.edge = self.nxt + window;
        (window >> self.window_shift).min(usize::from(u16::MAX)) as u16
    }

    /// The window by what is free, as if none had been offered.
    fn wanted_window(&self) -> usize {
        let unit = 1usize << self.window_shift;
        let full = self.space.most();
        let mss = self.peer_mss.min(full);
        let free = self.space.free(self.held());
        // RFC 9293 section 3.8.6.2.2: "the receiver ... avoids advancing the right window edge in small increments".
        if free < full / 2 && free / unit * unit < mss.max(self.space.full() / 16) {
            return 0;
        }
        let free = free.min(self.space.ssthresh());
        if self.window_shift > 0 {
            return free.next_multiple_of(unit);
        }
        let offered = self.edge.since(self.acked);
        if offered + mss <= free || offered > free {
            free / mss.max(1) * mss
        } else if mss == full && free > offered + full / 2 {
            free
        } else {
            offered
        }
    }

    /// "A receiver ... SHOULD NOT shrink the window" (RFC 9293 section 3.8.6): the edge never moves back.
    fn next_window(&self) -> usize {
        let unit = 1usize << self.window_shift;
        let most = usize::from(u16::MAX) << self.window_shift;
        self.wanted_window().max(self.window().next_multiple_of(unit)).min(most.max(self.window()))
    }

    /// Takes a segment's data and FIN, all of which the caller found acceptable.
    pub fn accept(&mut self, now: Instant, pace: &Pace, text: Text) -> Accepted {
        let mut accepted = Accepted::default();
        let Text { seq, mut data, fin, push } = text;
        let (full, held) = (data.len(), data.held());
        accepted.urgent = self.find_urgent(seq, &data);
        let end = seq + full;
        let mut start = seq;
        if start < self.nxt {
            let old = self.nxt.since(start).min(full);
            if old > 0 {
                self.note_duplicate(start, start + old);
                self.odd.counters.duplicates_old += 1;
            }
            accepted.duplicate = old == full && full > 0;
            data.advance(old);
            start = self.nxt;
        }
        // What begins within the window was found acceptable to its end; a closed window takes nothing.
        let mut cut = start >= self.edge.max(self.nxt) && !data.is_empty();
        if cut {
            data.truncate(0);
        }
        let gap = !self.odd.reassembly.is_empty() || self.waits_for_fin();
        if start == self.nxt && !data.is_empty() {
            cut |= self.fit(&mut data);
            accepted.dropped = cut && self.starved;
        }
        if fin && !cut && self.fin_at.is_none() && end >= self.nxt {
            self.fin_at = Some(end);
        }
        if let Some(fin_at) = self.fin_at {
            // Data beyond the FIN is no data.
            data.truncate(fin_at.since(start));
        }
        if !data.is_empty() {
            if start == self.nxt {
                self.measure(full, held, push);
                self.sizing.on_data(now, self.nxt, self.edge);
                self.acking.on_data(now, self.edge.since(self.acked), self.peer_mss, pace.rto);
                accepted.readable = self.take_in_order(data);
            } else {
                accepted.out_of_order = true;
                accepted.dropped = !self.keep(start, data);
            }
            if full >= OPENS_FROM && self.space.open(full, held, self.mss_limit) {
                self.acking.keep_quick();
            }
        }
        if self.fin_at == Some(self.nxt) && !self.finished {
            self.nxt += 1;
            self.finished = true;
            accepted.fin = true;
            // As on Linux: the program is about to close, and its FIN carries the acknowledgment.
            self.acking.enter_interactive();
        }
        let closed = gap && self.odd.reassembly.is_empty() && !self.waits_for_fin();
        self.schedule_ack(now, pace, &accepted, closed);
        accepted
    }

    /// Whether there is room for `more` bytes of memory, after giving up what lies beyond `keep` if need be.
    fn make_room(&mut self, more: usize, keep: Seq) -> bool {
        let fits = |receiver: &Receiver| {
            let held = receiver.held();
            held <= receiver.space.capacity && held.saturating_add(more) <= receiver.space.allowance
        };
        if fits(self) {
            return true;
        }
        self.odd.counters.prune_called += 1;
        self.space.stretch(self.held(), self.mss_limit);
        let mut pruned = false;
        while !fits(self) && self.odd.reassembly.prune(keep) {
            pruned = true;
        }
        self.odd.counters.out_of_order_pruned += u32::from(pruned);
        let fits = fits(self);
        self.odd.counters.receive_pruned += u32::from(!fits);
        fits
    }

    /// Cuts in-order data to what there is memory for; answers whether it had to. A reader that waits always gets
    /// something.
    fn fit(&mut self, data: &mut Chain) -> bool {
        if self.make_room(data.held(), self.nxt) {
            return false;
        }
        let least = match (self.queue.is_empty(), self.space.allowance) {
            (false, _) => 0,
            (true, usize::MAX) => data.len(),
            (true, _) => RECEIVE_MIN,
        };
        if data.len() <= least {
            return false;
        }
        data.truncate(least);
        self.starved = true;
        self.odd.counters.queue_dropped += 1;
        true
    }

    /// Keeps data from beyond a gap, if there is memory.
    fn keep(&mut self, start: Seq, data: Chain) -> bool {
        let (from, to) = (start, start + data.len());
        if !self.make_room(data.held(), start) {
            self.odd.counters.out_of_order_dropped += 1;
            return false;
        }
        self.report_overlaps(from, to);
        let mut inserted = self.odd.reassembly.insert(start, data.clone());
        if inserted == Inserted::Refused && self.odd.reassembly.prune(start) {
            inserted = self.odd.reassembly.insert(start, data);
        }
        match inserted {
            Inserted::New => self.odd.counters.out_of_order_queued += 1,
            Inserted::Duplicate => self.odd.counters.out_of_order_merged += 1,
            Inserted::Refused => self.odd.counters.out_of_order_dropped += 1,
        }
        inserted != Inserted::Refused
    }

    /// Learns the size of the peer's full segments, and what they cost.
    fn measure(&mut self, len: usize, held: usize, push: bool) {
        let size = len.min(self.mss_limit);
        if size >= self.peer_mss {
            if size != self.peer_mss {
                self.space.measure(len, held);
            }
            self.peer_mss = size;
            if push {
                self.acking.on_small();
            }
            return;
        }
        // Two equal segments that end no write are full ones of a peer that sends small ones.
        if size >= MSS_FIRST || size >= MSS_MIN && !push {
            let before = core::mem::replace(&mut self.small_size, size);
            if before == size {
                self.peer_mss = size;
                return;
            }
        }
        self.acking.on_small();
    }

    fn take_in_order(&mut self, data: Chain) -> usize {
        let before = self.nxt;
        self.report_overlaps(before, before + data.len());
        self.append(data);
        while !self.odd.reassembly.is_empty() {
            let Some(more) = self.odd.reassembly.take_from(self.nxt) else { break };
            self.append(more);
        }
        let readable = self.nxt.since(before);
        self.bytes_received += readable as u64;
        readable
    }

    /// RFC 2883 section 4.2: what of a segment was there already is reported, though the rest of it is news.
    fn report_overlaps(&mut self, from: Seq, to: Seq) {
        if self.odd.reassembly.is_empty() || !self.sack {
            return;
        }
        let twice: Vec<(Seq, Seq)> = self.odd.reassembly.overlaps(from, to).collect();
        self.odd.counters.duplicates_out_of_order += u32::from(!twice.is_empty());
        twice.into_iter().for_each(|(from, to)| self.note_duplicate(from, to));
    }

    fn append(&mut self, data: Chain) {
        self.nxt += data.len();
        let held = self.queue.held();
        self.queue.append_compact(data);
        if held > 0 && self.queue.held() <= held {
            self.odd.counters.coalesced += 1;
        }
    }

    /// A D-SACK that waits grows by what touches it; of others the first is told (RFC 2883 section 4).
    fn note_duplicate(&mut self, from: Seq, to: Seq) {
        match &mut self.odd.duplicate {
            Some((first, last)) if from <= *last && to >= *first => {
                *first = first.min(from);
                *last = last.max(to);
            }
            Some(_) => {}
            None => self.odd.duplicate = Some((from, to)),
        }
    }

    fn schedule_ack(&mut self, now: Instant, pace: &Pace, accepted: &Accepted, closed: bool) {
        if accepted.duplicate {
            self.odd.counters.delayed_lost += 1;
            self.acking.enter_quick(self.edge.since(self.acked), self.peer_mss);
        }
        let owed = self.nxt.since(self.acked);
        // Where the window does not advance, the read that frees it acknowledges.
        let advances = || self.next_window() >= self.edge.since(self.acked);
        let hurry = accepted.duplicate
            || self.starved
            // RFC 5681 section 4.2: "A TCP receiver SHOULD send an immediate ACK when the incoming segment fills in all
            // or part of a gap in the sequence space".
            || closed
            || self.acking.is_quick()
            // RFC 9293 section 3.8.6.3: "an ACK SHOULD be generated for at least every second full-sized segment".
            || owed > self.peer_mss && advances();
        if hurry {
            self.ack_due = AckDue::Now;
        } else if !self.odd.reassembly.is_empty() || self.waits_for_fin() {
            // "... when an out-of-order segment arrives".
            let rtt = match (self.sizing.rtt(), pace.smoothed) {
                (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
                (ours, theirs) => ours.or(theirs),
            };
            let rtt = rtt.filter(|_| self.sack);
            self.ack_due = self.acking.of_gap(now, self.ack_due, self.nxt, rtt);
        } else if owed > 0 {
            self.ack_due = self.acking.delayed(now, self.ack_due, pace);
        }
    }

    /// An acknowledgment goes out; it may report up to `room` SACK blocks.
    pub fn acknowledged(&mut self, room: usize) -> SackBlocks {
        self.ack_due = AckDue::No;
        self.acked = self.nxt;
        let compressed = u32::from(self.acking.compressed()).saturating_sub(1);
        if compressed > 0 {
            self.odd.counters.compressed += compressed;
        }
        self.acking.on_ack_sent();
        let mut blocks = SackBlocks::default();
        if self.has_blocks() {
            let odd = &mut *self.odd;
            if let Some((from, to)) = odd.duplicate.take().filter(|_| room > 0) {
                blocks.push(from.0, to.0);
            }
            odd.reassembly.report(room, &mut blocks);
        }
        match self.fin_at.filter(|_| self.waits_for_fin()) {
            Some(fin) => with_fin(blocks, fin, room),
            None => blocks,
        }
    }

    /// The time of an acknowledgment that waited has come.
    pub fn on_delay_over(&mut self, now: Instant, rto: Duration) {
        if matches!(self.ack_due, AckDue::At(at) if at <= now) {
            self.ack_due = AckDue::Now;
            if self.acking.compressed() == 0 {
                self.odd.counters.delayed += 1;
                self.acking.on_delay_over(rto);
            }
        }
    }

    /// Whether SACK blocks or a D-SACK wait to be told.
    pub fn has_blocks(&self) -> bool {
        self.odd.duplicate.is_some() || !self.odd.reassembly.is_empty() || self.waits_for_fin()
    }

    /// Where the data that came out of order ends.
    pub fn out_of_order_end(&self) -> Option<Seq> {
        let fin = self.fin_at.filter(|_| self.waits_for_fin());
        fin.map(|fin| fin + 1).or_else(|| self.odd.reassembly.end())
    }

    /// Whether the peer's FIN came, and something before it did not.
    fn waits_for_fin(&self) -> bool {
        self.fin_at.is_some() && !self.finished
    }

    /// Reports a segment that came again (RFC 2883) with an immediate acknowledgment.
    pub fn report_duplicate(&mut self, from: Seq, to: Seq) {
        if from < to && from < self.nxt {
            self.odd.counters.delayed_lost += 1;
            self.odd.counters.duplicates_old += 1;
            self.note_duplicate(from, to.min(self.nxt));
            self.acking.enter_quick(self.edge.since(self.acked), self.peer_mss);
        }
        self.ack_due = AckDue::Now;
    }

    /// How long an acknowledgment waits (tcpi_ato); zero before the first data.
    pub fn ack_delay(&self) -> Duration {
        self.acking.delay()
    }

    /// Whether the route wants acknowledgments without delay (RTAX_QUICKACK).
    pub fn set_always_quick(&mut self, always: bool) {
        self.acking.always_quick = always;
    }

    /// Data goes out.
    pub fn on_data_sent(&mut self, now: Instant) {
        self.acking.on_data_sent(now);
    }

    /// Acknowledgments ride on data from now on (TCP_QUICKACK off).
    pub fn enter_interactive(&mut self) {
        self.acking.enter_interactive();
    }

    /// TCP_QUICKACK on.
    pub fn leave_interactive(&mut self) {
        self.acking.leave_interactive();
        if matches!(self.ack_due, AckDue::At(_)) && self.queue.is_empty() {
            self.ack_due = AckDue::Now;
        }
    }

    /// Whether acknowledgments do not wait for data to ride on (TCP_QUICKACK as it is read).
    pub fn is_quick(&self) -> bool {
        !self.acking.is_interactive()
    }

    /// The program read `n` bytes from the front.
    pub fn consume(&mut self, now: Instant, n: usize) {
        self.queue.advance(n);
        self.read += n;
        self.urgent.on_read(self.read);
        let beyond = self.odd.reassembly.end().map_or(0, |end| end.since(self.nxt));
        if let Some(Wanted(window)) = self.sizing.on_read(now, self.read, beyond) {
            self.space.grow(window);
        }
        let waits = matches!(self.ack_due, AckDue::At(_));
        let drained = self.queue.is_empty() && self.acking.wants_ack_when_drained();
        if waits && (self.nxt.since(self.acked) > self.peer_mss || drained) {
            self.ack_due = AckDue::Now;
        } else if !self.finished {
            // Linux's rule: tell of the window when it at least doubles.
            let current = if self.told_zero { 0 } else { self.window() };
            let next = self.next_window();
            if next > 0 && next >= 2 * current && (next > current || self.told_zero) {
                self.ack_due = AckDue::Now;
            }
        }
    }

    /// SO_RCVLOWAT: the buffer must be able to hold what the program waits for.
    pub fn want_at_least(&mut self, bytes: usize) {
        self.space.grow(bytes);
    }

    /// A segment echoed a timestamp that was never sent.
    pub fn count_foreign_echo(&mut self) {
        self.odd.counters.foreign_echoes += 1;
    }

    /// What was counted since it was last asked.
    pub fn take_counters(&mut self) -> Option<ReceiveCounters> {
        let odd = self.odd.own_mut()?;
        let any = odd.counters != ReceiveCounters::NONE;
        any.then(|| core::mem::take(&mut odd.counters))
    }

    /// Nothing came for a while: gives back what is not needed.
    pub fn rest(&mut self) {
        let odd = &self.odd;
        let plain = odd.counters == ReceiveCounters::NONE && odd.duplicate.is_none();
        if plain && odd.reassembly.is_empty() {
            self.odd.reset();
        }
        if self.queue.is_empty() {
            self.queue = Chain::new();
        }
    }

    /// Nobody will read: drops what was received.
    pub fn discard(&mut self) {
        self.queue = Chain::new();
        if !self.odd.reassembly.is_empty() {
            self.odd.reassembly = Reassembly::EMPTY;
        }
        self.read = self.nxt;
    }
}

/// The blocks with the FIN's own sequence number, where it lies behind one of them or by itself (RFC 2018 section 3: a block is of
/// "sequence numbers", and a FIN has one).
fn with_fin(blocks: SackBlocks, fin: Seq, room: usize) -> SackBlocks {
    let mut all = SackBlocks::default();
    let mut told = false;
    for (left, right) in blocks.iter() {
        let ends = Seq(right) == fin;
        told |= ends;
        all.push(left, if ends { (fin + 1).0 } else { right });
    }
    if !told && all.len() < room {
        all.push(fin.0, (fin + 1).0);
    }
    all
}

#[cfg(test)]
mod tests;
