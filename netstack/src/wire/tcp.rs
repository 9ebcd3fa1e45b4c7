//! The TCP header and its options (RFC 9293 section 3.1): parse and emit, no state and no checksum arithmetic.
//!
//! Options are read as Linux reads them: a malformed length ends the walk, what was read before it counts,
//! and the caller learns of it to count it. A segment is never refused for its options.

use bitflags::bitflags;

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 20;
/// Bytes that options may take (a data offset of 15 words).
pub const MAX_OPTIONS_LEN: usize = 40;
/// Where the checksum lies in the header.
pub const CHECKSUM_OFFSET: usize = 16;
/// Linux's bound on the window scale (RFC 7323 section 2.3).
pub const MAX_WINDOW_SCALE: u8 = 14;

bitflags! {
    /// Control bits of the header.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Flags: u16 {
        const FIN = 0x01;
        const SYN = 0x02;
        const RST = 0x04;
        const PSH = 0x08;
        const ACK = 0x10;
        const URG = 0x20;
        const ECE = 0x40;
        const CWR = 0x80;
        /// Accurate ECN (RFC 9768), the NS bit of old.
        const AE = 0x100;
    }
}

/// The timestamps option (RFC 7323 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamps {
    /// The sender's clock.
    pub value: u32,
    /// The latest value that the sender had from its peer; 0 in a first SYN.
    pub echo: u32,
}

/// Up to four SACK blocks (RFC 2018), each `[left, right)` in sequence numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlocks {
    blocks: [(u32, u32); 4],
    len: u8,
}

impl SackBlocks {
    /// Appends a block; a fifth one is dropped.
    pub fn push(&mut self, left: u32, right: u32) {
        if let Some(slot) = self.blocks.get_mut(usize::from(self.len)) {
            *slot = (left, right);
            self.len += 1;
        }
    }

    /// The blocks in the order of the option.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.blocks.iter().take(usize::from(self.len)).copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The fast open option (RFC 7413 section 4.1.1): a cookie of 4 to 16 bytes, or none as the request of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FastOpenCookie {
    bytes: [u8; 16],
    len: u8,
}

impl FastOpenCookie {
    /// A cookie. None for a length that no cookie has: it must be even, and 4 to 16, or 0 for a request.
    pub fn new(cookie: &[u8]) -> Option<FastOpenCookie> {
        if !matches!(cookie.len(), 0 | 4 | 6 | 8 | 10 | 12 | 14 | 16) {
            return None;
        }
        let mut bytes = [0; 16];
        bytes[..cookie.len()].copy_from_slice(cookie);
        Some(FastOpenCookie { bytes, len: cookie.len() as u8 })
    }

    /// The cookie's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether it asks for a cookie.
    pub fn is_request(&self) -> bool {
        self.len == 0
    }
}

/// The option of accurate ECN (RFC 9768 section 3.2.3): payload bytes that came with each codepoint, modulo 2^24. A field
/// that the option is too short for is None; what goes out has all three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccurateEcn {
    ect0: Option<u32>,
    ce: Option<u32>,
    ect1: Option<u32>,
}

impl AccurateEcn {
    /// The option with the counters of ECT(0), CE and ECT(1).
    pub fn new([ect0, ce, ect1]: [u32; 3]) -> AccurateEcn {
        let field = |counter: u32| Some(counter & 0xff_ffff);
        AccurateEcn { ect0: field(ect0), ce: field(ce), ect1: field(ect1) }
    }

    /// The counter of CE.
    pub fn ce_bytes(&self) -> Option<u32> {
        self.ce
    }

    /// Reads the fields, in the order of kind 172 or 174; a length that is no multiple of three is none.
    fn parse(kind: u8, body: &[u8]) -> Option<AccurateEcn> {
        if !body.len().is_multiple_of(3) || body.len() > 9 {
            return None;
        }
        let field = |n: usize| {
            let bytes = body.get(n * 3..n * 3 + 3)?;
            Some(u32::from(bytes[0]) << 16 | u32::from(bytes[1]) << 8 | u32::from(bytes[2]))
        };
        let (first, second, third) = (field(0), field(1), field(2));
        Some(match kind {
            KIND_ACCURATE_ECN_0 => AccurateEcn { ect0: first, ce: second, ect1: third },
            _ => AccurateEcn { ect1: first, ce: second, ect0: third },
        })
    }
}

