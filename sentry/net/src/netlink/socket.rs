//! A netlink socket: requests go in, replies, dumps and notifications wait in its queue.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use sentry_abi::netlink::*;
use sentry_abi::socket::*;
use sentry_abi::{Errno, UserAddr};
use sentry_kernel::Result;
use sentry_kernel::cred::{Capabilities, Credentials};
use sentry_kernel::file::{FileKind, FileOps, WriteAt, Written};
use sentry_kernel::io::{Sink, Source};
use sentry_kernel::socket::{Control, Received, SendMessage, Shutdown, SockAddr, Socket};
use sentry_kernel::sync::{Mutex, Rank};
use sentry_kernel::task::{self, CurrentTask, Task};
use sentry_kernel::wait::{Events, WaitQueue};
use zerocopy::{FromBytes, IntoBytes};

use super::options::{Flags, group_bit};
use super::process::{self, Reply};
use super::table::{Context, Peers, Protocol};
use crate::identity::{Inode, cred_of};
use crate::inet::netdev;
use crate::netns::NetNamespace;
use crate::sockopt::{Common, Sorts, value};
use crate::{identity, ioctl};

/// What a message costs in the receive buffer besides its bytes (Linux's sk_buff).
const OVERHEAD: usize = 768;
/// The largest request.
const REQUEST_MAX: usize = 64 * 1024;

/// A datagram in the receive queue.
#[derive(Clone, Default)]
pub struct Arrival {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The group that it came through, 0 for none.
    pub group: u32,
    /// Who sent it: 0 is the kernel.
    pub from: u32,
    /// With which identity; the kernel's is all zeros.
    pub cred: Option<UCred>,
}

#[derive(Default)]
pub(super) struct State {
    pub port: u32,
    /// connect(2)'s peer: port and group.
    pub peer: (u32, u32),
    pub groups: u64,
    pub queue: VecDeque<Arrival>,
    /// What the queue costs.
    pub cost: usize,
    /// What is left of a dump, to follow as the program reads.
    pub dump: VecDeque<Vec<u8>>,
    pub error: Option<Errno>,
    /// Something was lost: nothing more is taken until the queue is empty.
    pub congested: bool,
    pub drops: u32,
}

/// A netlink socket.
pub struct NetlinkSocket {
    me: Weak<NetlinkSocket>,
    pub(super) net: Arc<NetNamespace>,
    pub(super) protocol: &'static Protocol,
    pub(super) kind: i32,
    pub(super) options: Common,
    pub(super) flags: Flags,
    pub(super) inode: Inode,
    waiters: WaitQueue,
    pub(super) state: Mutex<State>,
}

fn address(port: u32, groups: u32) -> SockAddr {
    let raw = SockAddrNl { family: AF_NETLINK as u16, pad: 0, pid: port, groups };
    SockAddr(raw.as_bytes().to_vec())
}

/// The mask of a group, 0 for those that 32 bits do not hold (netlink_group_mask).
fn mask(group: u32) -> u32 {
    group.checked_sub(1).and_then(|bit| 1u32.checked_shl(bit)).unwrap_or(0)
}

fn decode(addr: &SockAddr) -> Result<SockAddrNl> {
    let (raw, _) = SockAddrNl::read_from_prefix(&addr.0).map_err(|_| Errno::EINVAL)?;
    if i32::from(raw.family) != AF_NETLINK {
        return Err(Errno::EINVAL.into());
    }
    Ok(raw)
}

