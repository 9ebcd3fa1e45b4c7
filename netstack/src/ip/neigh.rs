//! The neighbour cache of one interface: a pure state machine of neighbour unreachability detection
//! (RFC 4861 section 7.3), used for ARP too. Frames and probes come out as values.

mod entry;

use core::net::IpAddr;
use std::collections::{BTreeSet, HashMap};

use super::Family;
use super::conf::{NeighConf, NeighGc, NicTunables};
use crate::buffer::PacketBuffer;
use crate::link::MacAddr;
use crate::rng::{KeyedState, SipKey};
use crate::time::{Duration, Instant};
use entry::{Entry, Fate, Timing};

/// How long the span is for which the reachable time is drawn (RFC 4861 section 6.3.2 allows hours; Linux takes 5 minutes).
const DRAW_EVERY_SECS: u64 = 300;
/// Bytes of packets that wait for all the addresses of a cache together.
const WAITING_BYTES: usize = 8 << 20;
/// Above `gc_thresh2`, entries that were used within this time stay.
const FRESH: Duration = Duration::from_secs(5);

/// The state of an entry (RFC 4861 section 7.3.2): a `NUD_` number of `linux/neighbour.h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum State {
    /// Asked for; packets wait.
    Incomplete = 0x01,
    /// Confirmed a short time ago.
    Reachable = 0x02,
    /// Known, not confirmed lately.
    Stale = 0x04,
    /// Used while stale: a confirmation may still come from above.
    Delay = 0x08,
    /// Asked again, directly.
    Probe = 0x10,
    /// Nobody answered.
    Failed = 0x20,
    /// Set by hand; never asked for.
    NoArp = 0x40,
    /// Set by hand.
    Permanent = 0x80,
}

/// One entry as a listing shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// The address.
    pub address: IpAddr,
    /// Its link-layer address, when known.
    pub mac: Option<MacAddr>,
    /// The state.
    pub state: State,
    /// Whether it called itself a router (`NTF_ROUTER`).
    pub router: bool,
    /// Whether questions for it are answered here (`NTF_PROXY`); it has no state then.
    pub proxy: bool,
    /// How often it was asked without an answer.
    pub probes: u32,
    /// When a packet last went to it.
    pub used: Instant,
    /// When it was last confirmed.
    pub confirmed: Instant,
    /// When its state or address last changed.
    pub updated: Instant,
}

impl Neighbour {
    /// A neighbour to be set by hand.
    pub const fn new(address: IpAddr, mac: Option<MacAddr>, state: State) -> Neighbour {
        let (used, confirmed, updated) = (Instant::ZERO, Instant::ZERO, Instant::ZERO);
        let (router, proxy, probes) = (false, false, 0);
        Neighbour { address, mac, state, router, proxy, probes, used, confirmed, updated }
    }
}

/// A question to be asked on the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Who is asked for.
    pub address: IpAddr,
    /// Whom to ask: the known address, or everybody.
    pub mac: Option<MacAddr>,
    /// The source of the first packet that waits for the answer.
    pub src: Option<IpAddr>,
}

/// What becomes of a packet for a neighbour.
pub enum Resolution {
    /// Send it to this address.
    Send(MacAddr, PacketBuffer),
    /// It waits; perhaps a question is to be asked.
    Waiting(Option<Probe>),
    /// The cache is full of addresses that are being asked for: it is dropped.
    Full(PacketBuffer),
}

/// What a cache wants done after time has passed.
pub enum Action {
    /// Ask.
    Probe(Probe),
    /// Nobody answered for these packets.
    Failed(IpAddr, Vec<PacketBuffer>),
}

/// What an advertisement or an ARP packet said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Who has the address.
    pub mac: MacAddr,
    /// Whether it answers our question.
    pub solicited: bool,
    /// Whether it replaces another address that is known.
    pub override_cached: bool,
    /// Whether the address is a router's, when it says so (RFC 4861 section 4.4).
    pub router: Option<bool>,
    /// Whether its sender announces itself: that heeds no `locktime`.
    pub gratuitous: bool,
}

