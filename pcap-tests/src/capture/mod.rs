//! Reading capture files as streams: pcap and pcapng in both byte orders, plain, gzip or zstd. A damaged block is skipped and told; memory does not grow with the file.

mod link;
mod time;

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{Endianness, PcapError, TsResolution};

pub use link::{LinkType, Payload};

/// A captured frame. Its bytes live until the next one is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Position in the file, from 1.
    pub number: u64,
    /// Time since the epoch.
    pub time: Duration,
    /// Number of the interface in its section of the file.
    pub interface: u32,
    /// What the frame starts with.
    pub link: LinkType,
    /// Length on the wire in bytes; `bytes` may be shorter.
    pub wire_len: u32,
    /// What was captured.
    pub bytes: &'a [u8],
}

/// Why a capture could not be read, or not further.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be opened or read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file ends within a record.
    #[error("the file ends within the record after frame {after}")]
    Truncated {
        /// The last whole frame.
        after: u64,
    },
    /// A record that cannot be one: where the next begins is not known.
    #[error(
        "the record after frame {after} is longer than any can be: the rest of the file is not read"
    )]
    TooLong {
        /// The last whole frame.
        after: u64,
    },
    /// What follows has no framing any more.
    #[error("after frame {after} the file is malformed")]
    Malformed {
        /// The last good frame.
        after: u64,
        /// What the parser found.
        source: PcapError,
    },
    /// No capture at all.
    #[error("the file is neither pcap nor pcapng (plain, gzip or zstd)")]
    Unknown,
}

/// A record that was passed over, with why. The file went on behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The last frame before it.
    pub after: u64,
    /// What was wrong with it.
    pub reason: String,
}

/// So many skipped records are told one by one; the others are counted only.
const MAX_TOLD: usize = 100;

enum Format {
    Pcap { reader: PcapReader<Source>, link: LinkType, resolution: TsResolution },
    PcapNg(PcapNgReader<Source>),
}

type Source = Box<dyn Read + Send>;

/// Reads a capture from its start to its end.
pub struct Reader {
    format: Format,
    /// The frame that was read last, where it is not lent from the parser's buffer.
    bytes: Vec<u8>,
    skipped: Vec<Skipped>,
    skipped_count: u64,
    progress: Progress,
}

/// How far a file is read.
struct Progress {
    /// The last frame.
    number: u64,
    /// Bytes of the (compressed) file.
    position: Arc<AtomicU64>,
    /// Its length.
    len: u64,
    /// Whether the parser was told that there is no more.
    has_ended: Arc<AtomicBool>,
    watcher: Option<Watcher>,
}

/// Told now and then how far a file is read: frames, bytes of the (compressed) file, its length (0 where it is unknown).
pub type Watcher = Box<dyn FnMut(u64, u64, u64) + Send>;

/// Frames between two calls of a watcher.
const WATCHED: u64 = 65_536;
/// What is read at once: it stays in the core's cache until it is parsed.
const READ: usize = 128 << 10;

/// Counts what was read of the (compressed) file, for a display of progress.
struct Counting<R>(R, Arc<AtomicU64>);

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        let len = room.len().min(READ);
        let n = self.0.read(&mut room[..len])?;
        self.1.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Remembers that its end was reached.
struct Ending<R>(R, Arc<AtomicBool>);

impl<R: Read> Read for Ending<R> {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        let n = self.0.read(room)?;
        self.1.fetch_or(n == 0 && !room.is_empty(), Ordering::Relaxed);
        Ok(n)
    }
}

/// What the parser wants of one record.
struct Record {
    time: Duration,
    interface: u32,
    link: LinkType,
    wire_len: u32,
}

/// What a record turned out to be.
enum Step {
    Frame(Record),
    /// Nothing that a reader of frames wants.
    Other,
    Damaged(String),
    End,
}

