//! Whole conversations, frame by frame.

use super::*;
use crate::packet::{ACK, FIN, RST, SYN};
use crate::testing::{Segment, add_all, bytes, segment, summed};

#[test]
fn a_whole_connection_is_summed_up() {
    let summary = summed(&[
        (0, segment(true, SYN, 100, 0, 0)),
        (20, segment(false, SYN | ACK, 500, 101, 0)),
        (21, segment(true, ACK, 101, 501, 0)),
        (22, segment(true, ACK, 101, 501, 50)),
        (42, segment(false, ACK, 501, 151, 1000)),
        (43, segment(false, ACK, 1501, 151, 1000)),
        (44, segment(true, ACK, 151, 2501, 0)),
        (45, segment(true, FIN | ACK, 151, 2501, 0)),
        (65, segment(false, FIN | ACK, 2501, 152, 0)),
        (66, segment(true, ACK, 152, 2502, 0)),
    ]);
    let [flow] = summary.flows()[..] else { panic!("one flow") };
    assert_eq!((flow.opening(), flow.ending()), (Opening::Handshake, Ending::Closed));
    assert_eq!(flow.handshake, Some(Duration::from_millis(21)));
    let [client, server] = &flow.halves;
    assert_eq!((client.payload_bytes, server.payload_bytes), (50, 2000));
    assert_eq!((client.segments, server.segments), (6, 4));
    assert_eq!(client.rtt.min, Duration::from_millis(20));
    assert_eq!(server.largest_window, 1000 << 7);
    assert_eq!(summary.anomalies.count(Kind::Retransmission), 0);
}

#[test]
fn openings_and_endings_have_names() {
    let cases = [
        (vec![segment(true, SYN, 1, 0, 0)], Opening::Unanswered, Ending::Open),
        (
            vec![segment(true, SYN, 1, 0, 0), segment(false, RST | ACK, 0, 2, 0)],
            Opening::Refused,
            Ending::ResetByPeer,
        ),
        (
            vec![segment(true, ACK, 1, 1, 10), segment(true, RST, 11, 0, 0)],
            Opening::Midstream,
            Ending::ResetByOpener,
        ),
        (
            vec![
                segment(false, SYN | ACK, 7, 2, 0),
                segment(true, ACK, 2, 8, 0),
                segment(true, FIN | ACK, 2, 8, 0),
                segment(false, ACK, 8, 3, 0),
            ],
            Opening::Midstream,
            Ending::HalfClosed,
        ),
        (
            vec![
                segment(true, SYN, 1, 0, 0),
                segment(false, SYN, 7, 0, 0),
                segment(true, SYN | ACK, 1, 8, 0),
                segment(false, SYN | ACK, 7, 2, 0),
            ],
            Opening::Simultaneous,
            Ending::Open,
        ),
    ];
    for (segments, opening, ending) in cases {
        let numbered: Vec<_> = (0..).zip(segments).collect();
        let summary = summed(&numbered);
        let [flow] = summary.flows()[..] else { panic!("one flow") };
        assert_eq!((flow.opening(), flow.ending()), (opening, ending));
        assert_eq!(flow.ends[0].1, 40_000, "{opening:?}: who called");
    }
}

#[test]
fn another_connection_on_the_same_ports_is_another_flow() {
    let summary = summed(&[
        (0, segment(true, SYN, 100, 0, 0)),
        (1, segment(false, RST | ACK, 0, 101, 0)),
        (500, segment(true, SYN, 9000, 0, 0)),
        (1500, segment(true, SYN, 9000, 0, 0)),
    ]);
    let flows = summary.flows();
    assert_eq!(flows.len(), 2);
    assert_eq!(flows[1].halves[0].retransmissions, 1);
    assert_eq!(flows[1].first_frame, 3);
}

