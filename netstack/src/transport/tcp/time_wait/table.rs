//! All remnants of a stack in one compact table: packed entries in slabs, a hash index of four bytes each, and a wheel
//! of time slots threaded through the entries. No allocation, lock, timer or reference count of their own.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Awaits, Remnant};
use crate::ip::Family;
use crate::link::NicId;
use crate::rng::{KeyedState, SipKey};
use crate::time::{Duration, Instant};
use crate::transport::tcp::listen::FlowKey;
use crate::transport::tcp::seq::Seq;
use crate::transport::{OnTimer, PortLease};

/// Entries of one slab.
const SLAB: usize = 64;
/// Slots of the wheel, and the milliseconds of one as a power of two: 512 slots of 128 ms are more than a minute.
const SLOTS: usize = 512;
const TICK_SHIFT: u32 = 7;
/// No entry.
const NONE: u32 = u32::MAX;

const HAS_TIMESTAMPS: u8 = 1;
const AWAITS_FIN: u8 = 2;
const FAMILY_V6: u8 = 4;

/// One remnant with its places in the index and the wheel.
#[derive(Clone, Copy)]
struct Entry {
    local: [u8; 16],
    remote: [u8; 16],
    expires: Instant,
    lease: u64,
    ports: [u16; 2],
    send_next: u32,
    receive_next: u32,
    receive_window: u32,
    recent: u32,
    /// Seconds of the caller's clock.
    recent_at: u32,
    timestamp_offset: u32,
    /// Milliseconds of the caller's clock, and 0 for never.
    acked_at: u32,
    nic: u32,
    hash_next: u32,
    slot_next: u32,
    slot_previous: u32,
    window: u16,
    flags: u8,
}

const EMPTY: Entry = Entry {
    local: [0; 16],
    remote: [0; 16],
    expires: Instant::ZERO,
    lease: 0,
    ports: [0; 2],
    send_next: 0,
    receive_next: 0,
    receive_window: 0,
    recent: 0,
    recent_at: 0,
    timestamp_offset: 0,
    acked_at: 0,
    nic: 0,
    hash_next: NONE,
    slot_next: NONE,
    slot_previous: NONE,
    window: 0,
    flags: 0,
};

fn pack_ip(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn unpack_ip(bytes: [u8; 16]) -> IpAddr {
    // An IPv4-mapped address is never that of an IPv6 packet.
    IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
}

impl Entry {
    fn pack(&mut self, remnant: &Remnant) {
        self.expires = remnant.expires;
        self.send_next = remnant.send_next.0;
        self.receive_next = remnant.receive_next.0;
        self.receive_window = remnant.receive_window;
        self.recent = remnant.recent.unwrap_or(0);
        self.recent_at = (remnant.recent_at.millis() / 1000) as u32;
        self.timestamp_offset = remnant.timestamp_offset;
        self.acked_at = remnant.acked_at.map_or(0, |at| (at.millis() as u32).max(1));
        self.nic = remnant.nic.map_or(0, |nic| nic.0);
        self.window = remnant.window;
        self.flags &= FAMILY_V6;
        if remnant.recent.is_some() {
            self.flags |= HAS_TIMESTAMPS;
        }
        if remnant.awaits == Awaits::Fin {
            self.flags |= AWAITS_FIN;
        }
    }

    fn unpack(&self, now: Instant) -> Remnant {
        // Milliseconds wrap after 49 days, so the distance from now counts.
        let ago = (now.millis() as u32).wrapping_sub(self.acked_at);
        let acked_at = now - Duration::from_millis(u64::from(ago));
        Remnant {
            awaits: if self.flags & AWAITS_FIN != 0 { Awaits::Fin } else { Awaits::Silence },
            expires: self.expires,
            send_next: Seq(self.send_next),
            receive_next: Seq(self.receive_next),
            receive_window: self.receive_window,
            window: self.window,
            recent: (self.flags & HAS_TIMESTAMPS != 0).then_some(self.recent),
            recent_at: Instant::from_secs(u64::from(self.recent_at)),
            timestamp_offset: self.timestamp_offset,
            acked_at: (self.acked_at != 0).then_some(acked_at),
            nic: (self.nic != 0).then_some(NicId(self.nic)),
        }
    }

    fn lease(&self) -> Option<PortLease> {
        PortLease::of_tcp(self.ports[0], self.lease)
    }

    fn is(&self, key: &Packed) -> bool {
        self.ports == key.ports && self.remote == key.remote && self.local == key.local
    }
}

struct Packed {
    local: [u8; 16],
    remote: [u8; 16],
    ports: [u16; 2],
}

impl Packed {
    fn of(flow: &FlowKey) -> Packed {
        let (local, remote) = (flow.local(), flow.remote());
        Packed {
            local: pack_ip(local.ip()),
            remote: pack_ip(remote.ip()),
            ports: [local.port(), remote.port()],
        }
    }
}

/// The table is as full as tcp_max_tw_buckets allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A remnant for a listing such as `/proc/net/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// The family of the socket that it was: one of IPv6 may have spoken IPv4.
    pub family: Family,
    /// What it waits for.
    pub awaits: Awaits,
    /// When the wait is over.
    pub expires: Instant,
}

