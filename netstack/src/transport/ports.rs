//! Which local ports are taken, who may share one, and how ephemeral ones are chosen (RFC 6056).

use core::net::IpAddr;
use core::sync::atomic::{AtomicU32, Ordering};
use std::collections::HashMap;

use parking_lot::Mutex;

use crate::ip::Family;
use crate::link::NicId;
use crate::rng::{KeyedState, Rng, SipKey};

/// The range of ephemeral ports before anybody changes it (`net.ipv4.ip_local_port_range`).
const DEFAULT_RANGE: (u16, u16) = (32_768, 60_999);

/// What a bind asks for.
#[derive(Clone, Copy, Debug)]
pub struct PortRequest {
    /// The IP protocol number: TCP and UDP ports are apart.
    pub protocol: u8,
    /// The address; unspecified for any of its family.
    pub address: IpAddr,
    /// Whether an unspecified IPv6 address stands for IPv4 too (a socket without IPV6_V6ONLY).
    pub dual_stack: DualStack,
    /// The port; 0 asks for an ephemeral one.
    pub port: u16,
    /// SO_REUSEADDR.
    pub reuse_address: Reuse,
    /// SO_REUSEPORT.
    pub reuse_port: Reuse,
    /// SO_BINDTODEVICE.
    pub nic: Option<NicId>,
}

/// Whether a wildcard IPv6 socket also takes IPv4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DualStack {
    /// Its own family only.
    No,
    /// Both.
    Yes,
}

/// Whether a socket agrees to share a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reuse {
    /// It does not.
    No,
    /// It does, with others that do.
    Yes,
}

impl From<bool> for Reuse {
    fn from(on: bool) -> Reuse {
        if on { Reuse::Yes } else { Reuse::No }
    }
}

impl PortRequest {
    /// A request without any sharing.
    pub fn new(protocol: u8, address: IpAddr, port: u16) -> PortRequest {
        PortRequest {
            protocol,
            address,
            dual_stack: DualStack::No,
            port,
            reuse_address: Reuse::No,
            reuse_port: Reuse::No,
            nic: None,
        }
    }
}

/// Why a port was not given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PortError {
    /// Somebody has it (EADDRINUSE).
    #[error("address already in use")]
    InUse,
    /// No ephemeral port is left (EADDRINUSE for bind, EADDRNOTAVAIL for connect).
    #[error("no ephemeral port is free")]
    Exhausted,
}

/// A port that is held, to be given back with [`Ports::release`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortLease {
    protocol: u8,
    port: u16,
    id: u64,
}

impl PortLease {
    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

struct Holder {
    id: u64,
    request: PortRequest,
    listening: bool,
}

struct Table {
    held: HashMap<(u8, u16), Vec<Holder>, KeyedState>,
    next_id: u64,
    range: (u16, u16),
    rng: Rng,
}

/// The port table of a stack.
pub struct Ports {
    table: Mutex<Table>,
    key: SipKey,
    /// RFC 6056 section 3.3.4 algorithm 4: counters per group of flows, so that one flow tells nothing of another.
    counters: [AtomicU32; 16],
}

impl Ports {
    /// An empty table.
    pub fn new(key: SipKey, rng: Rng) -> Ports {
        let held = HashMap::with_hasher(KeyedState::new(key));
        Ports {
            table: Mutex::new(Table { held, next_id: 1, range: DEFAULT_RANGE, rng }),
            key,
            counters: [const { AtomicU32::new(0) }; 16],
        }
    }

    /// The range of ephemeral ports, both ends included.
    pub fn ephemeral_range(&self) -> (u16, u16) {
        self.table.lock().range
    }

    /// Changes the range of ephemeral ports; the ends are put in order and port 0 is left out.
    pub fn set_ephemeral_range(&self, first: u16, last: u16) {
        self.table.lock().range = (first.min(last).max(1), first.max(last).max(1));
    }

    /// Takes the port of a bind, or an ephemeral one when it asks for port 0.
    pub fn reserve(&self, request: &PortRequest) -> Result<PortLease, PortError> {
        let mut table = self.table.lock();
        if request.port != 0 {
            return table.take(request, request.port).ok_or(PortError::InUse);
        }
        let (first, last) = table.range;
        let count = u64::from(last - first) + 1;
        let start = table.rng.below(count);
        // An ephemeral bind never shares a port, whatever the socket allows later.
        let alone = PortRequest { reuse_address: Reuse::No, reuse_port: Reuse::No, ..*request };
        for step in 0..count {
            let port = first + ((start + step) % count) as u16;
            if table.is_free(&alone, port)
                && let Some(lease) = table.take(request, port)
            {
                return Ok(lease);
            }
        }
        Err(PortError::Exhausted)
    }

