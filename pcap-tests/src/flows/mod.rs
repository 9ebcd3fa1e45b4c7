//! Conversations of a capture, summed up as an engineer would by hand: bytes, segments, retransmissions, order, round trips, how each began and ended.

pub mod anomaly;
mod flow;
mod half;
mod record;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

pub use anomaly::{Anomalies, Kind};
pub use flow::{Ending, Flow, Opening, Protocol};
pub use half::{Half, Rtt};
pub use record::{CHUNK, Message, Record, Step, Stream};

use crate::capture::{Frame, LinkType, ReadError, Reader};
use crate::packet::{self, Body, Endpoint, Icmp, Ip, Packet, Tcp};

/// A flow without traffic for so long is finished: TIME-WAIT of an ended connection, or a quiet exchange of datagrams.
const LINGER: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_secs(300);
/// Frames between two looks for finished flows.
const SWEEP: u64 = 16_384;
/// Faults that are told one by one.
const MAX_FAULTS: usize = 100;
/// Hosts that are counted apart.
const MAX_HOSTS: usize = 65_536;

/// What two endpoints share: the protocol and both of them, in order.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key(Protocol, Endpoint, Endpoint);

impl Key {
    fn of(protocol: Protocol, one: Endpoint, other: Endpoint) -> Self {
        Self(protocol, one.min(other), one.max(other))
    }
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

/// A capture summed up, one frame after the other.
#[derive(Default)]
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
    /// Frames by protocol, by name.
    pub protocols: BTreeMap<&'static str, u64>,
    /// The first hundred frames that could not be read, with why.
    pub faults: Vec<(u64, packet::Fault)>,
    /// What to look at.
    pub anomalies: Anomalies,
    /// Hosts by address; the first 65,536.
    pub hosts: BTreeMap<IpAddr, Host>,
    /// The link types of the file.
    pub links: Vec<LinkType>,
    open: HashMap<Key, Box<Flow>>,
    done: Vec<Flow>,
    /// Flows that are kept to be told; of more only these are counted.
    max_flows: usize,
    flows: u64,
    records: bool,
}

impl Summary {
    /// An empty summary that keeps so many flows beside those that are open.
    pub fn new(max_flows: usize) -> Self {
        Self { max_flows, ..Self::default() }
    }

    /// An empty summary that keeps every flow with its steps, for a comparison.
    pub fn recording() -> Self {
        Self { max_flows: usize::MAX, records: true, ..Self::default() }
    }

    /// Sums a capture up as far as it can be read; the error tells why not further.
    pub fn of(reader: &mut Reader) -> (Self, Option<ReadError>) {
        let mut summary = Self::new(usize::MAX);
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
        self.frames += 1;
        self.bytes += u64::from(frame.wire_len);
        self.cut += u64::from((frame.bytes.len() as u64) < u64::from(frame.wire_len));
        let (first, last) = self.span.unwrap_or((frame.time, frame.time));
        if frame.time < last {
            self.anomalies.add(Kind::TimeBackwards, frame.number);
        }
        self.span = Some((first.min(frame.time), last.max(frame.time)));
        if !self.links.contains(&frame.link) {
            self.links.push(frame.link);
        }
        match Packet::of(frame) {
            Ok(packet) => self.packet(frame, &packet),
            Err(fault) => {
                self.anomalies.add(Kind::Malformed, frame.number);
                *self.protocols.entry("unreadable").or_default() += 1;
                if self.faults.len() < MAX_FAULTS {
                    self.faults.push((frame.number, fault));
                }
            }
        }
        if self.frames.is_multiple_of(SWEEP) {
            self.sweep(frame.time);
        }
    }

    fn packet(&mut self, frame: &Frame<'_>, packet: &Packet<'_>) {
        *self.protocols.entry(protocol_name(packet)).or_default() += 1;
        self.tagged += u64::from(packet.vlan_tags > 0);
        if packet.bad_checksum.is_some() {
            self.anomalies.add(Kind::BadChecksum, frame.number);
        }
        let Some(ip) = packet.ip else { return };
        self.host(ip.src, |host| {
            host.sent_frames += 1;
            host.sent_bytes += u64::from(frame.wire_len);
        });
        self.host(ip.dst, |host| {
            host.received_frames += 1;
            host.received_bytes += u64::from(frame.wire_len);
        });
        match &packet.body {
            Body::Tcp(tcp) => self.tcp(frame, &ip, tcp),
            Body::Udp(udp) => self.flow(frame, Protocol::Udp, udp.src, udp.dst).message(
                udp.src,
                udp.payload_len,
                udp.payload,
                frame.number,
            ),
            Body::Icmp(icmp) => self.icmp(frame, ip.src, ip.dst, icmp),
            Body::Fragment => self.anomalies.add(Kind::Fragment, frame.number),
            Body::Ip | Body::Other => {}
        }
    }

