//! When the program on our side read. One whose side closed its window was slow: what it had read is told by the windows of the record.

use super::kernel::{Handle, Kernel, Received};

/// How fast a program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Whatever there is.
    AtOnce,
    /// As it did in the record, from a buffer that offers so many bytes when it is empty.
    AsRecorded(u32),
}

/// How far a program had read when it was recorded, and how far it has here. Positions are distances from the other side's first byte.
#[derive(Debug)]
pub struct Reading {
    pace: Pace,
    /// How far it had read in the record.
    limit: u32,
    read: u32,
    /// Whether the end was read.
    pub is_at_end: bool,
}

impl Reading {
    /// Nothing yet.
    pub fn new(pace: Pace) -> Self {
        Self { pace, limit: 0, read: 0, is_at_end: false }
    }

    /// The window of its empty buffer, where that matters.
    pub fn window(&self) -> Option<u32> {
        match self.pace {
            Pace::AtOnce => None,
            Pace::AsRecorded(empty) => Some(empty),
        }
    }

    /// Our side acknowledged up to `position` and offered a window of so many bytes.
    pub fn offered(&mut self, position: u32, window: u32) {
        let Pace::AsRecorded(empty) = self.pace else { return };
        // What lacks in the window waits for the program.
        let limit = position.wrapping_add(window).wrapping_sub(empty);
        if (limit.wrapping_sub(self.limit) as i32) > 0 {
            self.limit = limit;
        }
    }

    /// Reads what the program read.
    pub fn act(&mut self, kernel: &mut dyn Kernel, socket: Handle, room: &mut [u8]) {
        loop {
            let most = match self.pace {
                Pace::AtOnce => room.len(),
                Pace::AsRecorded(_) => {
                    let left = self.limit.wrapping_sub(self.read) as i32;
                    room.len().min(usize::try_from(left).unwrap_or(0))
                }
            };
            if most == 0 {
                return;
            }
            match kernel.receive(socket, &mut room[..most]) {
                Received::Bytes(len) => self.read = self.read.wrapping_add(len as u32),
                Received::Nothing => return,
                Received::End => {
                    self.is_at_end = true;
                    return;
                }
            }
        }
    }
}
