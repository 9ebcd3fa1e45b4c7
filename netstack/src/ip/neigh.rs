//! The neighbour cache of one interface: a pure state machine of neighbour unreachability detection
//! (RFC 4861 section 7.3), used for ARP too. Frames and probes come out as values.

use core::net::IpAddr;
use std::collections::{HashMap, VecDeque};

use crate::buffer::PacketBuffer;
use crate::link::MacAddr;
use crate::rng::KeyedState;
use crate::time::{Duration, Instant};

/// How often an address is asked for before it counts as unreachable (`mcast_solicit`, `ucast_solicit`).
const MAX_PROBES: u8 = 3;
/// The time between probes (`retrans_time_ms`).
const RETRANS: Duration = Duration::from_secs(1);
/// How long a confirmation holds (`base_reachable_time_ms`).
const REACHABLE: Duration = Duration::from_secs(30);
/// How long a stale entry is used before it is probed (`delay_first_probe_time`).
const DELAY: Duration = Duration::from_secs(5);
/// How long a failed entry is remembered.
const FAILED: Duration = Duration::from_secs(3);
/// How many bytes wait for one address; the oldest packets give way (`unres_qlen_bytes`).
const MAX_WAITING: usize = 212_992;
/// What a waiting packet costs besides its bytes.
const OVERHEAD: usize = 512;
/// How many addresses are cached (`gc_thresh3`).
const MAX_ENTRIES: usize = 1024;

/// The state of an entry (RFC 4861 section 7.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Asked for; packets wait.
    Incomplete,
    /// Confirmed a short time ago.
    Reachable,
    /// Known, not confirmed lately.
    Stale,
    /// Used while stale: a confirmation may still come from above.
    Delay,
    /// Asked again, directly.
    Probe,
    /// Nobody answered.
    Failed,
    /// Set by hand.
    Permanent,
}

struct Entry {
    state: State,
    mac: MacAddr,
    // When the state changes by itself; Stale and Permanent have none.
    deadline: Option<Instant>,
    probes: u8,
    used: Instant,
    waiting: VecDeque<PacketBuffer>,
    waiting_cost: usize,
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
}

/// A question to be asked on the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Who is asked for.
    pub address: IpAddr,
    /// Whom to ask: the known address, or everybody.
    pub mac: Option<MacAddr>,
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
}

/// The cache.
pub struct Neighbours {
    entries: HashMap<IpAddr, Entry, KeyedState>,
    // No later than the earliest deadline of an entry; exact after `on_timer`.
    earliest: Option<Instant>,
}

impl Neighbours {
    /// An empty cache.
    pub fn new(hasher: KeyedState) -> Neighbours {
        Neighbours { entries: HashMap::with_hasher(hasher), earliest: None }
    }

    /// Finds the link-layer address for a packet, or keeps it until the address is known.
    pub fn resolve(&mut self, now: Instant, address: IpAddr, packet: PacketBuffer) -> Resolution {
        let resolution = self.look_up(now, address, packet);
        self.note_deadline(address);
        resolution
    }

    fn look_up(&mut self, now: Instant, address: IpAddr, packet: PacketBuffer) -> Resolution {
        if !self.entries.contains_key(&address) && !self.make_room() {
            return Resolution::Full(packet);
        }
        let entry = self.entries.entry(address).or_insert_with(|| Entry {
            state: State::Failed,
            mac: MacAddr::ZERO,
            deadline: None,
            probes: 0,
            used: now,
            waiting: VecDeque::new(),
            waiting_cost: 0,
        });
        entry.used = now;
        match entry.state {
            State::Reachable | State::Delay | State::Probe | State::Permanent => {
                Resolution::Send(entry.mac, packet)
            }
            State::Stale => {
                // RFC 4861 section 7.3.3: "The first time a node sends a packet to a neighbor whose entry is
                // STALE, the sender changes the state to DELAY".
                entry.state = State::Delay;
                entry.deadline = Some(now + DELAY);
                Resolution::Send(entry.mac, packet)
            }
            State::Incomplete => {
                entry.wait(packet);
                Resolution::Waiting(None)
            }
            State::Failed => {
                entry.state = State::Incomplete;
                entry.probes = 1;
                entry.deadline = Some(now + RETRANS);
                entry.wait(packet);
                Resolution::Waiting(Some(Probe { address, mac: None }))
            }
        }
    }

