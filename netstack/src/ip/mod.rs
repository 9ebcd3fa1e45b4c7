//! The Internet layer: prefixes, what is known of a received packet, what is asked of a sent one, and the
//! trait through which transports send. It must not know sockets or the stack.

pub mod address;
pub mod autoconf;
pub mod cidr;
pub mod conf;
pub mod fragment;
pub mod multicast;
pub mod neigh;
pub mod pmtu;
pub mod route;
pub mod rule;
pub mod stable;
pub mod tables;
pub mod trie;

use core::net::IpAddr;

use crate::buffer::PacketBuffer;
use crate::link::{MacAddr, NicId, NicKind};
use crate::time::Instant;
use crate::wire::ipv4_options::Options;

pub use address::{Address, AddressFlags};
pub use cidr::IpCidr;
pub use multicast::SourceFilter;
pub use route::Route;
pub use rule::Rule;

/// ICMP for IPv4.
pub const PROTO_ICMP: u8 = 1;
/// TCP.
pub const PROTO_TCP: u8 = 6;
/// UDP.
pub const PROTO_UDP: u8 = 17;
/// ICMP for IPv6.
pub const PROTO_ICMPV6: u8 = 58;
/// Anything (raw sockets that only send).
pub const PROTO_RAW: u8 = 255;

/// IPv4 or IPv6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// AF_INET
    V4,
    /// AF_INET6
    V6,
}

impl Family {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The address that means "any".
    pub const fn unspecified(self) -> IpAddr {
        match self {
            Family::V4 => IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(core::net::Ipv6Addr::UNSPECIFIED),
        }
    }
}

/// How a packet was addressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cast {
    /// To one of our addresses.
    Unicast,
    /// To everybody on a link.
    Broadcast,
    /// To a group that we have joined.
    Multicast,
}

/// What the IP header and the link said about a received packet.
#[derive(Clone, Copy, Debug)]
pub struct IpInfo {
    /// Who sent it.
    pub src: IpAddr,
    /// To which address.
    pub dst: IpAddr,
    /// What follows the IP header (after extension headers).
    pub protocol: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Type of service with ECN, or traffic class.
    pub tos: u8,
    /// Traffic class and flow label of IPv6, as in the first word of its header; 0 for IPv4.
    pub flow_info: u32,
    /// On which interface it came.
    pub nic: NicId,
    /// How it was addressed.
    pub cast: Cast,
    /// The options of an IPv4 header, with this host recorded where they ask for it.
    pub options: Options,
}

/// What a transport asks of the IP header of a packet that it sends.
#[derive(Clone, Copy, Debug)]
pub struct IpMeta {
    /// What follows the IP header.
    pub protocol: u8,
    /// Time to live or hop limit; None for the default (64; 1 for multicast).
    pub ttl: Option<u8>,
    /// Type of service with ECN, or traffic class.
    pub tos: u8,
    /// Whether IP may cut the packet.
    pub fragment: Fragment,
    /// The flow label of IPv6 (20 bits); 0 for none.
    pub flow_label: u32,
    /// Whether a multicast packet also comes back to our own members of the group.
    pub multicast_loop: bool,
    /// The options of an IPv4 header, before this host is recorded.
    pub options: Options,
}

impl IpMeta {
    /// The defaults for a protocol.
    pub const fn new(protocol: u8) -> IpMeta {
        IpMeta {
            protocol,
            ttl: None,
            tos: 0,
            fragment: Fragment::Allow,
            flow_label: 0,
            multicast_loop: true,
            options: Options::NONE,
        }
    }
}

/// Whether IP may cut a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fragment {
    /// Cut here when it exceeds the path's MTU; routers may not cut, so that the path's MTU is learned.
    #[default]
    Allow,
    /// Cut here when it exceeds the path's MTU; routers may cut IPv4 too (IP_PMTUDISC_DONT).
    Anywhere,
    /// Never: the Don't Fragment bit of IPv4 is set and a packet over the path's MTU is refused.
    Never,
    /// As Never, but the path's MTU that we learned is ignored (IP_PMTUDISC_PROBE).
    Probe,
}

/// What tells packets with the same addresses apart: for rules, and for the choice among several ways.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Flow {
    /// The mark of the socket (SO_MARK).
    pub mark: u32,
    /// Type of service or traffic class.
    pub tos: u8,
    /// The transport protocol.
    pub protocol: u8,
    /// The source port.
    pub sport: u16,
    /// The destination port.
    pub dport: u16,
    /// The user of the socket.
    pub uid: u32,
    /// The flow label (IPv6).
    pub label: u32,
}

