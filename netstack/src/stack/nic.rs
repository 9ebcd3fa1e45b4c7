//! A network interface: its link, its state, its neighbour cache and the groups it belongs to.

use core::net::IpAddr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::offload::gso;
use crate::buffer::{GsoKind, PacketBuffer};
use crate::ip::autoconf::Autoconf;
use crate::ip::multicast::Groups;
use crate::ip::neigh::Neighbours;
use crate::link::{Capabilities, Link, MacAddr, NicId, NicKind};
use crate::rng::{KeyedState, Rng, SipKey, seed_from};
use crate::stats::NicStats;
use crate::time::Instant;

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
    /// The multicast groups it belongs to.
    pub groups: Mutex<Groups>,
    /// The link-layer addresses that it is told to listen to, besides those of its groups.
    pub(super) listened: Mutex<BTreeSet<MacAddr>>,
    /// What it does by itself about IPv6.
    pub autoconf: Mutex<Autoconf>,
    /// Behind stable addresses, where no secret is set.
    pub secret: u64,
    /// Whether its addresses are still to be announced.
    pub(super) announce: AtomicBool,
    /// When an address of ours was last defended.
    pub(super) defended: Mutex<Option<Instant>>,
}

impl Nic {
    /// An interface that is up.
    pub fn new(
        id: NicId,
        name: String,
        kind: NicKind,
        mac: MacAddr,
        mtu: u32,
        (link, hasher, mut rng): (Arc<dyn Link>, KeyedState, Rng),
    ) -> Nic {
        let capabilities = link.capabilities();
        let secret = rng.next_u64();
        let mut fork = || Rng::new(&seed_from(rng.next_u64()), u64::from(id.0));
        let groups = Mutex::new(Groups::new(fork()));
        let autoconf = Mutex::new(Autoconf::new(fork()));
        let draws = SipKey::new(rng.next_u64(), rng.next_u64());
        let neighbours = Mutex::new(Neighbours::new(hasher, draws));
        let (mtu, up, stats) = (AtomicU32::new(mtu), AtomicBool::new(true), NicStats::default());
        let mtu_v6 = AtomicU32::new(0);
        Nic {
            id,
            name,
            kind,
            mac,
            link,
            capabilities,
            stats,
            neighbours,
            mtu,
            mtu_v6,
            up,
            groups,
            listened: Mutex::default(),
            autoconf,
            secret,
            announce: AtomicBool::new(false),
            defended: Mutex::new(None),
        }
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

    /// The largest TCP payload under one header. What its device does not cut is cut before it.
    pub fn max_gso(&self) -> u32 {
        let most = match self.capabilities.max_gso {
            0 if !self.is_loopback() => gso::SOFTWARE_MAX,
            own => own,
        };
        match self.capabilities.max_train {
            0 => most,
            bound => most.min(bound),
        }
    }

    /// Whether a train must be cut before the device.
    pub(super) fn cuts(&self, frame: &PacketBuffer) -> bool {
        let most = self.capabilities.max_gso as usize;
        frame.offload.gso.is_some_and(|gso| match gso.kind {
            GsoKind::Udp => !self.capabilities.segments_udp,
            // A device takes the headers beside the payload.
            GsoKind::Tcp4 | GsoKind::Tcp6 => most == 0 || frame.payload().len() > most,
        })
    }

    /// Whether it is the loopback interface.
    pub fn is_loopback(&self) -> bool {
        self.kind == NicKind::Loopback
    }

    /// Whether it belongs to a multicast group.
    pub fn is_member(&self, group: IpAddr) -> bool {
        self.groups.lock().is_member(group)
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
