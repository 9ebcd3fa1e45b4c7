//! From the addresses of a packet to its endpoint, by keyed hash. Nothing here scans sockets.

use core::hash::{BuildHasher, Hash, Hasher};
use core::net::{IpAddr, SocketAddr};
use core::num::NonZeroU64;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use parking_lot::RwLock;

use super::Endpoint;
use crate::filter::Program;
use crate::ip::Family;
use crate::lazy::Plain;
use crate::link::NicId;
use crate::rng::KeyedState;

/// How many independently locked parts the table has.
const SHARDS: usize = 16;

/// What identifies an endpoint. An unspecified address or port 0 stands for "any".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// The IP protocol number.
    pub protocol: u8,
    /// Our address and port.
    pub local: (IpAddr, u16),
    /// The peer's address and port.
    pub remote: (IpAddr, u16),
}

/// In two words for IPv4, as each packet asks.
impl Hash for Key {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ports = u64::from(self.local.1) << 16 | u64::from(self.remote.1);
        state.write_u64(u64::from(self.protocol) << 32 | ports);
        match (self.local.0, self.remote.0) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                state.write_u64(u64::from(local.to_bits()) << 32 | u64::from(remote.to_bits()));
            }
            (local, remote) => {
                for address in [local, remote] {
                    match address {
                        IpAddr::V4(address) => state.write_u32(address.to_bits()),
                        IpAddr::V6(address) => state.write_u128(address.to_bits()),
                    }
                }
            }
        }
    }
}

impl Key {
    /// The key of a connection.
    pub fn connected(protocol: u8, local: SocketAddr, remote: SocketAddr) -> Key {
        Key { protocol, local: (local.ip(), local.port()), remote: (remote.ip(), remote.port()) }
    }

    /// The key of an endpoint that takes packets from anybody: a listener or a bound datagram socket.
    pub fn bound(protocol: u8, local: SocketAddr) -> Key {
        let any = Family::of(local.ip()).unspecified();
        Key { protocol, local: (local.ip(), local.port()), remote: (any, 0) }
    }

    /// The keys of a wildcard bind: one family, or both for a dual-stack socket.
    pub fn wildcard(protocol: u8, port: u16, families: &[Family]) -> Vec<Key> {
        let key = |family: &Family| Key::bound(protocol, (family.unspecified(), port).into());
        families.iter().map(key).collect()
    }
}

/// Whether a key may have several endpoints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// The key must be free, and stays this endpoint's alone.
    Exclusive,
    /// Others may be there (the port table has agreed); the latest gets unicast packets.
    Shared,
    /// Others of this kind may be there; each flow goes to one of them (SO_REUSEPORT).
    Balanced,
}

/// The key is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("address already in use")]
pub struct KeyInUse;

struct Member {
    id: RegistrationId,
    endpoint: Arc<dyn Endpoint>,
    nic: Option<NicId>,
    sharing: Sharing,
}

/// A place in the demux, to be given back with [`Demux::remove`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registration {
    key: Key,
    id: RegistrationId,
}

/// The number of a registration, for who knows its key. Later ones are greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RegistrationId(NonZeroU64);

impl Registration {
    /// The registration of that number under a key.
    pub fn of(key: Key, id: RegistrationId) -> Registration {
        Registration { key, id }
    }

    /// Its number.
    pub fn id(&self) -> RegistrationId {
        self.id
    }

    /// The key that is registered.
    pub fn key(&self) -> Key {
        self.key
    }
}

impl Plain for Vec<Registration> {
    const PLAIN: &'static Vec<Registration> = &Vec::new();
}

/// The endpoints of one key: nearly always one, which lies in the table itself.
enum Members {
    One([Member; 1]),
    Many(Vec<Member>),
}

