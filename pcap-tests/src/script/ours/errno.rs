//! The stack's errors as the errno that their documentation gives them.

use netstack::socket::{
    AcceptError, BindError, ConnectError, ListenError, OptionError, RecvError, SendError,
    ShutdownError, SocketError,
};
use nix::errno::Errno;

/// A pending error of a socket.
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
pub fn of_bind(error: BindError) -> Errno {
    match error {
        BindError::InUse => Errno::EADDRINUSE,
        BindError::AddressNotAvailable => Errno::EADDRNOTAVAIL,
        BindError::AlreadyBound => Errno::EINVAL,
        BindError::Family => Errno::EAFNOSUPPORT,
    }
}

/// listen(2)
pub fn of_listen(error: ListenError) -> Errno {
    match error {
        ListenError::InUse => Errno::EADDRINUSE,
        ListenError::Invalid => Errno::EINVAL,
    }
}

/// accept(2)
pub fn of_accept(error: AcceptError) -> Errno {
    match error {
        AcceptError::WouldBlock => Errno::EAGAIN,
        AcceptError::NotListening => Errno::EINVAL,
    }
}

/// connect(2)
pub fn of_connect(error: ConnectError) -> Errno {
    match error {
        ConnectError::IsConnected => Errno::EISCONN,
        ConnectError::Already => Errno::EALREADY,
        ConnectError::Family => Errno::EAFNOSUPPORT,
        ConnectError::AddressNotAvailable => Errno::EADDRNOTAVAIL,
        ConnectError::InUse => Errno::EADDRINUSE,
        ConnectError::AccessDenied => Errno::EACCES,
        ConnectError::Invalid => Errno::EINVAL,
        ConnectError::Network(error) => of_socket(error),
    }
}

/// send(2) and its kin
pub fn of_send(error: SendError) -> Errno {
    match error {
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
    }
}

/// recv(2) and its kin
pub fn of_recv(error: RecvError) -> Errno {
    match error {
        RecvError::WouldBlock => Errno::EAGAIN,
        RecvError::Fault(_) => Errno::EFAULT,
        RecvError::NotConnected => Errno::ENOTCONN,
        RecvError::Invalid => Errno::EINVAL,
        RecvError::Network(error) => of_socket(error),
    }
}

/// shutdown(2)
pub fn of_shutdown(error: ShutdownError) -> Errno {
    match error {
        ShutdownError::NotConnected => Errno::ENOTCONN,
    }
}

/// getsockopt(2), setsockopt(2)
pub fn of_option(error: OptionError) -> Errno {
    match error {
        OptionError::NotSupported => Errno::ENOPROTOOPT,
        OptionError::OperationNotSupported => Errno::EOPNOTSUPP,
        OptionError::Invalid => Errno::EINVAL,
        OptionError::NotConnected => Errno::ENOTCONN,
        OptionError::InUse => Errno::EADDRINUSE,
        OptionError::AddressNotAvailable => Errno::EADDRNOTAVAIL,
        OptionError::NoDevice => Errno::ENODEV,
        OptionError::NotFound => Errno::ENOENT,
        OptionError::NoBuffers => Errno::ENOBUFS,
    }
}
