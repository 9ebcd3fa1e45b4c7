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
use crate::capture::{Frame, LinkType};
use crate::compare::Aspect;
use crate::flows::{Ending, Summary};
use crate::packet::{Body, SYN, dissect};
use crate::script::wire::{self, Header};

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
    let outcome = replay(&open, &settings, Some(&mut sink)).expect("a replay");
    // Without anybody who keeps what is sent, and so without checksums, the same comes of it.
    let alone = replay(&open, &settings, None).expect("a replay");
    let told = |outcome: &Outcome| (outcome.verdict.clone(), outcome.notes.clone());
    assert_eq!(told(&alone), told(&outcome));
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

/// Packets from their IP headers on, at milliseconds, as a file.
fn raw(packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    pcapng::section(&mut file, "test").expect("memory");
    pcapng::interface(&mut file, "a", 101).expect("memory");
    for (ms, bytes) in packets {
        pcapng::packet(&mut file, 0, ms * 1_000_000, Way::Outbound, bytes).expect("memory");
    }
    file
}

/// From one host to another of a family.
fn header(from: u8, to: u8, family: Family) -> Header {
    let address = |host| match family {
        Family::V4 => IpAddr::from([10, 0, 0, host]),
        Family::V6 => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host)]),
    };
    Header { from: address(from), to: address(to), tos: 0, ttl: 64 }
}

fn verdict(file: &[u8], role: &str) -> Verdict {
    let (outcome, _) = played(file, role);
    assert_eq!((outcome.notes, outcome.left_out), (vec![], vec![]), "{role}");
    outcome.verdict
}

#[test]
fn datagrams_are_sent_and_taken_and_a_closed_port_is_refused() {
    for (family, unreachable, hosts) in [
        (Family::V4, (3, 3), ["10.0.0.1", "10.0.0.2"]),
        (Family::V6, (1, 4), ["fd00::1", "fd00::2"]),
    ] {
        let (up, down) = (header(1, 2, family), header(2, 1, family));
        let refused = wire::udp(up, 5000, 9, b"anybody?");
        let mut file = vec![
            (0, wire::udp(up, 4000, 53, b"a question")),
            (20, wire::udp(down, 53, 4000, b"an answer of more bytes")),
            (30, refused.clone()),
            (30, wire::icmp(down, unreachable, 0, &refused)),
        ];
        for role in hosts {
            let verdict = verdict(&raw(&file), role);
            assert_eq!((verdict.compared, verdict.differences), (2, vec![]), "{role}");
        }
        // A record in which the closed port says nothing.
        file.remove(3);
        file.push((40, wire::udp(down, 53, 4000, b"more")));
        let verdict = verdict(&raw(&file), hosts[1]);
        assert_eq!((verdict.compared, verdict.differences), (2, vec![]));
    }
}

#[test]
fn a_port_that_had_been_closed_is_told() {
    let (up, down) = (header(1, 2, Family::V4), header(2, 1, Family::V4));
    let late = wire::udp(down, 53, 4000, b"an answer");
    let file = raw(&[
        (0, wire::udp(up, 4000, 53, b"a question")),
        (20, late.clone()),
        (20, wire::icmp(up, (3, 3), 0, &late)),
    ]);
    let aspects: Vec<_> = verdict(&file, "10.0.0.1").differences.iter().map(|d| d.aspect).collect();
    assert_eq!(aspects, [Aspect::Icmp]);
}

#[test]
fn echoes_are_answered_with_what_they_brought() {
    for (family, kinds, role) in
        [(Family::V4, (8, 0), "10.0.0.2"), (Family::V6, (128, 129), "fd00::2")]
    {
        let (up, down) = (header(1, 2, family), header(2, 1, family));
        let asked = (0, wire::icmp(up, (kinds.0, 0), 0x12_0001, b"some bytes"));
        let file =
            raw(&[asked.clone(), (1, wire::icmp(down, (kinds.1, 0), 0x12_0001, b"some bytes"))]);
        let verdict = verdict(&file, role);
        assert_eq!((verdict.compared, verdict.differences), (1, vec![]), "{role}");
        let (outcome, sent) = played(&raw(&[asked]), role);
        let why = "its echo requests were not answered in the record";
        assert_eq!((outcome.left_out, sent), (vec![(1, why)], vec![]));
    }
}

