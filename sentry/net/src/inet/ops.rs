//! An internet socket as the kernel sees it: the file and the socket traits over the endpoint.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use netstack::ip::Family;
use netstack::socket::{AcceptError, Connect, How, ListenError, SocketOption};
use sentry_abi::Errno;
use sentry_abi::UserAddr;
use sentry_abi::if_::SIOCOUTQNSD;
use sentry_abi::socket::*;
use sentry_kernel::Result;
use sentry_kernel::cred::Capabilities;
use sentry_kernel::file::{FileKind, FileOps, WriteAt, Written};
use sentry_kernel::io::{Sink, Source};
use sentry_kernel::socket::{Control, Received, SendMessage, Shutdown, SockAddr, Socket};
use sentry_kernel::task::CurrentTask;
use sentry_kernel::wait::{Events, WaitQueue};
use zerocopy::IntoBytes;

use super::endpoint::Endpoint;
use super::socket::InetSocket;
use super::{ancillary, netdev, sockaddr};
use crate::sockopt::{Common, filter};
use crate::{errno, identity};

impl FileOps for InetSocket {
    fn opened(&self, id: u64) {
        self.inode.open(id);
        // Every endpoint takes it: rules by user see the socket's packets.
        let _ = self.tell(SocketOption::Owner(self.inode.uid()).into());
    }

    fn read(&self, _: u64, dst: &mut dyn Sink) -> Result<usize> {
        Ok(self.take(dst, 0)?.len)
    }

    fn write(&self, _: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let len = self.give(None, src, SendMessage::default())?;
        if src.remaining() == 0 {
            self.sent(&[], 0);
        }
        Ok(Written { len, end: 0 })
    }

    fn readiness(&self) -> Events {
        self.shown(self.endpoint.readiness())
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.waiters)
    }

    fn urgent_queue(&self) -> Option<&WaitQueue> {
        Some(&self.urgent)
    }

    fn ioctl(&self, task: &CurrentTask, request: u32, arg: UserAddr) -> Result<u64> {
        let queued = || -> Result<(usize, usize)> {
            match &self.endpoint {
                Endpoint::Tcp(socket) => match socket.backlog() {
                    Some(_) => Err(Errno::EINVAL.into()),
                    None => Ok(socket.queued()),
                },
                Endpoint::Udp(socket) => Ok((socket.next_len(), 0)),
                Endpoint::Ping(socket) => Ok((socket.next_len(), 0)),
                Endpoint::Raw(socket) => Ok((socket.next_len(), 0)),
            }
        };
        match request {
            FIONREAD => crate::ioctl::write_int(task, arg, queued()?.0),
            SIOCOUTQNSD => match self.endpoint.tcp() {
                Some(socket) => crate::ioctl::write_int(task, arg, socket.listing().unsent),
                None => Err(Errno::ENOTTY.into()),
            },
            SIOCGSTAMP | SIOCGSTAMPNS => {
                // Of the last message that was taken; streams keep none.
                let ns = match self.stamp_ns.load(Ordering::Relaxed) {
                    0 => return Err(Errno::ENOENT.into()),
                    ns => ns,
                };
                let unit = if request == SIOCGSTAMP { 1000 } else { 1 };
                let time = [ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000) / unit];
                task.mm().write(arg, time.as_bytes())?;
                Ok(0)
            }
            SIOCOUTQ => crate::ioctl::write_int(task, arg, queued()?.1),
            SIOCATMARK => match &self.endpoint {
                Endpoint::Tcp(socket) => {
                    crate::ioctl::write_int(task, arg, usize::from(socket.is_at_mark()))
                }
                _ => Err(Errno::ENOTTY.into()),
            },
            _ => netdev::ioctl(&self.net, task, request, arg),
        }
    }

    fn kind(&self) -> FileKind<'_> {
        FileKind::Socket(self)
    }
}

impl Socket for InetSocket {
    fn identity(&self) -> (i32, i32, i32) {
        let domain = match self.family {
            Family::V4 => AF_INET,
            Family::V6 => AF_INET6,
        };
        (domain, self.kind, self.protocol)
    }