/// Which IPv6 source addresses a socket would rather have (IPV6_ADDR_PREFERENCES, RFC 5014).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SourcePreference {
    /// As `use_tempaddr` says.
    #[default]
    Default,
    /// Temporary ones (`IPV6_PREFER_SRC_TMP`).
    Temporary,
    /// Those that are not (`IPV6_PREFER_SRC_PUBLIC`).
    Public,
}

/// A question to the routing table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteQuery {
    /// The source when the socket is bound; unspecified or None chooses one.
    pub src: Option<IpAddr>,
    /// Where to.
    pub dst: IpAddr,
    /// Only over this interface (SO_BINDTODEVICE, IP_PKTINFO, a scope id).
    pub nic: Option<NicId>,
    /// What else tells the packets apart.
    pub flow: Flow,
    /// Which sources are preferred.
    pub prefer: SourcePreference,
    /// Only routes to destinations this near: link for SO_DONTROUTE.
    pub scope: route::Scope,
}

impl RouteQuery {
    /// A way to `dst` from whichever source fits.
    pub const fn to(dst: IpAddr) -> RouteQuery {
        RouteQuery {
            src: None,
            dst,
            nic: None,
            flow: Flow { mark: 0, tos: 0, protocol: 0, sport: 0, dport: 0, uid: 0, label: 0 },
            prefer: SourcePreference::Default,
            scope: route::Scope::UNIVERSE,
        }
    }
}

/// How to reach a destination: the answer to a [`RouteQuery`]. Cheap to ask for anew with each batch.
#[derive(Clone, Copy, Debug)]
pub struct RouteInfo {
    /// The source address to use.
    pub src: IpAddr,
    /// The destination.
    pub dst: IpAddr,
    /// The neighbour that takes the packet: a gateway, or the destination.
    pub next_hop: IpAddr,
    /// The interface.
    pub nic: NicId,
    /// The largest IP packet that fits, as known of the whole path.
    pub mtu: u32,
    /// The largest IP packet that the interface takes; `mtu` is at most this.
    pub link_mtu: u32,
    /// The largest TCP payload the link cuts itself; 0 when it cannot.
    pub max_gso: u32,
    /// How the destination is addressed.
    pub cast: Cast,
    /// Whether a stream asks [`IpOutput::busy_until`] before it sends.
    pub holds_back: bool,
    /// What the route tells of its path.
    pub metrics: route::Metrics,
}

/// The answer to a [`RouteQuery`] without what only time or the path itself teaches.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// The answer, with the MTU that holds where nothing was learned.
    pub info: RouteInfo,
    /// The most that the path's MTU can be; None where routers have no say.
    pub bound: Option<u32>,
}

/// An answer with its question, for who keeps it: it holds as long as the generation of what routes rest on is the same.
#[derive(Clone, Debug)]
pub struct KeptPath {
    /// The generation.
    pub generation: u64,
    /// The question.
    pub query: RouteQuery,
    /// The answer.
    pub path: Path,
}

/// Why a packet could not be routed or sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IpError {
    /// No route (ENETUNREACH).
    #[error("network is unreachable")]
    NetworkUnreachable,
    /// A neighbour does not answer, or a route refuses (EHOSTUNREACH).
    #[error("no route to host")]
    HostUnreachable,
    /// A route or rule forbids it (EACCES).
    #[error("permission denied")]
    Prohibited,
    /// The source is not an address of ours (EADDRNOTAVAIL).
    #[error("cannot assign requested address")]
    AddressNotAvailable,
    /// The interface is down (ENETDOWN).
    #[error("network is down")]
    NetworkDown,
    /// Larger than the path's MTU and not to be cut, or over 65,535 bytes (EMSGSIZE).
    #[error("message too long")]
    MessageTooLong {
        /// The path's MTU.
        mtu: u32,
    },
    /// The device's queue is full (ENOBUFS).
    #[error("no buffer space available")]
    NoBuffers,
    /// No such interface (ENODEV).
    #[error("no such device")]
    NoDevice,
    /// The packet makes no sense: mixed families, a broken header (EINVAL).
    #[error("invalid argument")]
    Invalid,
}

