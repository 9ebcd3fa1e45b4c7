//! The kernel that plays one side of a capture, as the player sees it: it takes frames and calls, and lets time pass. Calls never wait.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::namespace::KernelError;

/// A socket of the kernel.
pub type Handle = crate::table::Id;

/// Why time stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// The kernel may have sent something.
    Sent,
    /// The limit is reached.
    Limit,
}

/// What reading gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes.
    Bytes(usize),
    /// None now, or the connection is broken.
    Nothing,
    /// The other side closed, and all was read.
    End,
}

impl Received {
    /// What a call that does not wait returned.
    pub fn of<E>(len: Result<usize, E>) -> Self {
        match len {
            Ok(0) => Self::End,
            Ok(len) => Self::Bytes(len),
            Err(_) => Self::Nothing,
        }
    }
}

/// How a kernel's time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// As fast as the machine computes.
    Virtual,
    /// As everybody's.
    Real,
}

/// SO_RCVBUF for a window: it is doubled, and an eighth of it is not offered when segments are full.
pub fn buffer_for(window: u32) -> usize {
    (window as usize).saturating_mul(4) / 7
}

/// A kernel under test. Times count from the first frame of the capture.
pub trait Kernel {
    /// Takes an address as its own, with a way to everybody of its family.
    fn add_address(&mut self, address: IpAddr) -> Result<(), KernelError>;

    /// Knows where frames to this host go. It answers nothing.
    fn add_peer(&mut self, peer: IpAddr) -> Result<(), KernelError>;

    /// Sets a value below /proc/sys.
    fn sysctl(&mut self, path: &str, value: &str) -> Result<(), KernelError>;

    /// Offers no window beyond this many bytes, and the shift that goes with it.
    fn limit_window(&mut self, bytes: u32) -> Result<(), KernelError>;

    /// A listener.
    fn listen(&mut self, at: SocketAddr) -> Result<Handle, KernelError>;

    /// The next connection that a listener made, and whose it is.
    fn accept(&mut self, listener: Handle) -> Option<(Handle, SocketAddr)>;

    /// Begins a connection.
    fn connect(&mut self, from: SocketAddr, to: SocketAddr) -> Result<Handle, KernelError>;

    /// Gives a stream a receive buffer that offers about this window when it is empty, for good.
    fn fix_window(&mut self, socket: Handle, bytes: u32);

    /// Writes; how many bytes were taken: 0 where there is no room, or no connection any more.
    fn send(&mut self, socket: Handle, bytes: &[u8]) -> usize;

    /// Reads: from a stream, or one datagram. An empty datagram is an end.
    fn receive(&mut self, socket: Handle, room: &mut [u8]) -> Received;

    /// Writes no more.
    fn shutdown(&mut self, socket: Handle);

    /// Lets go of a stream that both sides closed; the handle is gone.
    fn close(&mut self, socket: Handle);

    /// Ends the connection with a reset; the handle is gone.
    fn abort(&mut self, socket: Handle);

    /// A socket for datagrams, which may also be broadcast.
    fn bind(&mut self, at: SocketAddr) -> Result<Handle, KernelError>;

    /// Sends a datagram.
    fn send_to(&mut self, socket: Handle, to: SocketAddr, bytes: &[u8]) -> Result<(), KernelError>;

    /// Memory for a frame of so many bytes that is to arrive.
    fn memory(&mut self, len: usize) -> Vec<u8> {
        Vec::with_capacity(len)
    }

    /// An Ethernet frame arrives.
    fn arrive(&mut self, frame: Vec<u8>) -> Result<(), KernelError>;

    /// Puts the next frame that was sent in place of what stands in `frame`, and tells when; none: all were taken.
    fn sent(&mut self, frame: &mut Vec<u8>) -> Result<Option<Duration>, KernelError>;

    /// The time. It stands still except in [`Kernel::run`].
    fn now(&self) -> Duration;

    /// Lets time pass until something is sent, or until `limit`.
    fn run(&mut self, limit: Duration) -> Result<Pause, KernelError>;

    /// How its time passes.
    fn clock(&self) -> Clock;

    /// It becomes `to` without anything happening, where time is real.
    fn jump(&mut self, to: Duration);
}
