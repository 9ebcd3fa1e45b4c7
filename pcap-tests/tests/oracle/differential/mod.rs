//! One seeded script of socket calls, played by two ends over a link: first both are Linux, then one is our stack. What the programs
//! see (results, errno, bytes, ends of streams, readiness) must be the same.
//!
//! The link is this test: it carries frames from one end to the other until both are silent, and only then makes the next call. Nothing
//! waits for a clock, so the outcome of a seed is the same on a busy machine. Many scripts run abreast, each with a port of its own.

mod connections;
mod linux;
mod ours;
mod script;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use linux::Linux;
use ours::Ours;
use script::{Call, Protocol, Role, Script, Step};

/// Scripts that share one pair of ends.
const ABREAST: u64 = 50;
/// The first end's addresses, and the second's.
const ADDRESSES: [[&str; 2]; 2] = [["10.9.0.1", "fd09::1"], ["10.9.0.2", "fd09::2"]];

/// What a call gave: the words for the log, and the socket that an accept made.
struct Outcome {
    text: String,
    accepted: Option<usize>,
}

impl From<String> for Outcome {
    fn from(text: String) -> Self {
        Self { text, accepted: None }
    }
}

/// A kernel with sockets, on one end of the link.
trait End {
    /// Frames that it sent.
    fn sent(&mut self) -> Vec<Vec<u8>>;

    /// A frame arrives.
    fn arrive(&mut self, frame: &[u8]);

    /// Makes a socket; gives its number.
    fn socket(&mut self, protocol: Protocol, address: IpAddr) -> usize;

    /// Makes a call.
    fn call(&mut self, socket: usize, call: &Call) -> Outcome;
}

/// The bytes as the log has them: their number and a sum that tells them apart.
fn digest(bytes: &[u8]) -> String {
    let sum =
        bytes.iter().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
    format!("{} bytes {sum:08x}", bytes.len())
}

/// Carries frames until both ends are silent.
fn settle(ends: &mut [Box<dyn End>; 2]) {
    loop {
        let [first, second] = ends;
        let (there, back) = (first.sent(), second.sent());
        if there.is_empty() && back.is_empty() {
            return;
        }
        there.iter().for_each(|frame| second.arrive(frame));
        back.iter().for_each(|frame| first.arrive(frame));
    }
}

/// The sockets of one script, by the part that they play.
#[derive(Default)]
struct Lane {
    sockets: std::collections::BTreeMap<Role, usize>,
    log: Vec<String>,
}

impl Lane {
    fn step(&mut self, ends: &mut [Box<dyn End>; 2], Step { role, call }: &Step) {
        let end = &mut ends[role.end()];
        let socket = match (self.sockets.get(role), call) {
            (Some(socket), _) => *socket,
            (None, Call::Socket(protocol, address)) => {
                self.sockets.insert(*role, end.socket(*protocol, *address));
                return;
            }
            // Nothing was accepted before: on both, since the accept is in the log.
            (None, _) => return,
        };
        let outcome = end.call(socket, call);
        if let Some(child) = outcome.accepted {
            self.sockets.insert(Role::Child, child);
        }
        if matches!(call, Call::Close) {
            self.sockets.remove(role);
        }
        self.log.push(format!("{role:?} {call:?}: {}", outcome.text));
    }
}

/// Sends datagrams until they arrive, both ways in both families: a fresh device of Linux loses the first ones while its kernel's workers bring
/// it up.
fn warm_up(ends: &mut [Box<dyn End>; 2]) {
    for (from, to) in [(0, 1), (1, 0)] {
        for (source, destination) in ADDRESSES[from].into_iter().zip(ADDRESSES[to]) {
            let [source, destination] = [source, destination]
                .map(|host| SocketAddr::new(host.parse().expect("an address"), 19_999));
            let sender = ends[from].socket(Protocol::Udp, source.ip());
            let receiver = ends[to].socket(Protocol::Udp, destination.ip());
            ends[to].call(receiver, &Call::Bind(destination));
            let started = std::time::Instant::now();
            loop {
                ends[from].call(sender, &Call::SendTo(1, 0, destination));
                settle(ends);
                if ends[to].call(receiver, &Call::Recv(1)).text != "EAGAIN" {
                    break;
                }
                assert!(started.elapsed().as_secs() < 60, "nothing reaches {destination}");
            }
            while ends[to].call(receiver, &Call::Recv(1)).text != "EAGAIN" {}
            ends[from].call(sender, &Call::Close);
            ends[to].call(receiver, &Call::Close);
        }
    }
}

