//! What sockets share: errors, readiness, wakers, flags, typed options, and where bytes come from and go to.
//! Its files hold the sockets themselves. Nothing here blocks: an operation that would is told so.

pub mod datagram;
pub mod error_queue;
pub mod options;
pub mod packet;
pub mod tcp;

use core::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use bitflags::bitflags;

use crate::ip::{Family, IpError};
use crate::transport::PortError;

pub use crate::buffer::{Fault, Sink, Source};
pub use datagram::{Ancillary, Datagram, PingSocket, RawSocket, Received, UdpSocket};
pub use error_queue::{ErrorReport, Report};
pub use options::{
    DatagramOption, DatagramOptionKind, IpOption, IpOptionKind, OptionError, OptionKind,
    OptionValue, SocketOption, SocketOptionKind, TcpOption, TcpOptionKind,
};

bitflags! {
    /// What a socket is ready for, as `poll` tells it.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Readiness: u16 {
        /// There is something to receive, to accept, or an end of stream (POLLIN).
        const IN = 1;
        /// A send would take bytes (POLLOUT).
        const OUT = 1 << 1;
        /// Urgent data (POLLPRI).
        const PRI = 1 << 2;
        /// An error is pending (POLLERR).
        const ERR = 1 << 3;
        /// Both directions are closed (POLLHUP).
        const HUP = 1 << 4;
        /// The peer closed its direction (POLLRDHUP).
        const RDHUP = 1 << 5;
    }
}

/// Told when a socket's readiness changed. Called without any lock of the endpoint held.
pub trait Wake: Send + Sync {
    /// `readiness` is all that the socket is ready for now.
    fn wake(&self, readiness: Readiness);

    /// The peer announced urgent data (SIGURG).
    fn urgent(&self) {}
}

/// An error of a socket's network, pending until an operation or SO_ERROR takes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SocketError {
    /// ECONNREFUSED
    #[error("connection refused")]
    ConnectionRefused,
    /// ECONNRESET
    #[error("connection reset by peer")]
    ConnectionReset,
    /// ECONNABORTED
    #[error("software caused connection abort")]
    ConnectionAborted,
    /// ETIMEDOUT
    #[error("connection timed out")]
    TimedOut,
    /// EPIPE
    #[error("broken pipe")]
    BrokenPipe,
    /// EHOSTUNREACH
    #[error("no route to host")]
    HostUnreachable,
    /// ENETUNREACH
    #[error("network is unreachable")]
    NetworkUnreachable,
    /// EHOSTDOWN
    #[error("host is down")]
    HostDown,
    /// ENOPROTOOPT: the peer's host does not speak the protocol.
    #[error("protocol not available")]
    ProtocolUnreachable,
    /// EMSGSIZE
    #[error("message too long")]
    MessageTooLong,
    /// EACCES: administratively prohibited, or a broadcast without SO_BROADCAST.
    #[error("permission denied")]
    AccessDenied,
    /// EPROTO: a parameter problem.
    #[error("protocol error")]
    Protocol,
    /// EADDRNOTAVAIL
    #[error("cannot assign requested address")]
    AddressNotAvailable,
    /// ENETDOWN
    #[error("network is down")]
    NetworkDown,
    /// ENOBUFS
    #[error("no buffer space available")]
    NoBuffers,
    /// ENODEV
    #[error("no such device")]
    NoDevice,
    /// EINVAL
    #[error("invalid argument")]
    Invalid,
}

impl From<IpError> for SocketError {
    fn from(error: IpError) -> SocketError {
        match error {
            IpError::NetworkUnreachable => SocketError::NetworkUnreachable,
            IpError::HostUnreachable => SocketError::HostUnreachable,
            IpError::Prohibited => SocketError::AccessDenied,
            IpError::AddressNotAvailable => SocketError::AddressNotAvailable,
            IpError::NetworkDown => SocketError::NetworkDown,
            IpError::MessageTooLong { .. } => SocketError::MessageTooLong,
            IpError::NoBuffers => SocketError::NoBuffers,
            IpError::NoDevice => SocketError::NoDevice,
            IpError::Invalid => SocketError::Invalid,
        }
    }
}

/// Why a bind failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BindError {
    /// EADDRINUSE
    #[error("address already in use")]
    InUse,
    /// EADDRNOTAVAIL
    #[error("cannot assign requested address")]
    AddressNotAvailable,
    /// EINVAL: bound already.
    #[error("the socket is bound already")]
    AlreadyBound,
    /// EAFNOSUPPORT: an address of another family (EINVAL for IPv4-mapped on a v6-only socket).
    #[error("address family not supported by the socket")]
    Family,
}

impl From<PortError> for BindError {
    fn from(_: PortError) -> BindError {
        BindError::InUse
    }
}

/// Success of a connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Connect {
    /// The peer is set, or the connection stands.
    Done,
    /// The handshake is under way (EINPROGRESS): readiness OUT or ERR tells the end.
    InProgress,
}