impl Reader {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let mut reader = Self::new(file)?;
        reader.progress.len = len;
        Ok(reader)
    }

    /// Reads from anything that gives bytes.
    pub fn new(source: impl Read + Send + 'static) -> Result<Self, ReadError> {
        let position = Arc::new(AtomicU64::new(0));
        let counting = Counting(source, Arc::clone(&position));
        let (magic, plain) = decompressed(Box::new(counting))?;
        let has_ended = Arc::new(AtomicBool::new(false));
        let plain: Source = Box::new(Ending(plain, Arc::clone(&has_ended)));
        let malformed = |source| ended(source, 0);
        let format = match magic {
            [0x0a, 0x0d, 0x0d, 0x0a] => {
                Format::PcapNg(PcapNgReader::new(plain).map_err(malformed)?)
            }
            [0xa1, 0xb2, 0xc3, 0xd4]
            | [0xa1, 0xb2, 0x3c, 0x4d]
            | [0xd4, 0xc3, 0xb2, 0xa1]
            | [0x4d, 0x3c, 0xb2, 0xa1] => {
                let reader = PcapReader::new(plain).map_err(malformed)?;
                let header = reader.header();
                // The upper half of the field tells of frame check sequences.
                let link = LinkType::from_number(u32::from(header.datalink) & 0xffff);
                Format::Pcap { reader, link, resolution: header.ts_resolution }
            }
            _ => return Err(ReadError::Unknown),
        };
        let progress = Progress { number: 0, position, len: 0, has_ended, watcher: None };
        Ok(Self { format, bytes: Vec::new(), skipped: Vec::new(), skipped_count: 0, progress })
    }

    /// Whom to tell now and then how far the file is read. It is dropped where the file ends.
    pub fn watch(&mut self, watcher: Watcher) {
        self.progress.watcher = Some(watcher);
    }

    /// The next frame, or none at the end. After an error there is no more.
    #[allow(clippy::should_implement_trait)] // It lends its buffer, which an Iterator cannot.
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, ReadError> {
        let Self { format, bytes, skipped, skipped_count, progress } = self;
        match format {
            Format::Pcap { reader, link, resolution } => {
                // The checked records of the crate refuse what a snapshot length cut.
                let Some(packet) = reader.next_raw_packet() else {
                    progress.over();
                    return Ok(None);
                };
                let packet = packet.map_err(|source| progress.broken(source))?;
                Ok(Some(Frame {
                    number: progress.next(),
                    time: time::of_pcap(packet.ts_sec, packet.ts_frac, *resolution),
                    interface: 0,
                    link: *link,
                    // A length on the wire below what was captured is a lie of the writer.
                    wire_len: packet.orig_len.max(packet.incl_len),
                    // Lent as they stand in the buffer of the file.
                    bytes: match packet.data {
                        Cow::Borrowed(lent) => lent,
                        Cow::Owned(own) => {
                            *bytes = own;
                            bytes
                        }
                    },
                }))
            }
            Format::PcapNg(reader) => loop {
                match pcapng_step(reader, bytes).map_err(|source| progress.broken(source))? {
                    Step::End => {
                        progress.over();
                        return Ok(None);
                    }
                    Step::Other => {}
                    Step::Damaged(reason) => {
                        *skipped_count += 1;
                        if skipped.len() < MAX_TOLD {
                            skipped.push(Skipped { after: progress.number, reason });
                        }
                    }
                    Step::Frame(record) => {
                        return Ok(Some(Frame {
                            number: progress.next(),
                            time: record.time,
                            interface: record.interface,
                            link: record.link,
                            wire_len: record.wire_len,
                            bytes,
                        }));
                    }
                }
            },
        }
    }

    /// The first hundred records that were passed over.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// How many records were passed over in all.
    pub fn skipped_count(&self) -> u64 {
        self.skipped_count
    }
}

impl Progress {
    /// Counts a frame, and tells the watcher now and then. Gives the frame's number.
    fn next(&mut self) -> u64 {
        self.number += 1;
        if self.number.is_multiple_of(WATCHED)
            && let Some(watcher) = &mut self.watcher
        {
            watcher(self.number, self.position.load(Ordering::Relaxed), self.len);
        }
        self.number
    }

