//! The stack's four kinds of sockets behind one face.

use core::net::SocketAddr;
use std::sync::Arc;

use netstack::filter::Program;
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{
    BindError, Connect, ConnectError, Datagram, How, OptionError, OptionKind, OptionValue,
    PingSocket, RawSocket, Readiness, ShutdownError, SocketError, UdpSocket, Wake,
};
use netstack::time::Instant;

/// A socket of the stack.
pub enum Endpoint {
    /// SOCK_STREAM
    Tcp(TcpSocket),
    /// SOCK_DGRAM
    Udp(UdpSocket),
    /// SOCK_DGRAM with ICMP or ICMPv6
    Ping(PingSocket),
    /// SOCK_RAW
    Raw(RawSocket),
}

macro_rules! each {
    ($self:ident, $socket:ident => $call:expr) => {
        match $self {
            Endpoint::Tcp($socket) => $call,
            Endpoint::Udp($socket) => $call,
            Endpoint::Ping($socket) => $call,
            Endpoint::Raw($socket) => $call,
        }
    };
}

impl Endpoint {
    /// The TCP socket, if it is one.
    pub fn tcp(&self) -> Option<&TcpSocket> {
        match self {
            Endpoint::Tcp(socket) => Some(socket),
            _ => None,
        }
    }

    /// The message socket, if it is one.
    pub fn datagram(&self) -> Option<&Datagram> {
        match self {
            Endpoint::Tcp(_) => None,
            Endpoint::Udp(socket) => Some(socket),
            Endpoint::Ping(socket) => Some(socket),
            Endpoint::Raw(socket) => Some(socket),
        }
    }

    pub fn local_addr(&self) -> SocketAddr {
        each!(self, socket => socket.local_addr())
    }

    pub fn peer_addr(&self) -> Option<SocketAddr> {
        each!(self, socket => socket.peer_addr())
    }

    pub fn take_error(&self) -> Option<SocketError> {
        each!(self, socket => socket.take_error())
    }

    pub fn readiness(&self) -> Readiness {
        each!(self, socket => socket.readiness())
    }

    pub fn set_waker(&self, waker: Arc<dyn Wake>) {
        each!(self, socket => socket.set_waker(waker))
    }

    pub fn bind(&self, now: Instant, address: SocketAddr) -> Result<(), BindError> {
        let _ = now;
        each!(self, socket => socket.bind(address))
    }

    pub fn connect(&self, now: Instant, address: SocketAddr) -> Result<Connect, ConnectError> {
        each!(self, socket => socket.connect(now, address))
    }

    pub fn shutdown(&self, now: Instant, how: How) -> Result<(), ShutdownError> {
        each!(self, socket => socket.shutdown(now, how))
    }

    pub fn close(&self, now: Instant) {
        each!(self, socket => socket.close(now))
    }

    pub fn set_filter(&self, filter: Option<Program>) {
        each!(self, socket => socket.set_filter(filter))
    }

    pub fn set_chooser(&self, chooser: Option<Program>) -> Result<(), OptionError> {
        each!(self, socket => socket.set_chooser(chooser))
    }

    pub fn filter(&self) -> Option<Program> {
        each!(self, socket => socket.filter())
    }

    pub fn set_option(&self, now: Instant, value: OptionValue) -> Result<(), OptionError> {
        each!(self, socket => socket.set_option(now, value))
    }

    pub fn option(&self, now: Instant, kind: OptionKind) -> Result<OptionValue, OptionError> {
        each!(self, socket => socket.option(now, kind))
    }
}