/// What became of a claim.
pub struct Claimed {
    /// The address that holds now.
    pub mac: MacAddr,
    /// The packets that waited for it.
    pub waiting: Vec<PacketBuffer>,
    /// Whether a router ceased to be one (RFC 4861 section 7.2.5).
    pub left_routing: bool,
}

/// The cache.
pub struct Neighbours {
    entries: HashMap<IpAddr, Entry, KeyedState>,
    proxies: BTreeSet<IpAddr>,
    // Behind the reachable times, which who watches the link can tell from when we ask.
    draws: SipKey,
    conf: [NeighConf; 2],
    gc: [NeighGc; 2],
    // No later than the earliest deadline of an entry; exact after `on_timer`.
    earliest: Option<Instant>,
    // What changed since it was last asked, when somebody wants to know.
    events: Option<Vec<(Gone, Neighbour)>>,
}

/// Whether an entry of the log of changes is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gone {
    /// It is no longer there.
    Yes,
    /// It is new or changed.
    No,
}

impl Neighbours {
    /// An empty cache with Linux's tunables. The reachable time is drawn by a key of its own.
    pub fn new(hasher: KeyedState, draws: SipKey) -> Neighbours {
        Neighbours {
            entries: HashMap::with_hasher(hasher),
            proxies: BTreeSet::new(),
            draws,
            conf: [NeighConf::v4(), NeighConf::default()],
            gc: [NeighGc::default(); 2],
            earliest: None,
            events: None,
        }
    }

    /// Takes the tunables of its interface.
    pub fn configure(&mut self, tunables: &NicTunables) {
        self.conf = [tunables.neigh_v4, tunables.neigh_v6];
    }

    /// Takes the bounds of both families.
    pub fn bound(&mut self, v4: NeighGc, v6: NeighGc) {
        self.gc = [v4, v6];
    }

    /// Notes changes from now on, for `take_events`.
    pub fn watch(&mut self) {
        self.events.get_or_insert_default();
    }

    /// What changed since the last call.
    pub fn take_events(&mut self) -> Vec<(Gone, Neighbour)> {
        self.events.as_mut().map(core::mem::take).unwrap_or_default()
    }

    fn timing(&self, now: Instant, family: Family) -> Timing {
        let conf = self.conf[family as usize];
        // RFC 4861 section 6.3.2: "ReachableTime ... should be a uniformly distributed random value between MIN_RANDOM_FACTOR
        // and MAX_RANDOM_FACTOR times BaseReachableTime": a half and one and a half.
        let span = [now.millis() / 1000 / DRAW_EVERY_SECS, family as u64];
        let base = u64::try_from(conf.base_reachable_time.as_nanos()).unwrap_or(u64::MAX);
        let drawn = self.draws.hash_words(&span) % base.max(1);
        // However many addresses are asked for, what waits for all of them is bounded.
        let share = WAITING_BYTES / self.entries.len().max(1);
        let conf = NeighConf { unres_qlen_bytes: conf.unres_qlen_bytes.min(share), ..conf };
        Timing { conf, reachable: Duration::from_nanos((base / 2).saturating_add(drawn)) }
    }

    /// Changes the entry of an address, and notes its deadline and what changed.
    fn with<R>(
        &mut self,
        now: Instant,
        address: IpAddr,
        change: impl FnOnce(&mut Entry, &Timing) -> R,
    ) -> Option<R> {
        let timing = self.timing(now, Family::of(address));
        let entry = self.entries.get_mut(&address)?;
        let before = (entry.state, entry.mac, entry.router);
        let answer = change(entry, &timing);
        if before != (entry.state, entry.mac, entry.router) {
            entry.updated = now;
            let shown = entry.show(address);
            if let Some(events) = &mut self.events {
                events.push((Gone::No, shown));
            }
        }
        let deadline = entry.deadline;
        self.earliest = [self.earliest, deadline].into_iter().flatten().min();
        Some(answer)
    }

