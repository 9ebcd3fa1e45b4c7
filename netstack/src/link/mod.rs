//! Links: what carries frames, what a link can do for us, and taps that see every frame.
//! It must not know IP addresses or sockets.

pub mod fault;
pub mod shaper;

use crate::buffer::PacketBuffer;
use crate::time::Instant;

pub use crate::wire::ethernet::MacAddr;

/// The number of a network interface in its stack, from 1 (the `ifindex` of Linux).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NicId(pub u32);

/// What kind of frames an interface carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NicKind {
    /// Bare IP packets that come back to their sender.
    Loopback,
    /// Ethernet II frames.
    Ethernet,
}

impl NicKind {
    /// ARPHRD_* of Linux: what programs and filters are told of the hardware.
    pub const fn hardware_type(self) -> u16 {
        match self {
            NicKind::Loopback => 772,
            NicKind::Ethernet => 1,
        }
    }
}

/// Who computes checksums of outgoing packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ChecksumSupport {
    /// The stack, before it transmits.
    #[default]
    Software,
    /// The device: frames may carry a partial checksum.
    Device,
}

/// What a link can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Capabilities {
    /// The largest TCP payload of one frame that the device cuts into segments; 0 when it cannot.
    pub max_gso: u32,
    /// Whether the device cuts UDP payloads into datagrams.
    pub segments_udp: bool,
    /// Who computes checksums.
    pub checksum: ChecksumSupport,
    /// Whether received frames pass through [`Link::filter_received`] first.
    pub filters_received: bool,
    /// The most TCP payload under one header that may come to the link, whoever cuts it; 0 for no bound.
    pub max_train: u32,
    /// Whether streams ask [`Link::busy_until`] before they send.
    pub holds_back: bool,
}

/// Why a frame was not transmitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LinkError {
    /// The device's queue is full; the frame is dropped (ENOBUFS).
    #[error("the link's queue is full")]
    Full,
    /// The device is gone or down (ENETDOWN).
    #[error("the link is down")]
    Down,
    /// The frame exceeds what the link carries (EMSGSIZE).
    #[error("the frame is too large for the link")]
    TooLarge,
}

/// Carries frames away. Called on the sender's thread, without any lock of the stack held.
pub trait Link: Send + Sync {
    /// Sends one frame now, or fails; it never waits.
    fn transmit(&self, now: Instant, frame: &PacketBuffer) -> Result<(), LinkError>;

    /// What the link can do. Asked once, when the interface is added.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// Sees a received frame before the stack does; calls `deliver` for each frame that goes on.
    fn filter_received(
        &self,
        _now: Instant,
        frame: PacketBuffer,
        deliver: &mut dyn FnMut(PacketBuffer),
    ) {
        deliver(frame);
    }

    /// Does what is due (frames that were delayed); calls `deliver` for each received frame that goes on.
    fn poll(&self, _now: Instant, _deliver: &mut dyn FnMut(PacketBuffer)) {}

    /// Until when a stream (the number of [`crate::buffer::Tags::stream`]) should hold back what it has, because enough of it waits here.
    /// Called with the lock of the endpoint held: it must only look.
    fn busy_until(&self, _now: Instant, _stream: u32) -> Option<Instant> {
        None
    }

    /// Frames that came since the beginning and found no room before the stack saw them (rx_missed_errors of Linux).
    fn lost(&self) -> u64 {
        0
    }

    /// When `poll` next has something to do.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }
}

/// A link that carries nothing anywhere: for interfaces that only hold addresses.
pub struct NullLink;

impl Link for NullLink {
    fn transmit(&self, _now: Instant, _frame: &PacketBuffer) -> Result<(), LinkError> {
        Ok(())
    }
}

/// Which way a tapped frame went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the link into the stack.
    Received,
    /// From the stack to the link.
    Sent,
}

/// One frame as a tap sees it.
pub struct Tapped<'a> {
    /// When.
    pub now: Instant,
    /// On which interface.
    pub nic: NicId,
    /// Of which kind: Ethernet frames or bare IP packets.
    pub kind: NicKind,
    /// Which way.
    pub direction: Direction,
    /// The frame; [`PacketBuffer::to_vec_complete`] gives its bytes with the checksum filled in.
    pub frame: &'a PacketBuffer,
}

/// Sees every frame of an interface (a capture).
pub trait Tap: Send + Sync {
    /// Called for each frame, with no lock of the stack held.
    fn frame(&self, tapped: &Tapped<'_>);
}