struct Table {
    slabs: Vec<Box<[Entry; SLAB]>>,
    /// The first unused entry; the others follow by `hash_next`.
    unused: u32,
    len: usize,
    buckets: Vec<u32>,
    slots: Box<[u32; SLOTS]>,
    /// The tick up to which the slots were looked at.
    cursor: u64,
    reaper: Option<Arc<dyn OnTimer>>,
}

/// The table, with how to find and to age what is in it.
pub struct TimeWaitTable {
    table: Mutex<Table>,
    len: AtomicUsize,
    key: KeyedState,
}

fn tick_after(at: Instant) -> u64 {
    (at.millis() >> TICK_SHIFT) + 1
}

fn start_of(tick: u64) -> Instant {
    Instant::from_millis(tick << TICK_SHIFT)
}

impl Table {
    fn entry(&self, index: u32) -> &Entry {
        &self.slabs[index as usize / SLAB][index as usize % SLAB]
    }

    fn entry_mut(&mut self, index: u32) -> &mut Entry {
        &mut self.slabs[index as usize / SLAB][index as usize % SLAB]
    }

    fn bucket(&self, key: &KeyedState, of: &Packed) -> usize {
        let halves = |bytes: &[u8; 16]| {
            let all = u128::from_be_bytes(*bytes);
            ((all >> 64) as u64, all as u64)
        };
        let ((a, b), (c, d)) = (halves(&of.local), halves(&of.remote));
        let ports = u64::from(of.ports[0]) << 16 | u64::from(of.ports[1]);
        let hash = key.hash_words(&[a, b, c, d, ports]);
        hash as usize & (self.buckets.len() - 1)
    }

    fn find(&self, key: &KeyedState, of: &Packed) -> Option<u32> {
        let mut index = self.buckets[self.bucket(key, of)];
        while index != NONE {
            let entry = self.entry(index);
            if entry.is(of) {
                return Some(index);
            }
            index = entry.hash_next;
        }
        None
    }

    /// Twice as many buckets once there are more entries than buckets.
    fn grow_index(&mut self, key: &KeyedState) {
        if self.len < self.buckets.len() {
            return;
        }
        let old = core::mem::take(&mut self.buckets);
        self.buckets = vec![NONE; old.len() * 2];
        for mut index in old {
            while index != NONE {
                let entry = *self.entry(index);
                self.link_hash(key, index);
                index = entry.hash_next;
            }
        }
    }

    fn link_hash(&mut self, key: &KeyedState, index: u32) {
        let entry = self.entry(index);
        let of = Packed { local: entry.local, remote: entry.remote, ports: entry.ports };
        let bucket = self.bucket(key, &of);
        let first = core::mem::replace(&mut self.buckets[bucket], index);
        self.entry_mut(index).hash_next = first;
    }

