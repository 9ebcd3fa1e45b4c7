//! A packet socket (packet(7)) on an interface of the host: every frame that comes in over it, and frames out through it, with
//! the offloads of its device. The host's own stack sees the frames too, unless it is silenced.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use netstack::buffer::{Chain, ChecksumOffload, PacketBuffer};
use netstack::link::{Capabilities, ChecksumSupport, Link, LinkError};
use netstack::time::Instant;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};
use nix::sys::utsname::uname;

use crate::device::{self, Device, FrameRoom, GSO_MAX, Offloading};
use crate::vnet;

/// Bytes of frames that wait in each direction. A train of segments counts for more than it carries; what finds no room is
/// lost.
const QUEUE_BYTES: usize = 8 << 20;
/// Where the tag of IEEE 802.1Q stands: behind the two addresses.
const TAG_AT: usize = 12;
/// The bits of a tag that are the number of a virtual LAN.
const VLAN_ID: u16 = 0x0fff;
/// The type of a tagged frame, where the host does not say.
const ETH_P_8021Q: u16 = 0x8100;
/// Room for the control message with struct tpacket_auxdata, in words for its alignment.
const CONTROL_WORDS: usize = 8;

/// What frames to take from an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Filtering {
    /// Those for its address, and all that are for groups: programs inside join groups that the host does not know of.
    #[default]
    Own,
    /// All that pass (promiscuous mode).
    Everything,
}

/// What interface to take, and how.
#[derive(Clone, Debug)]
pub struct PacketConfig {
    /// Its name, for errors.
    pub name: String,
    /// Its index in the caller's network namespace.
    pub ifindex: u32,
    /// What the device does for what is sent. What comes in is as its sender left it: a neighbour on the same host may leave
    /// sums and segments to the device that it thinks is behind him.
    pub offloading: Offloading,
    /// What it takes.
    pub filtering: Filtering,
}

/// Why an interface was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// Not privileged.
    #[error(
        "not permitted to open a packet socket on {name}: run as root or with CAP_NET_RAW and CAP_NET_ADMIN"
    )]
    NotPermitted {
        /// The interface.
        name: String,
    },
    /// Anything else.
    #[error("cannot {what} a packet socket on {name}: {errno}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// The interface.
        name: String,
        /// The host's answer.
        errno: Errno,
    },
}

/// A packet socket: the stack's link, and where the driver loop reads.
pub struct PacketDevice {
    fd: OwnedFd,
    offloading: Offloading,
    segments_udp: bool,
    /// Frames that were lost, as far as the host was asked.
    lost: AtomicU64,
}

impl PacketDevice {
    /// Takes an interface of the caller's network namespace. It works there from then on, also for threads elsewhere.
    pub fn open(config: &PacketConfig) -> Result<Arc<PacketDevice>, PacketError> {
        let fail = |what| {
            let name = config.name.clone();
            move |errno| match errno {
                Errno::EPERM | Errno::EACCES => PacketError::NotPermitted { name },
                errno => PacketError::Host { what, name, errno },
            }
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // Without a protocol it hears nothing before it is bound.
        let fd = socket(AddressFamily::Packet, SockType::Raw, flags, None).map_err(fail("open"))?;
        set(&fd, libc::PACKET_AUXDATA, &1i32).map_err(fail("ask for VLAN tags of"))?;
        set(&fd, libc::PACKET_IGNORE_OUTGOING, &1i32).map_err(fail("leave out what is sent by"))?;
        set(&fd, libc::PACKET_VNET_HDR, &1i32).map_err(fail("ask for the offloads of"))?;
        let kind = match config.filtering {
            Filtering::Own => libc::PACKET_MR_ALLMULTI,
            Filtering::Everything => libc::PACKET_MR_PROMISC,
        };
        let request = libc::packet_mreq {
            mr_ifindex: config.ifindex as i32,
            mr_type: kind as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        set(&fd, libc::PACKET_ADD_MEMBERSHIP, &request).map_err(fail("listen to groups with"))?;
        enlarge(&fd).map_err(fail("enlarge the queues of"))?;
        bind(&fd, config.ifindex).map_err(fail("bind"))?;
        let segments_udp = cuts_datagrams();
        Ok(Arc::new(PacketDevice {
            fd,
            offloading: config.offloading,
            segments_udp,
            lost: AtomicU64::new(0),
        }))
    }

    /// Frames that were lost because nobody read them in time, since the last call (PACKET_STATISTICS).
    fn newly_lost(&self) -> u32 {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut len = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes, the size of the plain numbers behind the pointer, which outlive the call.
        let done = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut len,
            )
        };
        if done == 0 { stats.tp_drops } else { 0 }
    }
}

/// setsockopt(2) at SOL_PACKET.
fn set<T: Copy>(fd: &OwnedFd, option: libc::c_int, value: &T) -> nix::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes, the size of the plain value behind the pointer, which outlives the call.
    let done = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            std::ptr::from_ref(value).cast(),
            len,
        )
    };
    Errno::result(done).map(drop)
}

/// Makes the queues as large as the privilege allows.
fn enlarge(fd: &OwnedFd) -> nix::Result<()> {
    let forced = setsockopt(fd, sockopt::RcvBufForce, &QUEUE_BYTES)
        .and_then(|()| setsockopt(fd, sockopt::SndBufForce, &QUEUE_BYTES));
    match forced {
        // Without CAP_NET_ADMIN the host's bounds hold (net.core.rmem_max, wmem_max).
        Err(Errno::EPERM) => {
            setsockopt(fd, sockopt::RcvBuf, &QUEUE_BYTES)?;
            setsockopt(fd, sockopt::SndBuf, &QUEUE_BYTES)
        }
        other => other,
    }
}

