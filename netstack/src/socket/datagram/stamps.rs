//! The times of sends, as they are told in the error queue (Documentation/networking/timestamping.rst of Linux).

use core::net::IpAddr;
use std::sync::{Arc, Weak};

use super::{Ancillary, Datagram};
use crate::buffer::{Departure, PacketBuffer, Step};
use crate::socket::Report;
use crate::socket::error_queue::{Progress, SentPacket, Stamp};
use crate::socket::options::Stamping;
use crate::time::Instant;

/// What is told of one send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamps {
    wanted: Stamping,
    // The program chose the number.
    numbered: bool,
    pub id: u32,
}

impl Stamps {
    /// What a send asks for; None for no times at all.
    pub fn of(socket: Stamping, ancillary: &Ancillary) -> Option<Stamps> {
        let times = Stamping::SCHEDULED | Stamping::SENT;
        let how = socket & (Stamping::NUMBERED | Stamping::TIME_ONLY);
        let wanted = (ancillary.stamping.unwrap_or(socket) & times) | how;
        wanted.intersects(times).then_some(Stamps {
            wanted,
            numbered: ancillary.stamp_id.is_some(),
            id: ancillary.stamp_id.unwrap_or(0),
        })
    }

    /// Whether it has the socket's next number.
    pub fn takes_number(&self) -> bool {
        self.wanted.contains(Stamping::NUMBERED) && !self.numbered
    }
}

/// Waits for a packet to leave.
struct Waiting {
    socket: Weak<Datagram>,
    stamps: Stamps,
    src: IpAddr,
}

impl Departure for Waiting {
    fn departs(&self, now: Instant, step: Step, frame: &PacketBuffer) {
        let (flag, progress) = match step {
            Step::Scheduled => (Stamping::SCHEDULED, Progress::Scheduled),
            Step::Sent => (Stamping::SENT, Progress::Sent),
        };
        let wanted = self.stamps.wanted;
        let Some(socket) = self.socket.upgrade().filter(|_| wanted.contains(flag)) else { return };
        let packet = (!wanted.contains(Stamping::TIME_ONLY))
            .then(|| SentPacket { src: self.src, bytes: frame.to_vec() });
        let stamp = Stamp { progress, id: self.stamps.id, at: now, packet };
        socket.report_with(|state, room| state.reports.push(Report::Stamped(stamp), room));
    }
}

impl Datagram {
    /// Who waits for a packet from `src` to leave.
    pub(super) fn departure(&self, stamps: Stamps, src: IpAddr) -> Arc<dyn Departure> {
        Arc::new(Waiting { socket: self.me.clone(), stamps, src })
    }
}
