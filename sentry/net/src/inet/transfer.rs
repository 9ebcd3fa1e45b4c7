//! Bytes and messages through internet sockets.

use core::net::SocketAddr;
use core::sync::atomic::Ordering;

use netstack::buffer::Fault;
use netstack::ip::Family;
use netstack::socket::datagram::Ancillary;
use netstack::socket::{RecvFlags, SendFlags};
use sentry_abi::Errno;
use sentry_abi::in_::SockAddrIn6;
use sentry_abi::socket::*;
use sentry_kernel::cred::Credentials;
use sentry_kernel::io::{Sink, Source};
use sentry_kernel::socket::{Received, SendMessage};
use sentry_kernel::{Error, Result};

use super::ancillary::Asking;
use super::endpoint::Endpoint;
use super::sockaddr;
use super::socket::InetSocket;
use crate::errno;

/// The kernel's source as the stack wants it; remembers the error behind a fault.
pub(crate) struct FromProgram<'a> {
    pub(crate) inner: &'a mut dyn Source,
    pub(crate) error: Option<Error>,
}

impl netstack::buffer::Source for FromProgram<'_> {
    fn remaining(&self) -> usize {
        self.inner.remaining()
    }

    fn read(&mut self, dst: &mut [u8]) -> Result<usize, Fault> {
        self.inner.read(dst).map_err(|error| {
            self.error = Some(error);
            Fault
        })
    }
}

/// The kernel's sink as the stack wants it.
pub(crate) struct ToProgram<'a> {
    pub(crate) inner: &'a mut dyn Sink,
    pub(crate) error: Option<Error>,
}

impl netstack::buffer::Sink for ToProgram<'_> {
    fn room(&self) -> usize {
        self.inner.room()
    }

    fn write(&mut self, src: &[u8]) -> Result<usize, Fault> {
        self.inner.write(src).map_err(|error| {
            self.error = Some(error);
            Fault
        })
    }
}

impl InetSocket {
    /// connect(2) with AF_UNSPEC: a stream is reset, a datagram socket forgets its peer.
    pub(super) fn disconnect(&self) -> Result<()> {
        match &self.endpoint {
            Endpoint::Tcp(socket) => socket.disconnect(self.net.now()),
            Endpoint::Udp(socket) => socket.disconnect(self.net.now()),
            Endpoint::Ping(socket) => socket.disconnect(self.net.now()),
            Endpoint::Raw(socket) => socket.disconnect(self.net.now()),
        }
        Ok(())
    }

    /// What a send's control messages and flags ask for. Errors: EINVAL, EPERM.
    fn asked_for(
        &self,
        creds: Option<&Credentials>,
        message: &SendMessage,
        to: Option<SocketAddr>,
    ) -> Result<Ancillary> {
        let peer = || self.endpoint.peer_addr();
        let mapped = |to: SocketAddr| match to {
            SocketAddr::V4(_) => true,
            SocketAddr::V6(to) => to.ip().to_ipv4_mapped().is_some(),
        };
        let over_v4 = self.family == Family::V4
            || (!message.control.is_empty() && to.or_else(peer).is_some_and(mapped));
        let level = if over_v4 { Family::V4 } else { Family::V6 };
        let mut out = Asking { socket: self, creds, level }.read(&message.control)?;
        out.more = message.flags & MSG_MORE != 0;
        out.dont_route = message.flags & MSG_DONTROUTE != 0;
        out.zerocopy = self.tells_of_copies(message.flags);
        if let (Family::V6, Some(to)) = (self.family, &message.to)
            && out.flow_info == 0
            && to.0.len() >= size_of::<SockAddrIn6>()
        {
            let info = to.0.get(4..8).and_then(|bytes| bytes.first_chunk::<4>());
            out.flow_info = info.map_or(0, |bytes| u32::from_be_bytes(*bytes));
        }
        Ok(out)
    }

    /// Whether a send asks, and may ask, to be told when its memory is free again (MSG_ZEROCOPY).
    pub(super) fn tells_of_copies(&self, flags: u32) -> bool {
        flags & MSG_ZEROCOPY != 0
            && self.options.is_on(SOL_SOCKET, SO_ZEROCOPY)
            && matches!(self.endpoint, Endpoint::Tcp(_) | Endpoint::Udp(_))
    }

