//! Simulation: stacks joined by segments with faults, in virtual time, from one seed. Nothing here waits: time
//! jumps from event to event, and one seed gives one run, bit by bit.
//!
//! ```
//! use netstack::link::fault::Faults;
//! use netstack::sim::Sim;
//! use netstack::time::{Duration, Instant};
//!
//! let (mut sim, [a, b]) = Sim::pair(7, Faults::lossy(Duration::from_millis(10)));
//! let server = sim.stack(b).udp_socket(netstack::ip::Family::V4);
//! server.bind("10.0.0.2:53".parse().unwrap()).unwrap();
//! let client = sim.stack(a).udp_socket(netstack::ip::Family::V4);
//! client.connect(sim.now(), "10.0.0.2:53".parse().unwrap()).unwrap();
//! client.send(sim.now(), &mut &b"question"[..]).unwrap();
//! sim.run_until(Instant::from_secs(10), |_| server.next_len() > 0);
//! ```

mod capture;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::buffer::PacketBuffer;
use crate::ip::IpCidr;
use crate::ip::conf::Tunables;
use crate::link::fault::{Fate, Faults, Injector};
use crate::link::{Link, LinkError, MacAddr, NicId, NicKind};
use crate::rng::{Rng, Seed, seed_from};
use crate::stack::{Config, NicConfig, Stack};
use crate::time::{Duration, Instant};

pub use capture::{Capture, Captured};

/// A stack of the simulation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostId(usize);

/// A segment: what one port sends, all others receive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SegmentId(usize);

impl SegmentId {
    /// The first segment of a simulation: the only one of a pair.
    pub const FIRST: SegmentId = SegmentId(0);
}

/// One attachment to a segment.
struct Port {
    host: HostId,
    nic: NicId,
    // Faults strike on the way to this port.
    injector: Injector,
}

struct Segment {
    ports: Vec<Port>,
    faults: Faults,
}

/// A frame that a stack sent and the simulation has not looked at.
struct Sent {
    at: Instant,
    segment: usize,
    port: usize,
    frame: PacketBuffer,
}

type Outbox = Arc<Mutex<Vec<Sent>>>;

/// What a scenario decides about a frame before the faults do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It goes on its way.
    Pass,
    /// It vanishes.
    Drop,
}

/// Sees every frame: its segment, the attachment that sent it, its bytes.
type Filter = Box<dyn FnMut(SegmentId, usize, &[u8]) -> Verdict + Send>;

/// The link of a simulated interface.
struct SimLink {
    outbox: Outbox,
    segment: usize,
    port: usize,
}

impl Link for SimLink {
    fn transmit(&self, now: Instant, frame: &PacketBuffer) -> Result<(), LinkError> {
        let frame = PacketBuffer::from_vec(frame.to_vec_complete());
        let sent = Sent { at: now, segment: self.segment, port: self.port, frame };
        self.outbox.lock().push(sent);
        Ok(())
    }
}

/// A foreign host on a segment: anything that takes frames and gives frames (another stack, a script).
pub trait Peer {
    /// Takes a frame.
    fn receive(&mut self, now: Instant, frame: Vec<u8>);

    /// Does what is due and gives the frames to send.
    fn poll(&mut self, now: Instant) -> Vec<Vec<u8>>;

    /// When `poll` next has something to do.
    fn next_deadline(&mut self, now: Instant) -> Option<Instant>;
}

enum Host {
    Stack(Arc<Stack>),
    Peer { peer: Box<dyn Peer>, segment: usize, port: usize },
}

/// A frame on its way.
struct Flying {
    host: HostId,
    nic: NicId,
    frame: PacketBuffer,
}

/// The simulation.
pub struct Sim {
    seed: u64,
    now: Instant,
    hosts: Vec<Host>,
    segments: Vec<Segment>,
    outbox: Outbox,
    // Frames on their way, by arrival and then in order.
    // In boxes: a tree moves what it holds.
    flying: BTreeMap<(Instant, u64), Box<Flying>>,
    order: u64,
    capture: Capture,
    recording: Recording,
    arrivals: Arrivals,
    filter: Option<Filter>,
}