#[test]
fn an_icmp_error_about_our_call_ends_it() {
    let (up, down) = (header(1, 2, Family::V4), header(2, 1, Family::V4));
    let mss = [2, 4, 5, 0xb4];
    let syn = wire::Segment {
        from: 4000,
        to: 80,
        seq: 77,
        flags: SYN,
        options: &mss,
        ..Default::default()
    };
    let syn = wire::tcp(up, syn);
    let refused = wire::icmp(down, (3, 3), 0, &syn[..28]);
    let later = |ms| (ms, wire::udp(down, 53, 4000, b"time passes"));
    // RFC 1122, 4.2.3.9: codes 2 to 4 are hard errors, and TCP should abort the connection.
    let file = raw(&[(0, syn.clone()), (10, refused), later(8000)]);
    let verdict_of = verdict(&file, "10.0.0.1");
    assert_eq!((verdict_of.compared, verdict_of.differences), (2, vec![]));
    // Without it the SYN goes out again.
    let verdict_of = verdict(&raw(&[(0, syn), later(8000)]), "10.0.0.1");
    let aspects: Vec<_> = verdict_of.differences.iter().map(|d| d.aspect).collect();
    assert_eq!(aspects, [Aspect::Retransmissions]);
}

#[test]
fn what_our_side_says_otherwise_is_told_and_what_was_fed_is_not() {
    let delay = Faults { delay: Duration::from_millis(10), ..Faults::default() };
    let [_, file] = recorded(3, delay, Family::V4, 5000);
    let open = || Reader::new(std::io::Cursor::new(file.clone()));
    let roles = ["10.0.0.2:80".parse().expect("a role")];
    let script = "read 5000\nwrite 1000\nread\nclose".parse().expect("a script");
    let settings = Settings { app: App::Script(Arc::new(script)), ..Settings::of(&roles) };
    let outcome = replay(&open, &settings, None).expect("a replay");
    let found = outcome.verdict.differences.iter().filter(|found| found.aspect == Aspect::Stream);
    let texts: Vec<&str> = found.map(|found| found.text.as_str()).collect();
    assert_eq!(texts, ["what the called sends differs between bytes 0 and 256"]);
}

/// Bytes that the server sent when a program of its own was played, and how the connection ended.
fn served(app: App) -> (u64, Ending) {
    let delay = Faults { delay: Duration::from_millis(10), ..Faults::default() };
    let [_, file] = recorded(3, delay, Family::V4, 5000);
    let open = || Reader::new(std::io::Cursor::new(file.clone()));
    let roles = ["10.0.0.2:80".parse().expect("a role")];
    let settings = Settings { app, ..Settings::of(&roles) };
    let mut played = Summary::new(usize::MAX);
    let mut sink = |time, _: bool, bytes: &[u8]| {
        let (link, wire_len) = (LinkType::Ethernet, bytes.len() as u32);
        played.add(&Frame { number: played.frames + 1, time, interface: 0, link, wire_len, bytes });
        Ok(())
    };
    replay(&open, &settings, Some(&mut sink)).expect("a replay");
    let flows = played.flows();
    let [flow] = &flows[..] else { panic!("{} flows", flows.len()) };
    (flow.halves[1].unique_bytes, flow.ending())
}

#[test]
fn programs_of_another_kind_are_played() {
    // The client of the record did not read all that came, and reset.
    assert_eq!(served(App::Discard), (0, Ending::ResetByOpener));
    assert_eq!(served(App::Echo).0, 5000);
    assert!(served(App::Chargen).0 > 5000);
    let script = |text: &str| App::Script(Arc::new(text.parse().expect("a script")));
    assert_eq!(served(script("read 5000\nwait 0.001\nwrite \"done\"\nread\nclose")).0, 4);
    assert_eq!(served(script("read 10\nwrite 700\nreset")), (700, Ending::ResetByPeer));
    // What is never sent is not waited for.
    assert_eq!(served(script("read 5001\nread 1\nwrite 9")).0, 9);
}