    fn forget(&mut self, address: IpAddr) -> Option<Neighbour> {
        let gone = self.entries.remove(&address)?.show(address);
        if let Some(events) = &mut self.events {
            events.push((Gone::Yes, gone));
        }
        Some(gone)
    }

    /// Makes sure that an address has an entry; false when there is no room.
    fn admit(&mut self, now: Instant, address: IpAddr) -> bool {
        if self.entries.contains_key(&address) {
            return true;
        }
        if !self.make_room(now, Family::of(address)) {
            return false;
        }
        self.entries.insert(address, Entry::new(now));
        true
    }

    /// The link-layer address of a neighbour to which a packet may go as things stand.
    pub fn known(&mut self, now: Instant, address: IpAddr) -> Option<MacAddr> {
        self.entries.get_mut(&address)?.known(now)
    }

    /// Finds the link-layer address for a packet, or keeps it until the address is known.
    pub fn resolve(&mut self, now: Instant, address: IpAddr, packet: PacketBuffer) -> Resolution {
        if !self.admit(now, address) {
            return Resolution::Full(packet);
        }
        let mut packet = Some(packet);
        let resolution = self.with(now, address, |entry, timing| {
            let packet = packet.take()?;
            Some(entry.look_up(now, address, packet, timing))
        });
        // The entry was admitted above.
        resolution.flatten().unwrap_or(Resolution::Waiting(None))
    }

    /// Frees a place when the cache is full: the entry that is missed least.
    fn make_room(&mut self, now: Instant, family: Family) -> bool {
        let gc = self.gc[family as usize];
        let same = |address: &IpAddr| Family::of(*address) == family;
        let count = self.entries.len();
        if count < gc.gc_thresh2 {
            return true;
        }
        let count = self.entries.keys().filter(|address| same(address)).count();
        if count < gc.gc_thresh2 {
            return true;
        }
        let must = count >= gc.gc_thresh3;
        // A flood of addresses that nobody answers for must not push out those that are talked to.
        let rank = |entry: &Entry| match entry.state {
            State::Failed => Some(0),
            State::Permanent | State::NoArp => None,
            State::Incomplete => must.then_some(2),
            _ if entry.used + FRESH < now => Some(1),
            _ => must.then_some(3),
        };
        let same = self.entries.iter().filter(|(at, _)| same(at));
        let ranked = same.filter_map(|(at, entry)| Some((rank(entry)?, entry.used, at)));
        let oldest = ranked.min();
        match oldest.map(|(_, _, address)| *address) {
            Some(address) => self.forget(address).is_some(),
            None => !must,
        }
    }

    /// Learns from a question that somebody asked us: who asks will want an answer (RFC 826, RFC 4861 section 7.2.3).
    /// Returns the packets that waited.
    pub fn learn(&mut self, now: Instant, address: IpAddr, mac: MacAddr) -> Vec<PacketBuffer> {
        if !self.admit(now, address) {
            return Vec::new();
        }
        self.with(now, address, |entry, timing| entry.learn(now, mac, timing)).unwrap_or_default()
    }

    /// Takes an answer (RFC 4861 section 7.2.5). An answer about an address nobody asked for is ignored.
    pub fn claim(&mut self, now: Instant, address: IpAddr, claim: Claim) -> Claimed {
        let nothing = Claimed { mac: claim.mac, waiting: Vec::new(), left_routing: false };
        self.with(now, address, |entry, timing| entry.claim(now, claim, timing)).unwrap_or(nothing)
    }

    /// A transport made progress with the neighbour.
    pub fn confirm(&mut self, now: Instant, address: IpAddr) {
        if self.entries.get(&address).is_some_and(|entry| entry.heeds_confirmation(now)) {
            self.with(now, address, |entry, timing| entry.confirm(now, true, timing));
        }
    }

    /// Notes that a neighbour is a router, as its advertisement says.
    pub fn note_router(&mut self, now: Instant, address: IpAddr) {
        self.with(now, address, |entry, _| entry.router = true);
    }