/// The options that this stack knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size; only in a SYN.
    pub mss: Option<u16>,
    /// Window scale; only in a SYN.
    pub window_scale: Option<u8>,
    /// SACK permitted; only in a SYN.
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// SACK blocks.
    pub sack: SackBlocks,
    /// Fast open; only in a SYN.
    pub fast_open: Option<FastOpenCookie>,
    /// Accurate ECN.
    pub accurate_ecn: Option<AccurateEcn>,
}

const KIND_END: u8 = 0;
const KIND_NOP: u8 = 1;
const KIND_MSS: u8 = 2;
const KIND_WINDOW_SCALE: u8 = 3;
const KIND_SACK_PERMITTED: u8 = 4;
const KIND_SACK: u8 = 5;
const KIND_TIMESTAMPS: u8 = 8;
const KIND_FAST_OPEN: u8 = 34;
const KIND_ACCURATE_ECN_0: u8 = 172;
const KIND_ACCURATE_ECN_1: u8 = 174;

/// Whether an option list was well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionsFault {
    /// All options could be walked.
    None,
    /// A length ran out of the header or was below two; what followed was not read.
    BadLength,
}

impl Options {
    /// Bytes that these options take when emitted, a multiple of four.
    pub fn len(&self) -> usize {
        let timestamps = usize::from(self.timestamps.is_some()) * 12;
        let mss = usize::from(self.mss.is_some()) * 4;
        // SACK permitted takes the place of the two NOPs before timestamps when both are there.
        let permitted = usize::from(self.sack_permitted && self.timestamps.is_none()) * 4;
        let scale = usize::from(self.window_scale.is_some()) * 4;
        let sack = if self.sack.is_empty() { 0 } else { 4 + 8 * self.sack.len() };
        let fast_open =
            self.fast_open.map_or(0, |cookie| (2 + cookie.as_bytes().len()).next_multiple_of(4));
        let ecn = usize::from(self.accurate_ecn.is_some()) * 12;
        timestamps + mss + permitted + scale + sack + fast_open + ecn
    }

