//! What a packet socket needs of a ring of frames in the program's memory (packet(7), PACKET_RX_RING). Its owner knows the layout.

use super::Captured;
use crate::time::Instant;

/// What became of a frame that was put into a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stored {
    /// The program can read it now.
    Readable,
    /// It waits for others, at most until the ring's deadline.
    Waiting,
    /// The program has left no room.
    Full,
}

/// A ring of frames that a program reads from its own memory.
pub trait FrameRing: Send + Sync {
    /// Stores a frame. `losing` says that frames were lost since the program last asked.
    fn push(&self, frame: &mut Captured, losing: Losing) -> Stored;

    /// Whether there is something that the program has not read.
    fn is_readable(&self) -> bool;

    /// When what waits must become readable; None while nothing waits.
    fn deadline(&self) -> Option<Instant>;

    /// Makes readable what is due; answers whether there was anything.
    fn expire(&self, now: Instant) -> bool;

    /// How often the ring was full with a whole block (tp_freeze_q_cnt), since the last question.
    fn take_freezes(&self) -> u32;
}

/// Whether frames were lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Losing {
    /// Some were.
    Yes,
    /// None was.
    No,
}
