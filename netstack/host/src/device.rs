//! What the driver loop reads and the stack writes: a device of the host behind a descriptor, one frame a call.

use std::cell::RefCell;
use std::io;
use std::iter::once;
use std::os::fd::{AsFd, BorrowedFd};

use netstack::buffer::{FreeSlab, PacketBuffer, SlabPool};
use netstack::link::{Link, LinkError};
use nix::errno::Errno;
use nix::sys::uio::writev;
use nix::unistd::write;

use crate::vnet;

/// Ethernet, IPv4 and TCP with timestamps: read apart, so that the payload of most large frames begins a slab. A slab holds
/// the rest of the largest frame, which has 64 KiB of IP.
const USUAL_HEADERS: usize = 14 + 20 + 32;
/// Frames of one burst.
const BURST_FRAMES: usize = 64;
/// Bytes of one burst.
const BURST_BYTES: usize = 256 << 10;
/// Slabs that wait for their next use; after a stream that left more unread, up to four times as many.
const IDLE_SLABS: usize = 8;
/// Pieces that one writev takes.
const PIECES_MAX: usize = 512;
/// Pieces of the usual large frame.
const FEW_PIECES: usize = 8;
/// Frames up to this size are written in one piece: to copy them costs less than to tell the kernel of pieces.
const GATHERED: usize = 2048;
/// The largest TCP payload of one frame: what an IPv4 packet holds with the longest headers.
pub(crate) const GSO_MAX: u32 = 65_535 - 60 - 60;

thread_local! {
    /// Where a small frame is gathered: one piece of memory a thread, which nobody has to zero.
    static WHOLE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Whether a device computes checksums and cuts segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Offloading {
    /// Frames are complete both ways.
    None,
    /// Partial checksums and TCP segmentation in both directions, through a virtio-net header.
    #[default]
    Full,
}

/// A device of the host. What the stack sends goes through its [`Link`]; what it receives is asked for here.
pub trait Device: Link {
    /// The descriptor to wait on.
    fn as_fd(&self) -> BorrowedFd<'_>;

    /// Reads one frame; `None` where there is none now. Errors: the device is gone for good.
    fn receive(&self, room: &mut FrameRoom) -> io::Result<Option<PacketBuffer>>;
}

/// The frames that a device has, up to a burst: as many large ones as stay in a core's cache until a program reads
/// them. After an error of the device there is none; `failed` then holds it.
pub fn burst<'a>(
    device: &'a dyn Device,
    room: &'a mut FrameRoom,
    failed: &'a mut Option<io::Error>,
) -> impl Iterator<Item = PacketBuffer> + 'a {
    let (mut frames, mut bytes) = (0, 0);
    std::iter::from_fn(move || {
        if frames == BURST_FRAMES || bytes >= BURST_BYTES {
            return None;
        }
        let frame = device.receive(room).unwrap_or_else(|error| {
            *failed = Some(error);
            None
        })?;
        frames += 1;
        bytes += frame.len();
        Some(frame)
    })
}

/// Where frames are read to: headers apart from the payload, which stays where it was read.
pub struct FrameRoom {
    pub(crate) head: [u8; vnet::HEADER + USUAL_HEADERS],
    pub(crate) slab: FreeSlab,
}

impl Default for FrameRoom {
    fn default() -> FrameRoom {
        let slab = SlabPool::new(IDLE_SLABS).take();
        FrameRoom { head: [0; vnet::HEADER + USUAL_HEADERS], slab }
    }
}

/// Writes a frame behind its virtio-net header, where there is one.
pub(crate) fn transmit(
    fd: impl AsFd,
    header: &[u8],
    frame: &PacketBuffer,
) -> Result<(), LinkError> {
    loop {
        return match write_frame(fd.as_fd(), header, frame) {
            Ok(_) => Ok(()),
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) => Err(LinkError::Full),
            Err(Errno::EINVAL | Errno::EMSGSIZE) => Err(LinkError::TooLarge),
            Err(_) => Err(LinkError::Down),
        };
    }
}

fn write_frame(fd: BorrowedFd<'_>, header: &[u8], frame: &PacketBuffer) -> nix::Result<usize> {
    let pieces = || once(header).chain(frame.iter_slices()).filter(|piece| !piece.is_empty());
    if header.len() + frame.len() <= GATHERED {
        return WHOLE.with_borrow_mut(|whole| {
            whole.clear();
            pieces().for_each(|piece| whole.extend_from_slice(piece));
            write(fd, whole)
        });
    }
    let (mut few, mut count) = ([io::IoSlice::new(&[]); FEW_PIECES], 0);
    for (piece, place) in pieces().zip(&mut few) {
        (*place, count) = (io::IoSlice::new(piece), count + 1);
    }
    if pieces().nth(count).is_none() {
        return writev(fd, &few[..count]);
    }
    if pieces().nth(PIECES_MAX).is_none() {
        let all: Vec<_> = pieces().map(io::IoSlice::new).collect();
        return writev(fd, &all);
    }
    let whole = [header, &frame.to_vec()].concat();
    write(fd, &whole)
}
