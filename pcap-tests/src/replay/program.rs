//! What the program of a connection does, where it is not read from the record: an echo, a sink, a source, or lines of a file.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::kernel::{Handle, Kernel, Received};
use super::script::{Line, Script};

/// The program on our side.
#[derive(Clone, Debug, Default)]
pub enum App {
    /// What it did in the record.
    #[default]
    Recorded,
    /// Writes back what it reads, and closes after the other side (RFC 862).
    Echo,
    /// Reads, and closes after the other side (RFC 863).
    Discard,
    /// Writes lines of characters until the other side closes (RFC 864).
    Chargen,
    /// Does what stands in lines.
    Script(Arc<Script>),
}

/// A program under way.
pub struct Program {
    app: App,
    /// Bytes to write.
    to_write: VecDeque<u8>,
    /// Bytes that were written, the position in the pattern of a source.
    written: u64,
    /// The line of a script that is under way, and what of it is left to read.
    line: usize,
    left: Option<u64>,
    /// When a script goes on.
    wakes: Option<Duration>,
    has_closed: bool,
}

/// What a program did in a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Bytes that the kernel took.
    pub written: usize,
    /// Whether it closed its direction.
    pub closed: bool,
    /// Whether it reset the connection.
    pub reset: bool,
    /// When it wants its next turn, whatever comes.
    pub wakes: Option<Duration>,
}

/// The characters of RFC 864: lines of 72 of the 95 that can be printed, each line one further.
fn generated(at: u64) -> u8 {
    match (at / 74, at % 74) {
        (_, 72) => b'\r',
        (_, 73) => b'\n',
        (line, column) => b' ' + ((line + column) % 95) as u8,
    }
}

impl Program {
    /// At its beginning. None: it is read from the record.
    pub fn of(app: &App) -> Option<Self> {
        (!matches!(app, App::Recorded)).then(|| Self {
            app: app.clone(),
            to_write: VecDeque::new(),
            written: 0,
            line: 0,
            left: None,
            wakes: None,
            has_closed: false,
        })
    }

    /// Does what it can do now without waiting.
    pub fn act(&mut self, kernel: &mut dyn Kernel, socket: Handle, room: &mut [u8]) -> Turn {
        let mut turn = Turn::default();
        match self.app.clone() {
            App::Recorded => {}
            App::Echo => loop {
                if !self.flush(kernel, socket, &mut turn) {
                    break;
                }
                match kernel.receive(socket, room) {
                    Received::Bytes(len) => self.to_write.extend(&room[..len]),
                    Received::End => break self.close(kernel, socket, &mut turn),
                    Received::Nothing => break,
                }
            },
            App::Discard => self.discard(kernel, socket, room, &mut turn),
            App::Chargen => {
                self.discard(kernel, socket, room, &mut turn);
                while !self.has_closed && self.flush(kernel, socket, &mut turn) {
                    let line = self.written..self.written + 74;
                    self.to_write.extend(line.map(generated));
                }
            }
            App::Script(script) => {
                while let Some(line) = script.lines.get(self.line) {
                    if !self.did(line, kernel, socket, room, &mut turn) {
                        break;
                    }
                    (self.line, self.left, self.wakes) = (self.line + 1, None, None);
                }
                turn.wakes = self.wakes;
            }
        }
        turn
    }

    /// Writes what waits; whether nothing waits any more.
    fn flush(&mut self, kernel: &mut dyn Kernel, socket: Handle, turn: &mut Turn) -> bool {
        while !self.to_write.is_empty() {
            let taken = kernel.send(socket, self.to_write.as_slices().0);
            if taken == 0 {
                return false;
            }
            self.to_write.drain(..taken);
            turn.written += taken;
            self.written += taken as u64;
        }
        true
    }

    fn close(&mut self, kernel: &mut dyn Kernel, socket: Handle, turn: &mut Turn) {
        if !std::mem::replace(&mut self.has_closed, true) {
            kernel.shutdown(socket);
            turn.closed = true;
        }
    }

    fn discard(
        &mut self,
        kernel: &mut dyn Kernel,
        socket: Handle,
        room: &mut [u8],
        turn: &mut Turn,
    ) {
        loop {
            match kernel.receive(socket, room) {
                Received::Bytes(_) => {}
                Received::Nothing => break,
                Received::End => break self.close(kernel, socket, turn),
            }
        }
    }

    /// Does a line as far as possible; whether it is done.
    fn did(
        &mut self,
        line: &Line,
        kernel: &mut dyn Kernel,
        socket: Handle,
        room: &mut [u8],
        turn: &mut Turn,
    ) -> bool {
        match line {
            Line::Read(count) => {
                let left = self.left.get_or_insert(count.unwrap_or(u64::MAX));
                while *left > 0 {
                    let most = room.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    match kernel.receive(socket, &mut room[..most]) {
                        Received::Bytes(len) if count.is_some() => *left -= len as u64,
                        Received::Bytes(_) => {}
                        Received::End => return true,
                        Received::Nothing => return false,
                    }
                }
                true
            }
            Line::Write(bytes) => {
                if self.left.is_none() {
                    self.left = Some(0);
                    self.to_write.extend(bytes.iter());
                }
                self.flush(kernel, socket, turn)
            }
            Line::WriteCount(count) => {
                let mut left = self.left.unwrap_or(*count);
                while self.flush(kernel, socket, turn) && left > 0 {
                    let some = left.min(room.len() as u64);
                    left -= some;
                    self.to_write.extend((self.written..self.written + some).map(generated));
                }
                self.left = Some(left);
                self.to_write.is_empty()
            }
            Line::Wait(time) => {
                let now = kernel.now();
                now >= *self.wakes.get_or_insert(now.saturating_add(*time))
            }
            Line::Close => {
                self.close(kernel, socket, turn);
                true
            }
            Line::Reset => {
                turn.reset = true;
                true
            }
        }
    }
}