fn bind(fd: &OwnedFd, ifindex: u32) -> nix::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: ifindex as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes, the size of the address behind the pointer, which outlives the call.
    let done = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) };
    Errno::result(done).map(drop)
}

/// Whether the host's kernel takes trains of datagrams from packet sockets: VIRTIO_NET_HDR_GSO_UDP_L4 came with Linux 6.2.
fn cuts_datagrams() -> bool {
    let Ok(name) = uname() else { return false };
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 2)
}

/// What recvmsg(2) told of a frame.
struct Received {
    /// Its length with the virtio-net header, also where it did not fit.
    len: usize,
    /// The tag that the device took out of it: type and number.
    tag: Option<(u16, u16)>,
}

/// Reads a frame into pieces. Errors: what the host answers.
fn receive(fd: &OwnedFd, pieces: &mut [io::IoSliceMut<'_>]) -> nix::Result<Received> {
    let mut control = [0u64; CONTROL_WORDS];
    // SAFETY: a msghdr of zeros is one without address, pieces and control.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // IoSliceMut has the layout of struct iovec (its documentation promises it).
    message.msg_iov = pieces.as_mut_ptr().cast();
    message.msg_iovlen = pieces.len() as _;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
    // SAFETY: the pieces and the control buffer are exclusively ours, live across the call, and have the lengths that are told.
    let n = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_TRUNC) };
    let len = Errno::result(n)? as usize;
    Ok(Received { len, tag: tag_of(&message) })
}

/// The tag in the control messages that the kernel has written.
fn tag_of(message: &libc::msghdr) -> Option<(u16, u16)> {
    // SAFETY: the header's control buffer is the one that the kernel has just filled, with the length that it told.
    let first = unsafe { libc::CMSG_FIRSTHDR(message) };
    if first.is_null() {
        return None;
    }
    // SAFETY: not null, so that a whole header lies in the buffer, which is aligned for it.
    let header = unsafe { &*first };
    let (level, kind) = (header.cmsg_level, header.cmsg_type);
    let whole =
        header.cmsg_len as usize >= size_of::<libc::cmsghdr>() + size_of::<libc::tpacket_auxdata>();
    if (level, kind) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) || !whole {
        return None;
    }
    // SAFETY: the length that was checked says that a whole struct of plain numbers stands there.
    let told: libc::tpacket_auxdata =
        unsafe { libc::CMSG_DATA(first).cast::<libc::tpacket_auxdata>().read_unaligned() };
    if told.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let typed = told.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    Some((if typed { told.tp_vlan_tpid } else { ETH_P_8021Q }, told.tp_vlan_tci))
}

/// Puts the tag back that the device took out, so that the frame is what passed the wire.
fn retag(head: &[u8], payload: Chain, (kind, tci): (u16, u16)) -> PacketBuffer {
    let (addresses, rest) = head.split_at(head.len().min(TAG_AT));
    let tag = [kind.to_be_bytes(), tci.to_be_bytes()].concat();
    PacketBuffer::from_parts(&[addresses, &tag, rest].concat(), payload)
}

impl Device for PacketDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn receive(&self, room: &mut FrameRoom) -> io::Result<Option<PacketBuffer>> {
        let (head, slab) = (&mut room.head, &mut room.slab);
        let rest = slab.room();
        let most = head.len() + rest.len();
        let mut pieces = [io::IoSliceMut::new(head), io::IoSliceMut::new(rest)];
        let received = match receive(&self.fd, &mut pieces) {
            Ok(received) => received,
            // A frame of a kind that the virtio-net header cannot say (of a tunnel, of SCTP) is consumed with the error.
            Err(Errno::EINVAL) => return Ok(None),
            // ENETDOWN tells once that the interface went down; when it comes up, its frames come again.
            Err(_) => return Ok(None),
        };
        // Larger than any IP packet ("BIG TCP"): cut, and of no use.
        if received.len > most || received.len < vnet::HEADER {
            return Ok(None);
        }
        let mut payload = Chain::new();
        if received.len > head.len() {
            payload.push(slab.take_filled(received.len - head.len()));
        }
        let frame = head.get(vnet::HEADER..received.len.min(head.len())).unwrap_or_default();
        // "VLAN 0" is a priority and no network: Linux takes it for an untagged frame (vlan_do_receive).
        let tag = received.tag.filter(|(_, tci)| tci & VLAN_ID != 0);
        let mut packet = match tag {
            None => PacketBuffer::from_parts(frame, payload),
            Some(tag) => retag(frame, payload, tag),
        };
        if let Some(header) = head.first_chunk() {
            vnet::read(header, &mut packet);
        }
        if let (Some(_), ChecksumOffload::Partial { start, .. }) =
            (tag, &mut packet.offload.checksum)
        {
            *start = start.saturating_add(4);
        }
        Ok(Some(packet))
    }
}

impl Link for PacketDevice {
    fn transmit(&self, _: Instant, frame: &PacketBuffer) -> Result<(), LinkError> {
        device::transmit(&self.fd, &vnet::header(frame), frame)
    }

    fn lost(&self) -> u64 {
        let newly = u64::from(self.newly_lost());
        self.lost.fetch_add(newly, Ordering::Relaxed) + newly
    }

    fn capabilities(&self) -> Capabilities {
        match self.offloading {
            Offloading::None => Capabilities::default(),
            Offloading::Full => Capabilities {
                max_gso: GSO_MAX,
                checksum: ChecksumSupport::Device,
                segments_udp: self.segments_udp,
                ..Capabilities::default()
            },
        }
    }
}
