//! How fast the simulation runs.

use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::{Recording, Sim};
use netstack::socket::{RecvFlags, SendError, SendFlags};
use netstack::time::Duration;

use crate::measure::{Runs, Samples, cpu};

/// Virtual seconds of a 1 Gbit/s link of 2 ms that one stream fills, per second of CPU.
pub fn saturated(runs: Runs) -> Samples {
    runs.alone(|| {
        let faults = Faults {
            delay: Duration::from_millis(1),
            rate: Some(1_000_000_000),
            queue: Duration::from_millis(10),
            ..Faults::default()
        };
        let (mut sim, [a, b]) = Sim::pair(3, faults);
        sim.set_recording(Recording::Nothing);
        let listener = sim.stack(b).tcp_socket(Family::V4);
        listener.bind("10.0.0.2:5001".parse().expect("an address")).expect("a port");
        listener.listen(1).expect("a listener");
        let client = sim.stack(a).tcp_socket(Family::V4);
        client
            .connect(sim.now(), "10.0.0.2:5001".parse().expect("an address"))
            .expect("a connection");
        sim.run_for(Duration::from_millis(10));
        let server = listener.accept(sim.now()).expect("the other end");
        let (block, mut room) = (vec![0x5a; 64 << 10], vec![0; 64 << 10]);
        let mut run = |time: Duration| {
            let (limit, mut got) = (sim.now() + time, 0);
            sim.run_until(limit, |sim| {
                loop {
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
        };
        run(Duration::from_millis(500));
        let start = cpu();
        let got = run(Duration::from_secs(1));
        let seconds = cpu() - start;
        let rate = got as f64 * 8.0 / 1e9;
        assert!(rate > 0.8, "the link was not full: {rate} Gbit/s");
        1.0 / seconds
    })
}