/// Packets that would have been sent, had anybody looked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unmade {
    /// How many.
    pub packets: u64,
    /// Their bytes without IP headers.
    pub bytes: u64,
    /// Where to.
    pub dst: IpAddr,
}

/// What a packet socket has to know of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkInfo {
    /// What it carries.
    pub kind: NicKind,
    /// Its link-layer address.
    pub mac: MacAddr,
    /// The largest IP packet it takes.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
}

/// How transports reach the network. The stack implements it.
pub trait IpOutput: Send + Sync {
    /// Finds the way to a destination, with the path's MTU and the source address to use.
    fn route(&self, now: Instant, query: &RouteQuery) -> Result<RouteInfo, IpError>;

    /// As [`IpOutput::route`], for who asks the same again and again: the answer is kept, and looked up again only when something has
    /// changed (Linux's `sk_dst_check`).
    fn route_again(
        &self,
        now: Instant,
        query: &RouteQuery,
        kept: &mut Option<Box<KeptPath>>,
    ) -> Result<RouteInfo, IpError>;

    /// Sends the payload of an IP packet: adds the IP header, cuts if it must and may, resolves the neighbour.
    /// The transport header's checksum is partial ([`crate::buffer::ChecksumOffload::Partial`]) or complete.
    /// Never call this with an endpoint's lock held: over loopback the answer may come within the call.
    fn send(
        &self,
        now: Instant,
        route: &RouteInfo,
        meta: &IpMeta,
        packet: PacketBuffer,
    ) -> Result<(), IpError>;

    /// Sends a packet that has its own IPv4 header (IP_HDRINCL).
    fn send_with_header(
        &self,
        now: Instant,
        route: &RouteInfo,
        packet: PacketBuffer,
    ) -> Result<(), IpError>;

    /// What is known of an interface.
    fn link(&self, nic: NicId) -> Option<LinkInfo>;

    /// Sends a whole frame with its Ethernet header (packet sockets). `sender` does not see it go out.
    fn send_frame(
        &self,
        now: Instant,
        nic: NicId,
        frame: PacketBuffer,
        sender: Option<u64>,
    ) -> Result<(), IpError>;

    /// Tells that the transport made progress with the peer, so its neighbour entry is fresh (RFC 4861 section 7.3.1).
    fn confirm(&self, now: Instant, route: &RouteInfo);

    /// Until when a stream of this number should hold back what it has for a route's link. Called with the lock of the endpoint held:
    /// it must only look.
    fn busy_until(&self, _now: Instant, _route: &RouteInfo, _stream: u32) -> Option<Instant> {
        None
    }

    /// A number that changes with everything that routes rest on; None while somebody looks at packets. As long as it is the same
    /// number, a transport may hand data over to a socket of the same stack without packets, where [`IpOutput::stays_inside`].
    fn unwatched(&self) -> Option<u64> {
        None
    }

    /// Whether packets of a route only come back to this stack.
    fn stays_inside(&self, _route: &RouteInfo) -> bool {
        false
    }

    /// Counts packets on a loopback interface that were not made because their data was handed over.
    fn count_unmade(&self, _nic: NicId, _unmade: &Unmade) {}

    /// Whether an address is assigned to one of our interfaces.
    fn is_local(&self, address: IpAddr) -> bool;

    /// Whether a socket may be bound to an address: one of ours, or a broadcast address of one of our links.
    fn may_bind(&self, address: IpAddr) -> bool;

    /// Changes what a socket wants of a multicast group on an interface (None: the one that a route to the group takes):
    /// from nothing or a filter to another or nothing.
    fn change_membership(
        &self,
        now: Instant,
        at: (IpAddr, Option<NicId>),
        change: (Option<&SourceFilter>, Option<&SourceFilter>),
    ) -> Result<NicId, IpError>;

    /// Joins a multicast group, for all sources.
    fn join_group(
        &self,
        now: Instant,
        group: IpAddr,
        nic: Option<NicId>,
    ) -> Result<NicId, IpError> {
        self.change_membership(now, (group, nic), (None, Some(&SourceFilter::any())))
    }

    /// Leaves a multicast group that was joined for all sources.
    fn leave_group(&self, now: Instant, group: IpAddr, nic: NicId) -> Result<(), IpError> {
        let any = SourceFilter::any();
        self.change_membership(now, (group, Some(nic)), (Some(&any), None)).map(drop)
    }
}
