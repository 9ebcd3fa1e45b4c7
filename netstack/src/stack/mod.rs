//! The stack: it owns interfaces, addresses, routes and all that endpoints share, and joins the layers.
//!
//! `handle_frame(now, nic, frame)` takes a frame in, `poll(now)` does what time brings, `next_deadline()` tells
//! when that is. No lock is held while a frame goes to a link, a packet to an endpoint, or a waker is called.

mod admin;
mod autoconf;
mod connections;
mod deliver;
mod forward;
mod groups;
mod icmp;
mod input;
mod limit;
mod ndp;
mod neighbours;
mod nic;
mod observe;
mod offload;
mod packet;
mod receive;
mod receive_v6;
mod redirect;
mod route;
mod route_cache;
mod router;
mod send;
mod settings;
mod sockets;
mod source;
mod splice;
mod tcp;
mod topology;

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::buffer::PacketBuffer;
use crate::ip::Family;
use crate::ip::conf::Tunables;
use crate::ip::fragment::Reassembly;
use crate::ip::pmtu::PathMtus;
use crate::link::{Direction, NicId, NicKind, Tap, Tapped};
use crate::memory::{Limits, Memory};
use crate::rng::{KeyedState, Rng, Seed, SipKey};
use crate::stats::Snapshot;
use crate::time::Instant;
use crate::transport::tcp::listen::ListenHook;
use crate::transport::{DeadlineHook, Host, OnTimer, Shared, Timer};

use offload::gro::Gro;

pub use admin::{
    AddressError, ListenError, NeighbourError, NicConfig, NicError, NicInfo, RouteError, RuleError,
    TokenError,
};
pub use groups::Memberships;
pub use nic::{Nic, NicState};
pub use observe::{Change, Observer, Presence};
pub use topology::Topology;

/// What a stack is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The secret behind every key and random number. In production from the operating system.
    pub seed: Seed,
    /// What TCP sockets may hold together (tcp_mem, in bytes).
    pub tcp_memory: Limits,
    /// What UDP, ping and raw sockets may hold together (udp_mem, in bytes).
    pub udp_memory: Limits,
    /// The tunables it begins with.
    pub tunables: Tunables,
}

impl Config {
    /// The defaults with a seed.
    pub fn new(seed: Seed) -> Config {
        let (tcp_memory, udp_memory) = (Limits::default(), Limits::default());
        Config { seed, tcp_memory, udp_memory, tunables: Tunables::default() }
    }
}

type Taps = Arc<Vec<(Option<NicId>, Arc<dyn Tap>)>>;

/// Nanoseconds of a day.
const DAY_NS: u64 = 86_400_000_000_000;
/// That nobody has told the time of day.
const UNKNOWN_OFFSET: u64 = u64::MAX;

/// A TCP/IP stack.
pub struct Stack {
    shared: Shared,
    topology: RwLock<Arc<Topology>>,
    path_mtus: PathMtus,
    routes: route_cache::RouteCache,
    reassembly: Mutex<Reassembly>,
    icmp_limit: Mutex<limit::RateLimit>,
    redirects: redirect::Redirects,
    idents: [AtomicU32; 64],
    // From the stack's time to nanoseconds since midnight UT.
    midnight_offset: AtomicU64,
    ident_key: SipKey,
    multipath_key: SipKey,
    hasher: KeyedState,
    taps: RwLock<Taps>,
    tapped: AtomicBool,
    looped: Mutex<VecDeque<(NicId, PacketBuffer)>>,
    // How many are in it, so that a send to somebody else takes no lock.
    looping: AtomicUsize,
    draining: AtomicBool,
    maintenance: Timer,
    me: std::sync::Weak<Stack>,
    observers: RwLock<Arc<Vec<Arc<dyn Observer>>>>,
    observed: AtomicBool,
}

