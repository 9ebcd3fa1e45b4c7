//! A capture: a tap of the stack that writes every frame to a pcapng file through a writer thread.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netstack::link::{Direction, NicId, NicKind, Tapped};
use netstack::time::Instant;
use parking_lot::Mutex;

use crate::pcapng::{self, Way};

/// Frames that may wait for the writer. Beyond that they are dropped and counted, so that a slow disk never slows the network.
const QUEUE_FRAMES: usize = 65_536;
/// A reader that follows the file sees frames at most this much later.
const FLUSH_EVERY: Duration = Duration::from_millis(200);

/// Why a capture did not start or end well.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be made.
    #[error(
        "cannot write the capture file {path}: {source}; choose a path in a directory that exists and that you may write to"
    )]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Writing failed later (a full disk).
    #[error("the capture file {path} is incomplete: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No thread for the writer.
    #[error("cannot start the capture's writer thread: {0}")]
    Thread(io::Error),
}

/// A frame that was captured.
pub struct Frame {
    /// On which interface.
    pub nic: NicId,
    /// Of which kind: Ethernet frames or bare IP packets.
    pub kind: NicKind,
    /// Which way it went.
    pub direction: Direction,
    time_ns: u64,
    /// What [`Label::witness`] said when it passed.
    pub witness: u32,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// Says of a frame whose it is, for its comment.
pub trait Label: Send {
    /// Asked on the thread on which a frame passes: a number for the program that this thread runs, 0 for none.
    fn witness() -> u32
    where
        Self: Sized;

    /// What to write beside the frame, if anything is known. Asked on the writer's thread.
    fn label(&mut self, frame: &Frame) -> Option<String>;
}

/// Says nothing.
pub struct Unlabelled;

impl Label for Unlabelled {
    fn witness() -> u32 {
        0
    }

    fn label(&mut self, _: &Frame) -> Option<String> {
        None
    }
}

#[derive(Default)]
struct Counts {
    seen: AtomicU64,
    /// Frames that are taken at most; 0 for any number.
    limit: AtomicU64,
    dropped: Mutex<HashMap<NicId, u64>>,
    /// No more frames are wanted, or can be written.
    closed: AtomicBool,
}

/// Makes the file of a capture.
pub fn create(path: &Path) -> Result<File, CaptureError> {
    File::create(path).map_err(|source| CaptureError::Create { path: path.to_owned(), source })
}

/// A running capture. Give it to `Stack::add_tap`; call [`Capture::finish`] at the end.
pub struct Capture {
    path: PathBuf,
    /// Nanoseconds since the epoch at the origin of the stack's time.
    origin_ns: u64,
    queue: Mutex<Option<SyncSender<Frame>>>,
    counts: Arc<Counts>,
    witness: fn() -> u32,
    writer: Mutex<Option<JoinHandle<io::Result<()>>>>,
}

impl Capture {
    /// Starts the writer onto a file or pipe that is called `path`. `now` is the stack's time, from which wall-clock times are
    /// counted; `names` tells what to call each interface, `label` whose a frame is.
    pub fn start<L: Label + 'static>(
        file: File,
        path: &Path,
        now: Instant,
        names: HashMap<NicId, String>,
        label: L,
    ) -> Result<Arc<Capture>, CaptureError> {
        let create = |source| CaptureError::Create { path: path.to_owned(), source };
        let mut out = BufWriter::with_capacity(1 << 20, file);
        pcapng::section(&mut out, "netcell").and_then(|()| out.flush()).map_err(create)?;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_ns = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
        let (sender, receiver) = sync_channel(QUEUE_FRAMES);
        let counts = Arc::new(Counts::default());
        let label = Box::new(label);
        let writer = Writer { out, names, label, interfaces: HashMap::new(), last_ns: 0 };
        let thread_counts = counts.clone();
        let thread = std::thread::Builder::new()
            .name("capture".into())
            .spawn(move || {
                let result = writer.run(&receiver, &thread_counts);
                thread_counts.closed.store(true, Ordering::Relaxed);
                result
            })
            .map_err(CaptureError::Thread)?;
        Ok(Arc::new(Capture {
            path: path.to_owned(),
            origin_ns: wall_ns.saturating_sub(now.nanos()),
            queue: Mutex::new(Some(sender)),
            counts,
            witness: L::witness,
            writer: Mutex::new(Some(thread)),
        }))
    }

    /// Writes what is left and closes the file. Errors: what went wrong while writing, at any time.
    pub fn finish(&self) -> Result<(), CaptureError> {
        self.counts.closed.store(true, Ordering::Relaxed);
        drop(self.queue.lock().take());
        let Some(thread) = self.writer.lock().take() else { return Ok(()) };
        let result = thread.join().unwrap_or_else(|_| Err(io::Error::other("the writer panicked")));
        result.map_err(|source| CaptureError::Write { path: self.path.clone(), source })
    }

    /// Frames seen and frames lost so far.
    pub fn counts(&self) -> (u64, u64) {
        let dropped = self.counts.dropped.lock().values().sum();
        (self.counts.seen.load(Ordering::Relaxed), dropped)
    }

    /// Takes no more than so many frames in all.
    pub fn stop_after(&self, frames: Option<u64>) {
        self.counts.limit.store(frames.unwrap_or(0), Ordering::Relaxed);
    }

    /// Whether no more frames come into it: it was finished, or its file takes no more.
    pub fn is_over(&self) -> bool {
        self.counts.closed.load(Ordering::Relaxed)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Whoever wants to know of errors has called it before.
        let _ = self.finish();
    }
}