    /// Whether no option is set.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads an option list; `syn` segments may carry the options of a handshake, others may not.
    fn parse(mut bytes: &[u8], flags: Flags) -> (Options, OptionsFault) {
        let mut options = Options::default();
        // RFC 7323 appendix A: "The following layout is recommended for sending options on non-<SYN> segments". Nearly all have it.
        if let &[KIND_NOP, KIND_NOP, KIND_TIMESTAMPS, 10, a, b, c, d, e, f, g, h] = bytes {
            let (value, echo) =
                (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
            options.timestamps = Some(Timestamps { value, echo });
            return (options, OptionsFault::None);
        }
        loop {
            let (kind, rest) = match bytes.split_first() {
                None | Some((&KIND_END, _)) => return (options, OptionsFault::None),
                Some((&KIND_NOP, rest)) => {
                    bytes = rest;
                    continue;
                }
                Some((kind, rest)) => (*kind, rest),
            };
            let Some(&size) = rest.first() else { return (options, OptionsFault::BadLength) };
            let size = usize::from(size);
            if size < 2 || size > bytes.len() {
                return (options, OptionsFault::BadLength);
            }
            options.read_one(kind, &bytes[2..size], flags);
            bytes = &bytes[size..];
        }
    }

    fn read_one(&mut self, kind: u8, body: &[u8], flags: Flags) {
        let syn = flags.contains(Flags::SYN);
        match (kind, body) {
            (KIND_MSS, &[a, b]) if syn => {
                let mss = u16::from_be_bytes([a, b]);
                self.mss = (mss != 0).then_some(mss);
            }
            (KIND_WINDOW_SCALE, &[scale]) if syn => {
                // RFC 7323 section 2.3: "If a Window Scale option is received with a shift.cnt
                // value larger than 14, the TCP SHOULD log the error but MUST use 14".
                self.window_scale = Some(scale.min(MAX_WINDOW_SCALE));
            }
            (KIND_SACK_PERMITTED, &[]) if syn => self.sack_permitted = true,
            // A cookie of a wrong length is as if there were none.
            (KIND_FAST_OPEN, cookie) if syn => self.fast_open = FastOpenCookie::new(cookie),
            (KIND_TIMESTAMPS, &[a, b, c, d, e, f, g, h]) => {
                self.timestamps = Some(Timestamps {
                    value: u32::from_be_bytes([a, b, c, d]),
                    echo: u32::from_be_bytes([e, f, g, h]),
                });
            }
            (KIND_SACK, blocks) if !blocks.is_empty() && blocks.len() % 8 == 0 => {
                self.sack = SackBlocks::default();
                for block in blocks.chunks_exact(8) {
                    self.sack.push(be32(block, 0), be32(block, 4));
                }
            }
            (KIND_ACCURATE_ECN_0 | KIND_ACCURATE_ECN_1, body) => {
                self.accurate_ecn = AccurateEcn::parse(kind, body);
            }
            _ => {}
        }
    }

    /// Writes the options in Linux's order into exactly `self.len()` bytes.
    fn emit(&self, out: &mut [u8]) {
        if let (Some(Timestamps { value, echo }), false, Some(out)) =
            (self.timestamps, self.sack_permitted, out.as_mut_array::<12>())
        {
            // They alone are as long as that.
            out[..4].copy_from_slice(&[KIND_NOP, KIND_NOP, KIND_TIMESTAMPS, 10]);
            out[4..8].copy_from_slice(&value.to_be_bytes());
            out[8..].copy_from_slice(&echo.to_be_bytes());
            return;
        }
        let mut writer = Writer { out, at: 0 };
        if let Some(mss) = self.mss {
            writer.put(&[KIND_MSS, 4]);
            writer.put(&mss.to_be_bytes());
        }
        if self.sack_permitted != self.timestamps.is_some() {
            // One of the two alone is filled up to whole words; together they are twelve bytes.
            writer.put(&[KIND_NOP, KIND_NOP]);
        }
        if self.sack_permitted {
            writer.put(&[KIND_SACK_PERMITTED, 2]);
        }
        if let Some(timestamps) = self.timestamps {
            writer.put(&[KIND_TIMESTAMPS, 10]);
            writer.put(&timestamps.value.to_be_bytes());
            writer.put(&timestamps.echo.to_be_bytes());
        }
        if let Some(scale) = self.window_scale {
            writer.put(&[KIND_NOP, KIND_WINDOW_SCALE, 3, scale]);
        }
        if !self.sack.is_empty() {
            writer.put(&[KIND_NOP, KIND_NOP, KIND_SACK, 2 + 8 * self.sack.len]);
            for (left, right) in self.sack.iter() {
                writer.put(&left.to_be_bytes());
                writer.put(&right.to_be_bytes());
            }
        }
        if let Some(cookie) = self.fast_open {
            let cookie = cookie.as_bytes();
            writer.put(&[KIND_FAST_OPEN, 2 + cookie.len() as u8]);
            writer.put(cookie);
            if cookie.len() % 4 == 0 {
                writer.put(&[KIND_NOP, KIND_NOP]);
            }
        }
        if let Some(AccurateEcn { ect0, ce, ect1 }) = self.accurate_ecn {
            writer.put(&[KIND_NOP, KIND_ACCURATE_ECN_0, 11]);
            for counter in [ect0, ce, ect1] {
                writer.put(&counter.unwrap_or_default().to_be_bytes()[1..]);
            }
        }
    }
}

struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_be_bytes)
}

