//! The IPv6 header and its extension headers (RFC 8200).

use core::net::Ipv6Addr;

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;
/// Bytes of a fragment header.
pub const FRAGMENT_LEN: usize = 8;

/// Hop-by-hop options.
pub const NEXT_HOP_BY_HOP: u8 = 0;
/// A routing header.
pub const NEXT_ROUTING: u8 = 43;
/// A fragment header.
pub const NEXT_FRAGMENT: u8 = 44;
/// Nothing follows.
pub const NEXT_NONE: u8 = 59;
/// Destination options.
pub const NEXT_DESTINATION: u8 = 60;

/// The fields of the fixed header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6 {
    /// Traffic class, ECN included.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Bytes after this header.
    pub payload_len: u16,
    /// What follows.
    pub next_header: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// Source.
    pub src: Ipv6Addr,
    /// Destination.
    pub dst: Ipv6Addr,
}

impl Ipv6 {
    /// Reads a header; None when the version is not 6.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Option<Ipv6> {
        let word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        if word >> 28 != 6 {
            return None;
        }
        let address = |at: usize| {
            let octets = bytes[at..].first_chunk::<16>().copied().unwrap_or_default();
            Ipv6Addr::from(octets)
        };
        Some(Ipv6 {
            traffic_class: (word >> 20) as u8,
            flow_label: word & 0xf_ffff,
            payload_len: u16::from_be_bytes([bytes[4], bytes[5]]),
            next_header: bytes[6],
            hop_limit: bytes[7],
            src: address(8),
            dst: address(24),
        })
    }

    /// Writes the header.
    pub fn emit(&self, bytes: &mut [u8; HEADER_LEN]) {
        let word = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0xf_ffff;
        bytes[..4].copy_from_slice(&word.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.payload_len.to_be_bytes());
        bytes[6] = self.next_header;
        bytes[7] = self.hop_limit;
        bytes[8..24].copy_from_slice(&self.src.octets());
        bytes[24..].copy_from_slice(&self.dst.octets());
    }
}

/// A fragment header (RFC 8200 section 4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragmentHeader {
    /// What the datagram holds.
    pub next_header: u8,
    /// Where this fragment lies in it, in bytes (a multiple of 8).
    pub offset: u16,
    /// Whether this is not the last fragment.
    pub more: bool,
    /// Identifies the fragments of one datagram.
    pub ident: u32,
}

impl FragmentHeader {
    /// Reads a header.
    pub fn parse(bytes: &[u8; FRAGMENT_LEN]) -> FragmentHeader {
        let word = u16::from_be_bytes([bytes[2], bytes[3]]);
        FragmentHeader {
            next_header: bytes[0],
            offset: word & !7,
            more: word & 1 != 0,
            ident: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }

    /// Writes the header.
    pub fn emit(&self, bytes: &mut [u8; FRAGMENT_LEN]) {
        bytes[0] = self.next_header;
        bytes[1] = 0;
        bytes[2..4].copy_from_slice(&(self.offset & !7 | u16::from(self.more)).to_be_bytes());
        bytes[4..].copy_from_slice(&self.ident.to_be_bytes());
    }
}

/// What to do about an options header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OptionsVerdict {
    /// All options are known or may be skipped.
    Continue,
    /// Drop the packet silently.
    Discard,
    /// Drop it and send Parameter Problem code 2, pointing at this byte of the header.
    Report(usize),
    /// As `Report`, unless the destination is multicast.
    ReportUnicast(usize),
    /// The options do not fit their header: Parameter Problem code 0 at this byte.
    Malformed(usize),
}

/// How much an options header may hold (`max_hbh_opts_number`, `max_hbh_length` and their like).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OptionLimits {
    /// Options besides padding; below 0 so many, and no unknown ones.
    pub number: i32,
    /// Bytes of the header.
    pub length: i32,
}

/// Which options header is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OptionsHeader {
    /// Hop-by-hop options, behind a fixed header that tells this payload length.
    HopByHop {
        /// The length field of the fixed header.
        payload_len: u16,
    },
    /// Destination options.
    Destination,
}

/// The jumbo payload option (RFC 2675).
const OPTION_JUMBO: u8 = 0xc2;
/// The router alert option (RFC 2711).
const OPTION_ROUTER_ALERT: u8 = 0x05;

/// Judges the options of a hop-by-hop or destination options header (its bytes from the next-header field on), as
/// Linux's `ip6_parse_tlv` does.
pub fn judge_options(header: &[u8], which: OptionsHeader, limits: OptionLimits) -> OptionsVerdict {
    if i64::try_from(header.len()).is_ok_and(|len| len > i64::from(limits.length)) {
        return OptionsVerdict::Discard;
    }
    let (mut at, mut padding, mut count) = (2, 0usize, 0u32);
    while let Some(kind) = header.get(at) {
        // Pad1 is one byte without a length. RFC 8200 section 4.2 needs at most seven bytes of padding; more is a channel.
        if *kind == 0 {
            at += 1;
            padding += 1;
            if padding > 7 {
                return OptionsVerdict::Discard;
            }
            continue;
        }
        let len = header.get(at + 1).map(|len| usize::from(*len));
        let Some(body) = len.and_then(|len| header.get(at + 2..at + 2 + len)) else {
            return OptionsVerdict::Discard;
        };
        if *kind == 1 {
            padding += body.len() + 2;
            if padding > 7 || body.iter().any(|byte| *byte != 0) {
                return OptionsVerdict::Discard;
            }
        } else {
            padding = 0;
            count += 1;
            if count > limits.number.unsigned_abs() {
                return OptionsVerdict::Discard;
            }
            match judge_option((*kind, at), body, which, limits) {
                OptionsVerdict::Continue => {}
                verdict => return verdict,
            }
        }
        at += 2 + body.len();
    }
    OptionsVerdict::Continue
}

fn judge_option(
    (kind, at): (u8, usize),
    body: &[u8],
    which: OptionsHeader,
    limits: OptionLimits,
) -> OptionsVerdict {
    match (kind, which) {
        (OPTION_ROUTER_ALERT, OptionsHeader::HopByHop { .. }) if body.len() == 2 => {
            return OptionsVerdict::Continue;
        }
        (OPTION_ROUTER_ALERT, OptionsHeader::HopByHop { .. }) => return OptionsVerdict::Discard,
        (OPTION_JUMBO, OptionsHeader::HopByHop { payload_len }) => {
            return match (<[u8; 4]>::try_from(body).map(u32::from_be_bytes), at % 4) {
                // RFC 2675 section 3: a length that fits the fixed header is an error at the option's value, and one beside
                // a length of the fixed header at its type.
                (Ok(0..=65_535), 2) => OptionsVerdict::Malformed(at + 2),
                (Ok(_), 2) if payload_len != 0 => OptionsVerdict::Malformed(at),
                // No link here carries so much.
                _ => OptionsVerdict::Discard,
            };
        }
        _ => {}
    }
    // RFC 8200 section 4.2: "the highest-order 2 bits specify the action that must be taken if the
    // processing IPv6 node does not recognize the Option Type".
    match kind >> 6 {
        _ if limits.number < 0 => OptionsVerdict::Discard,
        0 => OptionsVerdict::Continue,
        1 => OptionsVerdict::Discard,
        2 => OptionsVerdict::Report(at),
        _ => OptionsVerdict::ReportUnicast(at),
    }
}
