//! A TCP segment taken apart: first cut, so that it can be made where it stays.

use super::{Fault, Ip, Layer, Tcp, TcpOptions, be16, be32};

/// The fixed part of a header, its options, and what follows.
pub(super) type Parts<'a> = (&'a [u8; 20], &'a [u8], Layer<'a>);

/// Cuts the header off a segment.
#[inline]
pub(super) fn header(segment: Layer<'_>) -> Result<Parts<'_>, Fault> {
    let fixed = segment.bytes.first_chunk::<20>().ok_or(Fault::Truncated("TCP header"))?;
    let header_len = usize::from(fixed[12] >> 4) * 4;
    if header_len < 20 {
        return Err(Fault::Malformed("TCP header"));
    }
    let (header, payload) = segment.split(header_len, "TCP options")?;
    Ok((fixed, &header[20..], payload))
}

/// What the header says, but for its options: they are read into their place.
#[inline]
pub(super) fn segment<'a>(ip: &Ip, fixed: &[u8; 20], payload: Layer<'a>) -> Tcp<'a> {
    Tcp {
        src: (ip.src, be16(fixed, 0)),
        dst: (ip.dst, be16(fixed, 2)),
        seq: be32(fixed, 4),
        ack: be32(fixed, 8),
        flags: be16(fixed, 12) & 0x1ff,
        window: be16(fixed, 14),
        urgent: be16(fixed, 18),
        options: TcpOptions::default(),
        payload_len: u32::try_from(payload.len).unwrap_or(u32::MAX),
        payload: payload.bytes,
    }
}