/// Why a connect failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConnectError {
    /// EISCONN
    #[error("already connected")]
    IsConnected,
    /// EALREADY
    #[error("a connect is in progress")]
    Already,
    /// EAFNOSUPPORT
    #[error("address family not supported by the socket")]
    Family,
    /// EADDRNOTAVAIL: no ephemeral port is left, or the source is not ours.
    #[error("cannot assign requested address")]
    AddressNotAvailable,
    /// EADDRINUSE: the four-tuple is taken.
    #[error("address already in use")]
    InUse,
    /// EACCES: a broadcast address without SO_BROADCAST.
    #[error("permission denied")]
    AccessDenied,
    /// EINVAL, and EOPNOTSUPP for a listener.
    #[error("invalid argument")]
    Invalid,
    /// The network says no.
    #[error(transparent)]
    Network(#[from] SocketError),
}

/// Why a listen failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ListenError {
    /// EADDRINUSE: somebody listens there.
    #[error("address already in use")]
    InUse,
    /// EINVAL: the socket is connected.
    #[error("invalid argument")]
    Invalid,
}

/// Why an accept gave nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AcceptError {
    /// EAGAIN: readiness IN tells when.
    #[error("the operation would block")]
    WouldBlock,
    /// EINVAL
    #[error("the socket does not listen")]
    NotListening,
}

/// Why a send did nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendError {
    /// EAGAIN: readiness OUT tells when.
    #[error("the operation would block")]
    WouldBlock,
    /// EFAULT
    #[error(transparent)]
    Fault(#[from] Fault),
    /// ENOTCONN
    #[error("the socket is not connected")]
    NotConnected,
    /// EDESTADDRREQ
    #[error("destination address required")]
    DestinationRequired,
    /// EISCONN: a destination on a connected stream.
    #[error("the socket is connected")]
    IsConnected,
    /// EPIPE: the sending direction was shut down.
    #[error("broken pipe")]
    Shutdown,
    /// EMSGSIZE
    #[error("message too long")]
    MessageTooLong,
    /// EACCES
    #[error("permission denied")]
    AccessDenied,
    /// EAFNOSUPPORT
    #[error("address family not supported by the socket")]
    Family,
    /// EINVAL
    #[error("invalid argument")]
    Invalid,
    /// EOPNOTSUPP: fast open is off.
    #[error("operation not supported")]
    NotSupported,
    /// EINPROGRESS: the handshake of a fast open is under way without data.
    #[error("operation now in progress")]
    InProgress,
    /// A pending error, or one of this very send.
    #[error(transparent)]
    Network(#[from] SocketError),
}

impl From<IpError> for SendError {
    fn from(error: IpError) -> SendError {
        match error {
            IpError::MessageTooLong { .. } => SendError::MessageTooLong,
            other => SendError::Network(other.into()),
        }
    }
}

/// Why a receive gave nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecvError {
    /// EAGAIN: readiness IN tells when.
    #[error("the operation would block")]
    WouldBlock,
    /// EFAULT
    #[error(transparent)]
    Fault(#[from] Fault),
    /// ENOTCONN
    #[error("the socket is not connected")]
    NotConnected,
    /// EINVAL: no urgent data, or it was read already.
    #[error("invalid argument")]
    Invalid,
    /// A pending error.
    #[error(transparent)]
    Network(#[from] SocketError),
}

/// Which directions `shutdown` closes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// SHUT_RD
    Read,
    /// SHUT_WR
    Write,
    /// SHUT_RDWR
    Both,
}

impl How {
    /// Whether receiving is closed.
    pub fn reads(self) -> bool {
        self != How::Write
    }

    /// Whether sending is closed.
    pub fn writes(self) -> bool {
        self != How::Read
    }
}

/// Why a shutdown failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ShutdownError {
    /// ENOTCONN
    #[error("the socket is not connected")]
    NotConnected,
}

bitflags! {
    /// Flags of a send (MSG_*).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct SendFlags: u8 {
        /// More follows: do not push a partial segment (MSG_MORE).
        const MORE = 1;
        /// The last byte is urgent (MSG_OOB).
        const OOB = 1 << 1;
        /// Not through a gateway (MSG_DONTROUTE).
        const DONT_ROUTE = 1 << 2;
    }
}

bitflags! {
    /// Flags of a receive (MSG_*).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct RecvFlags: u8 {
        /// Leave it in the queue (MSG_PEEK).
        const PEEK = 1;
        /// The caller wants the full length (MSG_TRUNC); on a stream: discard instead of copying.
        const TRUNC = 1 << 1;
        /// Urgent data (MSG_OOB).
        const OOB = 1 << 2;
    }
}

/// An address as an AF_INET6 socket shows it: IPv4 becomes IPv4-mapped.
pub fn to_family(family: Family, address: SocketAddr) -> SocketAddr {
    match (family, address) {
        (Family::V6, SocketAddr::V4(v4)) => {
            SocketAddr::V6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0))
        }
        _ => address,
    }
}

/// An address as the stack uses it: IPv4-mapped becomes IPv4.
pub fn from_mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), v6.port()),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

/// The interface that an IPv6 address with a scope id names.
pub fn scope_of(address: SocketAddr) -> Option<crate::link::NicId> {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 && needs_scope(*v6.ip()) => {
            Some(crate::link::NicId(v6.scope_id()))
        }
        _ => None,
    }
}

/// Whether an address means something only on one link.
fn needs_scope(address: Ipv6Addr) -> bool {
    address.is_unicast_link_local() || address.is_multicast()
}