    /// Sets an entry by hand; returns the packets that waited, or None when there is no room.
    pub fn set(&mut self, now: Instant, neighbour: &Neighbour) -> Option<Vec<PacketBuffer>> {
        let address = neighbour.address;
        if neighbour.proxy {
            self.proxies.insert(address);
            return Some(Vec::new());
        }
        if !self.admit(now, address) {
            return None;
        }
        self.with(now, address, |entry, timing| entry.set(now, neighbour, timing))
    }

    /// Forgets an entry, and gives what it was.
    pub fn remove(&mut self, address: IpAddr) -> Option<Neighbour> {
        self.forget(address)
    }

    /// Stops answering questions for an address; answers whether it did.
    pub fn remove_proxy(&mut self, address: IpAddr) -> bool {
        self.proxies.remove(&address)
    }

    /// Whether questions for an address are answered here.
    pub fn is_proxied(&self, address: IpAddr) -> bool {
        self.proxies.contains(&address)
    }

    /// Whether nobody answers for an address.
    pub fn is_failed(&self, address: IpAddr) -> bool {
        self.entries.get(&address).is_some_and(|entry| entry.state == State::Failed)
    }

    /// Forgets everything but what was set by hand, and gives what that was.
    pub fn flush(&mut self) -> Vec<Neighbour> {
        let mut gone = self.list();
        gone.retain(|entry| !entry.proxy && entry.state != State::Permanent);
        for neighbour in &gone {
            self.entries.remove(&neighbour.address);
        }
        gone
    }

    /// Does what is due.
    pub fn on_timer(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let due = |entry: &Entry| entry.deadline.is_some_and(|deadline| deadline <= now);
        let mut addresses: Vec<IpAddr> =
            self.entries.iter().filter(|(_, entry)| due(entry)).map(|(at, _)| *at).collect();
        addresses.sort_unstable();
        for address in addresses {
            let fate = self.with(now, address, |entry, timing| {
                entry.on_deadline(now, address, timing, &mut actions)
            });
            if fate == Some(Fate::Forgotten) {
                self.forget(address);
            }
        }
        self.collect(now);
        self.earliest = self.entries.values().filter_map(|entry| entry.deadline).min();
        actions
    }

    /// Throws away what nobody used for long, once there is much.
    fn collect(&mut self, now: Instant) {
        let Neighbours { entries, gc, conf, .. } = &*self;
        let crowded = [Family::V4, Family::V6].map(|family| {
            let of = entries.keys().filter(|address| Family::of(**address) == family);
            of.count() >= gc[family as usize].gc_thresh1
        });
        let old = |address: &IpAddr, entry: &Entry| {
            let family = Family::of(*address) as usize;
            let idle = entry.used.max(entry.confirmed) + conf[family].gc_stale_time <= now;
            crowded[family] && entry.state == State::Stale && idle
        };
        let mut gone: Vec<IpAddr> =
            entries.iter().filter(|(at, entry)| old(at, entry)).map(|(at, _)| *at).collect();
        gone.sort_unstable();
        for address in gone {
            self.forget(address);
        }
    }

    /// When `on_timer` next has something to do; perhaps nothing when a deadline was moved later.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.earliest
    }

    /// The entry of an address.
    pub fn get(&self, address: IpAddr) -> Option<Neighbour> {
        self.entries.get(&address).map(|entry| entry.show(address))
    }

    /// The entries, by address, and then the proxied addresses.
    pub fn list(&self) -> Vec<Neighbour> {
        let mut all: Vec<Neighbour> =
            self.entries.iter().map(|(address, entry)| entry.show(*address)).collect();
        all.sort_unstable_by_key(|neighbour| neighbour.address);
        let proxy = |address: &IpAddr| Neighbour {
            proxy: true,
            ..Neighbour::new(*address, None, State::Permanent)
        };
        all.extend(self.proxies.iter().map(proxy));
        all
    }
}

#[cfg(test)]
mod tests;