impl Stack {
    /// A stack without interfaces.
    pub fn new(config: Config) -> Arc<Stack> {
        let seed = config.seed;
        let hasher = KeyedState::new(SipKey::derive(&seed, 16));
        let mut shared = Shared::new(seed);
        shared.memory = Memory::new(config.tcp_memory, config.udp_memory);
        Arc::new_cyclic(|me: &std::sync::Weak<Stack>| Stack {
            me: me.clone(),
            maintenance: Timer::default(),
            shared,
            topology: RwLock::new(Arc::new(Topology::new(hasher.clone(), config.tunables))),
            path_mtus: PathMtus::new(hasher.clone()),
            routes: route_cache::RouteCache::new(),
            reassembly: Mutex::new(Reassembly::new(hasher.clone())),
            icmp_limit: Mutex::new(limit::RateLimit::new(hasher.clone(), Rng::new(&seed, 19))),
            redirects: redirect::Redirects::new(hasher.clone()),
            idents: [const { AtomicU32::new(0) }; 64],
            midnight_offset: AtomicU64::new(UNKNOWN_OFFSET),
            ident_key: SipKey::derive(&seed, 17),
            multipath_key: SipKey::derive(&seed, 18),
            hasher,
            taps: RwLock::default(),
            tapped: AtomicBool::new(false),
            looped: Mutex::default(),
            looping: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            observers: RwLock::default(),
            observed: AtomicBool::new(false),
        })
    }

    /// The interfaces, addresses and routes as they are now.
    pub fn topology(&self) -> Arc<Topology> {
        self.topology.read().clone()
    }

    /// Takes in one frame that a driver received on an interface. Everything it causes happens before this
    /// returns: endpoints get their data, wakers are called, replies are sent.
    pub fn handle_frame(&self, now: Instant, nic: NicId, frame: PacketBuffer) {
        let topology = self.topology();
        let Some(nic) = topology.nic(nic) else { return };
        if nic.capabilities.filters_received {
            self.filter(now, nic, frame, &mut |frame| {
                self.receive(now, (&self.topology(), nic), frame);
            });
        } else if self.admit(now, nic, &frame) {
            self.receive(now, (&topology, nic), frame);
        }
        self.drain_looped(now);
    }

    /// Takes in frames that were there at once. Segments that follow each other are handled as one, and endpoints answer
    /// once for all of them, so that a train of segments is acknowledged as one. Returns how many frames there were.
    pub fn handle_frames(
        &self,
        now: Instant,
        nic: NicId,
        frames: &mut dyn Iterator<Item = PacketBuffer>,
    ) -> usize {
        let whole = self.shared.burst.begin(nic);
        let mut count = 0;
        let topology = self.topology();
        match topology.nic(nic).filter(|nic| whole && nic.kind == NicKind::Ethernet) {
            Some(nic) => {
                let mut gro = Gro::default();
                // What one frame changes (a router's advertisement) holds for the next.
                let mut receive = |frame| self.receive(now, (&self.topology(), nic), frame);
                for frame in frames {
                    self.filter(now, nic, frame, &mut |frame| gro.receive(frame, &mut receive));
                    self.drain_looped(now);
                    count += 1;
                }
                gro.flush(&mut receive);
            }
            None => frames.for_each(|frame| {
                self.handle_frame(now, nic, frame);
                count += 1;
            }),
        }
        if whole {
            self.shared.burst.end(now);
            self.drain_looped(now);
        }
        count
    }

    /// Does what is due: timers of endpoints, neighbour probes, delayed frames.
    pub fn poll(&self, now: Instant) {
        self.shared.timers.fire(now);
        self.drain_looped(now);
    }

