//! Transports: endpoints, how packets find them, their ports and timers. It must not know the stack; it
//! reaches the network through [`crate::ip::IpOutput`] and what all endpoints share through [`Host`].
//!
//! Lock order: an endpoint's own lock, then a shard of the demux or the port table, then the timer heap.
//! No lock is held across [`crate::ip::IpOutput::send`] or a waker.

pub mod burst;
pub mod demux;
pub mod icmp_echo;
pub mod judge;
pub mod packet;
pub mod ports;
pub mod tcp;
pub mod timers;
pub mod udp;

use core::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::buffer::{PacketBuffer, SlabPool};
use crate::ip::{IpInfo, IpOutput};
use crate::memory::Memory;
use crate::rng::{KeyedState, Rng, Seed, SipKey};
use crate::socket::SocketError;
use crate::socket::error_queue::Carrier;
use crate::stats::Stats;
use crate::time::Instant;

pub use demux::{Demux, Key, Registration, RegistrationId, Sharing};
pub use ports::{DualStack, PortError, PortLease, PortRequest, Ports, Reuse};
pub use timers::{DeadlineHook, OnTimer, Timer, Timers};

/// Slabs that wait for their next use: 1 MiB, and up to 4 MiB after a stream that had so much under way.
const IDLE_SLABS: usize = 16;

/// What packets are delivered to. The demux owns endpoints that are registered; closing unregisters.
pub trait Endpoint: Send + Sync {
    /// Takes a packet whose front is the transport header (raw endpoints: see their module). The checksum
    /// has not been looked at unless `packet.offload.rx_verified`. Nothing of the stack is locked: replies
    /// may be sent from here once the endpoint's own lock is released.
    fn deliver(&self, now: Instant, info: &IpInfo, packet: PacketBuffer);

    /// An ICMP error (or a local failure to resolve the neighbour) about a packet that this endpoint sent.
    fn icmp_error(&self, now: Instant, error: &IcmpError);

    /// Whether the packet that an ICMP error quotes can be one that this endpoint sent. What it disowns is a
    /// forgery, which neither changes the path's MTU nor reaches `icmp_error` (RFC 5927 section 4.1).
    fn vouches_for(&self, _error: &IcmpError) -> bool {
        true
    }

    /// What an endpoint that nobody holds any more still has to bring to its peer, in sequence numbers.
    fn unfinished(&self) -> usize {
        0
    }

    /// What a listing of connections shows of an endpoint that no program holds.
    fn listing(&self) -> Option<crate::socket::tcp::Listing> {
        None
    }

    /// The stream socket that it is, for another one of the same stack that is connected to it.
    fn stream(&self) -> Option<Arc<crate::socket::tcp::TcpEndpoint>> {
        None
    }

    /// Ends a connection that no program holds (SOCK_DESTROY); answers whether it was one.
    fn destroy(&self, _now: Instant) -> bool {
        false
    }
}

/// An error about a packet that we sent, told by ICMP or found here.
#[derive(Clone, Debug)]
pub struct IcmpError {
    /// What it means to a socket.
    pub error: SocketError,
    /// Whether it ends a connection attempt or a datagram (RFC 1122 section 4.2.3.9 calls the others soft).
    pub severity: Severity,
    /// Who says so; our own address for a local failure.
    pub offender: IpAddr,
    /// The ICMP type and code, or None for a local failure.
    pub icmp: Option<(u8, u8)>,
    /// The MTU of the next hop, for Fragmentation Needed and Packet Too Big.
    pub mtu: Option<u32>,
    /// The source of the packet in question: our end.
    pub local: SocketAddr,
    /// The destination of the packet in question.
    pub remote: SocketAddr,
    /// The transport header of the packet in question, at least 8 bytes.
    pub quoted: Vec<u8>,
    /// Where in `quoted` the ICMP message says that its extensions begin (RFC 4884).
    pub extensions_at: Option<usize>,
    /// The packet that brought it; None for a local failure.
    pub carrier: Option<Carrier>,
}

/// How much an ICMP error weighs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// It may pass: remembered and reported when the operation fails anyway.
    Soft,
    /// It is final for the attempt.
    Hard,
}

/// What all endpoints of a stack share.
pub struct Shared {
    /// From packets to endpoints.
    pub demux: Demux,
    /// Raw sockets, by protocol and family alone: each gets a copy.
    pub raw: Demux,
    /// Sockets that see frames.
    pub packets: packet::PacketTable,
    /// Which local ports are taken.
    pub ports: Ports,
    /// Deadlines of endpoints.
    pub timers: Timers,
    /// What TCP connections share.
    pub tcp: tcp::TcpShared,
    /// What sockets hold.
    pub memory: Memory,
    /// Counters.
    pub stats: Stats,
    /// Frames that are handled together.
    pub burst: burst::Burst,
    /// Memory for what programs send.
    pub slabs: Arc<SlabPool>,
    /// Random numbers for identifiers that need no key.
    pub rng: Mutex<Rng>,
    /// Keys a transport may derive its own from.
    pub seed: Seed,
}

impl Shared {
    /// The shared state of a new stack.
    pub fn new(seed: Seed) -> Shared {
        Shared {
            demux: Demux::new(KeyedState::new(SipKey::derive(&seed, 1))),
            raw: Demux::new(KeyedState::new(SipKey::derive(&seed, 5))),
            packets: packet::PacketTable::default(),
            ports: Ports::new(SipKey::derive(&seed, 2), Rng::new(&seed, 3)),
            timers: Timers::new(),
            tcp: tcp::TcpShared::new(&seed),
            memory: Memory::default(),
            stats: Stats::default(),
            burst: burst::Burst::default(),
            slabs: SlabPool::new(IDLE_SLABS),
            rng: Mutex::new(Rng::new(&seed, 4)),
            seed,
        }
    }

    /// 64 random bits.
    pub fn random(&self) -> u64 {
        self.rng.lock().next_u64()
    }
}

/// What an endpoint sees of its stack.
pub trait Host: IpOutput {
    /// The state shared by all endpoints.
    fn shared(&self) -> &Shared;
}
