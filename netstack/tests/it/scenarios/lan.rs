//! What scenarios of the Internet layer share: hosts on a link, a router between two links, packets made by hand.

use core::net::{IpAddr, SocketAddr};

use netstack::ip::conf::ConfTarget;
use netstack::ip::{Family, IpCidr, Route};
use netstack::link::fault::Faults;
use netstack::link::{MacAddr, NicId};
use netstack::sim::{HostId, SegmentId, Sim};
use netstack::socket::{Ancillary, RecvFlags, SendError, UdpSocket};
use netstack::time::Duration;
use netstack::wire::checksum::{self, Checksum};

/// The link-layer address of who injects frames.
pub const INJECTOR: MacAddr = MacAddr([2, 0xaa, 0, 0, 0, 1]);
/// The attachment that nobody has: frames injected as its own reach everybody.
pub const NOBODY: usize = 99;

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn cidr(text: &str) -> IpCidr {
    text.parse().unwrap()
}

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Two links with a router between: `left` is 10.0.1.2 and fd01::2, `right` is 10.0.2.2 and fd02::2, the router .1 on both.
pub struct Routed {
    pub sim: Sim,
    pub near: SegmentId,
    pub far: SegmentId,
    pub left: HostId,
    pub router: HostId,
    pub right: HostId,
    pub router_nics: [NicId; 2],
}

/// Builds them; packets on the far link have `far_mtu` bytes at the most.
pub fn routed(seed: u64, far_mtu: u32) -> Routed {
    let mut sim = Sim::new(seed);
    let near = sim.add_segment(Faults::delay(ms(1)));
    let far = sim.add_segment(Faults::delay(ms(1)));
    let [left, router, right] = [sim.add_host(), sim.add_host(), sim.add_host()];
    let mtu = 1500;
    let left_nic = sim.attach(left, near, mtu, &[cidr("10.0.1.2/24"), cidr("fd01::2/64")]);
    let router_nics = [
        sim.attach(router, near, mtu, &[cidr("10.0.1.1/24"), cidr("fd01::1/64")]),
        sim.attach(router, far, far_mtu, &[cidr("10.0.2.1/24"), cidr("fd02::1/64")]),
    ];
    let right_nic = sim.attach(right, far, mtu, &[cidr("10.0.2.2/24"), cidr("fd02::2/64")]);
    for (host, nic, gateways) in
        [(left, left_nic, ["10.0.1.1", "fd01::1"]), (right, right_nic, ["10.0.2.1", "fd02::1"])]
    {
        for (all, via) in ["0.0.0.0/0", "::/0"].into_iter().zip(gateways) {
            sim.stack(host).add_route(Route::new(cidr(all), Some(ip(via)), nic)).unwrap();
        }
    }
    let stack = sim.stack(router);
    stack.edit_ipv4_conf(ConfTarget::All, |conf| conf.forwarding = true).unwrap();
    stack.edit_ipv6_conf(ConfTarget::All, |conf| conf.forwarding = true).unwrap();
    Routed { sim, near, far, left, router, right, router_nics }
}

pub fn udp(sim: &Sim, host: HostId, local: &str) -> UdpSocket {
    let local: SocketAddr = local.parse().unwrap();
    let socket = sim.stack(host).udp_socket(Family::of(local.ip()));
    socket.bind(local).unwrap();
    socket
}

pub fn send(sim: &Sim, socket: &UdpSocket, to: &str, bytes: &[u8]) -> Result<usize, SendError> {
    let to = Some(to.parse().unwrap());
    socket.send_to(sim.now(), &mut &bytes[..], to, &Ancillary::default())
}

/// The next datagram of a socket, if there is one.
pub fn recv(sim: &Sim, socket: &UdpSocket) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    socket.recv_from(sim.now(), &mut bytes, RecvFlags::empty()).ok()?;
    Some(bytes)
}

pub fn counter(sim: &Sim, host: HostId, group: &str, name: &str) -> u64 {
    sim.stack(host).stats().value(group, name)
}

/// An Ethernet frame from the injector.
pub fn frame(dst: MacAddr, packet: &[u8]) -> Vec<u8> {
    let ethertype: [u8; 2] = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    [&dst.0[..], &INJECTOR.0, &ethertype, packet].concat()
}

