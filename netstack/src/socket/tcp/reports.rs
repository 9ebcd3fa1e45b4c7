//! The error queue of a stream: sends without a copy that are done, and when which byte was sent and acknowledged.

use std::collections::VecDeque;

use super::TcpSocket;
use super::endpoint::{Inner, Role};
use crate::filter::Program;
use crate::socket::Report;
use crate::socket::error_queue::{ErrorQueue, Pending, Progress, Stamp};
use crate::socket::options::{OptionError, Stamping};
use crate::time::Instant;

/// How many sends may wait for their times: each is of the program, and the oldest are told first.
const MAX_MARKS: usize = 1024;
/// What the queue may hold where no receive buffer was set (`tcp_rmem`).
const ROOM: usize = 131_072;

/// A send whose times are told, by the place in the stream where it ends.
#[derive(Clone, Copy, Debug)]
struct Mark {
    end: u64,
    wanted: Stamping,
    id: u32,
}

/// What a stream has to tell besides its bytes.
#[derive(Debug, Default)]
pub(super) struct Reports {
    queue: ErrorQueue,
    stamping: Stamping,
    // Where numbers begin, in bytes of the stream.
    base: u64,
    marks: VecDeque<Mark>,
    arrivals: Option<Box<Arrivals>>,
}

/// When which bytes came (SO_TIMESTAMP of a stream).
#[derive(Debug, Default)]
struct Arrivals {
    // Bytes that were read since it was asked for.
    read: u64,
    // Up to where the stream had come, and when; bytes that were there before have no time.
    came: VecDeque<(u64, Option<Instant>)>,
    read_at: Option<Instant>,
}

impl Arrivals {
    /// The stream has come to `unread` bytes beyond what was read.
    fn came(&mut self, unread: usize, at: Option<Instant>) {
        let end = self.read.saturating_add(unread as u64);
        if self.came.back().is_some_and(|(last, _)| *last >= end) {
            return;
        }
        if self.came.len() >= MAX_MARKS {
            // Who does not read gets the later time of two.
            self.came.pop_back();
        }
        self.came.push_back((end, at));
    }

    /// The program has seen `n` more bytes, the last of them at `n` beyond what was read.
    fn seen(&mut self, n: usize, how: Seen) {
        let to = self.read.saturating_add(n as u64);
        let found = self.came.iter().find(|(end, _)| *end >= to);
        self.read_at = found.and_then(|(_, at)| *at);
        if how == Seen::Read {
            self.read = to;
            while self.came.front().is_some_and(|(end, _)| *end <= to) {
                self.came.pop_front();
            }
        }
    }
}

/// How bytes were seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// They are gone from the queue.
    Read,
    /// They are still there (MSG_PEEK).
    Peeked,
}

impl Reports {
    /// Whether the error queue is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl Inner {
    fn reports(&mut self) -> &mut Reports {
        self.reports.get_or_insert_default()
    }

    /// Bytes of the stream that were acknowledged, sent, and written.
    fn positions(&self) -> Option<(u64, u64, u64)> {
        let Role::Stream(connection) = &self.role else { return None };
        let acknowledged = connection.counters().bytes_acked;
        let written = acknowledged.saturating_add(connection.send_queued() as u64);
        let sent = written.saturating_sub(connection.unsent() as u64);
        Some((acknowledged, sent, written))
    }

    fn room(&self) -> usize {
        let settings = match &self.role {
            Role::Stream(connection) => connection.settings(),
            Role::Idle | Role::Listener(_) => &self.settings,
        };
        settings.receive_buffer.unwrap_or(ROOM)
    }

    /// SO_TIMESTAMPING. Numbers need a connection (sock_set_timestamping: EINVAL for a socket that is closed or listens).
    pub(super) fn set_stamping(&mut self, stamping: Stamping) -> Result<(), OptionError> {
        if stamping.is_empty() && self.reports.is_none() {
            return Ok(());
        }
        let positions = self.positions();
        let begins = stamping - self.reports().stamping;
        if begins.contains(Stamping::NUMBERED) {
            let (acknowledged, _, written) = positions.ok_or(OptionError::Invalid)?;
            let from_written = stamping.contains(Stamping::FROM_WRITTEN);
            self.reports().base = if from_written { written } else { acknowledged };
        }
        self.reports().stamping = stamping;
        Ok(())
    }

    /// SO_TIMESTAMP and its kin: the times of what comes are kept from now on, or not any more.
    pub(super) fn keep_arrivals(&mut self, on: bool) {
        if !on {
            if let Some(reports) = &mut self.reports {
                reports.arrivals = None;
            }
            return;
        }
        let unread = self.unread();
        self.reports().arrivals.get_or_insert_with(|| {
            let mut arrivals = Box::<Arrivals>::default();
            arrivals.came(unread, None);
            arrivals
        });
    }

    fn unread(&self) -> usize {
        match &self.role {
            Role::Stream(connection) => connection.readable(),
            Role::Idle | Role::Listener(_) => 0,
        }
    }

    /// Notes the time of what came.
    pub(super) fn note_arrival(&mut self, now: Instant) {
        let unread = self.unread();
        if let Some(arrivals) = self.reports.as_mut().and_then(|all| all.arrivals.as_mut()) {
            arrivals.came(unread, Some(now));
        }
    }

    /// Notes what the program saw.
    pub(super) fn note_seen(&mut self, n: usize, how: Seen) {
        if let Some(arrivals) = self.reports.as_mut().and_then(|all| all.arrivals.as_mut()) {
            arrivals.seen(n, how);
        }
    }