    /// Finds a port for a connection to `remote`: RFC 6056 algorithm 4 walks the range from a keyed offset, and
    /// `usable` says whether the port may serve (the four-tuple is free). The lease may share its port with
    /// other connections from this function, never with binds that did not agree.
    pub fn reserve_for_connect(
        &self,
        request: &PortRequest,
        remote: (IpAddr, u16),
        usable: &mut dyn FnMut(u16) -> bool,
    ) -> Result<PortLease, PortError> {
        let flow = self.key.hash_one((request.protocol, request.address, remote));
        let (first, last) = self.ephemeral_range();
        let count = u64::from(last - first) + 1;
        let counter = &self.counters[(flow >> 60) as usize];
        let start = (flow & 0xffff_ffff) + u64::from(counter.load(Ordering::Relaxed));
        for step in 0..count {
            let port = first + ((start + step) % count) as u16;
            if !usable(port) {
                continue;
            }
            let shared = PortRequest { reuse_address: Reuse::Yes, ..*request };
            if let Some(lease) = self.table.lock().take(&shared, port) {
                counter.fetch_add(step as u32 + 1, Ordering::Relaxed);
                return Ok(lease);
            }
        }
        Err(PortError::Exhausted)
    }

    /// Takes a second hold on the port of a lease, for a connection that a listener accepted.
    pub fn share(&self, lease: &PortLease) -> Option<PortLease> {
        let mut table = self.table.lock();
        let id = table.next_id;
        let holders = table.held.get_mut(&(lease.protocol, lease.port))?;
        let request = holders.iter().find(|holder| holder.id == lease.id)?.request;
        let request = PortRequest { reuse_address: Reuse::Yes, ..request };
        holders.push(Holder { id, request, listening: false });
        table.next_id += 1;
        Some(PortLease { id, ..*lease })
    }

    /// Marks a TCP port as listening: SO_REUSEADDR does not share it from then on. Fails when another
    /// listener has it.
    pub fn listen(&self, lease: &PortLease) -> Result<(), PortError> {
        let mut table = self.table.lock();
        let Some(holders) = table.held.get_mut(&(lease.protocol, lease.port)) else {
            return Err(PortError::InUse);
        };
        let Some(at) = holders.iter().position(|holder| holder.id == lease.id) else {
            return Err(PortError::InUse);
        };
        let mine = holders[at].request;
        let clash = |holder: &Holder| {
            holder.id != lease.id
                && holder.listening
                && overlaps(&holder.request, &mine)
                && !(holder.request.reuse_port == Reuse::Yes && mine.reuse_port == Reuse::Yes)
        };
        if holders.iter().any(clash) {
            return Err(PortError::InUse);
        }
        holders[at].listening = true;
        Ok(())
    }

    /// Marks a port as no longer listening.
    pub fn unlisten(&self, lease: &PortLease) {
        let mut table = self.table.lock();
        let holders = table.held.get_mut(&(lease.protocol, lease.port));
        let mine = holders.and_then(|all| all.iter_mut().find(|holder| holder.id == lease.id));
        if let Some(holder) = mine {
            holder.listening = false;
        }
    }

    /// Gives a port back.
    pub fn release(&self, lease: &PortLease) {
        let mut table = self.table.lock();
        let key = (lease.protocol, lease.port);
        if let Some(holders) = table.held.get_mut(&key) {
            holders.retain(|holder| holder.id != lease.id);
            if holders.is_empty() {
                table.held.remove(&key);
            }
        }
    }

    /// How many holds there are: zero when no socket leaked.
    pub fn len(&self) -> usize {
        self.table.lock().held.values().map(Vec::len).sum()
    }

    /// Whether no port is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Table {
    fn is_free(&self, request: &PortRequest, port: u16) -> bool {
        let holders = self.held.get(&(request.protocol, port));
        holders.is_none_or(|all| !all.iter().any(|holder| conflicts(holder, request)))
    }

    fn take(&mut self, request: &PortRequest, port: u16) -> Option<PortLease> {
        if !self.is_free(request, port) {
            return None;
        }
        let id = self.next_id;
        self.next_id += 1;
        let holder = Holder { id, request: PortRequest { port, ..*request }, listening: false };
        self.held.entry((request.protocol, port)).or_default().push(holder);
        Some(PortLease { protocol: request.protocol, port, id })
    }
}

/// Whether a new bind may not stand beside an old one.
fn conflicts(holder: &Holder, request: &PortRequest) -> bool {
    if !overlaps(&holder.request, request) {
        return false;
    }
    let both = |a: Reuse, b: Reuse| a == Reuse::Yes && b == Reuse::Yes;
    let share_address =
        both(holder.request.reuse_address, request.reuse_address) && !holder.listening;
    let share_port = both(holder.request.reuse_port, request.reuse_port);
    !(share_address || share_port)
}

/// Whether two binds of one port can want the same packet.
fn overlaps(a: &PortRequest, b: &PortRequest) -> bool {
    if let (Some(a), Some(b)) = (a.nic, b.nic)
        && a != b
    {
        return false;
    }
    let covers = |wide: &PortRequest, narrow: &PortRequest| {
        wide.address.is_unspecified()
            && (Family::of(wide.address) == Family::of(narrow.address)
                || (wide.dual_stack == DualStack::Yes && wide.address.is_ipv6()))
    };
    a.address == b.address || covers(a, b) || covers(b, a)
}

#[cfg(test)]
mod tests;