/// An IPv4 packet: `fragment` is the word of flags and offset, `options` is padded already.
pub struct V4<'a> {
    pub src: &'a str,
    pub dst: &'a str,
    pub protocol: u8,
    pub ttl: u8,
    pub ident: u16,
    pub fragment: u16,
    pub options: &'a [u8],
}

impl Default for V4<'_> {
    fn default() -> Self {
        let (src, dst) = ("10.0.0.9", "10.0.0.1");
        V4 { src, dst, protocol: 17, ttl: 64, ident: 1, fragment: 0, options: &[] }
    }
}

impl V4<'_> {
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let total = (header_len + payload.len()) as u16;
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (ip(self.src), ip(self.dst)) else { panic!() };
        let mut header = vec![0x40 | (header_len / 4) as u8, 0];
        header.extend(total.to_be_bytes());
        header.extend(self.ident.to_be_bytes());
        header.extend(self.fragment.to_be_bytes());
        header.extend([self.ttl, self.protocol, 0, 0]);
        header.extend(src.octets());
        header.extend(dst.octets());
        header.extend(self.options);
        let sum = checksum::of(&header).to_be_bytes();
        header[10..12].copy_from_slice(&sum);
        header.extend(payload);
        header
    }

    /// The packet of a UDP datagram between two ports.
    pub fn udp(&self, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
        self.packet(&udp_bytes((ip(self.src), ip(self.dst)), ports, payload))
    }
}

/// An IPv6 packet.
pub fn v6(src: &str, dst: &str, next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (ip(src), ip(dst)) else { panic!() };
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, hop_limit]);
    packet.extend(src.octets());
    packet.extend(dst.octets());
    packet.extend(payload);
    packet
}

/// A UDP datagram with its checksum.
pub fn udp_bytes((src, dst): (IpAddr, IpAddr), ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    let mut bytes =
        [ports.0.to_be_bytes(), ports.1.to_be_bytes(), len.to_be_bytes(), [0; 2]].concat();
    bytes.extend(payload);
    let mut sum = Checksum::pseudo_header(src, dst, 17, bytes.len());
    sum.add_bytes(&bytes);
    bytes[6..8].copy_from_slice(&sum.finish().to_be_bytes());
    bytes
}

/// An ICMP message that was seen on a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub hop_limit: u8,
    pub kind: u8,
    pub code: u8,
    pub rest: [u8; 4],
    /// What follows the eight bytes of the header.
    pub body: Vec<u8>,
}

/// The ICMP messages of both families that one attachment of a segment sent.
pub fn icmp(sim: &Sim, segment: SegmentId, port: usize) -> Vec<Seen> {
    sim.capture().sent_by(segment, port).filter_map(|frame| icmp_of(&frame.bytes[14..])).collect()
}

fn icmp_of(packet: &[u8]) -> Option<Seen> {
    let (src, dst, hop_limit, at) = match packet.first()? >> 4 {
        4 if packet[9] == 1 => {
            let address =
                |at: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap());
            (address(12), address(16), packet[8], usize::from(packet[0] & 15) * 4)
        }
        6 => {
            let address =
                |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap());
            // A router alert may stand before group management.
            let at = match packet[6] {
                58 => 40,
                0 if packet[40] == 58 => 48,
                _ => return None,
            };
            (address(8), address(24), packet[7], at)
        }
        _ => return None,
    };
    let [kind, code, _, _, rest @ ..] = *packet.get(at..)?.first_chunk::<8>()?;
    Some(Seen { src, dst, hop_limit, kind, code, rest, body: packet[at + 8..].to_vec() })
}

/// Writes the checksum of an ICMPv6 message that follows a plain IPv6 header.
pub fn seal_icmpv6(packet: &mut [u8]) {
    let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap());
    let mut sum = Checksum::pseudo_header(address(8), address(24), 58, packet.len() - 40);
    packet[42..44].fill(0);
    sum.add_bytes(&packet[40..]);
    packet[42..44].copy_from_slice(&sum.finish().to_be_bytes());
}

/// A router advertisement from a link-local address, in its frame.
pub fn advertisement(src: &str, advert: &netstack::wire::ndp::RouterAdvert) -> Vec<u8> {
    let message = [&[134, 0, 0, 0][..], &advert.rest(), &advert.body()].concat();
    let mut packet = v6(src, "ff02::1", 58, 255, &message);
    seal_icmpv6(&mut packet);
    frame(MacAddr([0x33, 0x33, 0, 0, 0, 1]), &packet)
}
