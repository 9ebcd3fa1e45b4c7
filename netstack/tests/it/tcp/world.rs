//! Two nodes joined by a bad link in virtual time: all that happens follows from the seed.

use netstack::rng::{Rng, seed_from};
use netstack::time::{Duration, Instant};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Something with a network interface.
pub trait Node {
    /// Takes a frame.
    fn receive(&mut self, now: Instant, frame: Vec<u8>);
    /// Does what time and the program bring.
    fn work(&mut self, now: Instant);
    /// When there is something to do without a frame.
    fn next_deadline(&mut self, now: Instant) -> Option<Instant>;
    /// How it stands, for the message of a failure.
    fn describe(&self) -> String;
    /// The frames that it sent since the last call.
    fn take_frames(&mut self) -> Vec<Vec<u8>>;
}

/// What the link does to frames, in parts per million.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    pub loss: u32,
    pub duplication: u32,
    pub reordering: u32,
    pub delay: Duration,
    pub jitter: Duration,
}

impl Faults {
    /// A link without faults.
    pub const NONE: Faults = Faults {
        loss: 0,
        duplication: 0,
        reordering: 0,
        delay: Duration::from_millis(2),
        jitter: Duration::ZERO,
    };

    /// Up to one frame in ten lost, one in twenty doubled, three in ten late.
    pub fn from_seed(rng: &mut Rng) -> Faults {
        Faults {
            loss: rng.below(100_000) as u32,
            duplication: rng.below(50_000) as u32,
            reordering: rng.below(300_000) as u32,
            delay: Duration::from_micros(rng.below(20_000)),
            jitter: Duration::from_micros(rng.below(20_000)),
        }
    }
}

/// One frame as it was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Captured {
    pub at: Instant,
    pub from: usize,
    pub frame: Vec<u8>,
}

/// A frame under way: when it arrives, its order among equals, at which node, its bytes.
type Flying = Reverse<(Instant, u64, usize, Vec<u8>)>;

/// The link and what it joins.
pub struct World<A, B> {
    pub now: Instant,
    pub a: A,
    pub b: B,
    pub faults: Faults,
    pub capture: Vec<Captured>,
    /// Frames as the first node sends and receives them.
    pub at_a: Vec<(Instant, Vec<u8>)>,
    /// Larger IPv4 packets are refused by a router on the way, which says so.
    pub router_mtu: Option<u16>,
    /// Whether frames are kept in `capture` and `at_a`.
    pub captures: bool,
    rng: Rng,
    flying: BinaryHeap<Flying>,
    order: u64,
}

impl<A: Node, B: Node> World<A, B> {
    pub fn new(seed: u64, faults: Faults, a: A, b: B) -> World<A, B> {
        World {
            now: Instant::from_secs(1),
            a,
            b,
            faults,
            capture: Vec::new(),
            at_a: Vec::new(),
            captures: false,
            router_mtu: None,
            rng: Rng::new(&seed_from(seed), 77),
            flying: BinaryHeap::new(),
            order: 0,
        }
    }

    fn send(&mut self, from: usize, frame: Vec<u8>) {
        if self.captures {
            self.capture.push(Captured { at: self.now, from, frame: frame.clone() });
            if from == 0 {
                self.at_a.push((self.now, frame.clone()));
            }
        }
        if let Some(mtu) = self.router_mtu.filter(|mtu| frame.len() > usize::from(*mtu) + 14) {
            self.order += 1;
            let answer = fragmentation_needed(&frame, mtu);
            self.flying.push(Reverse((self.now + self.faults.delay, self.order, from, answer)));
            return;
        }
        let copies = 1 + usize::from(self.rng.chance_ppm(self.faults.duplication));
        for _ in 0..copies {
            if self.rng.chance_ppm(self.faults.loss) {
                continue;
            }
            let mut at = self.now + self.faults.delay;
            if self.rng.chance_ppm(self.faults.reordering) {
                let jitter = self.faults.jitter.as_nanos() as u64;
                at += Duration::from_nanos(self.rng.below(jitter));
            }
            self.order += 1;
            self.flying.push(Reverse((at, self.order, 1 - from, frame.clone())));
        }
    }

    fn collect(&mut self) {
        self.a.work(self.now);
        for frame in self.a.take_frames() {
            self.send(0, frame);
        }
        self.b.work(self.now);
        for frame in self.b.take_frames() {
            self.send(1, frame);
        }
    }

    /// Takes one step; false when nothing will ever happen again or `until` has come.
    pub fn step(&mut self, until: Instant) -> bool {
        self.collect();
        let frame = self.flying.peek().map(|Reverse(flying)| flying.0);
        let timers = [self.a.next_deadline(self.now), self.b.next_deadline(self.now)];
        let next = timers.into_iter().chain([frame]).flatten().min();
        let Some(next) = next.filter(|next| *next <= until) else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(next);
        while self.flying.peek().is_some_and(|Reverse(flying)| flying.0 <= self.now) {
            if let Some(Reverse((_, _, to, frame))) = self.flying.pop() {
                if self.captures && to == 0 {
                    self.at_a.push((self.now, frame.clone()));
                }
                match to {
                    0 => self.a.receive(self.now, frame),
                    _ => self.b.receive(self.now, frame),
                }
            }
        }
        true
    }

    /// Runs until `done`, or fails after so much virtual time.
    pub fn run_until(
        &mut self,
        what: &str,
        limit: Duration,
        done: impl Fn(&mut A, &mut B) -> bool,
    ) {
        let until = self.now + limit;
        let mut steps = 0u64;
        while !done(&mut self.a, &mut self.b) {
            steps += 1;
            let more = self.step(until) && steps < 3_000_000;
            if !more && !done(&mut self.a, &mut self.b) {
                let (a, b) = (self.a.describe(), self.b.describe());
                panic!("{what}: stuck at {}\na: {a}\nb: {b}", self.now);
            }
        }
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
    }
}

/// The ICMP error by which a router refuses an IPv4 packet in an Ethernet frame (RFC 1191).
fn fragmentation_needed(frame: &[u8], mtu: u16) -> Vec<u8> {
    let (dst, src) = (&frame[0..6], &frame[6..12]);
    let packet = &frame[14..];
    let mut icmp = vec![3, 4, 0, 0, 0, 0];
    icmp.extend_from_slice(&mtu.to_be_bytes());
    icmp.extend_from_slice(&packet[..28]);
    let sum = netstack::wire::checksum::of(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut ip = vec![0x45, 0, 0, 20 + icmp.len() as u8, 0, 0, 0, 0, 64, 1, 0, 0];
    ip.extend_from_slice(&packet[16..20]);
    ip.extend_from_slice(&packet[12..16]);
    let sum = netstack::wire::checksum::of(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    [src, dst, &[8, 0], &ip, &icmp].concat()
}
