//! The player's side of what is played: frames that the kernel sent are taken in, and those of both sides are summed up and kept.

use std::time::Duration;

use super::ReplayError;
use super::lives::{Key, LiveId};
use super::player::Player;
use crate::capture::{Frame, LinkType};
use crate::flows::Known;
use crate::packet::{self, Body, Fault, Packet, Sums};

impl Player<'_> {
    /// Takes in what the kernel has sent since.
    pub(super) fn collect(&mut self) -> Result<(), ReplayError> {
        while let Some(at) = self.kernel.sent(&mut self.frame)? {
            if !self.is_over {
                let bytes = std::mem::take(&mut self.frame);
                self.collected(at, &bytes)?;
                self.frame = bytes;
            }
        }
        Ok(())
    }

    /// Takes in a frame that the kernel sent.
    fn collected(&mut self, at: Duration, bytes: &[u8]) -> Result<(), ReplayError> {
        let packet = packet::read(Sums::Ignored, LinkType::Ethernet, bytes, bytes.len());
        let Ok(Packet { ip: Some(ip), body, .. }) = &packet else { return Ok(()) };
        let mut found = None;
        let is_compared = match body {
            Body::Tcp(tcp) => {
                found = self.live.find(&Key((tcp.src, tcp.dst)));
                if let Some(id) = found {
                    self.live.get_mut(id).into_iter().for_each(|live| live.sent(tcp, at));
                    self.work.push(id);
                }
                found.is_some()
            }
            Body::Udp(udp) => self.sockets.contains_key(&udp.src),
            Body::Icmp(icmp) => self.is_compared(ip, icmp),
            _ => false,
        };
        if is_compared {
            self.show((at, true), bytes, &packet, found)?;
        }
        Ok(())
    }

    /// Sums up a frame that is played, fed or sent, and hands it to whoever keeps it.
    pub(super) fn show(
        &mut self,
        (at, is_ours): (Duration, bool),
        bytes: &[u8],
        packet: &Result<Packet<'_>, Fault>,
        id: Option<LiveId>,
    ) -> Result<(), ReplayError> {
        self.sent += 1;
        let time = at + self.origin.unwrap_or_default();
        // Compared is what is seen at the point of capture.
        let way = match packet {
            Ok(Packet { ip: Some(ip), .. }) if !is_ours => self.plan.away(ip.dst),
            _ => Duration::ZERO,
        };
        let frame = Frame {
            number: self.sent,
            time: time.saturating_sub(way),
            interface: 0,
            link: LinkType::Ethernet,
            wire_len: bytes.len() as u32,
            bytes,
        };
        let mut unknown = None;
        let live = id.and_then(|id| self.live.get_mut(id));
        let flow = live.map_or(&mut unknown, |live| &mut live.flows[1]);
        self.replayed.add_read(&frame, packet, Known { flow, is_same: !is_ours });
        match &mut self.sink {
            Some(sink) => Ok(sink(time, is_ours, bytes)?),
            None => Ok(()),
        }
    }
}
