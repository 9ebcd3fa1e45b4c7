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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    /// IP_LOCAL_PORT_RANGE: where an ephemeral port is to come from; an end of 0 or out of the stack's range does
    /// not count.
    pub range: Option<(u16, u16)>,
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
            range: None,
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

    /// A number that tells it from other holds; never 0.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The hold on a TCP port that has this number; None for 0.
    pub fn of_tcp(port: u16, id: u64) -> Option<PortLease> {
        (id != 0).then_some(PortLease { protocol: crate::ip::PROTO_TCP, port, id })
    }
}

/// How a port came to be held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hold {
    /// By a bind.
    Bind,
    /// By connections of such a port: accepted ones, and those in TIME-WAIT.
    Share,
    /// By connects that chose it: they share it with each other, by their four-tuples.
    Connect,
}

struct Holder {
    id: u64,
    request: PortRequest,
    hold: Hold,
    listening: bool,
    /// How many connections hold it alike; 1 for a bind.
    count: u64,
}

struct Table {
    held: HashMap<(u8, u16), Vec<Holder>, KeyedState>,
    next_id: u64,
    range: (u16, u16),
    /// Ports that are given only to those who ask for them by number (ip_local_reserved_ports), in order.
    reserved: Vec<(u16, u16)>,
    rng: Rng,
}

/// The groups of flows that have a counter of their own (Linux has 65,536; RFC 6056 section 3.3.4 suggests "TABLE_LENGTH = 10" at least).
const COUNTERS: usize = 1024;
/// A connect moves its group's counter by up to this many ports more than it must, as Linux does.
const PERTURBATION: u64 = 8;

/// The port table of a stack.
pub struct Ports {
    table: Mutex<Table>,
    key: SipKey,
    /// RFC 6056 section 3.3.4 algorithm 4: counters per group of flows, so that one flow tells nothing of another.
    counters: Box<[AtomicU32; COUNTERS]>,
}

