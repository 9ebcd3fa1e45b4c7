//! The player's datagrams and ICMP messages: what a program of ours sent is sent, what came is fed, and errors about segments are mapped.

use std::net::{IpAddr, SocketAddr};

use super::ReplayError;
use super::lives::Key;
use super::player::Player;
use super::wire;
use crate::capture::Frame;
use crate::packet::{self, Endpoint, Icmp, Ip, Udp};

/// Sockets for datagrams that are open at a time.
const MAX_SOCKETS: usize = 256;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Whether a message is an error about a packet that a replay knows.
fn is_error(icmp: &Icmp<'_>) -> bool {
    match icmp.v6 {
        true => matches!(icmp.kind, 1..=4),
        false => matches!(icmp.kind, 3 | 11 | 12),
    }
}

fn is_request(icmp: &Icmp<'_>) -> bool {
    icmp.kind == if icmp.v6 { 128 } else { 8 }
}

fn is_reply(icmp: &Icmp<'_>) -> bool {
    icmp.kind == if icmp.v6 { 129 } else { 0 }
}

impl Player<'_> {
    /// A datagram of the record; whether it is played.
    pub(super) fn datagram(
        &mut self,
        frame: &Frame<'_>,
        ip: &Ip,
        udp: &Udp<'_>,
    ) -> Result<bool, ReplayError> {
        match (self.plays(udp.src), self.plays(udp.dst)) {
            (true, false) => {
                self.know(udp.dst.0);
                let Some(socket) = self.open(udp.src) else { return Ok(true) };
                let mut bytes = udp.payload.to_vec();
                // What the snapshot length cut was sent, too.
                bytes.resize(udp.payload_len as usize, 0);
                if let Err(why) = self.kernel.send_to(socket, SocketAddr::from(udp.dst), &bytes) {
                    self.note(format!("frame {}: cannot send: {why}", frame.number));
                }
            }
            (false, true) => {
                self.know(udp.src.0);
                if !self.plan.closed.contains(&udp.dst) {
                    self.open(udp.dst);
                }
                match wire::datagram(frame, ip) {
                    Some(bytes) => self.feed(bytes.into(), None)?,
                    None => self.note(format!("frame {} could not be fed", frame.number)),
                }
            }
            _ => return Ok(false),
        }
        self.read_datagrams();
        Ok(true)
    }

    /// The socket of an endpoint of ours.
    fn open(&mut self, at: Endpoint) -> Option<usize> {
        if let Some(socket) = self.sockets.get(&at) {
            return Some(*socket);
        }
        if self.opened.len() == MAX_SOCKETS
            && let Some(oldest) = self.opened.pop_front()
            && let Some(socket) = self.sockets.remove(&oldest)
        {
            self.kernel.abort(socket);
        }
        match self.kernel.bind(SocketAddr::from(at)) {
            Ok(socket) => {
                self.sockets.insert(at, socket);
                self.opened.push_back(at);
                Some(socket)
            }
            Err(why) => {
                self.note(format!("cannot receive datagrams on {} port {}: {why}", at.0, at.1));
                None
            }
        }
    }

    /// Programs read every datagram at once.
    fn read_datagrams(&mut self) {
        for socket in self.sockets.values() {
            while let super::kernel::Received::Bytes(_) =
                self.kernel.receive(*socket, &mut self.room)
            {}
        }
    }

    /// An ICMP message of the record; whether it is played.
    pub(super) fn message(
        &mut self,
        frame: &Frame<'_>,
        ip: &Ip,
        icmp: &Icmp<'_>,
    ) -> Result<bool, ReplayError> {
        let id = (icmp.word >> 16) as u16;
        // A role of one port answers no echoes, and is told of errors about its packets.
        let is_ours = |host| self.settings.roles.iter().any(|role| role.host == host);
        match (is_ours(ip.src), is_ours(ip.dst)) {
            (false, true) if is_request(icmp) && self.plays((ip.dst, 0)) => {
                if self.plan.silent_echoes.contains(&(ip.dst, ip.src, id)) {
                    return Ok(false);
                }
                self.know(ip.src);
                self.echoes.insert((ip.dst, ip.src, id));
                self.feed_message(frame, ip)?;
                Ok(true)
            }
            (true, false) if is_reply(icmp) => Ok(self.echoes.contains(&(ip.src, ip.dst, id))),
            (_, true) if is_error(icmp) => self.error(frame, ip, icmp),
            (true, false) if is_error(icmp) => Ok(self.is_known(icmp)),
            _ => Ok(false),
        }
    }

    fn feed_message(&mut self, frame: &Frame<'_>, ip: &Ip) -> Result<(), ReplayError> {
        match wire::Message::of(frame, ip).and_then(|message| message.mapped(None)) {
            Some(bytes) => self.feed(bytes.into(), None)?,
            None => self.note(format!("frame {} could not be fed", frame.number)),
        }
        Ok(())
    }

    /// An error about a packet of ours; whether it is played.
    fn error(&mut self, frame: &Frame<'_>, ip: &Ip, icmp: &Icmp<'_>) -> Result<bool, ReplayError> {
        let Some((quoted, ours, theirs)) = packet::quoted(icmp.payload) else { return Ok(false) };
        match quoted.protocol {
            TCP => {
                let Some(seq) = wire::quoted_seq(icmp.payload) else { return Ok(false) };
                let away = self.plan.away(ours.0);
                let due = self.kernel.now().saturating_add(away);
                let Some(id) = self.live.find(&Key((ours, theirs))) else { return Ok(false) };
                let Some(live) = self.live.get_mut(id) else { return Ok(false) };
                live.queue_error(frame, ip, seq, due);
                self.wakes.insert((due, id));
                self.work.push(id);
                self.know(ip.src);
                Ok(true)
            }
            UDP if self.sockets.contains_key(&ours) => {
                self.know(ip.src);
                self.feed_message(frame, ip)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Whether an error that our side sent is about something that was fed.
    fn is_known(&self, icmp: &Icmp<'_>) -> bool {
        packet::quoted(icmp.payload).is_some_and(|(quoted, theirs, ours)| match quoted.protocol {
            TCP => self.live.has(&Key((ours, theirs))),
            _ => self.plays(ours),
        })
    }

    /// Whether the kernel sent this of its own accord or a program's, so that it is compared.
    pub(super) fn is_compared(&self, ip: &Ip, icmp: &Icmp<'_>) -> bool {
        let id = (icmp.word >> 16) as u16;
        is_error(icmp) && self.is_known(icmp)
            || is_reply(icmp) && self.echoes.contains(&(ip.src, ip.dst, id))
    }
}

/// Whether a destination has no neighbour of its own.
pub(super) fn is_group(to: IpAddr) -> bool {
    to.is_multicast() || to == IpAddr::from([255; 4])
}
