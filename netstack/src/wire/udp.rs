//! The UDP header (RFC 768).

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;
/// Where the checksum lies in the header.
pub const CHECKSUM_OFFSET: u16 = 6;

/// The fields of a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Udp {
    /// Source port; 0 when no answer is wanted.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Bytes of header and payload.
    pub len: u16,
    /// The checksum; 0 for none (IPv4 only).
    pub checksum: u16,
}

impl Udp {
    /// Reads a header.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Udp {
        let [a, b, c, d, e, f, g, h] = *bytes;
        Udp {
            src_port: u16::from_be_bytes([a, b]),
            dst_port: u16::from_be_bytes([c, d]),
            len: u16::from_be_bytes([e, f]),
            checksum: u16::from_be_bytes([g, h]),
        }
    }

    /// Writes the header.
    pub fn emit(&self, bytes: &mut [u8; HEADER_LEN]) {
        bytes[..2].copy_from_slice(&self.src_port.to_be_bytes());
        bytes[2..4].copy_from_slice(&self.dst_port.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.len.to_be_bytes());
        bytes[6..].copy_from_slice(&self.checksum.to_be_bytes());
    }
}