    fn allocate(&mut self) -> u32 {
        if self.unused == NONE {
            let first = (self.slabs.len() * SLAB) as u32;
            let mut slab = Box::new([EMPTY; SLAB]);
            for (at, entry) in slab.iter_mut().enumerate() {
                entry.hash_next = if at + 1 < SLAB { first + at as u32 + 1 } else { NONE };
            }
            self.slabs.push(slab);
            self.unused = first;
        }
        let index = self.unused;
        self.unused = self.entry(index).hash_next;
        index
    }

    fn link_slot(&mut self, index: u32) {
        let slot = tick_after(self.entry(index).expires) as usize % SLOTS;
        let next = core::mem::replace(&mut self.slots[slot], index);
        let entry = self.entry_mut(index);
        (entry.slot_next, entry.slot_previous) = (next, NONE);
        if next != NONE {
            self.entry_mut(next).slot_previous = index;
        }
    }

    /// Takes an entry out of its slot; `expires` is still what it was linked by.
    fn unlink_slot(&mut self, index: u32) {
        let entry = *self.entry(index);
        match entry.slot_previous {
            NONE => self.slots[tick_after(entry.expires) as usize % SLOTS] = entry.slot_next,
            previous => self.entry_mut(previous).slot_next = entry.slot_next,
        }
        if entry.slot_next != NONE {
            self.entry_mut(entry.slot_next).slot_previous = entry.slot_previous;
        }
    }

    fn unlink_hash(&mut self, key: &KeyedState, index: u32) {
        let entry = *self.entry(index);
        let of = Packed { local: entry.local, remote: entry.remote, ports: entry.ports };
        let bucket = self.bucket(key, &of);
        if self.buckets[bucket] == index {
            self.buckets[bucket] = entry.hash_next;
            return;
        }
        let mut at = self.buckets[bucket];
        while at != NONE {
            let next = self.entry(at).hash_next;
            if next == index {
                self.entry_mut(at).hash_next = entry.hash_next;
                return;
            }
            at = next;
        }
    }

    fn remove(&mut self, key: &KeyedState, index: u32) -> Option<PortLease> {
        self.unlink_slot(index);
        self.unlink_hash(key, index);
        let lease = self.entry(index).lease();
        *self.entry_mut(index) = Entry { hash_next: self.unused, ..EMPTY };
        self.unused = index;
        self.len -= 1;
        if self.len == 0 {
            // The memory of many is given back.
            self.slabs = Vec::new();
            self.unused = NONE;
            self.buckets = vec![NONE; SLAB];
        }
        lease
    }
}