    fn bind(&self, task: &CurrentTask, addr: &SockAddr) -> Result<()> {
        let address = sockaddr::decode(self.family, addr)?;
        let has_ports = matches!(self.endpoint, Endpoint::Tcp(_) | Endpoint::Udp(_));
        if has_ports
            && (1..self.net.limits.unprivileged_port_start.load(Ordering::Relaxed))
                .contains(&i64::from(address.port()))
            && !identity::credentials(task).has(Capabilities::NET_BIND_SERVICE)
        {
            return Err(Errno::EACCES.into());
        }
        self.endpoint.bind(self.net.now(), address).map_err(errno::of_bind)
    }

    fn connect(&self, _: &CurrentTask, addr: &SockAddr) -> Result<()> {
        if sockaddr::is_unspec(addr) {
            return self.disconnect();
        }
        let address = sockaddr::decode(self.family, addr)?;
        match self.endpoint.connect(self.net.now(), address).map_err(errno::of_connect)? {
            Connect::Done => Ok(()),
            Connect::InProgress => Err(Errno::EINPROGRESS.into()),
        }
    }

    fn listen(&self, backlog: i32) -> Result<()> {
        let socket = self.endpoint.tcp().ok_or(Errno::EOPNOTSUPP)?;
        // Linux takes the number as unsigned, so that -1 is the most.
        let backlog = (backlog as u32 as usize).min(self.net.stack().tcp_config().somaxconn);
        socket.listen(backlog).map_err(|error| match error {
            ListenError::InUse => Errno::EADDRINUSE.into(),
            ListenError::Invalid => Errno::EINVAL.into(),
        })
    }

    fn accept(&self) -> Result<(Arc<dyn Socket>, SockAddr)> {
        let socket = self.endpoint.tcp().ok_or(Errno::EOPNOTSUPP)?;
        let accepted = socket.accept(self.net.now()).map_err(|error| match error {
            AcceptError::WouldBlock => Errno::EAGAIN,
            AcceptError::NotListening => Errno::EINVAL,
        })?;
        // A connection that was reset before it was accepted has no peer any more.
        let peer = accepted.peer_addr().unwrap_or(sockaddr::unspecified(self.family));
        let (endpoint, identity) = (Endpoint::Tcp(accepted), (self.kind, self.protocol));
        let options = Common::inherit(&self.options);
        let new = InetSocket::with_options(&self.net, self.family, endpoint, identity, options);
        new.begin_times()?;
        Ok((new, sockaddr::encode(self.family, peer)))
    }

    fn send(
        &self,
        task: &CurrentTask,
        src: &mut dyn Source,
        message: SendMessage,
    ) -> Result<usize> {
        match message.control.is_empty() {
            true => self.give(None, src, message),
            false => self.give(Some(&identity::credentials(task)), src, message),
        }
    }

    fn sent(&self, control: &[Control], flags: u32) {
        let Some(socket) = self.endpoint.tcp() else { return };
        if self.tells_of_copies(flags) {
            socket.note_copied(1);
        }
        socket.note_written(self.net.now(), ancillary::stamping_of(control), None);
    }

    fn receive(
        &self,
        _: &CurrentTask,
        dst: &mut dyn Sink,
        flags: u32,
        _: usize,
    ) -> Result<Received> {
        self.take(dst, flags)
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        let how = match how {
            Shutdown::Read => How::Read,
            Shutdown::Write => How::Write,
            Shutdown::Both => How::Both,
        };
        self.endpoint.shutdown(self.net.now(), how).map_err(errno::of_shutdown)
    }

    fn local_address(&self) -> Result<SockAddr> {
        let mut local = self.endpoint.local_addr();
        if let Endpoint::Raw(_) = self.endpoint {
            // Linux has the protocol where others have their port (inet_sport).
            local.set_port(self.own_number());
        }
        Ok(sockaddr::encode(self.family, local))
    }

    fn peer_address(&self) -> Result<SockAddr> {
        Ok(SockAddr(self.peer_name()?))
    }

    fn set_option(&self, task: &CurrentTask, level: i32, name: i32, value: &[u8]) -> Result<()> {
        match level {
            SOL_SOCKET if filter::is_filter(name) => self.store_filter(task, name, value),
            _ => self.store(&identity::credentials(task), level, name, value),
        }
    }

    fn option(&self, _: &CurrentTask, level: i32, name: i32, room: &[u8]) -> Result<Vec<u8>> {
        self.load(level, name, room)
    }

    fn filter(&self) -> Vec<u8> {
        self.endpoint.filter().as_ref().map(filter::encode).unwrap_or_default()
    }

    fn timeouts_ns(&self) -> (Option<u64>, Option<u64>) {
        self.options.timeouts_ns()
    }
}