    /// Frees a place when the cache is full: the entry that was not used for longest, unless packets wait on it.
    fn make_room(&mut self) -> bool {
        if self.entries.len() < MAX_ENTRIES {
            return true;
        }
        let idle = |entry: &Entry| !matches!(entry.state, State::Incomplete | State::Permanent);
        let oldest = self.entries.iter().filter(|(_, entry)| idle(entry));
        let oldest = oldest.min_by_key(|(address, entry)| (entry.used, **address));
        match oldest.map(|(address, _)| *address) {
            Some(address) => self.entries.remove(&address).is_some(),
            None => false,
        }
    }

    /// Learns from a question that somebody asked us: who asks will want an answer (RFC 826, RFC 4861 section 7.2.3).
    /// Returns the packets that waited, with the address they go to.
    pub fn learn(&mut self, now: Instant, address: IpAddr, mac: MacAddr) -> Vec<PacketBuffer> {
        if !self.entries.contains_key(&address) && !self.make_room() {
            return Vec::new();
        }
        let entry = self.entries.entry(address).or_insert_with(|| Entry {
            state: State::Stale,
            mac,
            deadline: None,
            probes: 0,
            used: now,
            waiting: VecDeque::new(),
            waiting_cost: 0,
        });
        if entry.state == State::Permanent || (entry.mac == mac && entry.state != State::Failed) {
            if entry.state == State::Incomplete {
                entry.state = State::Stale;
                entry.deadline = None;
            }
            return entry.take_waiting();
        }
        entry.mac = mac;
        entry.state = State::Stale;
        entry.deadline = None;
        entry.take_waiting()
    }

    /// Takes an answer (RFC 4861 section 7.2.5). An answer about an address nobody asked for is ignored.
    /// Returns the packets that waited, and the address they go to.
    pub fn claim(
        &mut self,
        now: Instant,
        address: IpAddr,
        claim: Claim,
    ) -> (MacAddr, Vec<PacketBuffer>) {
        let Some(entry) = self.entries.get_mut(&address) else { return (claim.mac, Vec::new()) };
        match entry.state {
            State::Permanent => return (entry.mac, Vec::new()),
            State::Incomplete | State::Failed => {
                entry.mac = claim.mac;
                entry.confirm(now, claim.solicited);
            }
            _ if entry.mac == claim.mac && claim.solicited => entry.confirm(now, true),
            _ if entry.mac == claim.mac => {}
            _ if claim.override_cached => {
                entry.mac = claim.mac;
                entry.confirm(now, claim.solicited);
            }
            State::Reachable => {
                // "If the Override flag is clear and the supplied link-layer address differs ... If the state
                // of the entry is REACHABLE, set it to STALE, but do not update the entry in any other way."
                entry.state = State::Stale;
                entry.deadline = None;
            }
            _ => {}
        }
        let answer = (entry.mac, entry.take_waiting());
        self.note_deadline(address);
        answer
    }

    /// A transport made progress with the neighbour.
    pub fn confirm(&mut self, now: Instant, address: IpAddr) {
        if let Some(entry) = self.entries.get_mut(&address)
            && matches!(entry.state, State::Reachable | State::Stale | State::Delay | State::Probe)
        {
            entry.confirm(now, true);
            self.note_deadline(address);
        }
    }

    /// Sets an entry by hand.
    pub fn set_permanent(&mut self, now: Instant, address: IpAddr, mac: MacAddr) {
        let state = State::Permanent;
        let (waiting, waiting_cost) = (VecDeque::new(), 0);
        let entry =
            Entry { state, mac, deadline: None, probes: 0, used: now, waiting, waiting_cost };
        self.entries.insert(address, entry);
    }

    /// Forgets an entry; answers whether there was one.
    pub fn remove(&mut self, address: IpAddr) -> bool {
        self.entries.remove(&address).is_some()
    }

