//! The netlink sockets of a namespace: who has which port, and who hears which group.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use sentry_abi::Errno;
use sentry_kernel::Result;
use sentry_kernel::sync::{Mutex, Rank};

use super::socket::{Arrival, NetlinkSocket};

/// Bytes of dumps that wait to be read, in all sockets together: beyond it a dump is ENOBUFS, so that a program cannot make the
/// sandbox hold a listing for each of its sockets.
const DUMPED_MAX: usize = 64 << 20;

/// A netlink socket in a listing.
pub struct Listed {
    /// NETLINK_*
    pub protocol: i32,
    /// Port id.
    pub port: u32,
    /// The first 32 groups.
    pub groups: u32,
    /// What waits to be read, in bytes with the cost of each message.
    pub unread: usize,
    /// Whether a dump is being read.
    pub dumping: bool,
    /// Messages that found no room.
    pub drops: u32,
    /// Inode number.
    pub inode: u32,
}

/// So many routing tables are remembered when they are empty.
const TABLES_MAX: usize = 4096;

/// The bound sockets by protocol and port id.
pub struct Bus {
    sockets: Mutex<HashMap<(i32, u32), Weak<NetlinkSocket>>>,
    dumped: AtomicUsize,
    /// Routing tables that once had a route: they can be listed for ever.
    tables: Mutex<BTreeSet<u32>>,
}

impl Default for Bus {
    fn default() -> Self {
        Self {
            sockets: Mutex::new(Rank::LEAF, HashMap::new()),
            dumped: AtomicUsize::new(0),
            tables: Mutex::new(Rank::LEAF, BTreeSet::new()),
        }
    }
}

impl Bus {
    /// Takes a port id: `wanted`, or one near `near` where it is 0. Errors: EADDRINUSE.
    pub(super) fn take(
        &self,
        protocol: i32,
        (wanted, near): (u32, u32),
        socket: &Weak<NetlinkSocket>,
    ) -> Result<u32> {
        let mut used = self.sockets.lock();
        let mut free = |id| match used.entry((protocol, id)) {
            std::collections::hash_map::Entry::Vacant(slot) => {
                slot.insert(socket.clone());
                true
            }
            std::collections::hash_map::Entry::Occupied(_) => false,
        };
        if wanted != 0 {
            return if free(wanted) { Ok(wanted) } else { Err(Errno::EADDRINUSE.into()) };
        }
        // Linux gives the process id first, then numbers that are negative as a pid (netlink_autobind).
        let others = (0x8000_0000..0xffff_f000u32).rev();
        let found = core::iter::once(near.max(1)).chain(others).find(|id| free(*id));
        found.ok_or_else(|| Errno::EADDRINUSE.into())
    }

    pub(super) fn release(&self, protocol: i32, id: u32) {
        self.sockets.lock().remove(&(protocol, id));
    }

    /// The socket of a port.
    pub(super) fn find(&self, protocol: i32, port: u32) -> Option<Arc<NetlinkSocket>> {
        let found = self.sockets.lock().get(&(protocol, port)).cloned();
        found?.upgrade()
    }

    /// All bound sockets.
    pub(super) fn all(&self) -> Vec<Arc<NetlinkSocket>> {
        let all: Vec<_> = self.sockets.lock().values().cloned().collect();
        all.iter().filter_map(Weak::upgrade).collect()
    }

    /// What /proc/net/netlink shows, by protocol and port.
    pub fn listed(&self) -> Vec<Listed> {
        let row = |socket: &Arc<NetlinkSocket>| {
            let state = socket.state.lock();
            Listed {
                protocol: socket.protocol.number,
                port: state.port,
                groups: state.groups as u32,
                unread: state.cost,
                dumping: !state.dump.is_empty(),
                drops: state.drops,
                inode: socket.inode.number(),
            }
        };
        let mut all: Vec<_> = self.all().iter().map(row).collect();
        all.sort_by_key(|listed| (listed.protocol, listed.port));
        all
    }

    /// Those who hear a group, but for the socket `but`.
    pub(super) fn members(&self, protocol: i32, group: u32, but: u32) -> Vec<Arc<NetlinkSocket>> {
        let all: Vec<_> = {
            let sockets = self.sockets.lock();
            let of = sockets.iter().filter(|((of, port), _)| *of == protocol && *port != but);
            of.map(|(_, socket)| socket.clone()).collect()
        };
        let all = all.iter().filter_map(Weak::upgrade);
        all.filter(|socket| socket.hears(group)).collect()
    }

    /// Sends a message of the kernel to a group. `make` runs only where somebody listens; None sends nothing.
    pub fn notify(&self, protocol: i32, group: u32, make: impl FnOnce() -> Option<Vec<u8>>) {
        let members = self.members(protocol, group, 0);
        if members.is_empty() {
            return;
        }
        let Some(bytes) = make() else { return };
        for member in members {
            member.arrive(Arrival { bytes: bytes.clone(), group, ..Arrival::default() });
        }
    }

    /// A route is put into a table.
    pub(super) fn note_table(&self, table: u32) {
        let mut tables = self.tables.lock();
        if tables.len() < TABLES_MAX {
            tables.insert(table);
        }
    }

    /// Whether a table ever had a route from a program.
    pub(super) fn knows_table(&self, table: u32) -> bool {
        self.tables.lock().contains(&table)
    }

    /// Counts bytes of a dump. Errors: ENOBUFS where too many wait.
    pub(super) fn reserve(&self, bytes: usize) -> Result<()> {
        let before = self.dumped.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > DUMPED_MAX {
            self.dumped.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Errno::ENOBUFS.into());
        }
        Ok(())
    }

    /// Bytes of a dump were read, or are forgotten.
    pub(super) fn give_back(&self, bytes: usize) {
        self.dumped.fetch_sub(bytes, Ordering::Relaxed);
    }
}
