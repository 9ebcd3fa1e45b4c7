//! Streams in virtual time: how fast the simulation runs, and how much a stream gets over a link that loses.

use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::{Recording, Sim};
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{Readiness, RecvFlags, SendError, SendFlags};
use netstack::time::Duration;

use crate::measure::{Runs, Samples, cpu};

/// Payload of a full segment: an MTU of 1500 with timestamps.
const MSS: f64 = 1448.0;

/// A stream between two hosts whose programs send and read all they can.
struct Stream {
    sim: Sim,
    client: TcpSocket,
    server: TcpSocket,
    block: Vec<u8>,
    room: Vec<u8>,
}

impl Stream {
    fn over(faults: Faults, seed: u64) -> Stream {
        let (mut sim, [a, b]) = Sim::pair(seed, faults);
        sim.set_recording(Recording::Nothing);
        let listener = sim.stack(b).tcp_socket(Family::V4);
        let target = "10.0.0.2:5001".parse().expect("an address");
        listener.bind(target).expect("a port");
        listener.listen(1).expect("a listener");
        let client = sim.stack(a).tcp_socket(Family::V4);
        client.connect(sim.now(), target).expect("a connection");
        let limit = sim.now() + Duration::from_secs(60);
        let mut server = None;
        // The handshake may lose segments, too.
        sim.run_until(limit, |sim| {
            server = server.take().or_else(|| listener.accept(sim.now()).ok());
            server.is_some()
        });
        let server = server.expect("the other end");
        Stream { sim, client, server, block: vec![0x5a; 64 << 10], room: vec![0; 64 << 10] }
    }

    /// Runs for a time; returns the bytes that were read.
    fn run(&mut self, time: Duration) -> usize {
        let Stream { sim, client, server, block, room } = self;
        let (limit, mut got) = (sim.now() + time, 0);
        sim.run_until(limit, |sim| {
            // A program waits until there is room for more than a segment.
            while client.readiness().contains(Readiness::OUT) {
                match client.send(sim.now(), &mut &block[..], SendFlags::empty()) {
                    Ok(_) => {}
                    Err(SendError::WouldBlock) => break,
                    Err(error) => panic!("send: {error}"),
                }
            }
            while let Ok(n) = server.recv(sim.now(), &mut &mut room[..], RecvFlags::empty()) {
                got += n;
            }
            false
        });
        got
    }
}

/// Virtual seconds of a 1 Gbit/s link of 2 ms that one stream fills, per second of CPU.
pub fn saturated(runs: Runs) -> Samples {
    runs.alone(|| {
        let mut stream = Stream::over(
            Faults {
                delay: Duration::from_millis(1),
                rate: Some(1_000_000_000),
                queue: Duration::from_millis(10),
                ..Faults::default()
            },
            3,
        );
        stream.run(Duration::from_millis(500));
        let start = cpu();
        let got = stream.run(Duration::from_secs(1));
        let seconds = cpu() - start;
        let rate = got as f64 * 8.0 / 1e9;
        assert!(rate > 0.8, "the link was not full: {rate} Gbit/s");
        1.0 / seconds
    })
}

/// The average window in segments at a loss probability: RFC 9438 section 5.1's figure 5 for the cubic region,
/// `(C * (3 + beta) / (4 * (1 - beta)))^(1/4) * RTT^(3/4) / p^(3/4)`, and the Reno-friendly region of section 4.3, where CUBIC is as
/// AIMD(1, 0.5): `sqrt(3 / (2 * p))`. CUBIC is the larger of the two.
fn window_of_cubic(p: f64, rtt: f64) -> f64 {
    let cubic = (0.4_f64 * (3.0 + 0.7) / (4.0 * (1.0 - 0.7))).powf(0.25) * (rtt / p).powf(0.75);
    cubic.max((1.5 / p).sqrt())
}

/// Mbit/s over a link of 100 Mbit/s and 20 ms that loses a hundredth of the frames, and what the formula allows. It is the same on every
/// machine; the runs differ by their seed.
pub fn goodput(runs: Runs) -> Samples {
    let (rate, rtt, p) = (100e6, 0.02, 0.01);
    let bound = f64::min(rate, window_of_cubic(p, rtt) * MSS * 8.0 / rtt) / 1e6;
    let mut seed = 0;
    let ours = || {
        seed += 1;
        let faults = Faults {
            loss_ppm: (p * 1e6) as u32,
            delay: Duration::from_millis(10),
            rate: Some(rate as u64),
            queue: Duration::from_millis(50),
            ..Faults::default()
        };
        Stream::over(faults, seed).run(Duration::from_secs(40)) as f64 * 8.0 / 40e6
    };
    runs.pairs(ours, || bound)
}
