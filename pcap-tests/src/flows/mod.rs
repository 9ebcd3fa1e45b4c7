//! Conversations of a capture, summed up as an engineer would by hand: bytes, segments, retransmissions, order, round trips, how each began and ended.

pub mod anomaly;
mod flow;
mod half;
mod open;
mod record;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

pub use anomaly::{Anomalies, Kind};
pub use flow::{Ending, Flow, Opening, Protocol};
pub use half::{Half, Rtt};
pub use open::{FlowId, Known};
pub use record::{CHUNK, Detail, Message, More, Record, Step, Stream, Unlike};

use crate::capture::{Frame, LinkType, ReadError, Reader};
use crate::keyed::Map;
use crate::packet::{self, ACK, Body, Endpoint, Icmp, Ip, Packet, SYN, Sums, Tcp};
use open::{Key, Open};

/// A flow without traffic for so long is finished: TIME-WAIT of an ended connection, or a quiet exchange of datagrams.
const LINGER: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_secs(300);
/// Frames between two looks at the clock, and time between two searches for finished flows.
const SWEEP: u64 = 4096;
const PAUSE: Duration = Duration::from_secs(10);
/// Flows that are open at a time, or have just ended; of more the quietest are put aside: a scan of ports opens millions.
const MAX_OPEN: usize = 1 << 18;
/// Among fewer flows that are over, those to keep are not chosen.
const MIN_DONE: usize = 1024;
/// Faults that are told one by one.
const MAX_FAULTS: usize = 100;
/// Hosts that are counted apart.
const MAX_HOSTS: usize = 65_536;

/// Which flows are kept when they are over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    All,
    /// Those with the most bytes.
    Largest(usize),
    /// The one with this number.
    Only(u64),
}

/// What a host sent and received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Frames sent.
    pub sent_frames: u64,
    /// Bytes sent, on the wire.
    pub sent_bytes: u64,
    /// Frames received.
    pub received_frames: u64,
    /// Bytes received, on the wire.
    pub received_bytes: u64,
}

/// What is counted across flows.
#[derive(Default)]
struct Census {
    hosts: Map<IpAddr, Host>,
    protocols: Vec<(&'static str, u64)>,
}

/// A capture summed up, one frame after the other.
pub struct Summary {
    /// Frames in all.
    pub frames: u64,
    /// Bytes in all, on the wire.
    pub bytes: u64,
    /// Frames of which a snapshot length cut bytes.
    pub cut: u64,
    /// Frames with VLAN tags.
    pub tagged: u64,
    /// Time of the first and the last frame.
    pub span: Option<(Duration, Duration)>,
    /// The first hundred frames that could not be read, with why.
    pub faults: Vec<(u64, packet::Fault)>,
    /// What to look at.
    pub anomalies: Anomalies,
    /// The link types of the file.
    pub links: Vec<LinkType>,
    /// Flows that were put aside while they were open, since there were too many.
    pub put_aside: u64,
    /// Frames of hosts beyond those that are counted apart.
    pub of_other_hosts: u64,
    /// None where only flows are wanted.
    census: Option<Census>,
    open: Open,
    /// Boxed, since they are moved about when they are over.
    #[expect(clippy::vec_box)]
    done: Vec<Box<Flow>>,
    kept: Kept,
    flows: u64,
    detail: Detail,
    swept: Duration,
    max_open: usize,
}

impl Summary {
    /// An empty summary that keeps so many flows beside those that are open: those with the most bytes.
    pub fn new(max_flows: usize) -> Self {
        Self::with(Kept::Largest(max_flows), Detail::Sums)
    }

    /// An empty summary that keeps every flow with its steps, for a comparison of short captures.
    pub fn recording() -> Self {
        Self::with(Kept::All, Detail::Steps)
    }

    /// An empty summary whose flows are taken by [`Summary::take_finished`] and [`Summary::take_all`]. It counts no hosts and no
    /// protocols, and looks at no checksum.
    pub fn passing(detail: Detail) -> Self {
        Self { census: None, ..Self::with(Kept::All, detail) }
    }

    /// An empty summary that keeps one flow, by its number.
    pub fn watching(number: u64, detail: Detail) -> Self {
        Self::with(Kept::Only(number), detail)
    }

    fn with(kept: Kept, detail: Detail) -> Self {
        Self {
            frames: 0,
            bytes: 0,
            cut: 0,
            tagged: 0,
            span: None,
            faults: Vec::new(),
            anomalies: Anomalies::default(),
            links: Vec::new(),
            put_aside: 0,
            of_other_hosts: 0,
            census: Some(Census::default()),
            open: Open::default(),
            done: Vec::new(),
            kept,
            flows: 0,
            detail,
            swept: Duration::ZERO,
            max_open: MAX_OPEN,
        }
    }