/// Plays scripts abreast; gives the log of each.
fn play(mut ends: [Box<dyn End>; 2], scripts: &[Script]) -> Vec<Vec<String>> {
    let mut lanes: Vec<Lane> = scripts.iter().map(|_| Lane::default()).collect();
    warm_up(&mut ends);
    let longest = scripts.iter().map(|script| script.steps.len()).max().unwrap_or(0);
    for number in 0..longest {
        for (lane, script) in lanes.iter_mut().zip(scripts) {
            if let Some(step) = script.steps.get(number) {
                lane.step(&mut ends, step);
            }
        }
        settle(&mut ends);
    }
    lanes.into_iter().map(|lane| lane.log).collect()
}

fn linux(end: usize) -> Box<dyn End> {
    Box::new(Linux::new(end, ADDRESSES[end]))
}

fn ours(end: usize) -> Box<dyn End> {
    Box::new(Ours::new(end, ADDRESSES[end]))
}

/// The first line in which two logs differ, with what led there.
fn difference(expected: &[String], found: &[String]) -> Option<String> {
    let at = (0..expected.len().max(found.len())).find(|n| expected.get(*n) != found.get(*n))?;
    let before = expected[..at].join("\n    ");
    Some(format!("    {before}\n  Linux: {:?}\n  ours:  {:?}", expected.get(at), found.get(at)))
}

fn seeds() -> u64 {
    match std::env::var("NETCELL_DIFFERENTIAL_SEEDS") {
        Ok(text) => text.parse().expect("NETCELL_DIFFERENTIAL_SEEDS is a number"),
        Err(_) => 1000,
    }
}

/// Where scripts end otherwise than on Linux: the seed, who played, and what differs.
fn differences(first_seed: u64) -> BTreeMap<(u64, &'static str), String> {
    let scripts: Vec<Script> = (0..ABREAST)
        .map(|n| Script::new(first_seed + n, ADDRESSES, 20_000 + 3 * n as u16))
        .collect();
    let expected = play([linux(0), linux(1)], &scripts);
    let mut found = BTreeMap::new();
    for (arrangement, ends) in [
        ("our client, Linux's server", [ours(0), linux(1)]),
        ("Linux's client, our server", [linux(0), ours(1)]),
        ("our client, our server", [ours(0), ours(1)]),
    ] {
        for ((script, expected), played) in scripts.iter().zip(&expected).zip(play(ends, &scripts))
        {
            if let Some(text) = difference(expected, &played) {
                found.insert((script.seed, arrangement), text);
            }
        }
    }
    found
}

fn compare(first_seed: u64, breaches: &mut Vec<String>) {
    let once = differences(first_seed);
    if once.is_empty() {
        return;
    }
    // A kernel's thread that was held up lets Linux, too, answer otherwise once.
    for ((seed, arrangement), text) in differences(first_seed) {
        if once.contains_key(&(seed, arrangement)) {
            breaches.push(format!("seed {seed}, {arrangement}:\n{text}"));
        }
    }
}

/// Repeat one seed by NETCELL_DIFFERENTIAL_SEED=N.
#[test]
fn programs_see_the_same_over_our_stack_as_over_linux() {
    let breaches = std::thread::spawn(|| {
        let mut breaches = Vec::new();
        match std::env::var("NETCELL_DIFFERENTIAL_SEED") {
            Ok(seed) => compare(seed.parse().expect("a seed"), &mut breaches),
            Err(_) => {
                (0..seeds().div_ceil(ABREAST)).for_each(|n| compare(n * ABREAST, &mut breaches))
            }
        }
        breaches
    });
    let breaches = breaches.join().expect("the comparison");
    let shown = breaches.iter().take(12).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(breaches.is_empty(), "{} differences, the first of them:\n\n{shown}", breaches.len());
}