impl TimeWaitTable {
    /// An empty table whose placement is keyed.
    pub fn new(key: SipKey) -> TimeWaitTable {
        TimeWaitTable {
            table: Mutex::new(Table {
                slabs: Vec::new(),
                unused: NONE,
                len: 0,
                buckets: vec![NONE; SLAB],
                slots: Box::new([NONE; SLOTS]),
                cursor: 0,
                reaper: None,
            }),
            len: AtomicUsize::new(0),
            key: KeyedState::new(key),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What ages the table; made when the first entry comes.
    pub fn reaper<T: OnTimer + 'static>(&self, make: impl FnOnce() -> Arc<T>) -> Arc<dyn OnTimer> {
        self.table.lock().reaper.get_or_insert_with(|| make()).clone()
    }

    /// Remembers a remnant of a socket of that family, in place of an older one of the same flow. Gives when the
    /// table must be aged for it.
    pub fn insert(
        &self,
        flow: &FlowKey,
        (remnant, family): (&Remnant, Family),
        lease: Option<PortLease>,
        most: usize,
    ) -> Result<(Instant, Option<PortLease>), Full> {
        let mut table = self.table.lock();
        let of = Packed::of(flow);
        let old = table.find(&self.key, &of).and_then(|index| table.remove(&self.key, index));
        if table.len >= most {
            self.len.store(table.len, Ordering::Release);
            return Err(Full);
        }
        table.grow_index(&self.key);
        let index = table.allocate();
        let mut entry = Entry {
            local: of.local,
            remote: of.remote,
            ports: of.ports,
            lease: lease.map_or(0, |lease| lease.id()),
            flags: if family == Family::V6 { FAMILY_V6 } else { 0 },
            ..EMPTY
        };
        entry.pack(remnant);
        *table.entry_mut(index) = entry;
        table.link_hash(&self.key, index);
        table.link_slot(index);
        table.len += 1;
        self.len.store(table.len, Ordering::Release);
        Ok((start_of(tick_after(remnant.expires)), old))
    }

    /// Works on the remnant of a flow; what it changes is kept, and the wait may get longer.
    pub fn with<R>(
        &self,
        now: Instant,
        flow: &FlowKey,
        work: impl FnOnce(&mut Remnant) -> R,
    ) -> Option<R> {
        if self.is_empty() {
            return None;
        }
        let mut table = self.table.lock();
        let index = table.find(&self.key, &Packed::of(flow))?;
        let mut remnant = table.entry(index).unpack(now);
        let expired = remnant.expires;
        let result = work(&mut remnant);
        if remnant.expires != expired {
            table.unlink_slot(index);
        }
        table.entry_mut(index).pack(&remnant);
        if remnant.expires != expired {
            table.link_slot(index);
        }
        Some(result)
    }

    /// Forgets the remnant of a flow and gives it with the port that it held.
    pub fn remove(&self, now: Instant, flow: &FlowKey) -> Option<(Remnant, Option<PortLease>)> {
        if self.is_empty() {
            return None;
        }
        let mut table = self.table.lock();
        let index = table.find(&self.key, &Packed::of(flow))?;
        let remnant = table.entry(index).unpack(now);
        let lease = table.remove(&self.key, index);
        self.len.store(table.len, Ordering::Release);
        Some((remnant, lease))
    }

    /// Forgets those whose wait is over: gives the ports that they held, and when to come again.
    pub fn expire(&self, now: Instant) -> (Vec<PortLease>, Option<Instant>) {
        let mut table = self.table.lock();
        let tick = now.millis() >> TICK_SHIFT;
        let mut leases = Vec::new();
        // After a long silence each slot is looked at once.
        let first = table.cursor.max(tick.saturating_sub(SLOTS as u64 - 1));
        for at in first..=tick {
            let mut index = table.slots[at as usize % SLOTS];
            while index != NONE {
                let entry = *table.entry(index);
                if tick_after(entry.expires) <= tick {
                    leases.extend(table.remove(&self.key, index));
                }
                if table.len == 0 {
                    break;
                }
                index = entry.slot_next;
            }
        }
        table.cursor = tick;
        self.len.store(table.len, Ordering::Release);
        let next =
            (tick + 1..=tick + SLOTS as u64).find(|at| table.slots[*at as usize % SLOTS] != NONE);
        (leases, next.map(start_of))
    }

    /// All of them, for listings.
    pub fn list(&self) -> Vec<Listed> {
        let table = self.table.lock();
        let mut all = Vec::with_capacity(table.len);
        for mut index in table.buckets.iter().copied() {
            while index != NONE {
                let entry = table.entry(index);
                all.push(Listed {
                    local: SocketAddr::new(unpack_ip(entry.local), entry.ports[0]),
                    remote: SocketAddr::new(unpack_ip(entry.remote), entry.ports[1]),
                    family: if entry.flags & FAMILY_V6 != 0 { Family::V6 } else { Family::V4 },
                    awaits: entry.unpack(Instant::ZERO).awaits,
                    expires: entry.expires,
                });
                index = entry.hash_next;
            }
        }
        all
    }

    /// Forgets all.
    pub fn clear(&self) {
        let mut table = self.table.lock();
        table.slabs = Vec::new();
        table.unused = NONE;
        table.len = 0;
        table.buckets = vec![NONE; SLAB];
        *table.slots = [NONE; SLOTS];
        table.reaper = None;
        self.len.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
