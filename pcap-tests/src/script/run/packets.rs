//! The packets of a script: those that arrive are built, those that the kernel sends are compared with what the lines say.

use std::net::IpAddr;
use std::time::Duration;

use super::{Runner, fail, seconds};
use crate::packet::{ACK, PSH};
use crate::script::flow::{self, Flow};
use crate::script::kernel::KernelError;
use crate::script::syntax::{About, Base, Body, EcnMark, Event, Icmp, Packet, Tcp, TcpOption, Udp};
use crate::script::wire::{self, Header, Segment, Sent, SentBody};
use crate::script::{Note, Stop, Way, parser, verify};

/// How long a packet may take that may come at any time.
const ANY_TIME: Duration = Duration::from_secs(300);
/// The port of the first caller.
const FIRST_CALLER: u16 = 40_000;
/// The time to live of what arrives, where the script does not say.
const TTL: u8 = 255;

impl Runner<'_> {
    /// The conversation of a packet of the other side (from, to), which is made where there is none.
    fn flow_of_inbound(
        &mut self,
        line: usize,
        ports: Option<(u16, u16)>,
    ) -> Result<&mut Flow, Stop> {
        let known = match ports {
            Some((remote, local)) => {
                let fits =
                    |flow: &Flow| flow.remote == remote && flow.local.is_none_or(|p| p == local);
                self.flows.iter().position(fits)
            }
            None => (!self.flows.is_empty()).then_some(self.current),
        };
        match known {
            Some(known) => self.current = known,
            None => {
                let caller = FIRST_CALLER.saturating_add(self.flows.len() as u16);
                let (remote, local) = ports.unwrap_or((caller, self.bound));
                self.add_flow(line, Flow::new(Some(local), remote))?;
            }
        }
        if let (Some((_, local)), flow) = (ports, &mut self.flows[self.current]) {
            flow.local = Some(local);
        }
        Ok(&mut self.flows[self.current])
    }

    pub(super) fn inbound(&mut self, line: usize, packet: &Packet) -> Result<(), Stop> {
        let (local, remote) = (self.settings.local, self.settings.remote);
        let header = Header {
            from: remote,
            to: local,
            tos: packet.mark.map_or(0, EcnMark::bits),
            ttl: packet.ttl.unwrap_or(TTL),
        };
        let bytes = match &packet.body {
            Body::Tcp(tcp) => {
                let flow = self.flow_of_inbound(line, tcp.ports)?;
                flow.arrives(tcp);
                segment_bytes(header, flow, tcp)
            }
            Body::Udp(udp) => {
                let flow = self.flow_of_inbound(line, udp.ports)?;
                let payload = flow::payload(0, udp.len as usize);
                wire::udp(header, flow.remote, flow.local.unwrap_or(0), &payload)
            }
            Body::Icmp(icmp) => {
                let flow = self.flow_of_inbound(line, None)?;
                let quoted = quoted(Header { from: local, to: remote, ..header }, flow, icmp.about);
                wire::icmp(header, icmp.kind, icmp.mtu.unwrap_or(0), &quoted)
            }
        };
        (self.watch)(Note::Packet(self.kernel.now(), Way::In, &bytes));
        self.kernel.arrive(&bytes).map_err(|error: KernelError| Stop::refused(line, error))
    }

    /// The next packet of the kernel that scripts speak of.
    fn next_packet(
        &mut self,
        line: usize,
        limit: Duration,
    ) -> Result<Option<(Duration, Sent)>, Stop> {
        loop {
            while let Some((at, bytes)) = self.packets.pop_front() {
                match wire::read(&bytes) {
                    Ok(Some(sent)) => return Ok(Some((at, sent))),
                    Ok(None) => {}
                    Err(came) => {
                        return fail(line, "the packet", "one that is right".into(), came, None);
                    }
                }
            }
            if !self.happens(line, limit)? {
                return Ok(None);
            }
        }
    }

    pub(super) fn outbound(
        &mut self,
        event: &Event,
        expected: &Packet,
        (at, until): (Duration, Option<Duration>),
    ) -> Result<(), Stop> {
        let (line, tolerance) = (event.line, self.tolerance());
        let limit = match event.when.base {
            Base::Any => self.kernel.now() + ANY_TIME,
            _ => until.unwrap_or(at) + tolerance,
        };
        let Some((came_at, sent)) = self.next_packet(line, limit)? else {
            let came = format!("nothing until {}", seconds(limit));
            let rule = verify::timing_rule(expected);
            return fail(line, "a packet is missing", format!("> {expected}"), came, rule);
        };
        let sent = self.whole_train(line, expected, sent, limit)?;
        let found = self.in_script(line, expected, &sent, came_at)?;
        let told = format!("> {found}");
        (self.watch)(Note::Line(came_at, &told));
        if let Some(difference) = verify::compare(expected, &found) {
            let what = format!("{} of a packet sent at {}", difference.what, seconds(came_at));
            return fail(line, &what, format!("> {expected}"), told, difference.rule);
        }
        self.check_stamps_and_bytes(line, expected, &sent)?;
        let is_any = event.when.base == Base::Any;
        if !is_any && (came_at + tolerance < at || came_at > limit) {
            let expected_at = match until {
                Some(until) => format!("{} to {}", seconds(at), seconds(until)),
                None => seconds(at),
            };
            let what = format!("the time of > {expected}");
            return fail(line, &what, expected_at, seconds(came_at), verify::timing_rule(expected));
        }
        self.before = if is_any || until.is_some() { came_at } else { at };
        Ok(())
    }

    /// A line may stand for several segments that follow each other, as a device sees them that cuts them itself.
    fn whole_train(
        &mut self,
        line: usize,
        expected: &Packet,
        mut sent: Sent,
        limit: Duration,
    ) -> Result<Sent, Stop> {
        let Body::Tcp(wanted) = &expected.body else { return Ok(sent) };
        while let SentBody::Tcp(first) = &mut sent.body {
            let len = first.payload.len();
            if len == 0 || len >= wanted.len as usize {
                break;
            }
            // The next one belongs to it, or stays where it is.
            if self.packets.is_empty() && !self.happens(line, limit)? {
                break;
            }
            let Some((_, bytes)) = self.packets.front() else { continue };
            let next = match wire::read(bytes) {
                Ok(Some(Sent { body: SentBody::Tcp(next), .. })) => next,
                _ => break,
            };
            let follows = next.seq == first.seq.wrapping_add(len as u32)
                && (next.from, next.to) == (first.from, first.to)
                && (len + next.payload.len()) <= wanted.len as usize
                && !next.payload.is_empty();
            if !follows {
                break;
            }
            self.packets.pop_front();
            first.payload.extend(next.payload);
            first.flags |= next.flags & PSH;
        }
        Ok(sent)
    }

    /// A packet of the kernel in the script's notation.
    fn in_script(
        &mut self,
        line: usize,
        expected: &Packet,
        sent: &Sent,
        at: Duration,
    ) -> Result<Packet, Stop> {
        let body = match (&sent.body, &expected.body) {
            (SentBody::Tcp(tcp), wanted) => {
                let wanted = match wanted {
                    Body::Tcp(wanted) => Some(wanted),
                    _ => None,
                };
                let shown = wanted.is_some_and(|wanted| wanted.ports.is_some());
                let ports =
                    self.select(line, wanted.and_then(|tcp| tcp.ports), (tcp.from, tcp.to))?;
                let found = self.flows[self.current].learn_tcp(tcp, wanted, at);
                Body::Tcp(Tcp { ports: ports.or(shown.then_some((tcp.from, tcp.to))), ..found })
            }
            (SentBody::Udp(from, to, len), wanted) => {
                let wanted = match wanted {
                    Body::Udp(wanted) => wanted.ports,
                    _ => None,
                };
                let ports = self.select(line, wanted, (*from, *to))?;
                Body::Udp(Udp { ports: ports.or(wanted.map(|_| (*from, *to))), len: *len })
            }
            (SentBody::Icmp(kind, word, about), wanted) => {
                let v6 = sent.ip.src.is_ipv6();
                let name = parser::icmp_name(*kind, v6).unwrap_or(("of another kind", ""));
                let told = match wanted {
                    Body::Icmp(Icmp { mtu, .. }) => *mtu,
                    _ => None,
                };
                let about = about_of(about);
                Body::Icmp(Icmp { name, kind: *kind, mtu: told.map(|_| *word), about })
            }
        };
        Ok(Packet {
            mark: Some(EcnMark::of(sent.ip.tos)).filter(|_| expected.mark.is_some()),
            ttl: expected.ttl.map(|_| sent.ip.ttl),
            body,
        })
    }

    /// Chooses the conversation of a packet of the kernel. Gives its ports where it is not the one of which the line speaks.
    fn select(
        &mut self,
        line: usize,
        wanted: Option<(u16, u16)>,
        (local, remote): (u16, u16),
    ) -> Result<Option<(u16, u16)>, Stop> {
        let fits =
            |flow: &Flow| flow.remote == remote && flow.local.is_none_or(|port| port == local);
        let is_current = self.flows.get(self.current).is_some_and(fits);
        let found = if is_current { Some(self.current) } else { self.flows.iter().position(fits) };
        let is_new = found.is_none();
        let nothing_known = self.flows.is_empty();
        match found {
            Some(found) if wanted.is_some() => self.current = found,
            Some(_) if is_current => {}
            Some(_) => return Ok(Some((local, remote))),
            None => self.add_flow(line, Flow::new(Some(local), remote))?,
        }
        self.flows[self.current].local = Some(local);
        Ok((is_new && !nothing_known && wanted.is_none()).then_some((local, remote)))
    }

    /// The kernel's timestamps go with its clock, and its bytes are those that programs wrote.
    fn check_stamps_and_bytes(
        &self,
        line: usize,
        expected: &Packet,
        sent: &Sent,
    ) -> Result<(), Stop> {
        let (Body::Tcp(wanted), SentBody::Tcp(tcp)) = (&expected.body, &sent.body) else {
            return Ok(());
        };
        let flow = &self.flows[self.current];
        if let (Some(tick), Some(val)) = (self.settings.tick, stamp_of(wanted)) {
            let error = flow.stamp_error(val);
            let most = self.settings.tolerance.as_nanos() / tick.as_nanos().max(1);
            if u128::from(error.unsigned_abs()) > most {
                let came = format!("val {}", val.wrapping_add(error as u32));
                let rule = Some("RFC 7323 section 4.1: the timestamp clock");
                return fail(line, "the timestamp", format!("val {val}"), came, rule);
            }
        }
        let wrong = flow.wrong_byte(tcp).filter(|_| !self.descriptors.own_bytes);
        match wrong {
            Some(at) => fail(
                line,
                "the payload",
                "the bytes that the program wrote".into(),
                format!("another byte at {at} of the stream"),
                Some("RFC 9293 section 3.4: every byte has its sequence number"),
            ),
            None => Ok(()),
        }
    }
}