    /// Forgets everything but what was set by hand; returns the packets that waited.
    pub fn flush(&mut self) {
        self.entries.retain(|_, entry| entry.state == State::Permanent);
    }

    /// Does what is due.
    pub fn on_timer(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let due = |entry: &Entry| entry.deadline.is_some_and(|deadline| deadline <= now);
        let mut addresses: Vec<IpAddr> =
            self.entries.iter().filter(|(_, entry)| due(entry)).map(|(at, _)| *at).collect();
        addresses.sort_unstable();
        for address in addresses {
            let Some(entry) = self.entries.get_mut(&address) else { continue };
            if entry.on_deadline(now, address, &mut actions) == Fate::Forgotten {
                self.entries.remove(&address);
            }
        }
        self.earliest = self.entries.values().filter_map(|entry| entry.deadline).min();
        actions
    }

    /// When `on_timer` next has something to do; perhaps nothing when a deadline was moved later.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.earliest
    }

    /// Notes that the entry of an address may have a new deadline.
    fn note_deadline(&mut self, address: IpAddr) {
        let new = self.entries.get(&address).and_then(|entry| entry.deadline);
        self.earliest = [self.earliest, new].into_iter().flatten().min();
    }

    /// The entries, by address.
    pub fn list(&self) -> Vec<Neighbour> {
        let mut all: Vec<Neighbour> = self
            .entries
            .iter()
            .map(|(address, entry)| Neighbour {
                address: *address,
                mac: Some(entry.mac)
                    .filter(|_| !matches!(entry.state, State::Incomplete | State::Failed)),
                state: entry.state,
            })
            .collect();
        all.sort_unstable_by_key(|neighbour| neighbour.address);
        all
    }
}

#[derive(PartialEq, Eq)]
enum Fate {
    Kept,
    Forgotten,
}