/// A header as values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number of the first byte (of the SYN, if there is one).
    pub seq: u32,
    /// Acknowledgment number; meaningless without [`Flags::ACK`].
    pub ack: u32,
    /// Control bits.
    pub flags: Flags,
    /// Window as on the wire, not scaled.
    pub window: u16,
    /// Checksum as on the wire.
    pub checksum: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options.
    pub options: Options,
}

/// A header that was read, with what the caller must know to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The header's values.
    pub header: Header,
    /// Bytes from the start of the header to the payload.
    pub header_len: usize,
    /// Whether the options were well-formed.
    pub options_fault: OptionsFault,
}

/// Why bytes are not a TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Fewer bytes than the header says or needs.
    #[error("the segment is shorter than its header")]
    Truncated,
    /// A data offset below five words.
    #[error("the data offset is below the fixed header")]
    BadDataOffset,
}

/// Bytes of the header that starts `bytes`, from its data offset. Needs the first 13 bytes.
pub fn header_len(bytes: &[u8]) -> Result<usize, ParseError> {
    let offset = bytes.get(12).ok_or(ParseError::Truncated)? >> 4;
    let len = usize::from(offset) * 4;
    if len < HEADER_LEN {
        return Err(ParseError::BadDataOffset);
    }
    Ok(len)
}

impl Header {
    /// Reads a header. `bytes` must hold all of it; what follows is not looked at.
    pub fn parse(bytes: &[u8]) -> Result<Parsed, ParseError> {
        let header_len = header_len(bytes)?;
        let fixed = bytes.get(..HEADER_LEN).ok_or(ParseError::Truncated)?;
        let options = bytes.get(HEADER_LEN..header_len).ok_or(ParseError::Truncated)?;
        let flags = Flags::from_bits_truncate(u16::from(fixed[12]) << 8 | u16::from(fixed[13]));
        let (options, options_fault) = Options::parse(options, flags);
        let header = Header {
            src_port: be16(fixed, 0),
            dst_port: be16(fixed, 2),
            seq: be32(fixed, 4),
            ack: be32(fixed, 8),
            flags,
            window: be16(fixed, 14),
            checksum: be16(fixed, CHECKSUM_OFFSET),
            urgent: be16(fixed, 18),
            options,
        };
        Ok(Parsed { header, header_len, options_fault })
    }