    /// Sums a capture up as far as it can be read; the error tells why not further.
    pub fn of(reader: &mut Reader) -> (Self, Option<ReadError>) {
        let mut summary = Self::with(Kept::All, Detail::Sums);
        let error = summary.read(reader);
        (summary, error)
    }

    /// Takes in what is left of a capture; the error tells why not all of it.
    pub fn read(&mut self, reader: &mut Reader) -> Option<ReadError> {
        loop {
            match reader.next() {
                Ok(Some(frame)) => self.add(&frame),
                Ok(None) => return None,
                Err(error) => return Some(error),
            }
        }
    }

    /// Takes a frame in.
    pub fn add(&mut self, frame: &Frame<'_>) {
        let sums = if self.census.is_some() { Sums::Checked } else { Sums::Ignored };
        let known = Known { flow: &mut None, is_same: false };
        self.add_read(frame, &Packet::with(sums, frame), known);
    }

    /// Takes in a frame that was taken apart before.
    pub fn add_read(
        &mut self,
        frame: &Frame<'_>,
        packet: &Result<Packet<'_>, packet::Fault>,
        known: Known<'_>,
    ) {
        self.frames += 1;
        self.bytes += u64::from(frame.wire_len);
        self.cut += u64::from((frame.bytes.len() as u64) < u64::from(frame.wire_len));
        let (first, last) = self.span.get_or_insert((frame.time, frame.time));
        if frame.time >= *last {
            *last = frame.time;
        } else {
            *first = frame.time.min(*first);
            self.anomalies.add(Kind::TimeBackwards, frame.number);
        }
        if !self.links.contains(&frame.link) {
            self.links.push(frame.link);
        }
        match packet {
            Ok(packet) => self.packet(frame, packet, known),
            Err(fault) => {
                self.anomalies.add(Kind::Malformed, frame.number);
                self.protocol(|| "unreadable");
                if self.faults.len() < MAX_FAULTS {
                    self.faults.push((frame.number, *fault));
                }
            }
        }
        if self.frames.is_multiple_of(SWEEP) {
            self.sweep();
        }
    }

    fn protocol(&mut self, name: impl FnOnce() -> &'static str) {
        let Some(Census { protocols, .. }) = &mut self.census else { return };
        let name = name();
        match protocols.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => protocols.push((name, 1)),
        }
    }

