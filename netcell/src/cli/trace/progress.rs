//! How far a long file is read, on a terminal only.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use pcap_tests::capture::Reader;

/// Frames between two looks at the clock.
const STRIDE: u64 = 65_536;
const PAUSE: Duration = Duration::from_millis(250);

/// A line on standard error that is written over, and gone at the end.
pub struct Progress {
    frames: u64,
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    pub fn new() -> Self {
        Self { frames: 0, shown: None, terminal: std::io::stderr().is_terminal() }
    }

    /// After each frame.
    pub fn tick(&mut self, reader: &Reader) {
        self.frames += 1;
        if !self.terminal || !self.frames.is_multiple_of(STRIDE) {
            return;
        }
        if self.shown.is_none_or(|shown| shown.elapsed() > PAUSE) {
            self.shown = Some(Instant::now());
            let (position, len) = reader.progress();
            let percent = (position * 100).checked_div(len).unwrap_or(0).min(100);
            let mut err = std::io::stderr();
            // A terminal that is gone shows nothing.
            let _ = write!(err, "\r{percent:3} %  {} frames", self.frames);
            let _ = err.flush();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r{:40}\r", "");
        }
    }
}
