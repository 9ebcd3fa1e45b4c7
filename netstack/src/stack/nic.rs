//! A network interface: its link, its state, its neighbour cache and the groups it belongs to.

use core::net::IpAddr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::ip::neigh::Neighbours;
use crate::link::{Capabilities, Link, MacAddr, NicId, NicKind};
use crate::rng::KeyedState;
use crate::stats::NicStats;

/// An interface of a stack.
pub struct Nic {
    /// Its number.
    pub id: NicId,
    /// Its name, such as `eth0`.
    pub name: String,
    /// What it carries.
    pub kind: NicKind,
    /// Its link-layer address.
    pub mac: MacAddr,
    /// Where frames go.
    pub link: Arc<dyn Link>,
    /// What the link can do.
    pub capabilities: Capabilities,
    /// Counters.
    pub stats: NicStats,
    /// The neighbour cache.
    pub neighbours: Mutex<Neighbours>,
    mtu: AtomicU32,
    mtu_v6: AtomicU32,
    up: AtomicBool,
    groups: Mutex<HashMap<IpAddr, usize, KeyedState>>,
}

impl Nic {
    /// An interface that is up.
    pub fn new(
        id: NicId,
        name: String,
        kind: NicKind,
        mac: MacAddr,
        mtu: u32,
        (link, hasher): (Arc<dyn Link>, KeyedState),
    ) -> Nic {
        let capabilities = link.capabilities();
        let neighbours = Mutex::new(Neighbours::new(hasher.clone()));
        let groups = Mutex::new(HashMap::with_hasher(hasher));
        let (mtu, up, stats) = (AtomicU32::new(mtu), AtomicBool::new(true), NicStats::default());
        let mtu_v6 = AtomicU32::new(0);
        Nic { id, name, kind, mac, link, capabilities, stats, neighbours, mtu, mtu_v6, up, groups }
    }

    /// The largest IP packet it takes.
    pub fn mtu(&self) -> u32 {
        self.mtu.load(Ordering::Relaxed)
    }

    /// The largest IPv6 packet it takes: less when a router advertised so.
    pub fn mtu_v6(&self) -> u32 {
        match self.mtu_v6.load(Ordering::Relaxed) {
            0 => self.mtu(),
            less => less.min(self.mtu()),
        }
    }

    /// Bounds IPv6 packets; 0 for the interface's own MTU.
    pub fn set_mtu_v6(&self, mtu: u32) {
        self.mtu_v6.store(mtu, Ordering::Relaxed);
    }

    /// Changes the largest IP packet it takes.
    pub fn set_mtu(&self, mtu: u32) {
        self.mtu.store(mtu, Ordering::Relaxed);
    }

    /// Whether it is up (IFF_UP).
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Takes it up or down.
    pub fn set_state(&self, state: NicState) {
        self.up.store(state == NicState::Up, Ordering::Relaxed);
    }

    /// Whether it is the loopback interface.
    pub fn is_loopback(&self) -> bool {
        self.kind == NicKind::Loopback
    }

    /// Joins a multicast group once more; answers whether it was the first time.
    pub fn join(&self, group: IpAddr) -> bool {
        let mut groups = self.groups.lock();
        let count = groups.entry(group).or_insert(0);
        *count += 1;
        *count == 1
    }

    /// Leaves a group once; answers whether it was the last time.
    pub fn leave(&self, group: IpAddr) -> bool {
        let mut groups = self.groups.lock();
        let Some(count) = groups.get_mut(&group) else { return false };
        *count -= 1;
        let last = *count == 0;
        if last {
            groups.remove(&group);
        }
        last
    }

    /// Whether it belongs to a multicast group.
    pub fn is_member(&self, group: IpAddr) -> bool {
        self.groups.lock().contains_key(&group)
    }
}

/// Up or down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NicState {
    /// Frames pass.
    Up,
    /// Nothing passes.
    Down,
}
