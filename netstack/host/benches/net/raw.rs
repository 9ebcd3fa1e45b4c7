//! The device without a stack: what one write or read of a frame costs; and UDP, which is compared with it.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use netstack::ip::{Family, PROTO_TCP, PROTO_UDP};
use netstack::link::MacAddr;
use netstack::socket::DatagramOption;
use netstack::wire::checksum::Checksum;
use netstack::wire::ethernet::{Ethernet, HEADER_LEN, TYPE_IPV4};
use netstack::wire::ipv4::{self, Ipv4};
use netstack::wire::tcp::{Flags, Header};
use netstack_host::device::Device;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, bind, send, setsockopt, socket,
};
use nix::unistd::{read, write};
use nix::{libc, setsockopt_impl, sockopt_impl};

use crate::bed::{Bed, GUEST, GUEST_MAC, HOST, NOBODY, NOBODY_MAC};
use crate::measure::{Runs, Samples, cpu, gbits};

sockopt_impl!(
    /// Frames of this packet socket have a virtio-net header (packet(7)).
    PacketVnetHdr,
    SetOnly,
    libc::SOL_PACKET,
    libc::PACKET_VNET_HDR,
    bool
);

/// struct virtio_net_hdr.
const VNET_HEADER: usize = 10;
const MSS: u16 = 1448;
/// Payload of a large frame: whole segments, and less than 64 KiB with the headers.
const GSO_PAYLOAD: usize = 45 * MSS as usize;
const FRAMES: usize = 10_000;
/// Frames that are written before as many are read.
const BATCH: usize = 8;
const DATAGRAM: usize = 1472;
const DATAGRAMS: usize = 100_000;
/// Datagrams in one send: as many as fit a UDP packet.
const TRAIN: usize = 44;

/// A TCP frame that stands for 45 segments, behind its virtio-net header.
fn gso_frame(dst: MacAddr, from: &str, to: &str) -> Vec<u8> {
    let (src_ip, dst_ip) = (from.parse().expect("an address"), to.parse().expect("an address"));
    let header = Header {
        src_port: 9,
        dst_port: 9,
        seq: 1,
        ack: 1,
        flags: Flags::ACK,
        window: 1000,
        checksum: 0,
        urgent: 0,
        options: Default::default(),
    };
    let len = header.len() + GSO_PAYLOAD;
    let sum = Checksum::pseudo_header(
        std::net::IpAddr::V4(src_ip),
        std::net::IpAddr::V4(dst_ip),
        PROTO_TCP,
        len,
    );
    let mut tcp = vec![0; header.len()];
    Header { checksum: sum.partial(), ..header }.emit(&mut tcp);
    let start = (HEADER_LEN + ipv4::HEADER_LEN) as u16;
    // NEEDS_CSUM, GSO_TCPV4, header length, segment size, checksum start and offset.
    let mut frame = vec![1, 1];
    for word in [start + 20, MSS, start, 16] {
        frame.extend_from_slice(&word.to_ne_bytes());
    }
    frame.extend_from_slice(&link_and_ip((dst, PROTO_TCP), (src_ip, dst_ip), len));
    frame.extend_from_slice(&tcp);
    frame.resize(frame.len() + GSO_PAYLOAD, 0x5a);
    frame
}

fn link_and_ip(
    (dst, protocol): (MacAddr, u8),
    (src_ip, dst_ip): (std::net::Ipv4Addr, std::net::Ipv4Addr),
    len: usize,
) -> Vec<u8> {
    let mut link = [0; HEADER_LEN];
    Ethernet { dst, src: GUEST_MAC, ethertype: TYPE_IPV4 }.emit(&mut link);
    let mut ip = [0; ipv4::HEADER_LEN];
    let header = Ipv4 {
        header_len: ipv4::HEADER_LEN as u8,
        tos: 0,
        total_len: (len + ipv4::HEADER_LEN) as u16,
        ident: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 64,
        protocol,
        src: src_ip,
        dst: dst_ip,
    };
    header.emit(&mut ip);
    [&link[..], &ip].concat()
}

