//! A netlink socket: requests go in, replies wait in its queue.

use std::collections::VecDeque;
use std::sync::Arc;

use sentry_abi::netlink::*;
use sentry_abi::socket::*;
use sentry_abi::{Errno, UserAddr};
use sentry_kernel::Result;
use sentry_kernel::file::{FileKind, FileOps, WriteAt, Written};
use sentry_kernel::io::{Sink, Source};
use sentry_kernel::socket::{Received, SendMessage, Shutdown, SockAddr, Socket};
use sentry_kernel::sync::{Mutex, Rank};
use sentry_kernel::task::{self, CurrentTask, Task};
use sentry_kernel::wait::{Events, WaitQueue};
use zerocopy::{FromBytes, IntoBytes};

use super::Ports;
use super::answer::{self, Context};
use crate::inet::netdev;
use crate::netns::NetNamespace;
use crate::sockopt::{Common, Sorts, value};
use crate::{identity, ioctl};

/// Bytes of replies that wait; a request beyond that is answered with ENOBUFS, as Linux says of an overrun.
const QUEUE_MAX: usize = 4 << 20;
/// The largest request.
const REQUEST_MAX: usize = 64 * 1024;

#[derive(Default)]
struct State {
    port: u32,
    groups: u32,
    replies: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// A netlink socket of the route family.
pub struct NetlinkSocket {
    net: Arc<NetNamespace>,
    ports: Arc<Ports>,
    kind: i32,
    options: Common,
    waiters: WaitQueue,
    state: Mutex<State>,
}

fn address(port: u32, groups: u32) -> SockAddr {
    let raw = SockAddrNl { family: AF_NETLINK as u16, pad: 0, pid: port, groups };
    SockAddr(raw.as_bytes().to_vec())
}

fn decode(addr: &SockAddr) -> Result<SockAddrNl> {
    let (raw, _) = SockAddrNl::read_from_prefix(&addr.0).map_err(|_| Errno::EINVAL)?;
    if i32::from(raw.family) != AF_NETLINK {
        return Err(Errno::EINVAL.into());
    }
    Ok(raw)
}

impl NetlinkSocket {
    pub fn new(net: &Arc<NetNamespace>, ports: &Arc<Ports>, kind: i32) -> Self {
        let (net, ports) = (net.clone(), ports.clone());
        let (options, waiters) = (Common::new(Sorts::NETLINK), WaitQueue::new());
        let state = Mutex::new(Rank::SOCKET, State::default());
        Self { net, ports, kind, options, waiters, state }
    }

    /// Gives the socket a port id, if it has none. Errors: EADDRINUSE, EINVAL where it has another.
    fn bind_to(&self, wanted: u32, near: u32) -> Result<()> {
        let mut state = self.state.lock();
        match state.port {
            0 => state.port = self.ports.take(wanted, near)?,
            port if wanted != 0 && wanted != port => return Err(Errno::EINVAL.into()),
            _ => {}
        }
        Ok(())
    }

    fn request(&self, task: &Task, src: &mut dyn Source) -> Result<usize> {
        let len = src.remaining();
        if len > REQUEST_MAX {
            return Err(Errno::EMSGSIZE.into());
        }
        let mut bytes = vec![0; len];
        let mut filled = 0;
        while filled < len {
            match src.read(&mut bytes[filled..])? {
                0 => return Err(Errno::EFAULT.into()),
                n => filled += n,
            }
        }
        self.bind_to(0, task.pid())?;
        let creds = task.credentials();
        let cx = Context { stack: self.net.stack(), now: self.net.now(), creds: &creds };
        let mut replies = answer::datagram(&cx, &bytes);
        {
            let mut state = self.state.lock();
            if state.bytes > QUEUE_MAX {
                return Err(Errno::ENOBUFS.into());
            }
            for reply in &mut replies {
                set_port(reply, state.port);
            }
            state.bytes += replies.iter().map(Vec::len).sum::<usize>();
            state.replies.extend(replies);
        }
        self.waiters.notify(Events::IN | Events::RDNORM);
        Ok(len)
    }