/// Whether frames are kept for looking at them later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Recording {
    /// All of them.
    #[default]
    All,
    /// None, where a run is long.
    Nothing,
}

/// How frames come that arrive at one instant at one interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Arrivals {
    /// Each by itself.
    #[default]
    Single,
    /// As one burst, as a driver reads what its device holds.
    Burst,
}

impl Sim {
    /// An empty simulation. Print the seed when a test fails.
    pub fn new(seed: u64) -> Sim {
        Sim {
            seed,
            // Not zero: an instant of zero hides mistakes.
            now: Instant::from_secs(1),
            hosts: Vec::new(),
            segments: Vec::new(),
            outbox: Outbox::default(),
            flying: BTreeMap::new(),
            order: 0,
            capture: Capture::default(),
            recording: Recording::default(),
            arrivals: Arrivals::default(),
            filter: None,
        }
    }

    /// Two stacks on one segment: 10.0.0.1 and 10.0.0.2 of a /24, fd00::1 and fd00::2 of a /64.
    pub fn pair(seed: u64, faults: Faults) -> (Sim, [HostId; 2]) {
        let mut sim = Sim::new(seed);
        let segment = sim.add_segment(faults);
        let hosts = [sim.add_host(), sim.add_host()];
        for (host, n) in hosts.iter().zip(1u8..) {
            sim.attach(*host, segment, 1500, &Sim::pair_addresses(n));
        }
        (sim, hosts)
    }