    /// Sends: bytes of a stream or one message. Nobody in particular may do what needs no right.
    pub(super) fn give(
        &self,
        creds: Option<&Credentials>,
        src: &mut dyn Source,
        message: SendMessage,
    ) -> Result<usize> {
        let now = self.net.now();
        let mut source = FromProgram { inner: src, error: None };
        let mut flags = SendFlags::empty();
        flags.set(SendFlags::MORE, message.flags & MSG_MORE != 0);
        flags.set(SendFlags::OOB, message.flags & MSG_OOB != 0);
        flags.set(SendFlags::DONT_ROUTE, message.flags & MSG_DONTROUTE != 0);
        let sent = match &self.endpoint {
            Endpoint::Tcp(socket) if message.flags & MSG_FASTOPEN != 0 => {
                let to = message.to.as_ref().ok_or(Errno::EINVAL)?;
                let to = sockaddr::decode(self.family, to)?;
                socket.fast_open(now, &mut source, to, flags)
            }
            // As on Linux, the address of a connected stream's send is not looked at.
            Endpoint::Tcp(socket) => {
                Asking { socket: self, creds, level: self.family }.read(&message.control)?;
                socket.send(now, &mut source, flags)
            }
            _ if flags.contains(SendFlags::OOB) => return Err(Errno::EOPNOTSUPP.into()),
            datagrams => {
                let to = message.to.as_ref();
                let to = to.map(|to| sockaddr::decode_destination(self.family, to)).transpose()?;
                let extra = self.asked_for(creds, &message, to)?;
                match datagrams {
                    Endpoint::Udp(socket) => socket.send_to(now, &mut source, to, &extra),
                    Endpoint::Ping(socket) => socket.send_to(now, &mut source, to, &extra),
                    Endpoint::Raw(socket) => socket.send_to(now, &mut source, to, &extra),
                    Endpoint::Tcp(_) => return Err(Errno::EINVAL.into()),
                }
            }
        };
        sent.map_err(|error| source.error.take().unwrap_or_else(|| errno::of_send(error)))
    }

    /// Receives: bytes of a stream or one message.
    pub(super) fn take(&self, dst: &mut dyn Sink, flags: u32) -> Result<Received> {
        if flags & MSG_ERRQUEUE != 0 {
            return self.take_report(dst);
        }
        let now = self.net.now();
        let mut sink = ToProgram { inner: dst, error: None };
        let mut asked = RecvFlags::empty();
        asked.set(RecvFlags::PEEK, flags & MSG_PEEK != 0);
        asked.set(RecvFlags::OOB, flags & MSG_OOB != 0);
        if let Some(news) = self.take_path_mtu() {
            return Ok(news);
        }
        let told = match &self.endpoint {
            Endpoint::Tcp(socket) => {
                asked.set(RecvFlags::TRUNC, flags & MSG_TRUNC != 0);
                let len = socket.recv(now, &mut sink, asked);
                return match len {
                    Ok(len) => {
                        let control = self.stream_control(socket);
                        let flags = flags & MSG_OOB;
                        Ok(Received { len, control, flags, from: None })
                    }
                    Err(error) => Err(sink.error.take().unwrap_or_else(|| errno::of_recv(error))),
                };
            }
            _ if asked.contains(RecvFlags::OOB) => return Err(Errno::EOPNOTSUPP.into()),
            Endpoint::Udp(socket) => socket.recv_from(now, &mut sink, asked),
            Endpoint::Ping(socket) => socket.recv_from(now, &mut sink, asked),
            Endpoint::Raw(socket) => socket.recv_from(now, &mut sink, asked),
        };
        let told =
            told.map_err(|error| sink.error.take().unwrap_or_else(|| errno::of_recv(error)))?;
        self.stamp_ns.store(self.net.wall_ns(told.timestamp), Ordering::Relaxed);
        let cut = told.len < told.full_len;
        Ok(Received {
            len: if flags & MSG_TRUNC != 0 { told.full_len } else { told.len },
            from: Some(sockaddr::encode(self.family, told.from)),
            control: self.control(&told),
            flags: if cut { MSG_TRUNC } else { 0 },
        })
    }
}
