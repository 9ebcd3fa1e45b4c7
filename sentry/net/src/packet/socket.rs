//! One packet socket of the sandbox: its endpoint, its options and its ring, and who waits for it.

use std::sync::{Arc, Weak};

use netstack::link::{MacAddr, NicId};
use netstack::socket::packet::{Captured, PacketSocket, ReceivedFrame, Target};
use netstack::socket::{Readiness, RecvError, RecvFlags, SendError, SocketError, Wake};
use sentry_abi::Errno;
use sentry_abi::if_packet::{SockAddrLl, TP_STATUS_USER, TpacketAuxdata};
use sentry_abi::socket::*;
use sentry_kernel::Result;
use sentry_kernel::io::{Sink, Source};
use sentry_kernel::socket::{Control, Received, SockAddr};
use sentry_kernel::sync::{Mutex, Rank};
use sentry_kernel::wait::WaitQueue;
use zerocopy::{FromBytes, IntoBytes};

use super::option::Settings;
use super::ring::status_bits;
use crate::errno;
use crate::identity::Inode;
use crate::inet::ancillary::stamp;
use crate::inet::events_of;
use crate::inet::transfer::{FromProgram, ToProgram};
use crate::netns::NetNamespace;
use crate::sockopt::filter::FilterLock;
use crate::sockopt::{Common, Sorts};

/// Bytes of struct sockaddr_ll before the link-layer address.
const ADDRESS_AT: usize = 12;

/// A packet socket.
pub struct FrameSocket {
    pub(super) net: Arc<NetNamespace>,
    pub(super) endpoint: Arc<PacketSocket>,
    /// SO_TYPE
    pub(super) kind: i32,
    pub(super) options: Common,
    pub(super) filter_lock: FilterLock,
    pub(super) settings: Mutex<Settings>,
    pub(super) waiters: WaitQueue,
    pub(super) inode: Inode,
}

/// What /proc/net/packet tells of a packet socket.
pub struct Listed {
    /// SO_TYPE
    pub kind: i32,
    /// The protocol of the frames that it takes; 0 takes none.
    pub protocol: u16,
    /// The interface that it is bound to.
    pub nic: Option<NicId>,
    /// Bytes that wait to be read.
    pub unread: usize,
    /// The owner.
    pub uid: u32,
    /// Its number as a file.
    pub inode: u32,
}

/// Passes the stack's wake-ups to those who wait for a socket.
struct Waker(Weak<FrameSocket>);

impl Wake for Waker {
    fn wake(&self, readiness: Readiness) {
        if let Some(socket) = self.0.upgrade() {
            socket.waiters.notify(events_of(readiness));
        }
    }
}

fn link_address(mac: MacAddr) -> [u8; 8] {
    let mut addr = [0; 8];
    addr[..6].copy_from_slice(&mac.0);
    addr
}

/// Where a captured frame came from.
pub(super) fn address_of(frame: &Captured) -> SockAddrLl {
    SockAddrLl {
        family: AF_PACKET as u16,
        protocol: frame.protocol.to_be_bytes(),
        ifindex: frame.nic.0 as i32,
        hatype: frame.kind.hardware_type(),
        pkttype: frame.packet_type as u8,
        halen: 6,
        addr: link_address(frame.source),
    }
}

/// Reads struct sockaddr_ll. Errors: EINVAL for a short one or another family.
pub(super) fn decode(addr: &SockAddr) -> Result<SockAddrLl> {
    let (raw, _) = SockAddrLl::read_from_prefix(&addr.0).map_err(|_| Errno::EINVAL)?;
    if i32::from(raw.family) != AF_PACKET {
        return Err(Errno::EINVAL.into());
    }
    Ok(raw)
}

/// The interface of an index; None for 0 or less.
pub(super) fn nic_of(index: i32) -> Option<NicId> {
    u32::try_from(index).ok().filter(|index| *index != 0).map(NicId)
}

impl FrameSocket {
    /// A socket over an endpoint, with its type.
    pub fn new(net: &Arc<NetNamespace>, endpoint: Arc<PacketSocket>, kind: i32) -> Arc<Self> {
        let socket = Arc::new(Self {
            net: net.clone(),
            endpoint,
            kind,
            options: Common::new(Sorts::PACKET),
            filter_lock: FilterLock::default(),
            settings: Mutex::new(Rank::LEAF, Settings::default()),
            waiters: WaitQueue::new(),
            inode: Inode::default(),
        });
        socket.endpoint.set_waker(Arc::new(Waker(Arc::downgrade(&socket))));
        socket.net.packet_sockets().add(Arc::downgrade(&socket));
        socket
    }

