//! A stream goes through the stack in trains of up to 64 KiB also where the device cuts nothing: they are cut right before it,
//! into what its segments would have been one by one. A router does the same with trains that it passes on (Linux's GSO).

use std::net::SocketAddr;

use super::lan::{counter, icmp, ip, ms, routed};
use super::segments::*;
use netstack::buffer::{ChecksumOffload, CwrOf, Gso, GsoKind, PacketBuffer};
use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::socket::How;
use netstack::transport::tcp::{Segment, Seq};
use netstack::wire::checksum::{self, Checksum};
use netstack::wire::tcp::Flags;

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Whether the sums of a frame with a TCP segment are right, and its length what its headers say.
fn is_right(frame: &[u8]) -> bool {
    let packet = &frame[14..];
    let (at, total, addresses) = match packet[0] >> 4 {
        4 => (20, usize::from(u16::from_be_bytes([packet[2], packet[3]])), &packet[12..20]),
        _ => (40, 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])), &packet[8..40]),
    };
    let mut sum = Checksum::new();
    sum.add_bytes(addresses);
    sum.add_word(6);
    sum.add_word((packet.len() - at) as u16);
    sum.add_bytes(&packet[at..]);
    let header = at == 40 || checksum::of(&packet[..20]) == 0;
    header && total == packet.len() && sum.finish() == 0
}

#[test]
fn a_stream_is_cut_right_before_the_device() {
    for family in FAMILIES {
        let (mut sim, hosts) = Sim::pair(32, Faults::delay(MS));
        let (client, server) = connected(&mut sim, hosts, family, 80);
        sim.forget_capture();
        let bytes: Vec<u8> = (0..60_001u32).map(|n| (n % 253) as u8).collect();
        assert_eq!(send(&sim, &client, &bytes), Ok(bytes.len()));
        client.shutdown(sim.now(), How::Write).unwrap();
        let mut got = Vec::new();
        let limit = sim.now() + SEC;
        sim.run_until(limit, |sim| {
            if let Ok(more) = recv(sim, &server) {
                got.extend_from_slice(&more);
            }
            false
        });
        assert!(got == bytes);
        let sent = sim.capture().sent_by(netstack::sim::SegmentId::FIRST, 0);
        let frames: Vec<_> = sent.filter(|frame| read(&frame.bytes).is_some()).collect();
        assert!(frames.iter().all(|frame| frame.bytes.len() <= 1514 && is_right(&frame.bytes)));
        let data: Vec<Segment> = frames
            .iter()
            .filter_map(|frame| Some(read(&frame.bytes)?.segment))
            .filter(|segment| !segment.payload.is_empty())
            .collect();
        // Full segments in order, and the end of the stream on the last alone.
        let (last, full) = data.split_last().expect("data");
        let mss = full[0].payload.len();
        assert!(full.iter().all(|segment| segment.payload.len() == mss));
        assert!(data.windows(2).all(|two| two[0].end() == two[1].seq));
        assert!(full.iter().all(|segment| !segment.fin()));
        assert!(last.flags.contains(Flags::PSH) && last.payload.len() == bytes.len() % mss);
        // A flight of the first window is one train: it left at one instant, with one acknowledgment and window.
        let instants: std::collections::BTreeSet<_> = frames.iter().map(|frame| frame.at).collect();
        assert!(instants.len() * 4 < frames.len(), "{} of {}", instants.len(), frames.len());
    }
}

/// A train of `pieces` segments of 1,000 bytes to the router, as a device with offload receives it from its host.
fn train(family: Family, pieces: usize, dont_fragment: bool, cwr: CwrOf) -> PacketBuffer {
    let (from, to): (SocketAddr, SocketAddr) = match family {
        Family::V4 => (addr("10.0.1.2:9"), addr("10.0.2.2:80")),
        Family::V6 => (addr("[fd01::2]:9"), addr("[fd02::2]:80")),
    };
    let payload: Vec<u8> = (0..pieces * 1000).map(|n| (n % 247) as u8).collect();
    let mut segment = data(Seq(u32::MAX - 1499), Seq(7), &payload);
    segment.flags |= Flags::FIN | Flags::CWR | Flags::ECE;
    let segment_id = netstack::sim::SegmentId::FIRST;
    let macs = (Sim::mac_of(segment_id, 0), Sim::mac_of(segment_id, 1));
    let mut bytes = frame(macs, from, to, &segment);
    let (start, kind) = match family {
        Family::V4 => (34, GsoKind::Tcp4),
        Family::V6 => (54, GsoKind::Tcp6),
    };
    if family == Family::V4 {
        bytes[14 + 4..14 + 6].copy_from_slice(&0xffffu16.to_be_bytes());
        bytes[14 + 6] = if dont_fragment { 0x40 } else { 0 };
        bytes[24..26].fill(0);
        let sum = checksum::of(&bytes[14..34]).to_be_bytes();
        bytes[24..26].copy_from_slice(&sum);
    }
    let mut packet = PacketBuffer::from_vec(bytes);
    packet.offload.gso = Some(Gso { kind, size: 1000 });
    packet.offload.checksum = ChecksumOffload::Partial { start, offset: 16 };
    packet.offload.rx_verified = true;
    packet.offload.cwr = cwr;
    packet
}

