//! Paths that take less than their links do: a link that swallows what is too large, and the words of the router that
//! would have said so.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::segments::*;
use netstack::buffer::PacketBuffer;
use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::link::{Link, LinkError, MacAddr};
use netstack::sim::{HostId, SegmentId, Sim};
use netstack::socket::RecvFlags;
use netstack::socket::tcp::TcpSocket;
use netstack::time::Instant;
use netstack::transport::tcp::Seq;
use netstack::wire::checksum::Checksum;
use netstack::wire::ethernet::{self, Ethernet};
use netstack::wire::ipv4::Ipv4;
use netstack::wire::ipv6::Ipv6;

/// Swallows packets of more than so many bytes.
struct Narrow {
    inner: Arc<dyn Link>,
    most: Arc<AtomicUsize>,
}

impl Link for Narrow {
    fn transmit(&self, now: Instant, frame: &PacketBuffer) -> Result<(), LinkError> {
        match frame.len() > self.most.load(Ordering::Relaxed) + 14 {
            // The sender's device took it; the path did not.
            true => Ok(()),
            false => self.inner.transmit(now, frame),
        }
    }
}

/// Two hosts; what the first sends must fit the path.
pub struct Path {
    pub sim: Sim,
    pub hosts: [HostId; 2],
    pub segment: SegmentId,
    /// Bytes of a packet that pass.
    pub most: Arc<AtomicUsize>,
}

impl Path {
    pub fn new(seed: u64, link_mtu: u32, most: usize) -> Path {
        let mut sim = Sim::new(seed);
        let segment = sim.add_segment(Faults::delay(5 * MS));
        let hosts = [sim.add_host(), sim.add_host()];
        let most = Arc::new(AtomicUsize::new(most));
        let bound = most.clone();
        let addresses = Sim::pair_addresses(1);
        sim.attach_through(hosts[0], segment, (link_mtu, &addresses), move |inner| {
            Arc::new(Narrow { inner, most: bound })
        });
        sim.attach(hosts[1], segment, link_mtu, &Sim::pair_addresses(2));
        Path { sim, hosts, segment, most }
    }

    pub fn connected(&mut self, family: Family) -> (TcpSocket, TcpSocket) {
        let listener = listen(
            &self.sim,
            self.hosts[1],
            match family {
                Family::V4 => "0.0.0.0:80",
                Family::V6 => "[::]:80",
            },
            4,
        );
        let client = connect(&self.sim, self.hosts[0], at(family, 2, 80));
        self.sim.run_for(100 * MS);
        (client, listener.accept(self.sim.now()).expect("a connection"))
    }

    /// Sends bytes for at most a time; gives what arrived.
    pub fn transfer(
        &mut self,
        from: &TcpSocket,
        to: &TcpSocket,
        bytes: &[u8],
        limit: Instant,
    ) -> Vec<u8> {
        let (mut sent, mut received) = (0, Vec::new());
        self.sim.run_until(limit, |sim| {
            if let Ok(n) = send(sim, from, &bytes[sent..]) {
                sent += n;
            }
            let _ = to.recv(sim.now(), &mut received, RecvFlags::empty());
            received.len() >= bytes.len()
        });
        received
    }

    /// A router tells the first host that a packet was too large, quoting its start.
    pub fn complain(&mut self, packet: &[u8], mtu: u32) {
        let frame = too_big(packet, mtu);
        self.sim.inject(self.segment, 1, frame);
    }
}

/// The frame of an ICMP error that says that a packet of the first host exceeds the path.
pub fn too_big(packet: &[u8], mtu: u32) -> Vec<u8> {
    let v4 = packet[0] >> 4 == 4;
    let header = if v4 { 20 } else { 40 };
    let mut icmp = if v4 { vec![3, 4, 0, 0] } else { vec![2, 0, 0, 0] };
    icmp.extend_from_slice(&mtu.to_be_bytes());
    icmp.extend_from_slice(&packet[..header + 8]);
    let router: IpAddr = if v4 { [10, 0, 0, 2].into() } else { "fd00::2".parse().unwrap() };
    let host: IpAddr = if v4 { [10, 0, 0, 1].into() } else { "fd00::1".parse().unwrap() };
    let mut sum =
        if v4 { Checksum::new() } else { Checksum::pseudo_header(router, host, 58, icmp.len()) };
    sum.add_bytes(&icmp);
    icmp[2..4].copy_from_slice(&sum.finish().to_be_bytes());
    let protocol = if v4 { 1 } else { 58 };
    let ethertype = if v4 { ethernet::TYPE_IPV4 } else { ethernet::TYPE_IPV6 };
    let mut frame = [0; 14];
    let (src, dst) = (MacAddr([2, 0, 0, 0, 0, 2]), MacAddr([2, 0, 0, 0, 0, 1]));
    Ethernet { dst, src, ethertype }.emit(&mut frame);
    [&frame[..], &ip_header(router, host, protocol, icmp.len()), &icmp].concat()
}

fn ip_header(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut bytes = [0; 20];
            let header = Ipv4 {
                header_len: 20,
                tos: 0,
                total_len: (20 + len) as u16,
                ident: 0,
                dont_fragment: true,
                more_fragments: false,
                fragment_offset: 0,
                ttl: 64,
                protocol,
                src,
                dst,
            };
            header.emit(&mut bytes);
            bytes.to_vec()
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut bytes = [0; 40];
            let header = Ipv6 {
                traffic_class: 0,
                flow_label: 0,
                payload_len: len as u16,
                next_header: protocol,
                hop_limit: 64,
                src,
                dst,
            };
            header.emit(&mut bytes);
            bytes.to_vec()
        }
        _ => panic!("one family, please"),
    }
}

/// The start of a packet with a segment, as an error quotes it.
pub fn quoted(local: SocketAddr, peer: SocketAddr, seq: Seq) -> Vec<u8> {
    let mut packet = ip_header(local.ip(), peer.ip(), 6, 1400);
    packet.extend_from_slice(&local.port().to_be_bytes());
    packet.extend_from_slice(&peer.port().to_be_bytes());
    packet.extend_from_slice(&seq.0.to_be_bytes());
    packet
}
