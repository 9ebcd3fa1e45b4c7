//! Second thoughts: what was taken for loss was delay or reordering. D-SACK (RFC 2883, RFC 3708), timestamps (the Eifel
//! detection of RFC 3522) and F-RTO (RFC 5682) tell; the window and what was marked are given back, as Linux does.

use super::recovery::{Heard, Report};
use super::send::{Phase, Sender};
use super::seq::Seq;
use crate::time::Instant;

/// Where the detection of a spurious timeout stands (RFC 5682 section 3.1, the SACK-enhanced form).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Frto {
    /// There is none.
    #[default]
    Off,
    /// The first segment was sent again; nothing more is, until an acknowledgment comes.
    Retransmitted,
    /// It advanced: new data goes out rather than retransmissions (step 2.b).
    Probing,
    /// New data is out, and the acknowledgment of originals may still tell.
    Waiting,
}

/// What an episode of repair must remember to take itself back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Undo {
    /// SND.UNA when it began; None once there is nothing to undo (Linux's undo_marker).
    pub(super) marker: Option<Seq>,
    /// Segments sent again that no D-SACK has reported; None before the first (undo_retrans).
    pub(super) unreported: Option<usize>,
    /// When the first was sent again (retrans_stamp).
    pub(super) first_at: Option<Instant>,
}

impl Undo {
    /// There is nothing to undo.
    pub(super) const NONE: Undo = Undo { marker: None, unreported: None, first_at: None };
}

impl Sender {
    /// An episode begins that may turn out to be a mistake.
    pub(super) fn begin_undo(&mut self) {
        let out = self.board.retransmissions_out().div_ceil(self.mss);
        self.undo.marker = Some(self.una);
        self.undo.unreported = (out > 0).then_some(out);
    }

    /// Segments went out again.
    pub(super) fn note_retransmission(&mut self, now: Instant, segments: usize) {
        self.undo.first_at.get_or_insert(now);
        *self.undo.unreported.get_or_insert(0) += segments;
    }

    /// The peer got something twice.
    pub(super) fn on_duplicate_report(&mut self, report: Report) {
        self.counters.duplicates_reported += 1;
        let told = &mut self.counters.duplicate_segments_reported;
        *told = told.saturating_add(report.segments as u32);
        // More than we ever sent twice: the network duplicates (Linux's tcp_dsack_seen).
        if self.counters.duplicate_segments_reported > self.counters.retransmissions {
            return;
        }
        if !self.loss_probe.is_some_and(|probe| probe.end == report.end) {
            self.flight.rack.on_duplicate_report(self.una, self.nxt);
        }
        if let (Some(marker), Some(left)) = (self.undo.marker, &mut self.undo.unreported)
            && report.end > marker
        {
            *left = left.saturating_sub(report.segments);
        }
    }

    /// Whether all that was sent again was reported twice, so that nothing had been lost.
    fn is_all_reported(&self) -> bool {
        self.undo.marker.is_some() && self.undo.unreported == Some(0)
    }

    /// RFC 3522 section 3.2: "If the value of the Timestamp Echo Reply field of the acceptable ACK's Timestamps option
    /// is smaller than the value of RetransmitTS, then" it answers the original. Nothing sent again is an original, too.
    fn answers_original(&self, heard: &Heard) -> bool {
        match (self.undo.first_at, heard.echo_ms) {
            (Some(first), Some(echo)) => echo < first.millis(),
            (None, _) => matches!(self.phase, Phase::Recovery { .. }),
            (Some(_), None) => false,
        }
    }

    fn may_undo(&self, heard: &Heard) -> bool {
        self.undo.marker.is_some() && (self.is_all_reported() || self.answers_original(heard))
    }

    fn restore(&mut self) {
        self.congestion.undo();
        self.undo.marker = None;
    }

    /// D-SACKs reported every retransmission.
    pub(super) fn undo_by_report(&mut self, heard: &Heard) {
        if heard.report.is_none() || !self.is_all_reported() {
            return;
        }
        self.counters.undone_by_report += 1;
        self.rack.keep_window();
        self.restore();
        self.phase = Phase::Open;
    }

    /// An acknowledgment within recovery answers an original: stop sending again, and once nothing that was
    /// sent again is out, take the recovery back. Returns whether it does.
    pub(super) fn undo_partially(&mut self, heard: &Heard) -> bool {
        if self.undo.marker.is_none() || !self.answers_original(heard) {
            return false;
        }
        if self.board.retransmissions_out() > 0 {
            self.holds = true;
            return true;
        }
        self.counters.undone_partially += 1;
        self.undo.first_at = None;
        self.board.unmark_lost();
        self.restore();
        self.phase = Phase::Open;
        true
    }

    /// All of an episode is acknowledged.
    pub(super) fn undo_whole(&mut self, heard: &Heard) {
        if !self.may_undo(heard) {
            self.rack.on_recovered();
            return;
        }
        match self.phase {
            Phase::Loss { .. } => self.counters.undone_losses += 1,
            _ => self.counters.undone_wholly += 1,
        }
        self.restore();
    }

    /// RFC 5682 and Linux's tcp_process_loss.
    pub(super) fn step_loss(&mut self, point: Seq, heard: &Heard) {
        let recovered = self.una >= point;
        if heard.advanced > 0 && self.may_undo(heard) {
            self.undo_timeout();
            return;
        }
        if self.frto != Frto::Off {
            // Step 3.b: "If the acknowledgment acknowledges data that was not retransmitted after the timeout, declare
            // the timeout spurious".
            if heard.original.is_some_and(|seq| seq < point) {
                self.counters.spurious_timeouts += 1;
                self.undo_timeout();
                return;
            }
            self.frto = match self.frto {
                // Step 3.a: new data was answered by a duplicate: the loss was real.
                _ if self.nxt > point && (heard.sacked || heard.duplicate) => Frto::Off,
                // Step 2.b: "If the ACK advances the window, transmit up to two new segments".
                Frto::Retransmitted if heard.advanced > 0 && !recovered => {
                    self.phase = Phase::Loss { point: self.nxt };
                    Frto::Probing
                }
                Frto::Probing => Frto::Waiting,
                other => other,
            };
        }
        if recovered {
            self.undo_whole(heard);
            self.phase = Phase::Open;
            self.frto = Frto::Off;
            self.fast_due = false;
        }
    }

    fn undo_timeout(&mut self) {
        self.counters.undone_losses += 1;
        self.board.unmark_lost();
        self.restore();
        self.retries = 0;
        self.frto = Frto::Off;
        self.fast_due = false;
        self.phase = Phase::Open;
    }
}