    /// Frames by protocol, by name.
    pub fn protocols(&self) -> BTreeMap<&'static str, u64> {
        self.census.iter().flat_map(|census| &census.protocols).copied().collect()
    }

    /// Hosts by address; the first 65,536.
    pub fn hosts(&self) -> BTreeMap<IpAddr, Host> {
        let hosts = self.census.iter().flat_map(|census| &census.hosts);
        hosts.map(|(address, host)| (*address, *host)).collect()
    }

    fn packet(&mut self, frame: &Frame<'_>, packet: &Packet<'_>, known: Known<'_>) {
        self.tagged += u64::from(packet.vlan_tags > 0);
        if packet.bad_checksum.is_some() {
            self.anomalies.add(Kind::BadChecksum, frame.number);
        }
        if self.census.is_some() {
            self.count(frame, packet);
        }
        let Some(ip) = &packet.ip else { return };
        match &packet.body {
            Body::Tcp(tcp) => self.tcp(frame, ip, tcp, known),
            Body::Udp(udp) => {
                let key = Key::of(Protocol::Udp, udp.src, udp.dst);
                let id = self.flow(frame, key, [udp.src, udp.dst]);
                if let Some(flow) = self.open.get_mut(id) {
                    flow.message(udp.src, udp.payload_len, udp.payload, frame);
                }
            }
            Body::Icmp(icmp) => self.icmp(frame, ip.src, ip.dst, icmp),
            Body::Fragment => self.anomalies.add(Kind::Fragment, frame.number),
            Body::Ip | Body::Other => {}
        }
    }

    fn count(&mut self, frame: &Frame<'_>, packet: &Packet<'_>) {
        self.protocol(|| protocol_name(packet));
        let Some(ip) = &packet.ip else { return };
        self.host(ip.src, |host| {
            host.sent_frames += 1;
            host.sent_bytes += u64::from(frame.wire_len);
        });
        self.host(ip.dst, |host| {
            host.received_frames += 1;
            host.received_bytes += u64::from(frame.wire_len);
        });
    }

    fn host(&mut self, address: IpAddr, count: impl FnOnce(&mut Host)) {
        let Some(Census { hosts, .. }) = &mut self.census else { return };
        if let Some(host) = hosts.get_mut(&address) {
            count(host);
        } else if hosts.len() < MAX_HOSTS {
            count(hosts.entry(address).or_default());
        } else {
            self.of_other_hosts += 1;
        }
    }

    fn tcp(&mut self, frame: &Frame<'_>, ip: &Ip, tcp: &Tcp<'_>, known: Known<'_>) {
        let is_call = tcp.flags & (SYN | ACK) == SYN;
        let found = known.flow.filter(|_| !is_call);
        let found = found.and_then(|id| Some((id, self.open.get(id)?.sender(tcp)?)));
        let (id, side) = match found {
            Some((id, side)) => (id, Some(side)),
            None => {
                let key = Key::of(Protocol::Tcp, tcp.src, tcp.dst);
                if is_call {
                    self.succeed(&key, tcp);
                }
                (self.flow(frame, key, [tcp.src, tcp.dst]), None)
            }
        };
        *known.flow = Some(id);
        let Some(flow) = self.open.get_mut(id) else { return };
        if let Some(side) = side.or_else(|| flow.sender(tcp))
            && flow.took_plain((side, tcp, known.is_same), frame, ip)
        {
            return;
        }
        flow.take(frame);
        flow.segment((tcp, known.is_same), frame, ip, &mut |kind| {
            self.anomalies.add(kind, frame.number)
        });
    }

    /// Ends a connection on whose ports this call opens another.
    fn succeed(&mut self, key: &Key, tcp: &Tcp<'_>) {
        let found = self.open.find(key).and_then(|id| self.open.get(id));
        if found.is_some_and(|flow| flow.is_succeeded_by(tcp))
            && let Some(flow) = self.open.take(key)
        {
            self.finish(flow);
        }
    }

    fn icmp(&mut self, frame: &Frame<'_>, src: IpAddr, dst: IpAddr, icmp: &Icmp<'_>) {
        let echo =
            if icmp.v6 { matches!(icmp.kind, 128 | 129) } else { matches!(icmp.kind, 0 | 8) };
        let error =
            if icmp.v6 { icmp.kind < 128 } else { matches!(icmp.kind, 3 | 4 | 5 | 11 | 12) };
        if echo {
            let id = (icmp.word >> 16) as u16;
            let ends = [(src, id), (dst, id)];
            let id = self.flow(frame, Key::of(Protocol::Echo, ends[0], ends[1]), ends);
            if let Some(flow) = self.open.get_mut(id) {
                flow.message(ends[0], icmp.payload.len() as u32, icmp.payload, frame);
            }
        } else if error {
            self.anomalies.add(Kind::IcmpError, frame.number);
            if let Some((ip, one, other)) = packet::quoted(icmp.payload) {
                let protocol = if ip.protocol == 6 { Protocol::Tcp } else { Protocol::Udp };
                let found = self.open.find(&Key::of(protocol, one, other));
                if let Some(flow) = found.and_then(|id| self.open.get_mut(id)) {
                    flow.icmp_errors += 1;
                    if let Some(record) = &mut flow.record {
                        record.icmp_error(frame.number, icmp.kind, icmp.code);
                    }
                }
            }
        }
    }

    /// The flow of a key. Where there is none, one begins with the first of its ends.
    fn flow(&mut self, frame: &Frame<'_>, key: Key, ends: [Endpoint; 2]) -> FlowId {
        if let Some(id) = self.open.find(&key) {
            return id;
        }
        self.flows += 1;
        let is_wanted = !matches!(self.kept, Kept::Only(number) if number != self.flows);
        let detail = if is_wanted { self.detail } else { Detail::Sums };
        self.open.put(key, Box::new(Flow::new(self.flows, key.0, ends, frame, detail)))
    }

    /// Puts aside what is over, so that memory follows the open flows and not the file.
    fn sweep(&mut self) {
        let now = self.span.map_or(Duration::ZERO, |(_, last)| last);
        if now.saturating_sub(self.swept) >= PAUSE {
            self.swept = now;
            let over = |flow: &Flow| {
                let idle = now.saturating_sub(flow.last);
                match flow.protocol {
                    Protocol::Tcp if flow.ending() != Ending::Open => idle > LINGER,
                    Protocol::Tcp => idle > QUIET && flow.opening() == Opening::Unanswered,
                    Protocol::Udp | Protocol::Echo => idle > QUIET,
                }
            };
            self.put_away(over);
        }
        if self.open.len() > self.max_open {
            self.make_room();
        }
    }

    fn put_away(&mut self, mut over: impl FnMut(&Flow) -> bool) {
        self.open.extract(|flow| over(flow)).into_iter().for_each(|flow| self.finish(flow));
    }

    /// Puts flows aside until a quarter of the room is free: first those that have ended, then the quietest.
    fn make_room(&mut self) {
        let rank = |flow: &Flow| {
            let is_open = flow.protocol != Protocol::Tcp || flow.ending() == Ending::Open;
            (is_open, flow.last, flow.number)
        };
        let mut ranks: Vec<_> = self.open.iter().map(|flow| rank(flow)).collect();
        let goes = ranks.len() - self.max_open / 4 * 3;
        let (_, last, _) = ranks.select_nth_unstable(goes - 1);
        let last = *last;
        let mut put_aside = 0;
        self.put_away(|flow| {
            let is_over = rank(flow) <= last;
            put_aside += u64::from(is_over && rank(flow).0);
            is_over
        });
        self.put_aside += put_aside;
    }

    fn finish(&mut self, mut flow: Box<Flow>) {
        flow.rest();
        match self.kept {
            Kept::Only(number) if number != flow.number => return,
            _ => self.done.push(flow),
        }
        if let Kept::Largest(max) = self.kept
            && self.done.len() >= max.saturating_mul(2).max(MIN_DONE)
        {
            let rank = |flow: &Flow| (std::cmp::Reverse(flow.payload_bytes()), flow.number);
            self.done.select_nth_unstable_by_key(max, |flow| rank(flow));
            self.done.truncate(max);
            self.done.shrink_to(max * 2);
        }
    }

    /// Hands out the flows that are over: the summary keeps them no longer.
    pub fn take_finished(&mut self) -> Vec<Box<Flow>> {
        std::mem::take(&mut self.done)
    }

    /// Whether a TCP connection between these is open, or has just ended.
    pub fn has_open(&self, one: Endpoint, other: Endpoint) -> bool {
        self.open.has(&Key::of(Protocol::Tcp, one, other))
    }

    /// The TCP connection between these is over, if it looks like it or not.
    pub fn end(&mut self, one: Endpoint, other: Endpoint) {
        if let Some(flow) = self.open.take(&Key::of(Protocol::Tcp, one, other)) {
            self.finish(flow);
        }
    }

    /// The capture has ended: hands out the flows that are left, in the order in which they began.
    pub fn take_all(&mut self) -> Vec<Box<Flow>> {
        self.put_away(|_| true);
        let mut flows = self.take_finished();
        flows.sort_by_key(|flow| flow.number);
        flows
    }

    /// All flows that were kept, in the order in which they began.
    pub fn flows(&self) -> Vec<&Flow> {
        let mut flows: Vec<&Flow> =
            self.done.iter().chain(self.open.iter()).map(Box::as_ref).collect();
        flows.sort_by_key(|flow| flow.number);
        flows
    }

    /// How many flows there were in all.
    pub fn flow_count(&self) -> u64 {
        self.flows
    }

    /// Retransmitted segments that this address sent.
    pub fn retransmissions_from(&self, address: IpAddr) -> u64 {
        self.from(address, |half| half.retransmissions)
    }

    /// Segments that this address sent.
    pub fn segments_from(&self, address: IpAddr) -> u64 {
        self.from(address, |half| half.segments)
    }

    fn from(&self, address: IpAddr, count: impl Fn(&Half) -> u64) -> u64 {
        let tcp = self.flows().into_iter().filter(|flow| flow.protocol == Protocol::Tcp);
        tcp.flat_map(|flow| flow.ends.iter().zip(&flow.halves))
            .filter(|(end, _)| end.0 == address)
            .map(|(_, half)| count(half))
            .sum()
    }
}

fn protocol_name(packet: &Packet<'_>) -> &'static str {
    match (&packet.body, packet.ether_type) {
        (Body::Tcp(_), _) => "TCP",
        (Body::Udp(_), _) => "UDP",
        (Body::Icmp(icmp), _) if icmp.v6 => "ICMPv6",
        (Body::Icmp(_), _) => "ICMP",
        (Body::Fragment, _) => "fragments",
        (Body::Ip, _) => match packet.ip.map_or(0, |ip| ip.protocol) {
            2 => "IGMP",
            47 => "GRE",
            50 => "ESP",
            89 => "OSPF",
            132 => "SCTP",
            _ => "other IP",
        },
        (Body::Other, 0x0806) => "ARP",
        (Body::Other, 0x88cc) => "LLDP",
        (Body::Other, 0x8863 | 0x8864) => "PPPoE",
        (Body::Other, 0x8847 | 0x8848) => "MPLS",
        (Body::Other, 0..1536) => "802.3",
        (Body::Other, _) => "other",
    }
}

#[cfg(test)]
mod tests;