impl NetlinkSocket {
    pub fn new(net: &Arc<NetNamespace>, protocol: &'static Protocol, kind: i32) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            net: net.clone(),
            protocol,
            kind,
            options: Common::new(Sorts::NETLINK),
            flags: Flags::default(),
            inode: Inode::default(),
            waiters: WaitQueue::new(),
            state: Mutex::new(Rank::SOCKET, State::default()),
        })
    }

    /// Gives the socket a port id where it has none. Errors: EADDRINUSE.
    fn autobind(&self, near: u32) -> Result<u32> {
        let mut state = self.state.lock();
        if state.port == 0 {
            state.port = self.net.netlink().take(self.protocol.number, (0, near), &self.me)?;
        }
        Ok(state.port)
    }

    /// Whether it is a member of a group.
    pub(super) fn hears(&self, group: u32) -> bool {
        let bit = group.checked_sub(1).and_then(|bit| 1u64.checked_shl(bit)).unwrap_or(0);
        self.state.lock().groups & bit != 0
    }

    /// Puts a datagram into the queue; where it does not fit, notes the loss (netlink_overrun).
    pub(super) fn arrive(&self, arrival: Arrival) {
        let limit = self.options.rcvbuf();
        {
            let mut state = self.state.lock();
            if state.congested || state.cost > limit {
                state.drops = state.drops.wrapping_add(1);
                if !self.flags.has(NETLINK_NO_ENOBUFS) {
                    state.congested = true;
                    state.error = Some(Errno::ENOBUFS);
                }
            } else {
                state.cost += arrival.bytes.len() + OVERHEAD;
                state.queue.push_back(arrival);
            }
        }
        self.waiters.notify(Events::IN | Events::RDNORM | Events::ERR);
    }

    /// Lets a dump go on while half of the receive buffer is free (netlink_recvmsg).
    fn refill(&self, state: &mut State) {
        let limit = self.options.rcvbuf() / 2;
        while state.cost <= limit
            && let Some(bytes) = state.dump.pop_front()
        {
            self.net.netlink().give_back(bytes.len());
            state.cost += bytes.len() + OVERHEAD;
            state.queue.push_back(Arrival { bytes, ..Arrival::default() });
        }
    }

    /// Answers requests to the kernel.
    fn request(&self, creds: &Credentials, port: u32, bytes: &[u8]) {
        let busy = !self.state.lock().dump.is_empty();
        let now = self.net.now();
        let strictness = self.flags.strictness();
        let cx = Context { net: &self.net, now, creds, strictness };
        let replies = process::datagram(self.protocol, &cx, bytes, self.flags.ack_style(), busy);
        for reply in replies {
            match reply {
                Reply::Now(mut bytes) => {
                    set_port(&mut bytes, port);
                    self.arrive(Arrival { bytes, ..Arrival::default() });
                }
                Reply::Dump(mut datagrams) => {
                    datagrams.iter_mut().for_each(|bytes| set_port(bytes, port));
                    let bytes = datagrams.iter().map(Vec::len).sum();
                    let mut state = self.state.lock();
                    match self.net.netlink().reserve(bytes) {
                        Ok(()) => {
                            state.dump.extend(datagrams);
                            self.refill(&mut state);
                        }
                        Err(_) => state.error = Some(Errno::ENOBUFS),
                    }
                    drop(state);
                    self.waiters.notify(Events::IN | Events::RDNORM);
                }
            }
        }
    }

    fn deliver(&self, task: &Task, src: &mut dyn Source, to: Option<(u32, u32)>) -> Result<usize> {
        let creds = task.credentials();
        let state_peer = self.state.lock().peer;
        let (to_port, to_group) = to.unwrap_or(state_peer);
        let free = self.protocol.peers == Peers::Anybody || creds.has(Capabilities::NET_ADMIN);
        if to.is_some() && (to_port, to_group) != (0, 0) && !free {
            return Err(Errno::EPERM.into());
        }
        let port = self.autobind(task.pid())?;
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
        let bus = self.net.netlink();
        let cred = Some(cred_of(task));
        if to_group != 0 {
            for member in bus.members(self.protocol.number, to_group, port) {
                let bytes = bytes.clone();
                member.arrive(Arrival { bytes, group: to_group, from: port, cred });
            }
        }
        match to_port {
            0 if self.protocol.peers == Peers::Kernel => self.request(&creds, port, &bytes),
            // netlink_sendmsg: without a listener in the kernel, who spoke to a group is done.
            0 if to_group != 0 => {}
            _ => {
                let found = bus.find(self.protocol.number, to_port).ok_or(Errno::ECONNREFUSED)?;
                found.arrive(Arrival { bytes, group: 0, from: port, cred });
            }
        }
        Ok(len)
    }

    fn take(&self, dst: &mut dyn Sink, flags: u32) -> Result<Received> {
        if flags & MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP.into());
        }
        if flags & MSG_ERRQUEUE != 0 {
            return Err(Errno::EAGAIN.into());
        }
        let arrival = {
            let mut state = self.state.lock();
            if let Some(errno) = state.error.take() {
                return Err(errno.into());
            }
            let first = state.queue.front().ok_or(Errno::EAGAIN)?;
            if flags & MSG_PEEK != 0 {
                first.clone()
            } else {
                let arrival = state.queue.pop_front().unwrap_or_default();
                state.cost = state.cost.saturating_sub(arrival.bytes.len() + OVERHEAD);
                state.congested &= !state.queue.is_empty();
                self.refill(&mut state);
                arrival
            }
        };
        let n = dst.write(&arrival.bytes)?;
        let mut control = Vec::new();
        if self.flags.has(NETLINK_PKTINFO) {
            let data = arrival.group.to_ne_bytes().to_vec();
            control.push(Control::Raw { level: SOL_NETLINK, kind: NETLINK_PKTINFO, data });
        }
        if self.options.passes_credentials() {
            let cred = arrival.cred.unwrap_or(UCred { pid: 0, uid: 0, gid: 0 });
            control.push(Control::Credentials {
                pid: cred.pid as u32,
                uid: cred.uid,
                gid: cred.gid,
            });
        }
        Ok(Received {
            len: if flags & MSG_TRUNC != 0 { arrival.bytes.len() } else { n },
            from: Some(address(arrival.from, mask(arrival.group))),
            control,
            flags: if n < arrival.bytes.len() { MSG_TRUNC } else { 0 },
        })
    }

    /// Joins or leaves a group. Errors: EINVAL.
    fn set_membership(&self, name: i32, bytes: &[u8]) -> Result<()> {
        let bit = group_bit(value::int(bytes)?, self.protocol.groups)?;
        let mut state = self.state.lock();
        match name {
            NETLINK_ADD_MEMBERSHIP => state.groups |= bit,
            _ => state.groups &= !bit,
        }
        Ok(())
    }

    /// NETLINK_LIST_MEMBERSHIPS: a bit a group, in words of 32.
    fn memberships(&self) -> Vec<u8> {
        let groups = self.state.lock().groups;
        let len = (self.protocol.groups as usize).div_ceil(8).next_multiple_of(4);
        groups.to_ne_bytes()[..len.min(8)].to_vec()
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
        let state = self.state.get_mut();
        let unread = state.dump.iter().map(Vec::len).sum();
        self.net.netlink().give_back(unread);
        if state.port != 0 {
            self.net.netlink().release(self.protocol.number, state.port);
        }
    }
}

