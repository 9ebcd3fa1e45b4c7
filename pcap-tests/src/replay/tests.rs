//! Conversations of two stacks of ours, recorded and played again.

use std::sync::Arc;

use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::link::{Tap, Tapped};
use netstack::sim::Sim;
use netstack::socket::{RecvFlags, SendFlags};
use netstack::time::Instant;
use netstack_host::pcapng::{self, Way};
use parking_lot::Mutex;

use super::*;
use crate::compare::Aspect;

/// What a host sends and receives, as a file.
struct Tape(Mutex<Vec<u8>>);

impl Tape {
    fn new() -> Arc<Self> {
        let mut file = Vec::new();
        pcapng::section(&mut file, "test").expect("memory");
        pcapng::interface(&mut file, "eth0", pcapng::LINKTYPE_ETHERNET).expect("memory");
        Arc::new(Self(Mutex::new(file)))
    }
}

impl Tap for Tape {
    fn frame(&self, tapped: &Tapped<'_>) {
        let bytes = tapped.frame.to_vec_complete();
        let at = tapped.now.nanos();
        pcapng::packet(&mut *self.0.lock(), 0, at, Way::Outbound, &bytes).expect("memory");
    }
}

/// A simulated conversation as files, one of either host: `len` bytes up, half as many down.
fn recorded(seed: u64, faults: Faults, family: Family, len: usize) -> [Vec<u8>; 2] {
    let (mut sim, [a, b]) = Sim::pair(seed, faults);
    let tapes = [a, b].map(|host| {
        let tape = Tape::new();
        sim.stack(host).add_tap(None, tape.clone());
        tape
    });
    let address = if family == Family::V4 { "10.0.0.2:80" } else { "[fd00::2]:80" };
    let server = sim.stack(b).tcp_socket(family);
    server.bind(address.parse().expect("an address")).expect("a port");
    server.listen(8).expect("a listener");
    let client = sim.stack(a).tcp_socket(family);
    client.connect(sim.now(), address.parse().expect("an address")).expect("a connection");
    let up: Vec<u8> = (0..len).map(|n| (n % 241) as u8).collect();
    let (mut sent, mut got, mut back) = (0, 0, 0);
    let mut accepted = None;
    let mut room = vec![0; 1 << 16];
    let done = sim.run_until(Instant::from_secs(600), |sim| {
        let now = sim.now();
        if accepted.is_none() {
            accepted = server.accept(now).ok();
        }
        let mut source = &up[sent..];
        sent += client.send(now, &mut source, SendFlags::empty()).unwrap_or(0);
        while let Ok(n @ 1..) = client.recv(now, &mut &mut room[..], RecvFlags::empty()) {
            back += n;
        }
        let Some(accepted) = &accepted else { return false };
        while let Ok(n @ 1..) = accepted.recv(now, &mut &mut room[..], RecvFlags::empty()) {
            got += n;
            accepted.send(now, &mut &room[..n / 2], SendFlags::empty()).expect("room");
        }
        got == len && back > 0
    });
    assert!(done, "{sent} sent, {got} taken, {back} back");
    client.close(sim.now());
    sim.run_for(Duration::from_secs(2));
    accepted.expect("a connection").close(sim.now());
    sim.run_for(Duration::from_secs(2));
    tapes.map(|tape| std::mem::take(&mut *tape.0.lock()))
}

fn played(file: &[u8], role: &str) -> (Outcome, Vec<u8>) {
    let open = || Reader::new(std::io::Cursor::new(file.to_vec()));
    let mut sent = Vec::new();
    let mut sink = |_: Duration, is_ours: bool, bytes: &[u8]| {
        sent.extend(bytes);
        sent.push(u8::from(is_ours));
        Ok(())
    };
    let settings = Settings::of(&[role.parse().expect("a role")]);
    let outcome = replay(&open, &settings, &mut sink).expect("a replay");
    (outcome, sent)
}

#[test]
fn what_our_stack_did_it_does_again_on_either_side() {
    for (family, client, server) in
        [(Family::V4, "10.0.0.1", "10.0.0.2:80"), (Family::V6, "fd00::1", "[fd00::2]:80")]
    {
        let delay = Faults { delay: Duration::from_millis(10), ..Faults::default() };
        let files = recorded(3, delay, family, 100_000);
        for (file, role) in files.iter().zip([client, server]) {
            let (outcome, _) = played(file, role);
            assert_eq!((outcome.notes, outcome.left_out), (vec![], vec![]), "{role}");
            let verdict = outcome.verdict;
            assert_eq!((verdict.compared, verdict.differences), (1, vec![]), "{role}");
        }
    }
}

#[test]
fn a_replay_is_the_same_twice() {
    let [file, _] = recorded(5, Faults::lossy(Duration::from_millis(10)), Family::V4, 200_000);
    assert_eq!(played(&file, "10.0.0.1").1, played(&file, "10.0.0.1").1);
}

