//! The only place where the stack's errors become errno numbers.

use netstack::socket::options::OptionError;
use netstack::socket::{BindError, ConnectError, RecvError, SendError, ShutdownError, SocketError};
use sentry_abi::Errno;
use sentry_kernel::Error;

/// A pending error of a socket, as SO_ERROR tells it.
pub fn of_socket(error: SocketError) -> Errno {
    match error {
        SocketError::ConnectionRefused => Errno::ECONNREFUSED,
        SocketError::ConnectionReset => Errno::ECONNRESET,
        SocketError::ConnectionAborted => Errno::ECONNABORTED,
        SocketError::TimedOut => Errno::ETIMEDOUT,
        SocketError::BrokenPipe => Errno::EPIPE,
        SocketError::HostUnreachable => Errno::EHOSTUNREACH,
        SocketError::NetworkUnreachable => Errno::ENETUNREACH,
        SocketError::HostDown => Errno::EHOSTDOWN,
        SocketError::ProtocolUnreachable => Errno::ENOPROTOOPT,
        SocketError::MessageTooLong => Errno::EMSGSIZE,
        SocketError::AccessDenied => Errno::EACCES,
        SocketError::Protocol => Errno::EPROTO,
        SocketError::AddressNotAvailable => Errno::EADDRNOTAVAIL,
        SocketError::NetworkDown => Errno::ENETDOWN,
        SocketError::NoBuffers => Errno::ENOBUFS,
        SocketError::NoDevice => Errno::ENODEV,
        SocketError::Invalid => Errno::EINVAL,
    }
}

/// bind(2)
#[track_caller]
pub fn of_bind(error: BindError) -> Error {
    Error::new(match error {
        BindError::InUse => Errno::EADDRINUSE,
        BindError::AddressNotAvailable => Errno::EADDRNOTAVAIL,
        BindError::AlreadyBound => Errno::EINVAL,
        BindError::Family => Errno::EAFNOSUPPORT,
    })
}

/// connect(2)
#[track_caller]
pub fn of_connect(error: ConnectError) -> Error {
    Error::new(match error {
        ConnectError::IsConnected => Errno::EISCONN,
        ConnectError::Already => Errno::EALREADY,
        ConnectError::Family => Errno::EAFNOSUPPORT,
        ConnectError::AddressNotAvailable => Errno::EADDRNOTAVAIL,
        ConnectError::InUse => Errno::EADDRINUSE,
        ConnectError::AccessDenied => Errno::EACCES,
        ConnectError::Invalid => Errno::EINVAL,
        ConnectError::Network(error) => of_socket(error),
    })
}

/// send(2) and its relatives
#[track_caller]
pub fn of_send(error: SendError) -> Error {
    Error::new(match error {
        SendError::WouldBlock => Errno::EAGAIN,
        SendError::Fault(_) => Errno::EFAULT,
        SendError::NotConnected => Errno::ENOTCONN,
        SendError::DestinationRequired => Errno::EDESTADDRREQ,
        SendError::IsConnected => Errno::EISCONN,
        SendError::Shutdown => Errno::EPIPE,
        SendError::MessageTooLong => Errno::EMSGSIZE,
        SendError::AccessDenied => Errno::EACCES,
        SendError::Family => Errno::EAFNOSUPPORT,
        SendError::Invalid => Errno::EINVAL,
        SendError::NotSupported => Errno::EOPNOTSUPP,
        SendError::InProgress => Errno::EINPROGRESS,
        SendError::Network(error) => of_socket(error),
    })
}

/// recv(2) and its relatives
#[track_caller]
pub fn of_recv(error: RecvError) -> Error {
    Error::new(match error {
        RecvError::WouldBlock => Errno::EAGAIN,
        RecvError::Fault(_) => Errno::EFAULT,
        RecvError::NotConnected => Errno::ENOTCONN,
        RecvError::Invalid => Errno::EINVAL,
        RecvError::Network(error) => of_socket(error),
    })
}

/// shutdown(2)
#[track_caller]
pub fn of_shutdown(error: ShutdownError) -> Error {
    Error::new(match error {
        ShutdownError::NotConnected => Errno::ENOTCONN,
    })
}

/// getsockopt(2), setsockopt(2)
#[track_caller]
pub fn of_option(error: OptionError) -> Error {
    Error::new(match error {
        OptionError::NotSupported => Errno::ENOPROTOOPT,
        OptionError::OperationNotSupported => Errno::EOPNOTSUPP,
        OptionError::Invalid => Errno::EINVAL,
        OptionError::NotConnected => Errno::ENOTCONN,
        OptionError::InUse => Errno::EADDRINUSE,
        OptionError::AddressNotAvailable => Errno::EADDRNOTAVAIL,
        OptionError::NoDevice => Errno::ENODEV,
        OptionError::NotFound => Errno::ENOENT,
        OptionError::NoBuffers => Errno::ENOBUFS,
    })
}
