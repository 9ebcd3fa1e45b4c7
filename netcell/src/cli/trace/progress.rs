//! How far a long file is read, on a terminal only.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use pcap_tests::capture::{ReadError, Reader};

const PAUSE: Duration = Duration::from_millis(250);

/// Opens a capture that shows how far it is read.
pub fn open(path: &Path) -> Result<Reader, ReadError> {
    let mut reader = Reader::open(path)?;
    if std::io::stderr().is_terminal() {
        let mut line = Line { name: path.display().to_string(), shown: None };
        reader.watch(Box::new(move |frames, at, len| line.show(frames, at, len)));
    }
    Ok(reader)
}

/// A line on standard error that is written over, and gone at the end.
struct Line {
    name: String,
    shown: Option<Instant>,
}

impl Line {
    fn show(&mut self, frames: u64, at: u64, len: u64) {
        if self.shown.is_some_and(|shown| shown.elapsed() < PAUSE) {
            return;
        }
        self.shown = Some(Instant::now());
        let percent = (at.saturating_mul(100)).checked_div(len).unwrap_or(0).min(100);
        let mut err = std::io::stderr();
        // A terminal that is gone shows nothing.
        let _ = write!(err, "\r\x1b[K{percent:3} %  {frames} frames of {}", self.name);
        let _ = err.flush();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