#[test]
fn another_answer_of_the_stack_is_told() {
    // A record in which our side sent one segment twice though nothing was lost.
    let [file, _] = recorded(3, Faults::default(), Family::V4, 5000);
    let mut forged = Vec::new();
    pcapng::section(&mut forged, "test").expect("memory");
    pcapng::interface(&mut forged, "a", 1).expect("memory");
    let mut repeated = false;
    for (time, frame) in frames(file) {
        let carries = frame[26..30] == [10, 0, 0, 1] && frame.len() > 100;
        let times = if carries && !std::mem::replace(&mut repeated, carries) { 2 } else { 1 };
        for n in 0..times {
            let mut bytes = frame.clone();
            // Another identification: it was sent, not captured, twice.
            bytes[19] ^= n;
            pcapng::packet(&mut forged, 0, time + u64::from(n) * 1000, Way::Outbound, &bytes)
                .expect("memory");
        }
    }
    let (outcome, _) = played(&forged, "10.0.0.1");
    let verdict = &outcome.verdict;
    let aspects: Vec<_> = verdict.differences.iter().map(|d| d.aspect).collect();
    assert_eq!(aspects, [Aspect::Retransmissions]);
}

/// The frames of a capture, with their times.
fn frames(file: Vec<u8>) -> Vec<(u64, Vec<u8>)> {
    let mut reader = Reader::new(std::io::Cursor::new(file)).expect("a capture");
    let mut frames = Vec::new();
    while let Some(frame) = reader.next().expect("a frame") {
        frames.push((frame.time.as_nanos() as u64, frame.bytes.to_vec()));
    }
    frames
}

#[test]
fn an_end_that_was_captured_before_the_last_bytes_comes_after_them() {
    let [file, _] = recorded(3, Faults::default(), Family::V4, 5000);
    let mut frames = frames(file);
    // Of the client, IPv4 without options: its flags, and whether it carries anything.
    let of_client = |bytes: &[u8]| bytes[26..30] == [10, 0, 0, 1] && bytes[23] == 6;
    let is_fin = |bytes: &[u8]| of_client(bytes) && bytes[47] & 1 != 0;
    let carries =
        |bytes: &[u8]| of_client(bytes) && bytes[17] as usize + bytes[16] as usize * 256 > 60;
    let last = frames.iter().rposition(|(_, bytes)| carries(bytes)).expect("data");
    let fin = frames.iter().position(|(_, bytes)| is_fin(bytes)).expect("an end");
    assert!(last < fin);
    let (_, bytes) = frames.remove(fin);
    frames.insert(last, (frames[last].0, bytes));
    let mut moved = Vec::new();
    pcapng::section(&mut moved, "test").expect("memory");
    pcapng::interface(&mut moved, "a", 1).expect("memory");
    for (at, bytes) in frames {
        pcapng::packet(&mut moved, 0, at, Way::Outbound, &bytes).expect("memory");
    }
    let (outcome, _) = played(&moved, "10.0.0.1");
    let verdict = &outcome.verdict;
    assert_eq!(verdict.compared, 1);
    let told = verdict.differences.iter();
    // What is out of order looks as if something had been sent again.
    let found: Vec<_> = told.filter(|d| d.aspect != Aspect::Retransmissions).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn whoever_captures_a_little_late_changes_no_retransmission() {
    let [file, _] = recorded(3, Faults::default(), Family::V4, 5000);
    let mut frames = frames(file).into_iter();
    let (begin, syn) = frames.find(|(_, bytes)| bytes.get(47) == Some(&2)).expect("a SYN");
    let mut late = Vec::new();
    pcapng::section(&mut late, "test").expect("memory");
    pcapng::interface(&mut late, "a", 1).expect("memory");
    // The first SYN is lost, and seen 300 microseconds after it was sent; the second is answered at once.
    let mut again = syn.clone();
    again[19] ^= 1;
    let second = begin + 1_000_000_000;
    for (at, bytes) in [(begin + 300_000, syn), (second, again)] {
        pcapng::packet(&mut late, 0, at, Way::Outbound, &bytes).expect("memory");
    }
    for (at, bytes) in frames {
        let at = second + 100_000 + (at - begin);
        pcapng::packet(&mut late, 0, at, Way::Outbound, &bytes).expect("memory");
    }
    let verdict = played(&late, "10.0.0.1").0.verdict;
    assert_eq!((verdict.compared, verdict.differences), (1, vec![]));
}

#[test]
fn a_call_that_our_side_never_answered_is_left_out() {
    let [file, _] = recorded(3, Faults::default(), Family::V4, 5000);
    let mut calls = Vec::new();
    pcapng::section(&mut calls, "test").expect("memory");
    pcapng::interface(&mut calls, "a", 1).expect("memory");
    for (at, bytes) in frames(file).into_iter().filter(|(_, bytes)| bytes.get(47) == Some(&2)) {
        pcapng::packet(&mut calls, 0, at, Way::Outbound, &bytes).expect("memory");
    }
    let (outcome, sent) = played(&calls, "10.0.0.2");
    assert_eq!((outcome.flows, sent), (0, vec![]));
    assert_eq!(outcome.left_out, [(1, "its SYN was not answered in the record")]);
}

#[test]
fn flows_without_a_beginning_are_left_out_and_roles_are_read() {
    let [file, _] = recorded(3, Faults::default(), Family::V4, 5000);
    let (outcome, _) = played(&file, "192.0.2.7");
    assert_eq!(outcome.flows, 0);
    for text in ["10.0.0.1", "10.0.0.1:80", "fd00::1", "[fd00::1]:80"] {
        assert!(text.parse::<Role>().is_ok(), "{text}");
    }
    for text in ["", "10.0.0", "10.0.0.1:99999", "host"] {
        assert!(text.parse::<Role>().is_err(), "{text}");
    }
}