impl Members {
    fn as_slice(&self) -> &[Member] {
        match self {
            Members::One(one) => one,
            Members::Many(many) => many,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [Member] {
        match self {
            Members::One(one) => one,
            Members::Many(many) => many,
        }
    }

    fn push(&mut self, member: Member) {
        match core::mem::replace(self, Members::Many(Vec::new())) {
            Members::One([first]) => *self = Members::Many(vec![first, member]),
            Members::Many(mut many) => {
                many.push(member);
                *self = Members::Many(many);
            }
        }
    }
}

/// Runs the program of a group on the packet in question: the number of the member that it chooses.
pub type Choose<'a> = &'a dyn Fn(&Program) -> u32;

type Shard = RwLock<HashMap<Key, Members, KeyedState>>;

/// The table.
pub struct Demux {
    shards: [Shard; SHARDS],
    hasher: KeyedState,
    next_id: AtomicU64,
    len: AtomicUsize,
    /// What chooses among the endpoints of a key (SO_ATTACH_REUSEPORT_CBPF). Few keys have any.
    choosers: RwLock<HashMap<Key, Program, KeyedState>>,
}

impl Demux {
    /// An empty table whose placement is keyed.
    pub fn new(hasher: KeyedState) -> Demux {
        Demux {
            shards: core::array::from_fn(|_| RwLock::new(HashMap::with_hasher(hasher.clone()))),
            choosers: RwLock::new(HashMap::with_hasher(hasher.clone())),
            hasher,
            next_id: AtomicU64::new(0),
            len: AtomicUsize::new(0),
        }
    }

    fn shard(&self, key: &Key) -> &Shard {
        // The map uses the high and low bits of the same hash; bits from the middle pick the shard.
        &self.shards[(self.hasher.hash_one(key) >> 24) as usize % SHARDS]
    }

    /// How many registrations there are: zero when no endpoint leaked.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether nothing is registered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Registers an endpoint under a key, optionally only for packets of one interface.
    pub fn insert(
        &self,
        key: Key,
        endpoint: Arc<dyn Endpoint>,
        nic: Option<NicId>,
        sharing: Sharing,
    ) -> Result<Registration, KeyInUse> {
        let before = self.next_id.fetch_add(1, Ordering::Relaxed);
        let id = RegistrationId(NonZeroU64::MIN.saturating_add(before));
        let member = Member { id, endpoint, nic, sharing };
        match self.shard(&key).write().entry(key) {
            Slot::Vacant(slot) => {
                slot.insert(Members::One([member]));
            }
            Slot::Occupied(mut slot) => {
                let exclusive = |member: &Member| member.sharing == Sharing::Exclusive;
                if sharing == Sharing::Exclusive || slot.get().as_slice().iter().any(exclusive) {
                    return Err(KeyInUse);
                }
                slot.get_mut().push(member);
            }
        }
        self.len.fetch_add(1, Ordering::Relaxed);
        Ok(Registration { key, id })
    }

    /// Takes a registration back. The endpoint is dropped outside the table's lock.
    pub fn remove(&self, registration: &Registration) {
        let mut gone = None;
        let mut shard = self.shard(&registration.key).write();
        if let Slot::Occupied(mut slot) = shard.entry(registration.key) {
            match slot.get_mut() {
                Members::One([only]) if only.id == registration.id => gone = Some(slot.remove()),
                Members::One(_) => {}
                Members::Many(many) => {
                    let at = many.iter().position(|member| member.id == registration.id);
                    // As in Linux's reuseport_detach_sock the last one takes its number.
                    gone = at.map(|at| Members::One([many.swap_remove(at)]));
                    if many.is_empty() {
                        slot.remove();
                    }
                }
            }
        }
        let last = !shard.contains_key(&registration.key);
        drop(shard);
        if gone.is_some() {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        if last && !self.choosers.read().is_empty() {
            self.choosers.write().remove(&registration.key);
        }
    }

    /// Sets the program that chooses among the endpoints of a registration's key, or takes it away; gives what was there.
    pub fn set_chooser(
        &self,
        registration: &Registration,
        chooser: Option<Program>,
    ) -> Option<Program> {
        let mut choosers = self.choosers.write();
        match chooser {
            Some(chooser) => choosers.insert(registration.key, chooser),
            None => choosers.remove(&registration.key),
        }
    }

    /// Brings a program to a key that has no other endpoint; who joins a group takes the group's.
    pub fn offer_chooser(&self, registration: &Registration, chooser: &Program) {
        let shard = self.shard(&registration.key).read();
        let alone = shard.get(&registration.key).is_some_and(|all| all.as_slice().len() == 1);
        drop(shard);
        if alone {
            self.choosers.write().insert(registration.key, chooser.clone());
        }
    }

    /// Puts another endpoint in a registration's place, without a moment in which the key has none.
    /// Gives false where the registration is gone.
    pub fn replace(&self, registration: &Registration, endpoint: Arc<dyn Endpoint>) -> bool {
        let mut shard = self.shard(&registration.key).write();
        let members = shard.get_mut(&registration.key);
        let mine = members
            .and_then(|all| all.as_mut_slice().iter_mut().find(|one| one.id == registration.id));
        let Some(member) = mine else { return false };
        let old = core::mem::replace(&mut member.endpoint, endpoint);
        drop(shard);
        drop(old);
        true
    }

    /// Whether a key has an endpoint.
    pub fn contains(&self, key: &Key) -> bool {
        self.shard(key).read().contains_key(key)
    }

    /// The endpoint of exactly this key. `flow` spreads flows over balanced endpoints.
    pub fn exact(&self, key: &Key, nic: NicId, flow: u64) -> Option<Arc<dyn Endpoint>> {
        self.chosen(key, nic, || flow, None)
    }

    /// As [`Demux::exact`], where the program of a group chooses before the flow does.
    fn chosen(
        &self,
        key: &Key,
        nic: NicId,
        flow: impl Fn() -> u64,
        choose: Option<Choose<'_>>,
    ) -> Option<Arc<dyn Endpoint>> {
        let shard = self.shard(key).read();
        let members = shard.get(key)?.as_slice();
        let fits = |member: &&Member| member.nic.is_none_or(|only| only == nic);
        if let [only] = members {
            return Some(only).filter(fits).map(|member| member.endpoint.clone());
        }
        // A member bound to the interface beats one that is not; among equals the latest wins.
        let best =
            members.iter().filter(fits).max_by_key(|member| (member.nic.is_some(), member.id))?;
        if best.sharing != Sharing::Balanced {
            return Some(best.endpoint.clone());
        }
        let group = |member: &&Member| {
            fits(member) && member.nic == best.nic && member.sharing == Sharing::Balanced
        };
        // Linux: what the program gives is the number of a socket, or none.
        let chooser = choose.and_then(|_| self.choosers.read().get(key).cloned());
        let number = choose.zip(chooser).map(|(choose, chooser)| choose(&chooser) as usize);
        if let Some(member) = number.and_then(|number| members.iter().filter(group).nth(number)) {
            return Some(member.endpoint.clone());
        }
        let count = members.iter().filter(group).count().max(1);
        let chosen = members.iter().filter(group).nth((flow() % count as u64) as usize);
        chosen.map(|member| member.endpoint.clone())
    }

    /// As [`Demux::listener`] for a packet that a group's program may see.
    pub fn listener_by(
        &self,
        protocol: u8,
        (local, remote): (SocketAddr, SocketAddr),
        nic: NicId,
        choose: Choose<'_>,
    ) -> Option<Arc<dyn Endpoint>> {
        self.find_listener(protocol, (local, remote), nic, Some(choose))
    }

    /// The endpoint of a unicast packet: the connection, else who is bound to the address, else to any address.
    pub fn lookup(
        &self,
        protocol: u8,
        local: SocketAddr,
        remote: SocketAddr,
        nic: NicId,
    ) -> Option<Arc<dyn Endpoint>> {
        let connected = Key::connected(protocol, local, remote);
        if let Some(endpoint) = self.exact(&connected, nic, 0) {
            return Some(endpoint);
        }
        self.listener(protocol, local, remote, nic)
    }

    /// As [`Demux::lookup`] without connections.
    pub fn listener(
        &self,
        protocol: u8,
        local: SocketAddr,
        remote: SocketAddr,
        nic: NicId,
    ) -> Option<Arc<dyn Endpoint>> {
        self.find_listener(protocol, (local, remote), nic, None)
    }

    fn find_listener(
        &self,
        protocol: u8,
        (local, remote): (SocketAddr, SocketAddr),
        nic: NicId,
        choose: Option<Choose<'_>>,
    ) -> Option<Arc<dyn Endpoint>> {
        let flow = || self.hasher.hash_one((local, remote));
        let any = SocketAddr::new(Family::of(local.ip()).unspecified(), local.port());
        self.chosen(&Key::bound(protocol, local), nic, flow, choose)
            .or_else(|| self.chosen(&Key::bound(protocol, any), nic, flow, choose))
    }

    /// All endpoints that a broadcast or multicast packet is for.
    pub fn all(
        &self,
        protocol: u8,
        local: SocketAddr,
        remote: SocketAddr,
        nic: NicId,
    ) -> Vec<Arc<dyn Endpoint>> {
        let any = SocketAddr::new(Family::of(local.ip()).unspecified(), local.port());
        let keys = [
            Key::connected(protocol, local, remote),
            Key::bound(protocol, local),
            Key::bound(protocol, any),
        ];
        keys.iter().flat_map(|key| self.members(key, nic)).collect()
    }

    /// All endpoints of one key.
    pub fn members(&self, key: &Key, nic: NicId) -> Vec<Arc<dyn Endpoint>> {
        let shard = self.shard(key).read();
        let members = shard.get(key).map(Members::as_slice).unwrap_or_default();
        let fitting = members.iter().filter(|member| member.nic.is_none_or(|only| only == nic));
        fitting.map(|member| member.endpoint.clone()).collect()
    }

    /// Every endpoint, each once per registration; for shutting a stack down and for listings.
    pub fn endpoints(&self) -> Vec<(Key, Arc<dyn Endpoint>)> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            for (key, members) in shard.read().iter() {
                all.extend(members.as_slice().iter().map(|member| (*key, member.endpoint.clone())));
            }
        }
        all
    }

    /// Forgets every registration, which breaks the cycle between a stack and its endpoints.
    pub fn clear(&self) {
        for shard in &self.shards {
            let gone: Vec<_> = shard.write().drain().collect();
            let count: usize = gone.iter().map(|(_, members)| members.as_slice().len()).sum();
            self.len.fetch_sub(count, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::PacketBuffer;
    use crate::ip::IpInfo;
    use crate::rng::SipKey;
    use crate::time::Instant;
    use crate::transport::IcmpError;

    struct Named;

    impl Endpoint for Named {
        fn deliver(&self, _now: Instant, _info: &IpInfo, _packet: PacketBuffer) {}
        fn icmp_error(&self, _now: Instant, _error: &IcmpError) {}
    }

    const NIC: NicId = NicId(2);

    fn demux() -> Demux {
        Demux::new(KeyedState::new(SipKey::new(1, 2)))
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn same(a: &Option<Arc<dyn Endpoint>>, b: &Arc<dyn Endpoint>) -> bool {
        a.as_ref().is_some_and(|a| std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b)))
    }

    // A byte of state keeps the addresses of the endpoints apart.
    fn endpoint() -> Arc<dyn Endpoint> {
        struct Sized(#[allow(dead_code)] u8, Named);
        impl Endpoint for Sized {
            fn deliver(&self, now: Instant, info: &IpInfo, packet: PacketBuffer) {
                self.1.deliver(now, info, packet);
            }
            fn icmp_error(&self, now: Instant, error: &IcmpError) {
                self.1.icmp_error(now, error);
            }
        }
        Arc::new(Sized(0, Named))
    }

    #[test]
    fn a_connection_beats_a_bound_address_which_beats_a_wildcard() {
        let demux = demux();
        let (wild, bound, conn) = (endpoint(), endpoint(), endpoint());
        let (local, remote) = (addr("10.0.0.1:53"), addr("10.0.0.2:999"));
        let find = || demux.lookup(17, local, remote, NIC);
        assert!(find().is_none());
        let key = Key::wildcard(17, 53, &[Family::V4])[0];
        demux.insert(key, wild.clone(), None, Sharing::Exclusive).unwrap();
        assert!(same(&find(), &wild));
        demux.insert(Key::bound(17, local), bound.clone(), None, Sharing::Exclusive).unwrap();
        assert!(same(&find(), &bound));
        let key = Key::connected(17, local, remote);
        let place = demux.insert(key, conn.clone(), None, Sharing::Exclusive).unwrap();
        assert!(same(&find(), &conn));
        assert_eq!(demux.insert(key, conn, None, Sharing::Shared).unwrap_err(), KeyInUse);
        demux.remove(&place);
        assert!(same(&find(), &bound));
        assert_eq!(demux.len(), 2);
        demux.clear();
        assert!(demux.is_empty());
    }

    #[test]
    fn an_endpoint_bound_to_an_interface_only_sees_it() {
        let demux = demux();
        let (one, any) = (endpoint(), endpoint());
        let (local, remote) = (addr("[fd00::1]:53"), addr("[fd00::2]:999"));
        let key = Key::bound(17, local);
        demux.insert(key, one.clone(), Some(NicId(3)), Sharing::Shared).unwrap();
        assert!(demux.lookup(17, local, remote, NIC).is_none());
        demux.insert(key, any.clone(), None, Sharing::Shared).unwrap();
        assert!(same(&demux.lookup(17, local, remote, NIC), &any));
        assert!(same(&demux.lookup(17, local, remote, NicId(3)), &one));
        assert_eq!(demux.all(17, local, remote, NicId(3)).len(), 2);
    }

    #[test]
    fn balanced_endpoints_each_get_some_flows_and_a_flow_stays() {
        let demux = demux();
        let members = [endpoint(), endpoint()];
        let local = addr("10.0.0.1:80");
        for member in &members {
            demux.insert(Key::bound(6, local), member.clone(), None, Sharing::Balanced).unwrap();
        }
        let mut hits = [0; 2];
        for port in 1..200u16 {
            let remote = SocketAddr::new(addr("10.0.0.2:1").ip(), port);
            let first = demux.lookup(6, local, remote, NIC);
            assert!(same(&demux.lookup(6, local, remote, NIC), first.as_ref().unwrap()));
            hits[usize::from(same(&first, &members[1]))] += 1;
        }
        assert!(hits[0] > 50 && hits[1] > 50, "{hits:?}");
    }
}
