//! Answers of the routing tables that hold until something changes: as Linux's cached destinations, shared by all sockets.
//! It must not know what a route depends on: whoever changes that says so by [`RouteCache::forget`].

use core::net::IpAddr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::ip::{Flow, KeptPath, Path, RouteQuery};

/// How many answers are kept at most: each question has one place, and takes it over.
const PLACES: usize = 128;

/// The cache. A stack has one.
pub(super) struct RouteCache {
    generation: AtomicU64,
    /// Whether a rule, or the choice among several ways, asks for protocols or ports. Else all flows to an address are one question.
    asks_ports: AtomicBool,
    places: Box<[Mutex<Option<Box<KeptPath>>>]>,
}

impl RouteCache {
    /// Nothing known.
    pub fn new() -> RouteCache {
        let places = (0..PLACES).map(|_| Mutex::default()).collect();
        RouteCache { generation: AtomicU64::new(0), asks_ports: AtomicBool::new(false), places }
    }

    /// The present generation. An answer belongs to the one that was read before its tables were.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Makes all answers void. To be called after every change of what routes depend on.
    pub fn forget(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// As `forget`, and from now on protocols and ports count, or not.
    pub fn forget_and_ask_ports(&self, asks: bool) {
        self.asks_ports.store(asks, Ordering::Relaxed);
        self.forget();
    }

    /// What of a question counts. To be asked after the generation: who sees a new one sees what counts in it.
    fn question(&self, query: &RouteQuery) -> RouteQuery {
        match self.asks_ports.load(Ordering::Relaxed) {
            true => *query,
            false => {
                let flow = Flow { protocol: 0, sport: 0, dport: 0, ..query.flow };
                RouteQuery { flow, ..*query }
            }
        }
    }

    /// The answer to a question, where it holds.
    pub fn find(&self, query: &RouteQuery) -> Option<Path> {
        let generation = self.generation();
        let query = self.question(query);
        let held = self.place(&query)?.lock();
        let held = held.as_deref()?;
        (held.generation == generation && held.query == query).then_some(held.path)
    }

    /// Whether an answer that somebody keeps is that of a question.
    pub fn holds(&self, held: &KeptPath, query: &RouteQuery) -> bool {
        held.generation == self.generation() && held.query == *query
    }

    /// Keeps an answer of a generation.
    pub fn keep(&self, generation: u64, query: &RouteQuery, path: Path) {
        let query = self.question(query);
        let Some(place) = self.place(&query) else { return };
        let held = KeptPath { generation, query, path };
        match &mut *place.lock() {
            Some(old) => **old = held,
            empty => *empty = Some(Box::new(held)),
        }
    }

    /// The one place of a question. Who makes questions meet on purpose only makes himself wait for the tables.
    fn place(&self, query: &RouteQuery) -> Option<&Mutex<Option<Box<KeptPath>>>> {
        let fold = |address: IpAddr| match address {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                (bits ^ (bits >> 64)) as u64
            }
        };
        let flow = &query.flow;
        let ports = u64::from(flow.sport) << 16 | u64::from(flow.dport);
        let rest = u64::from(flow.mark ^ flow.label ^ flow.uid) << 32 | ports;
        let sum = fold(query.dst) ^ query.src.map_or(0, fold).rotate_left(32) ^ rest.rotate_left(8);
        // The high bits of a product with 2^64 over the golden ratio depend on all bits.
        let spread = sum.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.places.get((spread >> 32) as usize % PLACES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::route::Metrics;
    use crate::ip::{Cast, RouteInfo};
    use crate::link::NicId;

    fn path(dst: IpAddr) -> Path {
        let (cast, metrics) = (Cast::Unicast, Metrics::default());
        let (mtu, link_mtu, max_gso) = (1500, 1500, 0);
        let (src, next_hop, nic) = (dst, dst, NicId(2));
        let holds_back = false;
        let info = RouteInfo {
            src,
            dst,
            next_hop,
            nic,
            mtu,
            link_mtu,
            max_gso,
            cast,
            holds_back,
            metrics,
        };
        Path { info, bound: Some(1500) }
    }

    #[test]
    fn an_answer_holds_for_its_question_and_generation() {
        let cache = RouteCache::new();
        let query = RouteQuery::to(IpAddr::from([10, 0, 0, 1]));
        assert!(cache.find(&query).is_none());
        let before = cache.generation();
        cache.keep(before, &query, path(query.dst));
        assert!(cache.find(&query).is_some());
        let mut other = query;
        other.flow.tos = 4;
        assert!(cache.find(&other).is_none(), "the same place, another question");
        let mut other = query;
        (other.flow.protocol, other.flow.dport) = (6, 80);
        assert!(cache.find(&other).is_some(), "nobody asks for ports");
        cache.forget_and_ask_ports(true);
        assert!(cache.find(&query).is_none());
        cache.keep(cache.generation(), &query, path(query.dst));
        assert!(cache.find(&query).is_some() && cache.find(&other).is_none());
        cache.forget();
        assert!(cache.find(&query).is_none());
        cache.keep(before, &query, path(query.dst));
        assert!(cache.find(&query).is_none(), "it was asked before the change");
    }

    #[test]
    fn any_number_of_questions_takes_a_bounded_number_of_places() {
        let cache = RouteCache::new();
        let query = |n: u32| RouteQuery::to(IpAddr::from(n.to_be_bytes()));
        for n in 0..10_000 {
            cache.keep(0, &query(n), path(query(n).dst));
        }
        let found = (0..10_000).filter(|n| cache.find(&query(*n)).is_some()).count();
        assert!((PLACES / 2..=PLACES).contains(&found), "{found}");
    }
}