#[test]
fn anomalies_name_their_frames() {
    let closed = Segment { window: 0, ..segment(false, ACK, 500, 111, 0) };
    let summary = summed(&[
        (0, segment(true, ACK, 101, 500, 10)),
        (1, segment(false, ACK, 500, 111, 0)),
        (2, segment(true, ACK, 121, 500, 10)),
        (3, segment(false, ACK, 500, 111, 0)),
        (4, closed),
        (300, segment(true, ACK, 111, 500, 10)),
        (299, segment(false, ACK, 500, 999, 0)),
    ]);
    let frames = |kind| summary.anomalies.0[&kind].frames.clone();
    assert_eq!(frames(Kind::Gap), [3]);
    assert_eq!(frames(Kind::DuplicateAck), [4]);
    assert_eq!(frames(Kind::ZeroWindow), [5]);
    assert_eq!(frames(Kind::Retransmission), [6]);
    assert_eq!(frames(Kind::AckedUnseen), [7]);
    assert_eq!(frames(Kind::TimeBackwards), [7]);
    assert_eq!(summary.anomalies.count(Kind::BadChecksum), 7);
}

#[test]
fn a_frame_that_was_captured_twice_counts_once() {
    let mut summary = Summary::new(1);
    let mut frame = bytes(&segment(true, ACK, 101, 500, 10));
    for (number, id) in [(1, 7), (2, 7), (3, 8)] {
        frame[5] = id;
        summary.add(&Frame {
            number,
            time: Duration::ZERO,
            interface: 0,
            link: LinkType::RawIp,
            wire_len: frame.len() as u32,
            bytes: &frame,
        });
    }
    let half = &summary.flows()[0].halves[0];
    assert_eq!((half.segments, half.retransmissions), (2, 1), "the third was sent again");
    assert_eq!(summary.anomalies.0[&Kind::DuplicateFrame].frames, [2]);
}

/// A capture of connections that are refused a second apart, each with its port; some clients send a little before.
fn refusals(summary: &mut Summary, ports: std::ops::Range<u16>, sends: &[u16]) {
    for port in ports {
        let call = segment(true, SYN, 1, 0, if sends.contains(&port) { 90 } else { 0 });
        for (number, segment, at) in [(1, call, 20), (2, segment(false, RST | ACK, 0, 2, 0), 22)] {
            let mut frame = bytes(&segment);
            frame[at..at + 2].copy_from_slice(&port.to_be_bytes());
            summary.add(&Frame {
                number: u64::from(port) * 2 + number,
                time: Duration::from_secs(u64::from(port)),
                interface: 0,
                link: LinkType::RawIp,
                wire_len: frame.len() as u32,
                bytes: &frame,
            });
        }
    }
}

#[test]
fn finished_flows_are_put_aside_and_those_with_the_most_bytes_are_kept() {
    let mut summary = Summary::new(10);
    refusals(&mut summary, 0..20_000, &[7, 9000]);
    assert_eq!(summary.flow_count(), 20_000);
    assert!(summary.open.len() as u64 <= SWEEP, "{} flows are kept open", summary.open.len());
    assert!(summary.done.len() <= MIN_DONE, "{} flows are kept", summary.done.len());
    let ports: Vec<u16> = summary.flows().iter().map(|flow| flow.ends[0].1).collect();
    assert!(ports.contains(&7) && ports.contains(&9000), "{ports:?}");
}

#[test]
fn where_too_many_are_open_the_quietest_are_put_aside_and_told() {
    let mut summary = Summary::new(10);
    summary.max_open = 1000;
    let mut frame = bytes(&segment(true, ACK, 1, 1, 10));
    for number in 1..=20_000_u64 {
        // One speaks on and on.
        let port = if number % 2 == 0 { 8 } else { number as u16 };
        frame[20..22].copy_from_slice(&port.to_be_bytes());
        summary.add(&Frame {
            number,
            time: Duration::from_micros(number),
            interface: 0,
            link: LinkType::RawIp,
            wire_len: frame.len() as u32,
            bytes: &frame,
        });
        assert!(summary.open.len() as u64 <= 1000 + SWEEP);
    }
    let lost = 20_000 / 2 - (summary.open.len() - 1) as u64;
    assert_eq!(summary.put_aside, lost);
    let talker = summary.open.iter().find(|flow| flow.ends[0].1 == 8).expect("it was never quiet");
    assert_eq!(talker.frames, 10_000);
}