    fn take(&self, dst: &mut dyn Sink, flags: u32) -> Result<Received> {
        if flags & MSG_ERRQUEUE != 0 {
            return Err(Errno::EAGAIN.into());
        }
        let reply = {
            let mut state = self.state.lock();
            let first = state.replies.front().ok_or(Errno::EAGAIN)?;
            if flags & MSG_PEEK != 0 {
                first.clone()
            } else {
                let reply = state.replies.pop_front().unwrap_or_default();
                state.bytes = state.bytes.saturating_sub(reply.len());
                reply
            }
        };
        let n = dst.write(&reply)?;
        Ok(Received {
            len: if flags & MSG_TRUNC != 0 { reply.len() } else { n },
            // The kernel's port id is 0.
            from: Some(address(0, 0)),
            control: Vec::new(),
            flags: if n < reply.len() { MSG_TRUNC } else { 0 },
        })
    }
}

/// Writes the receiver's port id into every message of a datagram.
fn set_port(datagram: &mut [u8], port: u32) {
    let mut at = 0;
    while let Some(header) = datagram.get_mut(at..at + 16) {
        header[12..16].copy_from_slice(&port.to_ne_bytes());
        let len = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        at += len.max(16).next_multiple_of(4);
    }
}

impl Drop for NetlinkSocket {
    fn drop(&mut self) {
        let port = self.state.get_mut().port;
        if port != 0 {
            self.ports.release(port);
        }
    }
}

impl FileOps for NetlinkSocket {
    fn read(&self, _: u64, dst: &mut dyn Sink) -> Result<usize> {
        Ok(self.take(dst, 0)?.len)
    }

    fn write(&self, _: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let task = task::current().ok_or(Errno::EINVAL)?;
        Ok(Written { len: self.request(&task, src)?, end: 0 })
    }

    fn readiness(&self) -> Events {
        let writable = Events::OUT | Events::WRNORM | Events::WRBAND;
        match self.state.lock().replies.is_empty() {
            true => writable,
            false => writable | Events::IN | Events::RDNORM,
        }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.waiters)
    }

    fn ioctl(&self, task: &CurrentTask, request: u32, arg: UserAddr) -> Result<u64> {
        match request {
            FIONREAD => {
                let next = self.state.lock().replies.front().map_or(0, Vec::len);
                ioctl::write_int(task, arg, next)
            }
            _ => netdev::ioctl(self.net.stack(), task, request, arg),
        }
    }

    fn kind(&self) -> FileKind<'_> {
        FileKind::Socket(self)
    }
}

impl Socket for NetlinkSocket {
    fn identity(&self) -> (i32, i32, i32) {
        (AF_NETLINK, self.kind, NETLINK_ROUTE)
    }

    fn bind(&self, task: &CurrentTask, addr: &SockAddr) -> Result<()> {
        let wanted = decode(addr)?;
        self.bind_to(wanted.pid, task.pid())?;
        // Nothing in the sandbox's network changes, so that a member of a group never hears anything.
        self.state.lock().groups = wanted.groups;
        Ok(())
    }

    fn connect(&self, task: &CurrentTask, addr: &SockAddr) -> Result<()> {
        if decode(addr)?.pid != 0 {
            return Err(Errno::ECONNREFUSED.into());
        }
        self.bind_to(0, task.pid())
    }

    fn send(
        &self,
        task: &CurrentTask,
        src: &mut dyn Source,
        message: SendMessage,
    ) -> Result<usize> {
        if message.flags & MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP.into());
        }
        if let Some(to) = &message.to
            && decode(to)?.pid != 0
        {
            return Err(Errno::ECONNREFUSED.into());
        }
        self.request(task, src)
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

    fn shutdown(&self, _: Shutdown) -> Result<()> {
        Err(Errno::EOPNOTSUPP.into())
    }

    fn local_address(&self) -> Result<SockAddr> {
        let state = self.state.lock();
        Ok(address(state.port, state.groups))
    }

    fn peer_address(&self) -> Result<SockAddr> {
        Ok(address(0, 0))
    }

    fn set_option(&self, task: &CurrentTask, level: i32, name: i32, bytes: &[u8]) -> Result<()> {
        match (level, name) {
            (SOL_SOCKET, _) => self.options.set(&identity::credentials(task), name, bytes),
            // Replies never carry what these would add or leave out, and groups are silent.
            (
                SOL_NETLINK,
                NETLINK_EXT_ACK
                | NETLINK_CAP_ACK
                | NETLINK_NO_ENOBUFS
                | NETLINK_BROADCAST_ERROR
                | NETLINK_ADD_MEMBERSHIP
                | NETLINK_DROP_MEMBERSHIP,
            ) => value::int(bytes).map(|_| ()),
            _ => Err(Errno::ENOPROTOOPT.into()),
        }
    }

    fn option(&self, _: &CurrentTask, level: i32, name: i32, room: &[u8]) -> Result<Vec<u8>> {
        match (level, name) {
            (SOL_SOCKET, SO_ERROR | SO_ACCEPTCONN) => Ok(value::from_int(0)),
            (SOL_SOCKET, _) => self.options.option(name, room),
            _ => Err(Errno::ENOPROTOOPT.into()),
        }
    }

    fn timeouts_ns(&self) -> (Option<u64>, Option<u64>) {
        self.options.timeouts_ns()
    }
}