impl FileOps for NetlinkSocket {
    fn opened(&self, id: u64) {
        self.inode.open(id);
    }

    fn read(&self, _: u64, dst: &mut dyn Sink) -> Result<usize> {
        Ok(self.take(dst, 0)?.len)
    }

    fn write(&self, _: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let task = task::current().ok_or(Errno::EINVAL)?;
        Ok(Written { len: self.deliver(&task, src, None)?, end: 0 })
    }

    fn readiness(&self) -> Events {
        let state = self.state.lock();
        let mut events = Events::OUT | Events::WRNORM | Events::WRBAND;
        if !state.queue.is_empty() {
            events |= Events::IN | Events::RDNORM;
        }
        if state.error.is_some() {
            events |= Events::ERR;
        }
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.waiters)
    }

    fn ioctl(&self, task: &CurrentTask, request: u32, arg: UserAddr) -> Result<u64> {
        match request {
            FIONREAD => {
                let next = self.state.lock().queue.front().map_or(0, |first| first.bytes.len());
                ioctl::write_int(task, arg, next)
            }
            _ => netdev::ioctl(&self.net, task, request, arg),
        }
    }

    fn kind(&self) -> FileKind<'_> {
        FileKind::Socket(self)
    }
}

impl Socket for NetlinkSocket {
    fn identity(&self) -> (i32, i32, i32) {
        (AF_NETLINK, self.kind, self.protocol.number)
    }