impl Ports {
    /// An empty table.
    pub fn new(key: SipKey, rng: Rng) -> Ports {
        let held = HashMap::with_hasher(KeyedState::new(key));
        Ports {
            table: Mutex::new(Table {
                held,
                next_id: 1,
                range: DEFAULT_RANGE,
                reserved: Vec::new(),
                rng,
            }),
            key,
            counters: Box::new([const { AtomicU32::new(0) }; COUNTERS]),
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

    /// The ports that are given only to those who ask for them by number.
    pub fn reserved(&self) -> Vec<(u16, u16)> {
        self.table.lock().reserved.clone()
    }

    /// Sets the ports that are given only to those who ask for them by number (`ip_local_reserved_ports`), as ranges
    /// with both ends included.
    pub fn set_reserved(&self, ranges: &[(u16, u16)]) {
        let mut sorted: Vec<_> = ranges.iter().map(|(a, b)| (*a.min(b), *a.max(b))).collect();
        sorted.sort_unstable();
        self.table.lock().reserved = sorted;
    }

    /// Takes the port of a bind, or an ephemeral one when it asks for port 0.
    pub fn reserve(&self, request: &PortRequest) -> Result<PortLease, PortError> {
        let mut table = self.table.lock();
        if request.port != 0 {
            return table.take(request, Hold::Bind, request.port).ok_or(PortError::InUse);
        }
        let (first, last) = table.range_of(request);
        let count = u64::from(last - first) + 1;
        // Connects begin with ports of the parity of the range's first one; a bind takes the others, as on Linux.
        let start = table.rng.below(count);
        // An ephemeral bind never shares a port, whatever the socket allows later.
        let alone = PortRequest { reuse_address: Reuse::No, reuse_port: Reuse::No, ..*request };
        for offset in parities(start | 1, count, request.range) {
            let port = first + offset as u16;
            if !table.is_reserved(port)
                && table.is_free(&alone, Hold::Bind, port)
                && let Some(lease) = table.take(request, Hold::Bind, port)
            {
                return Ok(lease);
            }
        }
        Err(PortError::Exhausted)
    }

    /// Finds a port for a connection to `remote`: RFC 6056 algorithm 4 (double-hash port selection) walks the range
    /// from a keyed offset, and `usable` says whether the port may serve (the four-tuple is free). The lease may
    /// share its port with other connections from this function, never with binds.
    pub fn reserve_for_connect(
        &self,
        request: &PortRequest,
        remote: (IpAddr, u16),
        usable: &mut dyn FnMut(u16) -> bool,
    ) -> Result<PortLease, PortError> {
        // "offset = F(local_IP, remote_IP, remote_port, secret_key1); index = G(..., secret_key2)".
        let flow = self.key.hash_one((request.protocol, request.address, remote));
        let (first, last) = self.table.lock().range_of(request);
        let count = u64::from(last - first) + 1;
        let counter = &self.counters[(flow >> 54) as usize % COUNTERS];
        let start = (flow & 0xffff_ffff) + u64::from(counter.load(Ordering::Relaxed));
        for (step, offset) in (0u64..).zip(parities(start & !1, count, request.range)) {
            let port = first + offset as u16;
            {
                let table = self.table.lock();
                if table.is_reserved(port) || !table.is_free(request, Hold::Connect, port) {
                    continue;
                }
            }
            // Not under the table's lock: it looks at other tables.
            if !usable(port) {
                continue;
            }
            let mut table = self.table.lock();
            if let Some(lease) = table.take(request, Hold::Connect, port) {
                // "next_ephemeral" moves on, and a little more, so that one flow's port does not tell the next one's.
                let more = step.max(table.rng.below(PERTURBATION)) * 2 + 2;
                counter.fetch_add(more as u32, Ordering::Relaxed);
                return Ok(lease);
            }
        }
        Err(PortError::Exhausted)
    }

    /// Takes another hold on the port of a lease, for a connection that a listener accepted or that is in TIME-WAIT.
    pub fn share(&self, lease: &PortLease) -> Option<PortLease> {
        let mut table = self.table.lock();
        let id = table.next_id;
        let holders = table.held.get_mut(&(lease.protocol, lease.port))?;
        let mine = holders.iter().find(|holder| holder.id == lease.id)?;
        let (request, hold) = match mine.hold {
            Hold::Bind => (mine.request, Hold::Share),
            other => (mine.request, other),
        };
        let alike = |holder: &&mut Holder| holder.hold == hold && holder.request == request;
        if let Some(holder) = holders.iter_mut().find(alike) {
            holder.count += 1;
            return Some(PortLease { id: holder.id, ..*lease });
        }
        holders.push(Holder { id, request, hold, listening: false, count: 1 });
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
            if let Some(at) = holders.iter().position(|holder| holder.id == lease.id) {
                holders[at].count -= 1;
                if holders[at].count == 0 {
                    holders.remove(at);
                }
            }
            if holders.is_empty() {
                table.held.remove(&key);
            }
        }
    }

    /// How many holds there are: zero when no socket leaked.
    pub fn len(&self) -> usize {
        let table = self.table.lock();
        table.held.values().flatten().map(|holder| holder.count as usize).sum()
    }

    /// Whether no port is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Table {
    /// Where an ephemeral port of a request comes from.
    fn range_of(&self, request: &PortRequest) -> (u16, u16) {
        let (low, high) = self.range;
        let within = |port: &u16| (low..=high).contains(port);
        let (from, to) = request.range.unwrap_or_default();
        let low = Some(from).filter(within).unwrap_or(low);
        let high = Some(to).filter(within).unwrap_or(high);
        (low.min(high), high)
    }

    fn is_reserved(&self, port: u16) -> bool {
        let after = self.reserved.partition_point(|(first, _)| *first <= port);
        self.reserved[..after].iter().any(|(_, last)| port <= *last)
    }

    fn is_free(&self, request: &PortRequest, hold: Hold, port: u16) -> bool {
        let holders = self.held.get(&(request.protocol, port));
        holders.is_none_or(|all| !all.iter().any(|holder| conflicts(holder, hold, request)))
    }

    fn take(&mut self, request: &PortRequest, hold: Hold, port: u16) -> Option<PortLease> {
        if !self.is_free(request, hold, port) {
            return None;
        }
        let (protocol, id) = (request.protocol, self.next_id);
        let request = PortRequest { port, range: None, ..*request };
        let holders = self.held.entry((protocol, port)).or_insert_with(|| Vec::with_capacity(1));
        let alike = |one: &&mut Holder| one.hold == Hold::Connect && one.request == request;
        if let Some(holder) = holders.iter_mut().find(alike).filter(|_| hold == Hold::Connect) {
            holder.count += 1;
            return Some(PortLease { protocol, port, id: holder.id });
        }
        self.next_id += 1;
        holders.push(Holder { id, request, hold, listening: false, count: 1 });
        Some(PortLease { protocol, port, id })
    }
}

/// The offsets of a range from `start` on: first those of its parity, then the others; one after the other where
/// the socket has a range of its own.
fn parities(start: u64, count: u64, own: Option<(u16, u16)>) -> impl Iterator<Item = u64> {
    let step = if own.is_some() || count < 2 { 1 } else { 2 };
    let even = count & !1;
    (0..count).map(move |n| match step {
        1 => (start + n) % count,
        // The last one of an odd number of ports has no partner.
        _ if n >= even => count - 1,
        _ => {
            let parity = (start & 1) ^ u64::from(n >= even / 2);
            let within = (start / 2 + n) % (even / 2);
            within * 2 + parity
        }
    })
}

/// Whether a new bind may not stand beside an old one.
fn conflicts(holder: &Holder, hold: Hold, request: &PortRequest) -> bool {
    // As on Linux, a connect takes no port that any bind has, and shares those of other connects.
    if hold == Hold::Connect {
        return holder.hold != Hold::Connect;
    }
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