/// Gbit/s of payload per CPU-second of writing large frames that the host drops by their address.
pub fn gso_writes() -> f64 {
    let bed = Bed::new();
    let frame = gso_frame(NOBODY_MAC, GUEST, NOBODY);
    let start = cpu();
    for _ in 0..FRAMES {
        assert_eq!(write(bed.tap.as_fd(), &frame), Ok(frame.len()));
    }
    gbits(FRAMES * GSO_PAYLOAD, cpu() - start)
}

/// Gbit/s of payload per CPU-second of reading large frames that a packet socket put into the device.
pub fn gso_reads() -> f64 {
    let bed = Bed::new();
    let source = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
        .expect("a packet socket");
    setsockopt(&source, PacketVnetHdr, &true).expect("PACKET_VNET_HDR");
    let device = nix::ifaddrs::getifaddrs()
        .expect("the devices")
        .filter(|one| one.interface_name == bed.tap.name())
        .find_map(|one| one.address.and_then(|address| address.as_link_addr().copied()));
    bind(source.as_raw_fd(), &device.expect("the device's address"))
        .expect("a bound packet socket");
    let frame = gso_frame(GUEST_MAC, HOST, GUEST);
    let mut room = vec![0; 1 << 17];
    // What the host says by itself when a device comes up.
    while read(bed.tap.as_fd(), &mut room).is_ok() {}
    let mut seconds = 0.0;
    for _ in 0..FRAMES / BATCH {
        for _ in 0..BATCH {
            assert_eq!(send(source.as_raw_fd(), &frame, MsgFlags::empty()), Ok(frame.len()));
        }
        let start = cpu();
        let mut large = 0;
        while large < BATCH {
            match read(bed.tap.as_fd(), &mut room) {
                Ok(n) => large += usize::from(n == frame.len()),
                // The host puts them in by a thread of its own where this one was held up.
                Err(Errno::EAGAIN) => std::thread::yield_now(),
                Err(error) => panic!("a frame: {error}"),
            }
        }
        seconds += cpu() - start;
    }
    gbits(FRAMES / BATCH * BATCH * GSO_PAYLOAD, seconds)
}

/// Nanoseconds of CPU per datagram, and of writing its frame without a stack. The host drops both by their address.
pub fn udp_send(runs: Runs) -> Samples {
    runs.pairs(|| our_datagrams(1), raw_datagrams)
}

/// The same where the program gives the stack many datagrams at once (UDP_SEGMENT).
pub fn udp_trains(runs: Runs) -> Samples {
    runs.pairs(|| our_datagrams(TRAIN), raw_datagrams)
}

/// Nanoseconds of CPU per datagram, `train` of them in one send.
fn our_datagrams(train: usize) -> f64 {
    let bed = Bed::new();
    let socket = bed.stack.udp_socket(Family::V4);
    socket
        .connect(bed.now(), SocketAddr::new(NOBODY.parse().expect("an address"), 9))
        .expect("a peer");
    if train > 1 {
        let segment = DatagramOption::Segment(DATAGRAM as u16);
        socket.set_option(bed.now(), segment.into()).expect("UDP_SEGMENT");
    }
    let datagrams = vec![0x5a; train * DATAGRAM];
    let send = |count: usize| {
        for _ in 0..count / train {
            assert_eq!(socket.send(bed.now(), &mut &datagrams[..]), Ok(datagrams.len()));
        }
    };
    send(DATAGRAMS / 10);
    let start = cpu();
    send(DATAGRAMS);
    (cpu() - start) * 1e9 / (DATAGRAMS / train * train) as f64
}

fn raw_datagrams() -> f64 {
    let bed = Bed::new();
    // Nothing is left to the device: no partial checksum, no segments.
    let mut frame = vec![0; VNET_HEADER];
    let ends = (GUEST.parse().expect("an address"), NOBODY.parse().expect("an address"));
    frame.extend_from_slice(&link_and_ip((NOBODY_MAC, PROTO_UDP), ends, DATAGRAM + 8));
    frame.resize(VNET_HEADER + HEADER_LEN + ipv4::HEADER_LEN + 8 + DATAGRAM, 0x5a);
    let write = |count: usize| {
        for _ in 0..count {
            assert_eq!(write(bed.tap.as_fd(), &frame), Ok(frame.len()));
        }
    };
    write(DATAGRAMS / 10);
    let start = cpu();
    write(DATAGRAMS);
    (cpu() - start) * 1e9 / DATAGRAMS as f64
}