    fn host(&mut self, address: IpAddr, count: impl FnOnce(&mut Host)) {
        if self.hosts.len() < MAX_HOSTS || self.hosts.contains_key(&address) {
            count(self.hosts.entry(address).or_default());
        }
    }

    fn tcp(&mut self, frame: &Frame<'_>, ip: &Ip, tcp: &Tcp<'_>) {
        let key = Key::of(Protocol::Tcp, tcp.src, tcp.dst);
        if self.open.get(&key).is_some_and(|flow| flow.is_succeeded_by(tcp))
            && let Some(flow) = self.open.remove(&key)
        {
            self.finish(*flow);
        }
        let anomalies = &mut std::mem::take(&mut self.anomalies);
        let mut tell = |kind| anomalies.add(kind, frame.number);
        let flow = self.flow(frame, Protocol::Tcp, tcp.src, tcp.dst);
        flow.segment(tcp, frame, ip, &mut tell);
        self.anomalies = std::mem::take(anomalies);
    }

    fn icmp(&mut self, frame: &Frame<'_>, src: IpAddr, dst: IpAddr, icmp: &Icmp<'_>) {
        let echo =
            if icmp.v6 { matches!(icmp.kind, 128 | 129) } else { matches!(icmp.kind, 0 | 8) };
        let error =
            if icmp.v6 { icmp.kind < 128 } else { matches!(icmp.kind, 3 | 4 | 5 | 11 | 12) };
        if echo {
            let id = (icmp.word >> 16) as u16;
            self.flow(frame, Protocol::Echo, (src, id), (dst, id)).message(
                (src, id),
                icmp.payload.len() as u32,
                icmp.payload,
                frame.number,
            );
        } else if error {
            self.anomalies.add(Kind::IcmpError, frame.number);
            if let Some((ip, one, other)) = packet::quoted(icmp.payload) {
                let protocol = if ip.protocol == 6 { Protocol::Tcp } else { Protocol::Udp };
                if let Some(flow) = self.open.get_mut(&Key::of(protocol, one, other)) {
                    flow.icmp_errors += 1;
                    if let Some(record) = &mut flow.record {
                        record.icmp.push((frame.number, icmp.kind, icmp.code));
                    }
                }
            }
        }
    }

    fn flow(
        &mut self,
        frame: &Frame<'_>,
        protocol: Protocol,
        src: Endpoint,
        dst: Endpoint,
    ) -> &mut Flow {
        let (flows, records) = (&mut self.flows, self.records);
        let flow = self.open.entry(Key::of(protocol, src, dst)).or_insert_with(|| {
            *flows += 1;
            let mut flow = Box::new(Flow::new(*flows, protocol, src, dst, frame));
            flow.record = records.then(Box::default);
            flow
        });
        flow.frames += 1;
        flow.last = flow.last.max(frame.time);
        flow
    }

    /// Puts aside what is over, so that memory follows the open flows and not the file.
    fn sweep(&mut self, now: Duration) {
        let over = |flow: &Flow| {
            let idle = now.saturating_sub(flow.last);
            match flow.protocol {
                Protocol::Tcp => flow.ending() != Ending::Open && idle > LINGER,
                Protocol::Udp | Protocol::Echo => idle > QUIET,
            }
        };
        let finished: Vec<Flow> =
            self.open.extract_if(|_, flow| over(flow)).map(|(_, flow)| *flow).collect();
        finished.into_iter().for_each(|flow| self.finish(flow));
    }

    fn finish(&mut self, flow: Flow) {
        if self.done.len() < self.max_flows {
            self.done.push(flow);
        }
    }

    /// All flows that were kept, in the order in which they began.
    pub fn flows(&self) -> Vec<&Flow> {
        let mut flows: Vec<&Flow> =
            self.done.iter().chain(self.open.values().map(Box::as_ref)).collect();
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