#[test]
fn a_program_that_does_not_read_closes_its_window_again() {
    let (mut sim, [a, b]) =
        Sim::pair(3, Faults { delay: Duration::from_millis(5), ..Faults::default() });
    let tape = Tape::new();
    sim.stack(b).add_tap(None, tape.clone());
    let address = "10.0.0.2:80".parse().expect("an address");
    let server = sim.stack(b).tcp_socket(Family::V4);
    server.bind(address).expect("a port");
    server.listen(8).expect("a listener");
    let client = sim.stack(a).tcp_socket(Family::V4);
    client.connect(sim.now(), address).expect("a connection");
    sim.run_for(Duration::from_millis(100));
    let accepted = server.accept(sim.now()).expect("a connection");
    let bytes = vec![7; 300_000];
    let mut sent = 0;
    let mut got = 0;
    let mut room = vec![0; 1 << 16];
    for round in 0..200 {
        let now = sim.now();
        sent += client.send(now, &mut &bytes[sent..], SendFlags::empty()).unwrap_or(0);
        // It thinks for two seconds, and again.
        if round % 100 > 40 {
            while let Ok(n @ 1..) = accepted.recv(now, &mut &mut room[..], RecvFlags::empty()) {
                got += n;
            }
        }
        sim.run_for(Duration::from_millis(50));
    }
    assert_eq!((sent, got), (bytes.len(), bytes.len()));
    let file = std::mem::take(&mut *tape.0.lock());
    let mut reader = Reader::new(std::io::Cursor::new(file.clone())).expect("a capture");
    let (summary, _) = Summary::of(&mut reader);
    assert!(summary.flows()[0].halves[1].zero_windows > 0, "the window was never closed");
    // What the play shows on our side: acknowledgments with windows too small for a segment, and others.
    let (mut closed, mut open) = (0, 0);
    let mut sink = |_: Duration, is_ours: bool, bytes: &[u8]| {
        let packet = dissect(LinkType::Ethernet, bytes, bytes.len()).expect("a packet");
        let Body::Tcp(tcp) = packet.body else { return Ok(()) };
        if is_ours && tcp.flags & SYN == 0 {
            let is_closed = u32::from(tcp.window) << 7 < 1448;
            *(if is_closed { &mut closed } else { &mut open }) += 1;
        }
        Ok(())
    };
    let open_file = || Reader::new(std::io::Cursor::new(file.clone()));
    let roles = ["10.0.0.2".parse().expect("a role")];
    let mut settings = Settings::of(&roles);
    // Where the last byte of a window lies depends on how memory is counted.
    settings.terms.aspects.retain(|aspect| *aspect != Aspect::ZeroWindow);
    let outcome = replay(&open_file, &settings, Some(&mut sink)).expect("a replay");
    assert_eq!((outcome.notes, outcome.verdict.differences), (vec![], vec![]));
    assert!(closed > 0 && open > closed, "{closed} closed, {open} open");
}

#[test]
fn a_capture_made_far_from_our_side_is_played_at_its_distance() {
    // Recorded by the other side: everything of ours comes 20 ms after what it answers.
    let delay = Faults { delay: Duration::from_millis(10), ..Faults::default() };
    let [of_client, of_server] = recorded(3, delay, Family::V4, 1000);
    for (file, role) in [(of_client, "10.0.0.2:80"), (of_server, "10.0.0.1")] {
        let roles = [role.parse().expect("a role")];
        let mut settings = Settings::of(&roles);
        settings.terms.aspects = vec![Aspect::Stream, Aspect::Retransmissions, Aspect::Timing];
        let open = || Reader::new(std::io::Cursor::new(file.clone()));
        let outcome = replay(&open, &settings, None).expect("a replay");
        assert_eq!((outcome.notes, outcome.verdict.differences), (vec![], vec![]), "{role}");
    }
}

#[test]
fn frames_that_were_captured_twice_come_once() {
    let [file, _] = recorded(3, Faults::default(), Family::V4, 5000);
    let mut twice = Vec::new();
    pcapng::section(&mut twice, "test").expect("memory");
    pcapng::interface(&mut twice, "a", 1).expect("memory");
    for (number, (at, mut bytes)) in frames(file).into_iter().enumerate() {
        // An identification of its own each.
        bytes[18..20].copy_from_slice(&(number as u16 + 1).to_be_bytes());
        for _ in 0..2 {
            pcapng::packet(&mut twice, 0, at, Way::Outbound, &bytes).expect("memory");
        }
    }
    let verdict = verdict(&twice, "10.0.0.2:80");
    assert_eq!((verdict.compared, verdict.differences), (1, vec![]));
}