    /// Tells the times of what was sent and acknowledged by now.
    pub(super) fn stamp_progress(&mut self, now: Instant) {
        if self.reports.as_ref().is_none_or(|reports| reports.marks.is_empty()) {
            return;
        }
        let Some((acknowledged, sent, _)) = self.positions() else { return };
        let room = self.room();
        let Reports { queue, marks, .. } = self.reports();
        let mut told = false;
        for mark in marks.iter_mut() {
            let reached = [
                (Stamping::SCHEDULED, Progress::Scheduled, sent),
                (Stamping::SENT, Progress::Sent, sent),
                (Stamping::ACKNOWLEDGED, Progress::Acknowledged, acknowledged),
            ];
            for (flag, progress, at) in reached {
                if mark.wanted.contains(flag) && at >= mark.end {
                    mark.wanted -= flag;
                    let stamp = Stamp { progress, id: mark.id, at: now, packet: None };
                    queue.push(Report::Stamped(stamp), room);
                    told = true;
                }
            }
        }
        marks.retain(|mark| !mark.wanted.is_empty());
        self.news |= told;
    }
}

impl TcpSocket {
    /// When the last byte came that was read; None where nobody asked for it (SO_TIMESTAMP).
    pub fn last_read_at(&self) -> Option<Instant> {
        self.0.inner.lock().reports.as_ref()?.arrivals.as_ref()?.read_at
    }

    /// A whole message was written that asked to be sent without a copy. It was copied: its memory is free.
    pub fn note_copied(&self, sends: u32) {
        let mut inner = self.0.inner.lock();
        let room = inner.room();
        inner.reports().queue.copied(sends, room);
        inner.news = true;
        drop(inner);
        self.0.refresh();
    }

    /// A whole message was written: its times are told as the socket, or `stamping` in its place, asks (SO_TIMESTAMPING). `id` is
    /// its number where the program chose one.
    pub fn note_written(&self, now: Instant, stamping: Option<Stamping>, id: Option<u32>) {
        let mut inner = self.0.inner.lock();
        if stamping.is_none() && inner.reports.is_none() {
            return;
        }
        let Some((_, _, written)) = inner.positions() else { return };
        let reports = inner.reports();
        let how = reports.stamping;
        let times = Stamping::SCHEDULED | Stamping::SENT | Stamping::ACKNOWLEDGED;
        let wanted = stamping.unwrap_or(how) & times;
        if wanted.is_empty() || reports.marks.len() >= MAX_MARKS {
            return;
        }
        let own = || written.saturating_sub(reports.base).saturating_sub(1) as u32;
        let numbered = how.contains(Stamping::NUMBERED);
        let id = id.unwrap_or_else(|| if numbered { own() } else { 0 });
        reports.marks.push_back(Mark { end: written, wanted, id });
        inner.stamp_progress(now);
        drop(inner);
        self.0.refresh();
    }

    /// Sets the filter that segments must pass, or takes it away (SO_ATTACH_FILTER). Connections that are accepted inherit it.
    pub fn set_filter(&self, filter: Option<Program>) {
        self.0.inner.lock().socket.filter = filter;
    }

    /// Sets the program that chooses among the listeners of this one's port, or takes it away (SO_ATTACH_REUSEPORT_CBPF).
    ///
    /// # Errors
    ///
    /// `Invalid` for a socket without SO_REUSEPORT, `NotFound` where there is none to take away.
    pub fn set_chooser(&self, chooser: Option<Program>) -> Result<(), OptionError> {
        let mut inner = self.0.inner.lock();
        if !inner.socket.reuse_port {
            return Err(OptionError::Invalid);
        }
        let mut before = core::mem::replace(&mut inner.socket.chooser, chooser.clone());
        if let Role::Listener(_) = inner.role {
            let demux = &self.0.host.shared().demux;
            for place in inner.places.iter() {
                before = demux.set_chooser(place, chooser.clone()).or(before);
            }
        }
        match (chooser, before) {
            (None, None) => Err(OptionError::NotFound),
            _ => Ok(()),
        }
    }

    /// The filter.
    pub fn filter(&self) -> Option<Program> {
        self.0.inner.lock().socket.filter.clone()
    }

    /// Takes the oldest report of the error queue (MSG_ERRQUEUE).
    pub fn recv_report(&self) -> Option<Report> {
        let mut inner = self.0.inner.lock();
        let (report, pending) = inner.reports.as_mut()?.queue.pop()?;
        // Errors of a connection are its own, and none of the queue's are of ICMP.
        debug_assert_eq!(pending, Pending::Stays);
        drop(inner);
        self.0.refresh();
        Some(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_read_is_that_of_its_last_byte() {
        let at = Instant::from_secs;
        let mut arrivals = Arrivals::default();
        arrivals.came(3, None);
        arrivals.came(5, Some(at(1)));
        arrivals.came(5, Some(at(9)));
        arrivals.seen(2, Seen::Read);
        assert_eq!(arrivals.read_at, None);
        arrivals.seen(2, Seen::Peeked);
        assert_eq!(arrivals.read_at, Some(at(1)));
        arrivals.seen(3, Seen::Read);
        assert_eq!(arrivals.read_at, Some(at(1)));
        arrivals.came(1, Some(at(2)));
        arrivals.seen(1, Seen::Read);
        assert_eq!((arrivals.read_at, arrivals.came.len()), (Some(at(2)), 0));
        for n in 1..5000 {
            arrivals.came(n, Some(at(n as u64)));
        }
        assert_eq!(arrivals.came.len(), MAX_MARKS);
    }
}
