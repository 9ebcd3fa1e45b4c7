//! A device without offload hands over segments one by one; those of one read that follow each other go through the stack
//! as one packet, and the program gets the same bytes (Linux's GRO). Captures still have every frame.

use super::segments::*;
use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::{Arrivals, HostId, SegmentId, Sim};
use netstack::socket::SendError;
use netstack::time::Duration;

fn packets(sim: &Sim, host: HostId, family: Family) -> u64 {
    let group = if family == Family::V4 { "Ip" } else { "Ip6" };
    sim.stack(host).stats().value(group, "InReceives")
}

fn frames(sim: &Sim, host: HostId) -> u64 {
    sim.stack(host).nics().iter().map(|nic| nic.counters.value("Nic", "rx_packets")).sum()
}

/// A transfer over a link with these faults: how many frames came to the receiver, and how many packets they were to IP.
fn transfer(family: Family, arrivals: Arrivals, faults: Faults) -> (u64, u64) {
    let (mut sim, hosts) = Sim::pair(31, Faults::delay(MS));
    let (client, server) = connected(&mut sim, hosts, family, 80);
    sim.set_faults(SegmentId::FIRST, faults);
    sim.set_arrivals(arrivals);
    let before = (frames(&sim, hosts[1]), packets(&sim, hosts[1], family));
    let bytes: Vec<u8> = (0..2_000_000u32).map(|n| (n % 251) as u8).collect();
    let (mut sent, mut got) = (0, Vec::new());
    let limit = sim.now() + 600 * SEC;
    let done = sim.run_until(limit, |sim| {
        while sent < bytes.len() {
            match send(sim, &client, &bytes[sent..]) {
                Ok(n) => sent += n,
                Err(SendError::WouldBlock) => break,
                Err(error) => panic!("{error}"),
            }
        }
        while let Ok(more) = recv(sim, &server) {
            got.extend_from_slice(&more);
        }
        got.len() == bytes.len()
    });
    assert!(done && got == bytes, "seed {}", sim.seed());
    (frames(&sim, hosts[1]) - before.0, packets(&sim, hosts[1], family) - before.1)
}

#[test]
fn segments_of_one_read_become_one_packet() {
    for family in [Family::V4, Family::V6] {
        let (frames, packets) = transfer(family, Arrivals::Burst, Faults::delay(5 * MS));
        assert!(frames > 1300 && packets * 4 < frames, "{frames} frames, {packets} packets");
        let (frames, packets) = transfer(family, Arrivals::Single, Faults::delay(5 * MS));
        assert_eq!(frames, packets);
    }
}

#[test]
fn bytes_are_whole_whatever_the_link_does() {
    for family in [Family::V4, Family::V6] {
        for mut faults in [Faults::lossy(5 * MS), Faults::delay(2 * MS)] {
            faults.corrupt_ppm = 10_000;
            let (frames, packets) = transfer(family, Arrivals::Burst, faults);
            assert!(packets < frames, "{frames} frames, {packets} packets");
        }
    }
}

#[test]
fn a_train_counts_as_its_segments_for_acknowledgments_and_keeps_its_place_among_others() {
    let (mut sim, host, hand) = with_hand(5);
    let listener = listen(&sim, host, "10.0.0.1:80", 5);
    let syn = control(
        netstack::transport::tcp::Seq(1000),
        Default::default(),
        netstack::wire::tcp::Flags::SYN,
    );
    let (seq, ack, _) = hand.open(&mut sim, 4000, addr("10.0.0.1:80"), &syn);
    let socket = listener.accept(sim.now()).unwrap();
    sim.set_arrivals(Arrivals::Burst);
    let before = packets(&sim, host, Family::V4);
    // Two, a segment that says it is the last of a push, one more; and then what comes again.
    for n in [0, 1, 2, 3, 3] {
        let mut segment = data(seq + n * 500, ack, &[n as u8; 500]);
        segment.flags.set(netstack::wire::tcp::Flags::PSH, n == 2);
        hand.send(4000, addr("10.0.0.1:80"), &segment);
    }
    sim.run_for(Duration::from_millis(300));
    assert_eq!(packets(&sim, host, Family::V4) - before, 3);
    let bytes: Vec<u8> = (0..4u8).flat_map(|n| [n; 500]).collect();
    assert_eq!(recv(&sim, &socket), Ok(bytes));
    let last = hand.heard().pop().expect("an acknowledgment");
    assert_eq!(last.ack, seq + 2000);
}