#[test]
fn a_router_cuts_trains_for_a_device_that_cannot() {
    for family in FAMILIES {
        for cwr in [CwrOf::First, CwrOf::All] {
            let mut net = routed(33, 1500);
            net.sim.run_for(ms(50));
            let router = net.sim.stack(net.router).clone();
            router.handle_frame(net.sim.now(), net.router_nics[0], train(family, 5, true, cwr));
            net.sim.run_for(ms(50));
            let frames: Vec<_> = net.sim.capture().sent_by(net.far, 0).collect();
            let frames: Vec<_> = frames.iter().filter(|one| read(&one.bytes).is_some()).collect();
            assert_eq!(frames.len(), 5);
            let mut payload = Vec::new();
            for (n, frame) in frames.iter().enumerate() {
                assert!(is_right(&frame.bytes), "{family:?} {n}");
                let segment = read(&frame.bytes).unwrap().segment;
                assert_eq!(segment.seq, Seq(u32::MAX - 1499) + n * 1000);
                let end = Flags::FIN | Flags::PSH;
                let wanted = |flags: Flags, on: bool| {
                    segment.flags.intersection(flags) == if on { flags } else { Flags::empty() }
                };
                assert!(wanted(end, n == 4) && wanted(Flags::ECE, true));
                assert!(wanted(Flags::CWR, n == 0 || cwr == CwrOf::All));
                let (hops, ident) = match family {
                    Family::V4 => (frame.bytes[22], [frame.bytes[18], frame.bytes[19]]),
                    Family::V6 => (frame.bytes[21], [0; 2]),
                };
                assert_eq!(hops, 63);
                if family == Family::V4 {
                    assert_eq!(u16::from_be_bytes(ident), 0xffffu16.wrapping_add(n as u16));
                }
                payload.extend(segment.payload.to_vec());
            }
            let expected: Vec<u8> = (0..5000).map(|n| (n % 247) as u8).collect();
            assert!(payload == expected);
        }
    }
}

#[test]
fn a_train_whose_segments_are_too_long_is_refused_or_cut_into_fragments() {
    for (family, group) in [(Family::V4, "Ip"), (Family::V6, "Ip6")] {
        let far_mtu = if family == Family::V4 { 600 } else { 1280 };
        let mut net = routed(34, far_mtu);
        let router = net.sim.stack(net.router).clone();
        let mut long = train(family, 5, true, CwrOf::All);
        long.offload.gso = long.offload.gso.map(|gso| Gso { size: 1400, ..gso });
        router.handle_frame(net.sim.now(), net.router_nics[0], long);
        net.sim.run_for(ms(50));
        let told = icmp(&net.sim, net.near, 1);
        let told = told.iter().find(|seen| matches!((group, seen.kind), ("Ip", 3) | ("Ip6", 2)));
        let mtu = told.map(|seen| u32::from_be_bytes(seen.rest) & 0xffff);
        assert_eq!(
            (mtu, told.map(|seen| seen.dst)),
            (Some(far_mtu), Some(ip(if family == Family::V4 { "10.0.1.2" } else { "fd01::2" })))
        );
        // Segments that fit go on, though the train is longer than the link takes.
        let short = train(family, 5, family == Family::V6, CwrOf::All);
        let before = counter(&net.sim, net.router, group, "FragFails");
        router.handle_frame(net.sim.now(), net.router_nics[0], short);
        net.sim.run_for(ms(50));
        assert_eq!(counter(&net.sim, net.router, group, "FragFails"), before);
        let made = counter(&net.sim, net.router, group, "FragCreates");
        let far = net.sim.capture().sent_by(net.far, 0);
        let longest = far.map(|frame| frame.bytes.len()).max();
        assert!(longest.is_some_and(|len| len <= far_mtu as usize + 14));
        match family {
            // May be cut: each segment of 1,040 bytes becomes two fragments.
            Family::V4 => assert_eq!(made, 10),
            Family::V6 => assert_eq!(made, 0),
        }
    }
}
