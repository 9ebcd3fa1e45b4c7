//! The blocks of a pcapng file (draft-ietf-opsawg-pcapng) that a capture writes, little endian.

use std::io::{self, Write};

/// LINKTYPE_ETHERNET
pub const LINKTYPE_ETHERNET: u16 = 1;
/// LINKTYPE_RAW: IPv4 or IPv6 packets without a link header.
pub const LINKTYPE_RAW: u16 = 101;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

const OPT_END: u16 = 0;
const OPT_COMMENT: u16 = 1;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const SHB_USERAPPL: u16 = 4;
const EPB_FLAGS: u16 = 2;
const ISB_IFRECV: u16 = 4;
const ISB_IFDROP: u16 = 5;

/// Direction bits of epb_flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Into the interface's owner.
    Inbound = 1,
    /// Out of it.
    Outbound = 2,
}

/// One option: code and value, padded to four bytes.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX) - 3)];
    body.extend_from_slice(&code.to_le_bytes());
    body.extend_from_slice(&(value.len() as u16).to_le_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn block(out: &mut dyn Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let total = u32::try_from(body.len() + 12).map_err(|_| io::ErrorKind::InvalidInput)?;
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&total.to_le_bytes())?;
    out.write_all(body)?;
    out.write_all(&total.to_le_bytes())
}

/// The section header, which opens a file.
pub fn section(out: &mut dyn Write, application: &str) -> io::Result<()> {
    let mut body = Vec::new();
    body.extend_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
    body.extend_from_slice(&[1, 0, 0, 0]);
    body.extend_from_slice(&u64::MAX.to_le_bytes());
    option(&mut body, SHB_USERAPPL, application.as_bytes());
    option(&mut body, OPT_END, &[]);
    block(out, SECTION_HEADER, &body)
}

/// An interface with times in nanoseconds; they are numbered from 0 in the order of their blocks.
pub fn interface(out: &mut dyn Write, name: &str, linktype: u16) -> io::Result<()> {
    let mut body = Vec::new();
    body.extend_from_slice(&linktype.to_le_bytes());
    body.extend_from_slice(&[0; 2]);
    // No snap length: frames are whole.
    body.extend_from_slice(&0u32.to_le_bytes());
    option(&mut body, IF_NAME, name.as_bytes());
    option(&mut body, IF_TSRESOL, &[9]);
    option(&mut body, OPT_END, &[]);
    block(out, INTERFACE_DESCRIPTION, &body)
}

/// One frame of interface `interface` at `time_ns` since the epoch.
pub fn packet(
    out: &mut dyn Write,
    interface: u32,
    time_ns: u64,
    way: Way,
    frame: &[u8],
) -> io::Result<()> {
    packet_with(out, interface, time_ns, way, (frame, None))
}

/// One frame, with a comment where there is something to say.
pub fn packet_with(
    out: &mut dyn Write,
    interface: u32,
    time_ns: u64,
    way: Way,
    (frame, comment): (&[u8], Option<&str>),
) -> io::Result<()> {
    let len = u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut body = Vec::with_capacity(frame.len() + 44);
    body.extend_from_slice(&interface.to_le_bytes());
    body.extend_from_slice(&((time_ns >> 32) as u32).to_le_bytes());
    body.extend_from_slice(&(time_ns as u32).to_le_bytes());
    body.extend_from_slice(&len.to_le_bytes());
    body.extend_from_slice(&len.to_le_bytes());
    body.extend_from_slice(frame);
    body.resize(body.len().next_multiple_of(4), 0);
    if let Some(comment) = comment {
        option(&mut body, OPT_COMMENT, comment.as_bytes());
    }
    option(&mut body, EPB_FLAGS, &(way as u32).to_le_bytes());
    option(&mut body, OPT_END, &[]);
    block(out, ENHANCED_PACKET, &body)
}

/// What an interface saw in all, and what the capture lost of it.
pub fn statistics(
    out: &mut dyn Write,
    interface: u32,
    time_ns: u64,
    received: u64,
    dropped: u64,
) -> io::Result<()> {
    let mut body = Vec::new();
    body.extend_from_slice(&interface.to_le_bytes());
    body.extend_from_slice(&((time_ns >> 32) as u32).to_le_bytes());
    body.extend_from_slice(&(time_ns as u32).to_le_bytes());
    option(&mut body, ISB_IFRECV, &received.to_le_bytes());
    option(&mut body, ISB_IFDROP, &dropped.to_le_bytes());
    option(&mut body, OPT_END, &[]);
    block(out, INTERFACE_STATISTICS, &body)
}
