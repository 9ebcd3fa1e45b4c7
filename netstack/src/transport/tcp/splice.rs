//! Two connections of one stack that are each other's peer: what the one would send, the other takes at once and acknowledges at once,
//! without a segment between. Both halves run as they do for segments, so that either side may send segments at any time again.

use super::accounts::pieces;
use super::connection::Connection;
use super::receive::{AckDue, Text};
use super::send::{Ack, Budget};
use super::state::State;
use super::tcb::{Pending, Tcb};
use crate::time::Instant;
use crate::wire::tcp::{HEADER_LEN, SackBlocks};

/// The most payload that is handed over in one piece: it is still in the cache when a program reads it.
const PIECE: usize = 256 << 10;
/// What timestamps add to a header.
const TIMESTAMPS_LEN: usize = 12;

/// What passed, as it would have been on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spliced {
    /// Bytes of payload.
    pub payload: usize,
    /// Segments with payload.
    pub data_segments: u64,
    /// Acknowledgments from the one that took the payload.
    pub answers: u64,
    /// Acknowledgments from the one that gave it.
    pub tells: u64,
    /// Bytes of each TCP header.
    pub header_len: usize,
}

impl Spliced {
    /// Whether nothing passed.
    pub fn is_nothing(&self) -> bool {
        self.payload == 0 && self.tells == 0
    }

    /// All segments.
    pub fn segments(&self) -> u64 {
        self.data_segments + self.answers + self.tells
    }

    /// Their bytes, with TCP headers.
    pub fn bytes(&self) -> u64 {
        self.payload as u64 + self.segments() * self.header_len as u64
    }
}

impl Connection {
    /// Gives to `peer`, the other end of this connection, what may be sent: an acknowledgment that is due, and data. What is left goes
    /// by segments.
    pub fn splice(&mut self, now: Instant, peer: &mut Connection) -> Spliced {
        let mut spliced = Spliced { header_len: self.tcb.header_len(), ..Spliced::default() };
        if self.owes_ack() && peer.is_calm() && peer.has_arrived_at(self) {
            self.acknowledge_to(now, peer);
            spliced.tells += 1;
        }
        // A peer that waits for an acknowledgment (of its FIN, say) gets it with the data, in a segment.
        let may = peer.takes() && peer.tcb.send.is_calm() && self.has_arrived_at(peer);
        if may && self.gives() {
            self.give(now, peer, &mut spliced);
        }
        self.note_wait(now);
        spliced
    }

    /// Whether there is nothing that only a segment could bring to the peer, now or later.
    pub fn is_at_rest(&self) -> bool {
        let send = &self.tcb.send;
        matches!(self.state, State::Established(_) | State::CloseWait(_))
            && self.is_calm()
            && send.unsent() == 0
            && !send.is_finished()
            && !self.owes_ack()
    }

    /// Whether all that was sent is acknowledged, and nothing but data waits.
    fn is_calm(&self) -> bool {
        let may = self.state.may_send() && self.state.is_synchronized();
        may && self.tcb.pending == Pending::default() && self.tcb.send.is_calm()
    }

    /// Whether data may go without a segment: not what waits for the end of the stream, for its pace, or is urgent.
    fn gives(&self) -> bool {
        let send = &self.tcb.send;
        self.is_calm()
            && send.unsent() > 0
            && !send.is_finished()
            && !send.is_urgent()
            && !self.tells_reduced()
            && send.pacing_rate(&self.tcb.rtt).is_none()
    }

    /// Whether data is taken as it comes.
    fn takes(&self) -> bool {
        let gone = self.tcb.orphan || self.tcb.shut_read;
        self.state.may_receive() && !gone && !self.tcb.receive.has_blocks()
    }

    /// Whether the peer has all that was sent.
    fn has_arrived_at(&self, peer: &Connection) -> bool {
        peer.tcb.receive.nxt == self.tcb.send.nxt
    }

    fn give(&mut self, now: Instant, peer: &mut Connection, spliced: &mut Spliced) {
        let budget =
            Budget { gso_max: PIECE.max(self.tcb.send.mss), push: self.tcb.settings.push() };
        while let Some(out) = self.tcb.send.poll(now, &self.tcb.rtt, budget) {
            let len = out.payload.len();
            let segments = pieces(len, self.tcb.send.mss);
            self.tcb.accounts.payload_sent(now, len, segments);
            self.tcb.receive.on_data_sent(now);
            self.tcb.stamp_for(now, &mut peer.tcb);
            peer.tcb.accounts.payload_received(now, len, segments);
            peer.tcb.heard(now);
            let pace = peer.tcb.pace();
            let text = Text { seq: out.seq, fin: false, push: out.push, data: out.payload };
            peer.tcb.receive.accept(now, &pace, text);
            spliced.payload += len;
            spliced.data_segments += u64::from(segments);
            // One that would wait for data to ride on is not counted.
            spliced.answers += u64::from(peer.owes_ack());
            peer.acknowledge_to(now, self);
            if !self.is_calm() {
                // The peer had no room after all: what is left is sent again in time.
                break;
            }
        }
    }

    /// Tells the peer what has come and how much more may.
    fn acknowledge_to(&mut self, now: Instant, peer: &mut Connection) {
        let owed = self.tcb.receive.ack_due == AckDue::Now;
        self.tcb.receive.acknowledged(0);
        let field = self.tcb.receive.offer();
        self.tcb.stamp_for(now, &mut peer.tcb);
        let ack = Ack {
            seq: self.tcb.send.nxt,
            ack: self.tcb.receive.nxt,
            window: usize::from(field) << peer.tcb.send.window_shift,
            sack: &SackBlocks::default(),
            len: 0,
            echo_rtt: None,
        };
        let tcb = &mut peer.tcb;
        tcb.send.on_ack(now, &mut tcb.rtt, &ack);
        tcb.soft_error = None;
        tcb.heard(now);
        if owed {
            self.tcb.accounts.payload_sent(now, 0, 1);
            tcb.accounts.payload_received(now, 0, 1);
            tcb.accounts.ack_received_at = Some(now);
        }
    }
}

impl Tcb {
    fn header_len(&self) -> usize {
        HEADER_LEN + if self.timestamps.is_some() { TIMESTAMPS_LEN } else { 0 }
    }
}