#[test]
fn one_flow_is_watched_and_the_others_are_forgotten() {
    let mut summary = Summary::watching(3, Detail::Steps);
    refusals(&mut summary, 0..9000, &[]);
    assert!(summary.done.len() == 1 && summary.flow_count() == 9000);
    let flows = summary.flows();
    let steps = |flow: &Flow| flow.record.as_ref().map(|record| record.steps.len());
    let found: Vec<_> = flows.iter().filter_map(|flow| Some((flow.number, steps(flow)?))).collect();
    assert_eq!(found, [(3, 2)]);
}

/// A connection after its handshake, at random: IP packets with their milliseconds.
fn chat(seed: u64) -> Vec<(u64, Vec<u8>)> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut out = vec![
        (0, bytes(&segment(true, SYN, 100, 0, 0))),
        (20, bytes(&segment(false, SYN | ACK, u32::MAX - 200, 101, 0))),
        (40, bytes(&segment(true, ACK, 101, u32::MAX - 199, 0))),
    ];
    let mut next = [101_u32, u32::MAX - 199];
    for number in 1..80 {
        let side = random(2) as usize;
        let len = [0, 0, 40, 90][random(4) as usize];
        let (mut seq, mut ack, mut flags, mut window) = (next[side], next[1 - side], ACK, 1000);
        match random(24) {
            0 => seq = seq.wrapping_sub(random(120) as u32),
            1 => seq = seq.wrapping_add(random(120) as u32),
            2 => ack = ack.wrapping_add(random(50) as u32),
            3 => ack = ack.wrapping_sub(random(200) as u32),
            4 => window = 0,
            5 if number > 60 => flags |= FIN,
            6 if number > 75 => flags = RST,
            _ => {}
        }
        let made = Segment { window, ..segment(side == 0, flags, seq, ack, len) };
        let mut packet = bytes(&made);
        packet[1] = if random(20) == 0 { 3 } else { 0 };
        packet[5] = number;
        let end = seq.wrapping_add(len as u32 + u32::from(flags & FIN));
        if (end.wrapping_sub(next[side]) as i32) > 0 {
            next[side] = end;
        }
        let ms = 40 + u64::from(number) * 2;
        if random(10) == 0 {
            out.push((ms, packet.clone()));
        }
        out.push((ms, packet));
    }
    out
}

/// How a connection went, whatever was summed up of it; and its round trips, where anybody wants them.
fn course(flow: &Flow, with_trips: bool) -> impl PartialEq + std::fmt::Debug + use<> {
    let halves = flow.halves.each_ref().map(|half| {
        (
            (half.segments, half.syns, half.fins, half.resets, half.duplicates, half.acked_bytes()),
            (half.retransmissions, half.zero_windows, half.window_before_closed, half.origin()),
            with_trips.then_some(half.rtt),
        )
    });
    (flow.opening(), flow.ending(), flow.handshake, (flow.frames, flow.last), halves)
}

#[test]
fn without_sums_plain_segments_tell_how_a_connection_went_all_the_same() {
    for seed in 0..300 {
        let chat = chat(seed);
        let of = |mut summary: Summary| {
            add_all(&mut summary, &chat);
            summary.take_all().remove(0)
        };
        let whole = of(Summary::recording());
        let [outline, digests] =
            [Detail::Outline, Detail::Digests].map(|detail| of(Summary::passing(detail)));
        assert_eq!(course(&outline, true), course(&whole, true), "seed {seed}");
        assert_eq!(course(&digests, false), course(&whole, false), "seed {seed}");
        let [mut whole, digests] = [whole, digests].map(|flow| flow.record.expect("a record"));
        whole.steps.clear();
        assert_eq!(digests, whole, "seed {seed}");
    }
}