impl netstack::link::Tap for Capture {
    fn frame(&self, tapped: &Tapped<'_>) {
        if self.is_over() {
            return;
        }
        let limit = self.counts.limit.load(Ordering::Relaxed);
        if limit > 0 && self.counts.seen.load(Ordering::Relaxed) >= limit {
            self.counts.closed.store(true, Ordering::Relaxed);
            return;
        }
        self.counts.seen.fetch_add(1, Ordering::Relaxed);
        let frame = Frame {
            nic: tapped.nic,
            kind: tapped.kind,
            direction: tapped.direction,
            witness: (self.witness)(),
            time_ns: self.origin_ns.saturating_add(tapped.now.nanos()),
            bytes: tapped.frame.to_vec_complete(),
        };
        let queue = self.queue.lock();
        if let Some(sender) = queue.as_ref()
            && let Err(TrySendError::Full(_)) = sender.try_send(frame)
        {
            *self.counts.dropped.lock().entry(tapped.nic).or_default() += 1;
        }
    }
}

struct Writer {
    out: BufWriter<File>,
    names: HashMap<NicId, String>,
    label: Box<dyn Label>,
    /// Numbers of the interfaces in the file, with frames written.
    interfaces: HashMap<NicId, (u32, u64)>,
    last_ns: u64,
}

impl Writer {
    fn run(mut self, frames: &Receiver<Frame>, counts: &Counts) -> io::Result<()> {
        // When the first frame was written that is not flushed yet.
        let mut since: Option<std::time::Instant> = None;
        loop {
            let left =
                since.map_or(FLUSH_EVERY, |since| FLUSH_EVERY.saturating_sub(since.elapsed()));
            match frames.recv_timeout(left) {
                Ok(frame) => {
                    self.write(&frame)?;
                    since.get_or_insert_with(std::time::Instant::now);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if since.is_some_and(|since| since.elapsed() >= FLUSH_EVERY) {
                self.out.flush()?;
                since = None;
            }
        }
        let dropped = counts.dropped.lock().clone();
        let mut interfaces: Vec<_> = self.interfaces.iter().map(|(nic, at)| (*at, *nic)).collect();
        interfaces.sort_unstable_by_key(|(at, _)| *at);
        for ((number, written), nic) in interfaces {
            let lost = dropped.get(&nic).copied().unwrap_or(0);
            pcapng::statistics(&mut self.out, number, self.last_ns, written + lost, lost)?;
        }
        self.out.flush()
    }

    fn write(&mut self, frame: &Frame) -> io::Result<()> {
        let next = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
        let known = self.interfaces.contains_key(&frame.nic);
        let entry = self.interfaces.entry(frame.nic).or_insert((next, 0));
        entry.1 += 1;
        let number = entry.0;
        if !known {
            let name = match self.names.get(&frame.nic) {
                Some(name) => name.clone(),
                None => format!("nic{}", frame.nic.0),
            };
            let linktype = match frame.kind {
                NicKind::Ethernet => pcapng::LINKTYPE_ETHERNET,
                NicKind::Loopback => pcapng::LINKTYPE_RAW,
            };
            pcapng::interface(&mut self.out, &name, linktype)?;
        }
        // Threads read the clock before they come to the wire: the order is that of the wire.
        self.last_ns = self.last_ns.max(frame.time_ns);
        let way = match frame.direction {
            Direction::Received => Way::Inbound,
            Direction::Sent => Way::Outbound,
        };
        let label = self.label.label(frame);
        let told = (&frame.bytes[..], label.as_deref());
        pcapng::packet_with(&mut self.out, number, self.last_ns, way, told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netstack::buffer::PacketBuffer;
    use netstack::link::Tap;

    #[test]
    fn frames_lie_in_the_file_in_order_with_time_direction_and_counts() {
        let path =
            std::env::temp_dir().join(format!("netcell-capture-{}.pcapng", std::process::id()));
        let names = HashMap::from([(NicId(2), "tap0".to_string())]);
        let (file, now) = (create(&path).unwrap(), Instant::from_secs(5));
        let capture = Capture::start(file, &path, now, names, Unlabelled).unwrap();
        let packet = PacketBuffer::from_slice(&[0xab; 61]);
        // The second read the clock before the first.
        for (at, direction) in [(7, Direction::Received), (6, Direction::Sent)] {
            let now = Instant::from_secs(at);
            let kind = NicKind::Ethernet;
            capture.frame(&Tapped { now, nic: NicId(2), kind, direction, frame: &packet });
        }
        capture.finish().unwrap();
        assert_eq!(capture.counts(), (2, 0));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let mut kinds = Vec::new();
        let (mut flags, mut times) = (Vec::new(), Vec::new());
        let mut at = 0;
        while at < bytes.len() {
            let len = word(at + 4) as usize;
            assert_eq!(word(at + len - 4) as usize, len, "both lengths of a block agree");
            kinds.push(word(at));
            if word(at) == 6 {
                assert_eq!((word(at + 20), word(at + 24)), (61, 61));
                flags.push(word(at + 28 + 64 + 4));
                times.push(u64::from(word(at + 12)) << 32 | u64::from(word(at + 16)));
            }
            at += len;
        }
        assert_eq!(kinds, [0x0a0d_0d0a, 1, 6, 6, 5]);
        assert_eq!(flags, [1, 2]);
        assert_eq!(times[0], times[1], "time goes backwards in the file");
    }

    #[test]
    fn an_unwritable_file_is_told_before_the_start() {
        let error = create(Path::new("/nonexistent/x.pcapng"));
        let text = error.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(text.contains("/nonexistent/x.pcapng"), "{text}");
    }
}