fn stamp_of(tcp: &Tcp) -> Option<u32> {
    tcp.options.iter().flatten().find_map(|option| match option {
        TcpOption::Timestamps { val, .. } => Some(*val),
        _ => None,
    })
}

/// A segment of the other side as a packet.
fn segment_bytes(header: Header, flow: &Flow, tcp: &Tcp) -> Vec<u8> {
    let options = flow.options_to_kernel(tcp.options.as_deref().unwrap_or_default());
    let options = wire::options(&options);
    let first = u64::from(tcp.seq.wrapping_sub(u32::from(tcp.flags & crate::packet::SYN == 0)));
    let payload = flow::payload(first, tcp.len as usize);
    let segment = Segment {
        from: flow.remote,
        to: flow.local.unwrap_or(0),
        seq: tcp.seq,
        ack: tcp.ack.map_or(0, |ack| flow.to_kernel(ack)),
        flags: tcp.flags,
        window: tcp.window.unwrap_or(0),
        urgent: tcp.urgent.unwrap_or(0),
        options: &options,
        payload: &payload,
    };
    wire::tcp(header, segment)
}

/// The beginning of a packet of ours, as an ICMP error gives it back: the IP header and the first bytes of what it carries.
fn quoted(header: Header, flow: &Flow, about: About) -> Vec<u8> {
    let (from, to) = (flow.local.unwrap_or(0), flow.remote);
    let ip_len = if matches!(header.from, IpAddr::V4(_)) { 20 } else { 40 };
    let (mut bytes, kept) = match about {
        About::Tcp(seq, len) => {
            let payload = vec![0; len as usize];
            let seq = flow.to_kernel(seq);
            let segment =
                Segment { from, to, seq, flags: ACK, payload: &payload, ..Segment::default() };
            (wire::tcp(header, segment), 20)
        }
        About::Udp(len) => (wire::udp(header, from, to, &vec![0; len as usize]), 8),
    };
    bytes.truncate(ip_len + kept);
    bytes
}

/// What an ICMP error of the kernel is about: a packet of the other side.
fn about_of(quoted: &[u8]) -> About {
    let found = crate::packet::quoted(quoted);
    let Some((ip, ..)) = found else { return About::Udp(0) };
    let start = if ip.src.is_ipv4() { usize::from(quoted[0] & 15) * 4 } else { 40 };
    match (ip.protocol, quoted.get(start + 4..start + 8), quoted.get(start + 12)) {
        (17, ..) => About::Udp(ip.payload_len.saturating_sub(8)),
        (_, Some(&[a, b, c, d]), offset) => {
            let header = offset.map_or(20, |byte| u32::from(byte >> 4) * 4);
            About::Tcp(u32::from_be_bytes([a, b, c, d]), ip.payload_len.saturating_sub(header))
        }
        _ => About::Udp(0),
    }
}