    /// What a listing shows.
    pub fn listed(&self) -> Listed {
        let (nic, protocol) = self.endpoint.bound_to();
        Listed {
            kind: self.kind,
            protocol,
            nic,
            unread: self.endpoint.queued(),
            uid: self.inode.uid(),
            inode: self.inode.number(),
        }
    }

    pub(super) fn bound_address(&self) -> SockAddr {
        let (nic, protocol) = self.endpoint.bound_to();
        let mut raw = SockAddrLl {
            family: AF_PACKET as u16,
            protocol: protocol.to_be_bytes(),
            ifindex: nic.map_or(0, |nic| nic.0 as i32),
            ..SockAddrLl::default()
        };
        if let Some(link) = nic.and_then(|nic| self.endpoint.link(nic)) {
            (raw.hatype, raw.halen) = (link.kind.hardware_type(), 6);
            raw.addr = link_address(link.mac);
        }
        SockAddr(raw.as_bytes()[..ADDRESS_AT + usize::from(raw.halen)].to_vec())
    }

    pub(super) fn give(&self, src: &mut dyn Source, to: Option<&SockAddr>) -> Result<usize> {
        let target = match to {
            None => None,
            Some(to) => {
                // Unlike a bind, a send does not look at the family.
                let (raw, _) = SockAddrLl::read_from_prefix(&to.0).map_err(|_| Errno::EINVAL)?;
                if usize::from(raw.halen) + ADDRESS_AT > to.0.len() {
                    return Err(Errno::EINVAL.into());
                }
                let [a, b, c, d, e, f, ..] = raw.addr;
                let (nic, protocol) = (nic_of(raw.ifindex), u16::from_be_bytes(raw.protocol));
                Some(Target { nic, protocol, mac: MacAddr([a, b, c, d, e, f]) })
            }
        };
        let mut source = FromProgram { inner: src, error: None };
        let sent = self.endpoint.send(self.net.now(), &mut source, target);
        sent.map_err(|error| match error {
            SendError::Network(SocketError::NoDevice) => Errno::ENXIO.into(),
            error => source.error.take().unwrap_or_else(|| errno::of_send(error)),
        })
    }

    pub(super) fn take(&self, dst: &mut dyn Sink, flags: u32) -> Result<Received> {
        const KNOWN: u32 =
            MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC | MSG_ERRQUEUE | MSG_CMSG_CLOEXEC | MSG_WAITFORONE;
        if flags & !KNOWN != 0 {
            return Err(Errno::EINVAL.into());
        }
        if flags & MSG_ERRQUEUE != 0 {
            return Err(Errno::EAGAIN.into());
        }
        let mut asked = RecvFlags::empty();
        asked.set(RecvFlags::PEEK, flags & MSG_PEEK != 0);
        let mut sink = ToProgram { inner: dst, error: None };
        let told = self.endpoint.recv(&mut sink, asked).map_err(|error| match error {
            RecvError::Fault(_) => sink.error.take().unwrap_or_else(|| errno::of_recv(error)),
            error => errno::of_recv(error),
        })?;
        let raw = SockAddrLl {
            family: AF_PACKET as u16,
            protocol: told.protocol.to_be_bytes(),
            ifindex: told.nic.0 as i32,
            hatype: told.kind.hardware_type(),
            pkttype: told.packet_type as u8,
            halen: 6,
            addr: link_address(told.source),
        };
        let cut = told.len < told.kept;
        Ok(Received {
            len: if flags & MSG_TRUNC != 0 { told.kept } else { told.len },
            from: Some(SockAddr(raw.as_bytes().to_vec())),
            control: self.control(&told),
            flags: if cut { MSG_TRUNC } else { 0 },
        })
    }

    /// The control messages that the socket's options ask for.
    fn control(&self, told: &ReceivedFrame) -> Vec<Control> {
        let mut out = Vec::new();
        let asked = self.options.time_stamps();
        if asked.wanted {
            out.push(stamp(asked, self.net.wall_ns(told.at)));
        }
        if self.settings.lock().auxdata {
            let data = TpacketAuxdata {
                status: TP_STATUS_USER | status_bits(told.checksum, told.is_large),
                len: told.full_len as u32,
                snaplen: told.kept as u32,
                mac: 0,
                net: told.network_at as u16,
                ..TpacketAuxdata::default()
            };
            let data = data.as_bytes().to_vec();
            let kind = sentry_abi::if_packet::PACKET_AUXDATA;
            out.push(Control::Raw { level: SOL_PACKET, kind, data });
        }
        out
    }
}

impl Drop for FrameSocket {
    fn drop(&mut self) {
        self.endpoint.close();
    }
}