    /// There is no more.
    fn over(&mut self) {
        self.watcher = None;
    }

    /// There is no more, since the parser could not read the next record.
    fn broken(&mut self, source: PcapError) -> ReadError {
        self.over();
        match ended(source, self.number) {
            // The parser has as much of it as it can hold, and the file goes on.
            ReadError::Truncated { after } if !self.has_ended.load(Ordering::Relaxed) => {
                ReadError::TooLong { after }
            }
            error => error,
        }
    }
}

/// The first four bytes of the capture, and the capture from its start, taken out of its compression.
fn decompressed(mut source: Source) -> Result<([u8; 4], Source), ReadError> {
    let peek = |source: &mut Source| {
        let mut magic = [0; 4];
        source.read_exact(&mut magic).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => ReadError::Unknown,
            _ => ReadError::Io(error),
        })?;
        Ok::<_, ReadError>(magic)
    };
    let magic = peek(&mut source)?;
    let whole: Source = Box::new(std::io::Cursor::new(magic).chain(source));
    let mut plain: Source = match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(BufReader::new(whole))
                .map_err(std::io::Error::other)?;
            Box::new(decoder)
        }
        _ => return Ok((magic, whole)),
    };
    let magic = peek(&mut plain)?;
    Ok((magic, Box::new(std::io::Cursor::new(magic).chain(plain))))
}

fn ended(source: PcapError, after: u64) -> ReadError {
    match source {
        PcapError::IncompleteBuffer => ReadError::Truncated { after },
        PcapError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            ReadError::Truncated { after }
        }
        PcapError::IoError(error) => ReadError::Io(error),
        source => ReadError::Malformed { after, source },
    }
}

fn pcapng_step(reader: &mut PcapNgReader<Source>, bytes: &mut Vec<u8>) -> Result<Step, PcapError> {
    let endianness = reader.section().endianness;
    let Some(block) = reader.next_raw_block() else { return Ok(Step::End) };
    let block = block?;
    let block = match endianness {
        Endianness::Big => block.try_into_block::<byteorder_slice::BigEndian>(),
        Endianness::Little => block.try_into_block::<byteorder_slice::LittleEndian>(),
    };
    let (interface, raw_time, wire_len) = match block {
        Ok(Block::EnhancedPacket(packet)) => {
            bytes.clear();
            bytes.extend_from_slice(&packet.data);
            (packet.interface_id, packet.timestamp.as_nanos() as u64, packet.original_len)
        }
        Ok(Block::SimplePacket(packet)) => {
            bytes.clear();
            // The block pads its data, and has no length of what was captured.
            let len = (packet.original_len as usize).min(packet.data.len());
            bytes.extend_from_slice(&packet.data[..len]);
            (0, 0, packet.original_len)
        }
        Ok(Block::Packet(packet)) => {
            bytes.clear();
            bytes.extend_from_slice(&packet.data);
            (u32::from(packet.interface_id), packet.timestamp, packet.original_len)
        }
        Ok(_) => return Ok(Step::Other),
        Err(error) => return Ok(Step::Damaged(format!("a block is malformed: {error}"))),
    };
    let Some(description) = reader.interfaces().get(interface as usize) else {
        return Ok(Step::Damaged(format!("interface {interface} was never described")));
    };
    let (mut resolution, mut offset) = (6, 0);
    for option in &description.options {
        match option {
            InterfaceDescriptionOption::IfTsResol(value) => resolution = *value,
            InterfaceDescriptionOption::IfTsOffset(value) => offset = *value as i64,
            _ => {}
        }
    }
    Ok(Step::Frame(Record {
        time: time::of_pcapng(raw_time, resolution, offset),
        interface,
        link: LinkType::from_number(u32::from(description.linktype)),
        wire_len: wire_len.max(bytes.len() as u32),
    }))
}

#[cfg(test)]
mod tests;
