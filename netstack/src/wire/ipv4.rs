//! The IPv4 header (RFC 791).

use core::net::Ipv4Addr;

use super::checksum;
use super::ipv4_options::Options;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;
/// Bytes of the longest header.
pub const MAX_HEADER_LEN: usize = 60;

/// The fields of a header. Options are apart ([`super::ipv4_options`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4 {
    /// Bytes of the header with options, 20 to 60.
    pub header_len: u8,
    /// Type of service with ECN.
    pub tos: u8,
    /// Bytes of header and payload.
    pub total_len: u16,
    /// Identifies the fragments of one datagram.
    pub ident: u16,
    /// Whether routers must not cut it.
    pub dont_fragment: bool,
    /// Whether this is not the last fragment.
    pub more_fragments: bool,
    /// Where this fragment lies in the datagram, in bytes (a multiple of 8).
    pub fragment_offset: u16,
    /// Hops left.
    pub ttl: u8,
    /// What follows.
    pub protocol: u8,
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
}

/// What is wrong with a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// Shorter than it says, or than a header can be.
    Truncated,
    /// The wrong version, header length or total length.
    Header,
    /// The header checksum does not fit.
    Checksum,
}

impl Ipv4 {
    /// The header length that the first byte promises; None when it is no IPv4 header.
    pub fn header_len(first: u8) -> Option<usize> {
        let len = usize::from(first & 0x0f) * 4;
        (first >> 4 == 4 && len >= HEADER_LEN).then_some(len)
    }

    /// Reads a header of exactly its own length and verifies its checksum. `available` is how many bytes
    /// of header and payload there are.
    pub fn parse(header: &[u8], available: usize) -> Result<Ipv4, Malformed> {
        let parsed = Ipv4::parse_quoted(header).ok_or(Malformed::Header)?;
        let header_len = usize::from(parsed.header_len);
        if usize::from(parsed.total_len) < header_len {
            return Err(Malformed::Header);
        }
        if header.len() < header_len || usize::from(parsed.total_len) > available {
            return Err(Malformed::Truncated);
        }
        let sum = match header.first_chunk() {
            Some(plain) if header_len == HEADER_LEN => checksum::of_header(plain),
            _ => checksum::of(&header[..header_len]),
        };
        if sum != 0 {
            return Err(Malformed::Checksum);
        }
        Ok(parsed)
    }

    /// Reads a header quoted in an ICMP error: no length or checksum is verified, since routers change both.
    pub fn parse_quoted(header: &[u8]) -> Option<Ipv4> {
        let fixed = header.first_chunk::<HEADER_LEN>()?;
        let header_len = Ipv4::header_len(fixed[0])?;
        let flags = u16::from_be_bytes([fixed[6], fixed[7]]);
        Some(Ipv4 {
            header_len: header_len as u8,
            tos: fixed[1],
            total_len: u16::from_be_bytes([fixed[2], fixed[3]]),
            ident: u16::from_be_bytes([fixed[4], fixed[5]]),
            dont_fragment: flags & 0x4000 != 0,
            more_fragments: flags & 0x2000 != 0,
            fragment_offset: (flags & 0x1fff) << 3,
            ttl: fixed[8],
            protocol: fixed[9],
            src: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]),
            dst: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]),
        })
    }

    /// Writes a header without options, checksum included.
    pub fn emit(&self, bytes: &mut [u8; HEADER_LEN]) {
        let flags = u16::from(self.dont_fragment) << 14 | u16::from(self.more_fragments) << 13;
        bytes[0] = 0x45;
        bytes[1] = self.tos;
        bytes[2..4].copy_from_slice(&self.total_len.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.ident.to_be_bytes());
        bytes[6..8].copy_from_slice(&(flags | self.fragment_offset >> 3).to_be_bytes());
        bytes[8] = self.ttl;
        bytes[9] = self.protocol;
        bytes[10..12].fill(0);
        bytes[12..16].copy_from_slice(&self.src.octets());
        bytes[16..20].copy_from_slice(&self.dst.octets());
        let sum = checksum::of_header(bytes);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    }

    /// A header of `header_len` bytes that has options, checksum included: its length, and bytes of which so many count.
    pub fn with_options(&self, options: &Options) -> (usize, [u8; MAX_HEADER_LEN]) {
        let mut bytes = [0; MAX_HEADER_LEN];
        let len = HEADER_LEN + options.len();
        let mut fixed = [0; HEADER_LEN];
        self.emit(&mut fixed);
        fixed[0] = 0x40 | (len / 4) as u8;
        fixed[10..12].fill(0);
        bytes[..HEADER_LEN].copy_from_slice(&fixed);
        bytes[HEADER_LEN..len].copy_from_slice(options.as_slice());
        let sum = checksum::of(&bytes[..len]);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        (len, bytes)
    }

    /// Whether this is a part of a datagram.
    pub fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }
}