    /// Bytes that [`Header::emit`] writes.
    pub fn len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// A header is never empty.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes the header into the first [`Header::len`] bytes of `out`, which must be that long and
    /// whose options must fit in [`MAX_OPTIONS_LEN`]. The checksum field is written as it is in `self`.
    pub fn emit(&self, out: &mut [u8]) {
        let len = self.len();
        debug_assert!(self.options.len() <= MAX_OPTIONS_LEN);
        out[0..2].copy_from_slice(&self.src_port.to_be_bytes());
        out[2..4].copy_from_slice(&self.dst_port.to_be_bytes());
        out[4..8].copy_from_slice(&self.seq.to_be_bytes());
        out[8..12].copy_from_slice(&self.ack.to_be_bytes());
        out[12] = (len as u8 / 4) << 4 | (self.flags.bits() >> 8) as u8 & 1;
        out[13] = self.flags.bits() as u8;
        out[14..16].copy_from_slice(&self.window.to_be_bytes());
        out[16..18].copy_from_slice(&self.checksum.to_be_bytes());
        out[18..20].copy_from_slice(&self.urgent.to_be_bytes());
        self.options.emit(&mut out[HEADER_LEN..len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_options(syn: bool) -> impl Strategy<Value = Options> {
        let timestamps = prop::option::of(any::<(u32, u32)>());
        let blocks = prop::collection::vec(any::<(u32, u32)>(), 0..=3);
        (prop::option::of(1u16..), prop::option::of(0u8..=14), any::<bool>(), timestamps, blocks)
            .prop_map(move |(mss, scale, permitted, timestamps, blocks)| {
                let mut options = Options {
                    timestamps: timestamps.map(|(value, echo)| Timestamps { value, echo }),
                    ..Options::default()
                };
                if syn {
                    options.mss = mss;
                    options.window_scale = scale;
                    options.sack_permitted = permitted;
                } else if let (Some(ecn), true) = (mss, blocks.len() < 2) {
                    let ecn = u32::from(ecn);
                    options.accurate_ecn = Some(AccurateEcn::new([ecn, ecn << 3, ecn << 8]));
                } else {
                    blocks.iter().for_each(|&(left, right)| options.sack.push(left, right));
                }
                options
            })
    }

    fn any_header() -> impl Strategy<Value = Header> {
        any::<bool>().prop_flat_map(|syn| {
            let numbers = any::<(u16, u16, u32, u32, u16, u16, u16, u16)>();
            (numbers, any_options(syn)).prop_map(move |(n, options)| {
                let mut flags = Flags::from_bits_truncate(n.4);
                flags.set(Flags::SYN, syn);
                Header {
                    src_port: n.0,
                    dst_port: n.1,
                    seq: n.2,
                    ack: n.3,
                    flags,
                    window: n.5,
                    checksum: n.6,
                    urgent: n.7,
                    options,
                }
            })
        })
    }

    proptest! {
        #[test]
        fn what_is_emitted_parses_to_the_same_header(header in any_header()) {
            let mut bytes = vec![0xaa; header.len()];
            header.emit(&mut bytes);
            let parsed = Header::parse(&bytes).unwrap();
            prop_assert_eq!(parsed.header, header);
            prop_assert_eq!(parsed.header_len, bytes.len());
            prop_assert_eq!(parsed.options_fault, OptionsFault::None);
        }

        #[test]
        fn any_bytes_parse_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(parsed) = Header::parse(&bytes) {
                prop_assert!(parsed.header_len <= bytes.len());
            }
        }
    }

    fn syn_with_options(options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[12] = ((HEADER_LEN + options.len()) as u8 / 4) << 4;
        bytes[13] = Flags::SYN.bits() as u8;
        bytes.extend_from_slice(options);
        bytes
    }

    #[test]
    fn options_before_a_bad_length_count_and_the_fault_is_told() {
        for bad in [[8, 0, 0, 0], [8, 1, 0, 0], [8, 10, 0, 0], [1, 1, 1, 8]] {
            let mut list = vec![2, 4, 5, 0xb4];
            list.extend_from_slice(&bad);
            let parsed = Header::parse(&syn_with_options(&list)).unwrap();
            assert_eq!(parsed.header.options.mss, Some(1460));
            assert_eq!(parsed.header.options.timestamps, None);
            assert_eq!(parsed.options_fault, OptionsFault::BadLength);
        }
    }

    #[test]
    fn options_of_a_handshake_are_ignored_outside_of_a_syn() {
        let mut bytes = syn_with_options(&[2, 4, 5, 0xb4, 4, 2, 1, 1, 3, 3, 7, 1]);
        bytes[13] = Flags::ACK.bits() as u8;
        assert!(Header::parse(&bytes).unwrap().header.options.is_empty());
    }

    #[test]
    fn a_wrong_size_of_a_known_option_is_skipped_and_a_large_scale_is_clamped() {
        let parsed = Header::parse(&syn_with_options(&[2, 3, 9, 3, 3, 200, 1, 1])).unwrap();
        assert_eq!(parsed.header.options.mss, None);
        assert_eq!(parsed.header.options.window_scale, Some(MAX_WINDOW_SCALE));
    }

    #[test]
    fn short_headers_are_refused() {
        assert_eq!(Header::parse(&[0; 12]), Err(ParseError::Truncated));
        let mut bytes = [0; 20];
        bytes[12] = 4 << 4;
        assert_eq!(Header::parse(&bytes), Err(ParseError::BadDataOffset));
        bytes[12] = 6 << 4;
        assert_eq!(Header::parse(&bytes), Err(ParseError::Truncated));
    }
}