    fn bind(&self, task: &CurrentTask, addr: &SockAddr) -> Result<()> {
        let wanted = decode(addr)?;
        let known = match self.protocol.groups {
            32.. => u32::MAX,
            groups => (1 << groups) - 1,
        };
        let mut state = self.state.lock();
        match state.port {
            0 => {
                let ids = (wanted.pid, task.pid());
                state.port = self.net.netlink().take(self.protocol.number, ids, &self.me)?;
            }
            port if port != wanted.pid => return Err(Errno::EINVAL.into()),
            _ => {}
        }
        state.groups = state.groups & !u64::from(u32::MAX) | u64::from(wanted.groups & known);
        Ok(())
    }

    fn connect(&self, task: &CurrentTask, addr: &SockAddr) -> Result<()> {
        if i32::from(addr.family()?) == AF_UNSPEC {
            self.state.lock().peer = (0, 0);
            return Ok(());
        }
        let to = decode(addr)?;
        let free = self.protocol.peers == Peers::Anybody
            || identity::credentials(task).has(Capabilities::NET_ADMIN);
        if (to.pid, to.groups) != (0, 0) && !free {
            return Err(Errno::EPERM.into());
        }
        self.autobind(task.pid())?;
        // Linux takes the first group that is set (ffs).
        let group = if to.groups == 0 { 0 } else { to.groups.trailing_zeros() + 1 };
        self.state.lock().peer = (to.pid, group);
        Ok(())
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
        let to = match &message.to {
            None => None,
            Some(to) => {
                let to = decode(to)?;
                let group = if to.groups == 0 { 0 } else { to.groups.trailing_zeros() + 1 };
                Some((to.pid, group))
            }
        };
        self.deliver(task, src, to)
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
        Ok(address(state.port, state.groups as u32))
    }

    fn peer_address(&self) -> Result<SockAddr> {
        let (port, group) = self.state.lock().peer;
        Ok(address(port, mask(group)))
    }

    fn set_option(&self, task: &CurrentTask, level: i32, name: i32, bytes: &[u8]) -> Result<()> {
        let creds = identity::credentials(task);
        match (level, name) {
            (SOL_SOCKET, _) => self.options.set(&creds, name, bytes),
            (SOL_NETLINK, NETLINK_ADD_MEMBERSHIP | NETLINK_DROP_MEMBERSHIP) => {
                self.set_membership(name, bytes)
            }
            (SOL_NETLINK, _) => self.flags.set(&creds, name, bytes),
            _ => Err(Errno::ENOPROTOOPT.into()),
        }
    }

    fn option(&self, _: &CurrentTask, level: i32, name: i32, room: &[u8]) -> Result<Vec<u8>> {
        match (level, name) {
            (SOL_SOCKET, SO_ERROR) => {
                let error = self.state.lock().error.take();
                Ok(value::from_int(error.map_or(0, Errno::number)))
            }
            (SOL_SOCKET, SO_ACCEPTCONN) => Ok(value::from_int(0)),
            (SOL_SOCKET, _) => self.options.option(name, room),
            (SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS) => Ok(self.memberships()),
            (SOL_NETLINK, _) => self.flags.option(name),
            _ => Err(Errno::ENOPROTOOPT.into()),
        }
    }

    fn timeouts_ns(&self) -> (Option<u64>, Option<u64>) {
        self.options.timeouts_ns()
    }
}
