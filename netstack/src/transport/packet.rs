//! Who sees the frames of interfaces (packet(7)), and how frames find them. It must not know what becomes of a frame.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::buffer::PacketBuffer;
use crate::link::{NicId, NicKind};
use crate::time::Instant;

/// Every protocol, and frames on their way out too (ETH_P_ALL).
pub const EVERY_PROTOCOL: u16 = 3;

/// How a frame is addressed, in Linux's numbers (linux/if_packet.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PacketType {
    /// To this interface (PACKET_HOST).
    Host = 0,
    /// To everybody on the link (PACKET_BROADCAST).
    Broadcast = 1,
    /// To a group (PACKET_MULTICAST).
    Multicast = 2,
    /// To somebody else (PACKET_OTHERHOST).
    OtherHost = 3,
    /// From this host (PACKET_OUTGOING).
    Outgoing = 4,
}

/// A frame as it passes an interface.
pub struct Seen<'a> {
    /// When.
    pub now: Instant,
    /// On which interface.
    pub nic: NicId,
    /// What that carries.
    pub kind: NicKind,
    /// How the frame is addressed.
    pub packet_type: PacketType,
    /// The protocol behind the link header: an EtherType, or ETH_P_802_2 and ETH_P_802_3.
    pub protocol: u16,
    /// The frame, always with an Ethernet header (of zeros on the loopback interface, as on Linux).
    pub frame: &'a PacketBuffer,
}

/// What frames are shown to.
pub trait FrameEndpoint: Send + Sync {
    /// Sees a frame. Nothing of the stack is locked.
    fn frame(&self, seen: &Seen<'_>);
}

/// A place in the table, to be given back with [`PacketTable::remove`].
pub type Place = u64;

#[derive(Clone)]
struct Member {
    place: Place,
    endpoint: Arc<dyn FrameEndpoint>,
    nic: Option<NicId>,
    protocol: u16,
}

impl Member {
    /// Whether it wants a frame: of its interface and protocol, and what goes out only when it wants every protocol.
    fn wants(&self, seen: &Seen<'_>) -> bool {
        let protocol = self.protocol == EVERY_PROTOCOL
            || (self.protocol == seen.protocol && seen.packet_type != PacketType::Outgoing);
        protocol && self.nic.is_none_or(|nic| nic == seen.nic)
    }
}

/// All that see frames. A frame costs one load while there is none.
#[derive(Default)]
pub struct PacketTable {
    members: RwLock<Arc<Vec<Member>>>,
    count: AtomicUsize,
    next: AtomicU64,
}

impl PacketTable {
    /// Whether nobody looks.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Adds an endpoint for a protocol, on one interface or on all.
    pub fn insert(
        &self,
        endpoint: Arc<dyn FrameEndpoint>,
        nic: Option<NicId>,
        protocol: u16,
    ) -> Place {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        self.change(|members| members.push(Member { place, endpoint, nic, protocol }));
        place
    }

    /// Takes one out.
    pub fn remove(&self, place: Place) {
        self.change(|members| members.retain(|member| member.place != place));
    }

    /// Takes all out.
    pub fn clear(&self) {
        self.change(Vec::clear);
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Member>)) {
        let mut members = self.members.write();
        let mut new = Vec::clone(&members);
        change(&mut new);
        self.count.store(new.len(), Ordering::Release);
        let old = core::mem::replace(&mut *members, Arc::new(new));
        drop(members);
        // The last handle of an endpoint may end here, outside of the lock.
        drop(old);
    }

    /// Shows a frame to everybody that wants it, but for the one that sent it.
    pub fn show(&self, seen: &Seen<'_>, sender: Option<Place>) {
        let members = self.members.read().clone();
        for member in members.iter().filter(|member| Some(member.place) != sender) {
            if member.wants(seen) {
                member.endpoint.frame(seen);
            }
        }
    }
}