    /// The addresses of the `n`th host of a pair.
    pub fn pair_addresses(n: u8) -> [IpCidr; 2] {
        let v4 = IpAddr::V4(Ipv4Addr::new(10, 0, 0, n));
        let v6 = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)));
        [IpCidr::new(v4, 24), IpCidr::new(v6, 64)]
    }

    /// The seed, to print.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A seed for one part of the simulation.
    fn derived(&self, part: u64) -> Seed {
        seed_from(Rng::new(&seed_from(self.seed), part).next_u64())
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Adds a stack with a loopback interface, which says nothing by itself.
    pub fn add_host(&mut self) -> HostId {
        self.add_host_with(Tunables::quiet())
    }

    /// Adds a stack with a loopback interface and these tunables.
    pub fn add_host_with(&mut self, tunables: Tunables) -> HostId {
        let id = HostId(self.hosts.len());
        let config = Config::new(self.derived(id.0 as u64));
        let stack = Stack::new(Config { tunables, ..config });
        // A new stack has no other interface that this one could collide with.
        let _ = stack.add_nic(NicConfig::loopback());
        self.hosts.push(Host::Stack(stack));
        id
    }

    /// Adds a foreign host on a segment.
    pub fn add_peer(&mut self, segment: SegmentId, peer: Box<dyn Peer>) -> HostId {
        let host = HostId(self.hosts.len());
        let port = self.add_port(segment, host, NicId(0));
        self.hosts.push(Host::Peer { peer, segment: segment.0, port });
        host
    }

    /// Adds a segment.
    pub fn add_segment(&mut self, faults: Faults) -> SegmentId {
        self.segments.push(Segment { ports: Vec::new(), faults });
        SegmentId(self.segments.len() - 1)
    }

    /// Changes the faults of a segment from now on.
    pub fn set_faults(&mut self, segment: SegmentId, faults: Faults) {
        let segment = &mut self.segments[segment.0];
        segment.faults = faults;
        for port in &mut segment.ports {
            port.injector.set_faults(faults);
        }
    }

    fn add_port(&mut self, segment: SegmentId, host: HostId, nic: NicId) -> usize {
        let number = self.segments[segment.0].ports.len();
        let seed = self.derived(1000 + segment.0 as u64 * 100 + number as u64);
        let injector = Injector::new(self.segments[segment.0].faults, &seed, number as u64);
        self.segments[segment.0].ports.push(Port { host, nic, injector });
        number
    }

    /// The link-layer address of the `port`th attachment to a segment.
    pub fn mac_of(segment: SegmentId, port: usize) -> MacAddr {
        MacAddr([2, 0, 0, segment.0 as u8, (port >> 8) as u8, port as u8 + 1])
    }

    /// Attaches a stack to a segment with an interface of the given MTU and addresses.
    pub fn attach(
        &mut self,
        host: HostId,
        segment: SegmentId,
        mtu: u32,
        addresses: &[IpCidr],
    ) -> NicId {
        self.attach_through(host, segment, (mtu, addresses), |link| link)
    }

    /// As [`Sim::attach`], with the link wrapped first: by a fault link, or by one that offers offloads.
    pub fn attach_through(
        &mut self,
        host: HostId,
        segment: SegmentId,
        (mtu, addresses): (u32, &[IpCidr]),
        wrap: impl FnOnce(Arc<dyn Link>) -> Arc<dyn Link>,
    ) -> NicId {
        let port = self.segments[segment.0].ports.len();
        let outbox = self.outbox.clone();
        let link = SimLink { outbox, segment: segment.0, port };
        let stack = self.stack(host).clone();
        let config = NicConfig {
            name: format!("eth{}", stack.nics().len() - 1),
            kind: NicKind::Ethernet,
            mac: Sim::mac_of(segment, port),
            mtu,
            link: wrap(Arc::new(link)),
        };
        let added = stack.add_nic(config);
        let nic = added.unwrap_or_else(|error| panic!("simulated interface: {error}"));
        for address in addresses {
            let added = stack.add_address(nic, *address);
            added.unwrap_or_else(|error| panic!("simulated address {address}: {error}"));
        }
        self.add_port(segment, host, nic);
        nic
    }

    /// The stack of a host. Panics for a foreign host.
    pub fn stack(&self, host: HostId) -> &Arc<Stack> {
        match &self.hosts[host.0] {
            Host::Stack(stack) => stack,
            Host::Peer { .. } => panic!("host {} is not one of our stacks", host.0),
        }
    }

    /// The frames that were sent so far.
    pub fn capture(&self) -> &Capture {
        &self.capture
    }

    /// Drops what was captured so far, where a run is long.
    pub fn forget_capture(&mut self) {
        self.capture = Capture::default();
    }

    /// Whether frames are captured from now on.
    pub fn set_recording(&mut self, recording: Recording) {
        self.recording = recording;
    }

    /// How frames come that arrive at one instant, from now on.
    pub fn set_arrivals(&mut self, arrivals: Arrivals) {
        self.arrivals = arrivals;
    }

    /// Asks `filter` about every frame from now on: its segment, the attachment that sent it, its bytes.
    pub fn set_filter(
        &mut self,
        filter: impl FnMut(SegmentId, usize, &[u8]) -> Verdict + Send + 'static,
    ) {
        self.filter = Some(Box::new(filter));
    }

    /// Sends a frame as if the `port`th attachment of a segment had.
    pub fn inject(&mut self, segment: SegmentId, port: usize, frame: Vec<u8>) {
        let frame = PacketBuffer::from_vec(frame);
        self.outbox.lock().push(Sent { at: self.now, segment: segment.0, port, frame });
    }

    /// Puts what was sent on its way, with its faults.
    fn launch(&mut self) {
        let sent = core::mem::take(&mut *self.outbox.lock());
        for Sent { at, segment, port, frame } in sent {
            let recorded = self.recording == Recording::All;
            let looked_at = recorded || self.filter.is_some();
            let bytes = if looked_at { frame.to_vec() } else { Vec::new() };
            let verdict = match &mut self.filter {
                Some(filter) => filter(SegmentId(segment), port, &bytes),
                None => Verdict::Pass,
            };
            let mut fates: Vec<Fate> = Vec::new();
            let mut frame = Some(frame);
            let ports = self.segments[segment].ports.iter_mut().enumerate();
            let mut receivers = ports.filter(|(number, _)| *number != port).peekable();
            while let Some((_, to)) = receivers.next() {
                // The last one gets the frame itself.
                let copy = if receivers.peek().is_some() { frame.clone() } else { frame.take() };
                let fate = match (verdict, copy) {
                    (Verdict::Pass, Some(copy)) => {
                        let (flying, order) = (&mut self.flying, &mut self.order);
                        let (host, nic) = (to.host, to.nic);
                        to.injector.apply(at, copy, &mut |due, frame| {
                            *order += 1;
                            flying.insert((due, *order), Box::new(Flying { host, nic, frame }));
                        })
                    }
                    _ => Fate::Lost,
                };
                if recorded {
                    fates.push(fate);
                }
            }
            if recorded {
                self.capture.push(Captured { at, segment: SegmentId(segment), port, bytes, fates });
            }
        }
    }

    /// When the next thing happens.
    fn next_event(&mut self) -> Option<Instant> {
        let now = self.now;
        let frames = self.flying.first_key_value().map(|((due, _), _)| *due);
        let timers = self.hosts.iter_mut().filter_map(|host| match host {
            Host::Stack(stack) => stack.next_deadline(),
            Host::Peer { peer, .. } => peer.next_deadline(now),
        });
        frames.into_iter().chain(timers).min()
    }

    /// Lets the next thing happen: one frame arrives, or every timer of that instant fires. Answers whether
    /// there was anything.
    pub fn step(&mut self) -> bool {
        self.launch();
        let next = self.next_event();
        if let Some(at) = next {
            self.go_to(at);
        }
        next.is_some()
    }

    /// Lets happen what is next, at `at`.
    fn go_to(&mut self, at: Instant) {
        self.now = self.now.max(at);
        let due = self.flying.first_key_value().is_some_and(|((due, _), _)| *due <= self.now);
        let flying = if due { self.flying.pop_first() } else { None };
        match flying {
            Some((_, flying)) if self.arrivals == Arrivals::Single => self.arrive(*flying),
            Some((_, flying)) => self.arrive_in_burst(*flying),
            None => self.poll_hosts(),
        }
        self.launch();
    }

    fn arrive(&mut self, Flying { host, nic, frame }: Flying) {
        let now = self.now;
        match &mut self.hosts[host.0] {
            Host::Stack(stack) => stack.handle_frame(now, nic, frame),
            Host::Peer { peer, .. } => peer.receive(now, frame.to_vec()),
        }
        self.poll_peers();
    }

    /// A frame arrives with those that follow it at this instant, up to one for somebody else.
    fn arrive_in_burst(&mut self, first: Flying) {
        let (host, nic) = (first.host, first.nic);
        let Host::Stack(stack) = &self.hosts[host.0] else { return self.arrive(first) };
        let (now, flying) = (self.now, &mut self.flying);
        let mut first = Some(first.frame);
        let mut frames = core::iter::from_fn(|| {
            first.take().or_else(|| {
                let next = flying.first_entry()?;
                let to = next.get();
                let same = next.key().0 <= now && (to.host, to.nic) == (host, nic);
                same.then(|| next.remove().frame)
            })
        });
        stack.handle_frames(now, nic, &mut frames);
        self.poll_peers();
    }

    fn poll_hosts(&mut self) {
        for host in &self.hosts {
            if let Host::Stack(stack) = host
                && stack.next_deadline().is_some_and(|deadline| deadline <= self.now)
            {
                stack.poll(self.now);
            }
        }
        self.poll_peers();
    }

    fn poll_peers(&mut self) {
        let now = self.now;
        for host in &mut self.hosts {
            if let Host::Peer { peer, segment, port } = host {
                for frame in peer.poll(now) {
                    let frame = PacketBuffer::from_vec(frame);
                    let sent = Sent { at: now, segment: *segment, port: *port, frame };
                    self.outbox.lock().push(sent);
                }
            }
        }
    }

    /// Steps until `done` (asked before every step), or until nothing happens before `limit`; then the time is
    /// `limit`. Answers whether `done` said so. `done` may use sockets with [`Sim::now`].
    pub fn run_until(&mut self, limit: Instant, mut done: impl FnMut(&Sim) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            self.launch();
            match self.next_event() {
                Some(at) if at <= limit => self.go_to(at),
                _ => break,
            }
        }
        self.now = self.now.max(limit);
        done(self)
    }

    /// Lets a time pass.
    pub fn run_for(&mut self, time: Duration) {
        let limit = self.now + time;
        self.run_until(limit, |_| false);
    }
}

#[cfg(test)]
mod tests;
