//! A peer that sends whatever it likes: no segment may panic a connection, make it send without end, or make it
//! hold more than its buffers.

use super::*;
use crate::buffer::Chain;
use crate::rng::{Rng, seed_from};
use crate::time::{Duration, Instant};
use crate::wire::tcp::{AccurateEcn, Flags, Options, Timestamps};
use std::sync::Arc;

const LIMITS: PathLimits = PathLimits::new(1460, 65_000);

/// A number near one of the points that matter, or anywhere.
fn near(rng: &mut Rng, points: &[Seq]) -> Seq {
    let base = points[rng.below(points.len() as u64) as usize];
    let offset = match rng.below(8) {
        0 => rng.next_u32(),
        1 => (rng.below(200_000) as u32).wrapping_sub(100_000),
        2 => u32::MAX,
        3 => 1,
        4 => rng.below(3000) as u32,
        _ => 0,
    };
    Seq(base.0.wrapping_add(offset))
}

fn any_segment(rng: &mut Rng, connection: &Connection, last_stamp: &mut u32) -> Segment {
    let tcb = &connection.tcb;
    let theirs = [tcb.receive.nxt, tcb.receive.edge, tcb.receive.acked, tcb.receive.irs];
    let ours = [tcb.send.una, tcb.send.nxt, tcb.send.iss];
    let mut flags = match rng.below(10) {
        0 => Flags::from_bits_truncate(rng.next_u32() as u16),
        1 => Flags::ACK | Flags::FIN,
        2 => Flags::ACK | Flags::SYN,
        3 => Flags::ACK | Flags::URG,
        _ => Flags::ACK,
    };
    // Resets and SYNs end the game early, so they are rare.
    if rng.below(50) != 0 {
        flags.remove(Flags::RST);
    }
    let len = match rng.below(4) {
        0 => 0,
        1 => rng.below(4) as usize,
        2 => rng.below(1500) as usize,
        _ => rng.below(70_000) as usize,
    };
    let mut options = Options::default();
    if rng.below(2) == 0 {
        *last_stamp = last_stamp.wrapping_add(rng.below(3) as u32).wrapping_sub(1);
        let echo = if rng.below(2) == 0 { 0 } else { rng.next_u32() };
        options.timestamps = Some(Timestamps { value: *last_stamp, echo });
    }
    for _ in 0..rng.below(5) {
        options.sack.push(near(rng, &ours).0, near(rng, &ours).0);
    }
    if flags.contains(Flags::SYN) {
        options.mss = Some(rng.next_u32() as u16);
        options.window_scale = Some(rng.below(15) as u8);
        options.sack_permitted = rng.below(2) == 0;
    }
    let mut segment = Segment::control(near(rng, &theirs), near(rng, &ours), flags);
    segment.window = if rng.below(3) == 0 { rng.below(4) as u16 } else { rng.next_u32() as u16 };
    segment.urgent = rng.next_u32() as u16;
    segment.options = options;
    segment.ecn = Codepoint::of_tos(rng.next_u32() as u8);
    if rng.below(4) == 0 {
        let counters = [rng.next_u32(), rng.next_u32(), rng.next_u32()];
        segment.options.accurate_ecn = Some(AccurateEcn::new(counters));
    }
    segment.payload = Chain::from(vec![0x55; len]);
    segment
}

fn opened(rng: &mut Rng, now: Instant) -> Connection {
    let names = congestion::AVAILABLE;
    let policies =
        [EcnPolicy::Off, EcnPolicy::Request, EcnPolicy::Grant, EcnPolicy::RequestAccurate];
    let config = TcpConfig {
        sack: rng.below(4) != 0,
        congestion: names[rng.below(names.len() as u64) as usize],
        ecn: policies[rng.below(4) as usize],
        ..TcpConfig::default()
    };
    let secrets = Secrets { iss: rng.next_u32(), timestamp_offset: rng.next_u32() };
    let settings = Settings {
        keep_alive: rng.below(2) == 0,
        max_pacing_rate: (rng.below(8) == 0).then(|| rng.next_u64() >> rng.below(64)),
        ..Settings::default()
    };
    if rng.below(3) == 0 {
        return Connection::connect(now, Arc::new(config), settings, secrets, LIMITS);
    }
    let ecn =
        Flags::from_bits_truncate(rng.next_u32() as u16) & (Flags::AE | Flags::CWR | Flags::ECE);
    let mut syn = Segment::control(Seq(rng.next_u32()), Seq(0), Flags::SYN | ecn);
    syn.window = rng.next_u32() as u16;
    syn.options.mss = Some(rng.next_u32() as u16);
    syn.options.window_scale = Some(rng.below(15) as u8);
    syn.options.sack_permitted = true;
    Connection::from_syn(now, Arc::new(config), settings, secrets, LIMITS, &syn)
}

/// Sends what is due, within reason.
fn drain(connection: &mut Connection, rng: &mut Rng, now: Instant) {
    let limits = match rng.below(10) {
        0 => PathLimits::new(rng.below(1460) as usize, rng.below(3000) as usize),
        _ => LIMITS,
    };
    for sent in 0.. {
        let Some(segment) = connection.poll_transmit(now, limits) else { return };
        assert!(segment.payload.len() <= limits.gso_max.max(segment.mss), "{segment:?}");
        assert!(segment.options.len() <= crate::wire::tcp::MAX_OPTIONS_LEN, "{segment:?}");
        assert!(sent < 200_000, "it sends without end: {:?}", connection.info());
    }
}

fn program(connection: &mut Connection, rng: &mut Rng, now: Instant) {
    match rng.below(12) {
        0..4 => {
            let room = connection.send_room().min(rng.below(50_000) as usize);
            connection.send(Chain::from(vec![0xaa; room]));
        }
        4..7 => {
            let n = connection.readable().min(rng.below(100_000) as usize);
            connection.consume(now, n);
        }
        7 if rng.below(10) == 0 => connection.shutdown_write(now),
        8 if rng.below(30) == 0 => connection.close(now),
        9 => connection.configure(now, |settings| settings.cork ^= true),
        10 if rng.below(5) == 0 => {
            connection.on_report(connection.send_next() - 1usize, Report::PacketTooBig { mss: 560 })
        }
        _ => {}
    }
}

#[test]
fn no_sequence_of_segments_breaks_a_connection() {
    let mut states = std::collections::HashSet::new();
    for seed in 0..300 {
        let mut rng = Rng::new(&seed_from(seed), 8);
        let mut now = Instant::from_secs(100);
        let mut connection = opened(&mut rng, now);
        let mut stamp = 5;
        for _ in 0..200 {
            drain(&mut connection, &mut rng, now);
            let mut segment = any_segment(&mut rng, &connection, &mut stamp);
            connection.on_segment(now, &mut segment);
            states.insert(connection.state_name());
            program(&mut connection, &mut rng, now);
            let held = connection.tcb.receive.held();
            let most = connection.tcb.receive.space.capacity_max + (1 << 17);
            assert!(held <= most, "seed {seed}: {held} bytes held of {most}");
            now += Duration::from_micros(rng.below(300_000));
            if connection.next_deadline().is_some_and(|at| at <= now) {
                connection.on_timeout(now);
            }
        }
    }
    // The game reaches most of the states.
    assert!(states.len() >= 8, "{states:?}");
}