    /// When `poll` next has something to do. It may be early, never late.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.shared.timers.next_deadline()
    }

    /// Sets who is told when the next deadline moves earlier.
    pub fn set_deadline_hook(&self, hook: Arc<dyn DeadlineHook>) {
        self.shared.timers.set_hook(Some(hook));
    }

    /// Sets who is told of TCP listeners that come and go.
    pub fn set_listen_hook(&self, hook: Option<Arc<dyn ListenHook>>) {
        self.shared.tcp.listen_watch.set(hook);
    }

    /// Shows every frame of one interface, or of all, to a tap.
    pub fn add_tap(&self, nic: Option<NicId>, tap: Arc<dyn Tap>) {
        let mut taps = self.taps.write();
        let mut more = Vec::clone(&taps);
        more.push((nic, tap));
        *taps = Arc::new(more);
        self.tapped.store(true, Ordering::Release);
    }

    /// Shows no more frames to a tap.
    pub fn remove_tap(&self, tap: &Arc<dyn Tap>) {
        let mut taps = self.taps.write();
        let mut left = Vec::clone(&taps);
        left.retain(|(_, other)| !Arc::ptr_eq(other, tap));
        self.tapped.store(!left.is_empty(), Ordering::Release);
        *taps = Arc::new(left);
    }

    /// Removes all taps.
    pub fn clear_taps(&self) {
        *self.taps.write() = Arc::default();
        self.tapped.store(false, Ordering::Release);
    }

    /// The counters.
    pub fn stats(&self) -> Snapshot {
        let (stats, memory) = (&self.shared.stats, &self.shared.memory);
        stats.tcp_ext.tcp_memory_pressures.set(memory.tcp.pressures.value());
        stats.snapshot()
    }

    /// How many endpoints are registered and how many ports are held: both zero when nothing leaked.
    pub fn usage(&self) -> (usize, usize) {
        let tcp = self.shared.tcp.requests.len() + self.shared.tcp.time_wait.len();
        (self.shared.demux.len() + self.shared.raw.len() + tcp, self.shared.ports.len())
    }

    /// What closed connections still have to bring to their peers, in sequence numbers: 0 when the stack can go without a loss.
    pub fn unfinished(&self) -> usize {
        self.shared.demux.endpoints().iter().map(|(_, endpoint)| endpoint.unfinished()).sum()
    }

    /// Tells what the time of day was at a moment, in nanoseconds since midnight UT: for timestamps of ICMP and IPv4 options.
    pub fn set_time_of_day(&self, now: Instant, nanos: u64) {
        let offset = nanos % DAY_NS + DAY_NS - now.nanos() % DAY_NS;
        self.midnight_offset.store(offset % DAY_NS, Ordering::Relaxed);
    }

    /// The time as ICMP and IPv4 options write it. RFC 791: "If the time is not available in milliseconds or cannot be provided with
    /// respect to midnight UT then any time may be inserted as a timestamp provided the high order bit of the timestamp field is
    /// set to one".
    fn time_of_day(&self, now: Instant) -> u32 {
        match self.midnight_offset.load(Ordering::Relaxed) {
            UNKNOWN_OFFSET => now.millis() as u32 | 1 << 31,
            offset => ((now.nanos() % DAY_NS + offset) % DAY_NS / 1_000_000) as u32,
        }
    }

    /// How many datagrams wait for fragments, and the bytes that they hold.
    pub fn reassembly_usage(&self) -> (usize, usize) {
        self.reassembly.lock().usage()
    }

    /// The same of one family.
    pub fn reassembly_of(&self, family: Family) -> (usize, usize) {
        self.reassembly.lock().usage_of(family)
    }

    /// Forgets every endpoint and interface, for the end of a network namespace: frames and sockets that
    /// are still around find nothing any more.
    pub fn shut_down(&self) {
        self.shared.demux.clear();
        self.shared.raw.clear();
        self.shared.tcp.time_wait.clear();
        self.shared.packets.clear();
        self.looped.lock().clear();
        let tunables = self.tunables();
        *self.topology.write() = Arc::new(Topology::new(self.hasher.clone(), tunables));
        self.routes.forget();
    }

    /// Whether somebody captures frames.
    fn is_tapped(&self) -> bool {
        self.tapped.load(Ordering::Acquire)
    }

    /// Shows a frame to the taps.
    fn tap(&self, now: Instant, nic: &Nic, direction: Direction, frame: &PacketBuffer) {
        if !self.is_tapped() {
            return;
        }
        let taps = self.taps.read().clone();
        for (only, tap) in taps.iter() {
            if only.is_none_or(|only| only == nic.id) {
                tap.frame(&Tapped { now, nic: nic.id, kind: nic.kind, direction, frame });
            }
        }
    }

    /// Sees to it that `on_timer` runs by a deadline.
    fn schedule(&self, deadline: Option<Instant>) {
        if let Some(deadline) = deadline {
            self.shared.timers.arm_earlier(self, deadline);
        }
    }
}

impl OnTimer for Stack {
    fn timer(&self) -> &Timer {
        &self.maintenance
    }

    fn handle(&self) -> std::sync::Weak<dyn OnTimer> {
        self.me.clone()
    }

    fn on_timer(&self, now: Instant) {
        let topology = self.topology();
        for nic in topology.nics() {
            if nic.capabilities.filters_received {
                nic.link.poll(now, &mut |frame| {
                    if self.admit(now, nic, &frame) {
                        self.receive(now, (&self.topology(), nic), frame);
                    }
                });
                self.schedule(nic.link.next_deadline());
            }
            self.age_neighbours(now, &topology, nic);
            if nic.groups.lock().next_deadline().is_some_and(|at| at <= now) {
                self.tell_routers(now, &topology, nic);
            }
            self.autoconfigure(now, &topology, nic);
        }
        self.end_lifetimes(now);
        self.expire_fragments(now);
        self.schedule_autoconf();
    }
}

impl Host for Stack {
    fn shared(&self) -> &Shared {
        &self.shared
    }
}