impl Entry {
    fn wait(&mut self, packet: PacketBuffer) {
        self.waiting_cost += packet.len() + OVERHEAD;
        self.waiting.push_back(packet);
        while self.waiting_cost > MAX_WAITING
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.waiting_cost -= oldest.len() + OVERHEAD;
        }
    }

    fn take_waiting(&mut self) -> Vec<PacketBuffer> {
        self.waiting_cost = 0;
        core::mem::take(&mut self.waiting).into()
    }

    fn confirm(&mut self, now: Instant, solicited: bool) {
        self.probes = 0;
        (self.state, self.deadline) = match solicited {
            true => (State::Reachable, Some(now + REACHABLE)),
            false => (State::Stale, None),
        };
    }

    fn on_deadline(&mut self, now: Instant, address: IpAddr, actions: &mut Vec<Action>) -> Fate {
        match self.state {
            State::Reachable => {
                self.state = State::Stale;
                self.deadline = None;
            }
            State::Delay => {
                self.state = State::Probe;
                self.probes = 1;
                self.deadline = Some(now + RETRANS);
                actions.push(Action::Probe(Probe { address, mac: Some(self.mac) }));
            }
            State::Incomplete | State::Probe if self.probes < MAX_PROBES => {
                self.probes += 1;
                self.deadline = Some(now + RETRANS);
                let mac = Some(self.mac).filter(|_| self.state == State::Probe);
                actions.push(Action::Probe(Probe { address, mac }));
            }
            State::Incomplete | State::Probe => {
                self.state = State::Failed;
                self.deadline = Some(now + FAILED);
                actions.push(Action::Failed(address, self.take_waiting()));
            }
            State::Failed => return Fate::Forgotten,
            State::Stale | State::Permanent => self.deadline = None,
        }
        Fate::Kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SipKey;

    const PEER: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 2));
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
    const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);

    fn cache() -> Neighbours {
        Neighbours::new(KeyedState::new(SipKey::new(1, 2)))
    }

    fn packet(n: u8) -> PacketBuffer {
        PacketBuffer::from_vec(vec![n])
    }

    fn secs(n: u64) -> Instant {
        Instant::from_secs(n)
    }

    fn answer(mac: MacAddr) -> Claim {
        Claim { mac, solicited: true, override_cached: true }
    }

    #[test]
    fn packets_wait_for_the_answer_and_leave_in_order() {
        let mut cache = cache();
        let first = cache.resolve(secs(0), PEER, packet(1));
        assert!(matches!(first, Resolution::Waiting(Some(Probe { mac: None, .. }))));
        assert!(matches!(cache.resolve(secs(0), PEER, packet(2)), Resolution::Waiting(None)));
        let (mac, waiting) = cache.claim(secs(0), PEER, answer(MAC));
        assert_eq!(mac, MAC);
        assert_eq!(waiting.iter().map(PacketBuffer::to_vec).collect::<Vec<_>>(), [[1], [2]]);
        assert!(matches!(cache.resolve(secs(1), PEER, packet(3)), Resolution::Send(MAC, _)));
    }

    #[test]
    fn an_address_that_does_not_answer_fails_after_three_probes_a_second_apart() {
        let mut cache = cache();
        cache.resolve(secs(0), PEER, packet(1));
        let mut probes = 1;
        for second in 1..=2 {
            assert_eq!(cache.next_deadline(), Some(secs(second)));
            probes += cache.on_timer(secs(second)).len();
        }
        assert_eq!(probes, 3);
        let actions = cache.on_timer(secs(3));
        let [Action::Failed(PEER, waiting)] = actions.as_slice() else { unreachable!() };
        assert_eq!(waiting.len(), 1);
        // The next packet asks anew, and an entry nobody uses is forgotten.
        assert!(matches!(cache.resolve(secs(4), PEER, packet(2)), Resolution::Waiting(Some(_))));
        for second in 5..20 {
            cache.on_timer(secs(second));
        }
        assert!(cache.list().is_empty() && cache.next_deadline().is_none());
    }

    #[test]
    fn a_stale_entry_that_is_used_is_probed_directly_and_confirmed_by_progress() {
        let mut cache = cache();
        cache.learn(secs(0), PEER, MAC);
        assert!(matches!(cache.resolve(secs(1), PEER, packet(1)), Resolution::Send(MAC, _)));
        assert_eq!(cache.next_deadline(), Some(secs(6)));
        let actions = cache.on_timer(secs(6));
        assert!(matches!(actions.as_slice(), [Action::Probe(Probe { mac: Some(MAC), .. })]));
        cache.confirm(secs(7), PEER);
        assert_eq!(cache.list()[0].state, State::Reachable);
        cache.on_timer(secs(37));
        assert_eq!(cache.list()[0].state, State::Stale);
    }

    #[test]
    fn an_unasked_answer_is_ignored_and_one_without_override_only_makes_stale() {
        let mut cache = cache();
        cache.claim(secs(0), PEER, answer(MAC));
        assert!(cache.list().is_empty());
        cache.resolve(secs(0), PEER, packet(1));
        cache.claim(secs(0), PEER, answer(MAC));
        let weak = Claim { mac: OTHER, solicited: true, override_cached: false };
        cache.claim(secs(1), PEER, weak);
        assert_eq!((cache.list()[0].mac, cache.list()[0].state), (Some(MAC), State::Stale));
    }

    #[test]
    fn the_cache_and_its_queues_are_bounded() {
        let mut cache = cache();
        for n in 0..500u32 {
            cache.resolve(secs(0), PEER, packet((n % 256) as u8));
        }
        let (_, waiting) = cache.claim(secs(0), PEER, answer(MAC));
        let fit = MAX_WAITING / (OVERHEAD + 1);
        assert_eq!(waiting.len(), fit);
        assert_eq!(waiting[0].to_vec(), [((500 - fit) % 256) as u8]);
        for n in 0..3000u32 {
            cache.learn(secs(1), IpAddr::V4(n.into()), MAC);
        }
        assert_eq!(cache.list().len(), MAX_ENTRIES);
        for n in 0..3000u32 {
            cache.resolve(secs(2), IpAddr::V4((n + 10_000).into()), packet(1));
        }
        assert_eq!(cache.list().len(), MAX_ENTRIES);
    }
}
