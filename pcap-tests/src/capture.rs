//! Reading capture files: pcap and pcapng, by their magic number.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;
use std::time::Duration;

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, PcapError};

/// A captured frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Position in the file, from 1.
    pub number: usize,
    /// Time since the epoch of the capture.
    pub time: Duration,
    /// Number of the interface in the file.
    pub interface: u32,
    /// Length on the wire in bytes; `bytes` may be shorter.
    pub wire_len: u32,
    /// What was captured.
    pub bytes: Vec<u8>,
}

/// Why a capture could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be opened or read.
    #[error("cannot read the capture: {0}")]
    Io(#[from] std::io::Error),
    /// A block is malformed.
    #[error("frame {after} was read, what follows is malformed: {source}")]
    Malformed {
        /// The last good frame.
        after: usize,
        /// What the parser found.
        source: PcapError,
    },
    /// Another link type than Ethernet.
    #[error("link type {0:?} is not Ethernet")]
    LinkType(DataLink),
    /// No capture at all.
    #[error("the file is neither pcap nor pcapng")]
    Unknown,
}

/// Reads every frame of an Ethernet capture. Errors name the last frame that was good.
pub fn read(path: &Path) -> Result<Vec<Frame>, ReadError> {
    let mut file = BufReader::new(File::open(path)?);
    let mut magic = [0; 4];
    file.read_exact(&mut magic)?;
    file.rewind()?;
    match magic {
        [0x0a, 0x0d, 0x0d, 0x0a] => read_pcapng(file),
        [0xa1, 0xb2, 0xc3 | 0x3c, 0xd4 | 0x4d] | [0xd4 | 0x4d, 0xc3 | 0x3c, 0xb2, 0xa1] => {
            read_pcap(file)
        }
        _ => Err(ReadError::Unknown),
    }
}

fn read_pcap(file: BufReader<File>) -> Result<Vec<Frame>, ReadError> {
    let mut frames: Vec<Frame> = Vec::new();
    let malformed = |after| move |source| ReadError::Malformed { after, source };
    let mut reader = PcapReader::new(file).map_err(malformed(0))?;
    if reader.header().datalink != DataLink::ETHERNET {
        return Err(ReadError::LinkType(reader.header().datalink));
    }
    while let Some(packet) = reader.next_packet() {
        let packet = packet.map_err(malformed(frames.len()))?;
        frames.push(Frame {
            number: frames.len() + 1,
            time: packet.timestamp,
            interface: 0,
            wire_len: packet.orig_len,
            bytes: packet.data.into_owned(),
        });
    }
    Ok(frames)
}

fn read_pcapng(file: BufReader<File>) -> Result<Vec<Frame>, ReadError> {
    let mut frames: Vec<Frame> = Vec::new();
    let malformed = |after| move |source| ReadError::Malformed { after, source };
    let mut reader = PcapNgReader::new(file).map_err(malformed(0))?;
    while let Some(block) = reader.next_block() {
        match block.map_err(malformed(frames.len()))? {
            Block::InterfaceDescription(interface) if interface.linktype != DataLink::ETHERNET => {
                return Err(ReadError::LinkType(interface.linktype));
            }
            Block::EnhancedPacket(packet) => frames.push(Frame {
                number: frames.len() + 1,
                time: packet.timestamp,
                interface: packet.interface_id,
                wire_len: packet.original_len,
                bytes: packet.data.into_owned(),
            }),
            _ => {}
        }
    }
    Ok(frames)
}
