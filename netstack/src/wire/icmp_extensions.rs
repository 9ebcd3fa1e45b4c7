//! The extensions behind the packet that an ICMP error quotes (RFC 4884 section 7): where they are and whether they are whole.

use super::checksum;

/// Bytes of the header of the extension structure: version, reserved bits, checksum.
const HEADER_LEN: usize = 4;
/// Bytes of the header of one object: length, class, type.
const OBJECT_LEN: usize = 4;
/// "Version: 4 bits. ICMP extension version number. This is version 2."
const VERSION: u8 = 2;

/// The extensions of an ICMP message, as struct sock_ee_data_rfc4884 tells them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Extensions {
    /// Where they begin in what is told of the message, in bytes.
    pub offset: u16,
    /// Whether they are broken: their version, checksum or lengths.
    pub invalid: bool,
}

/// The extensions at `at` of a quoted payload; None where nothing is there.
pub fn find(payload: &[u8], at: usize) -> Option<Extensions> {
    let bytes = payload.get(at..).filter(|bytes| bytes.len() >= HEADER_LEN)?;
    Some(Extensions { offset: u16::try_from(at).ok()?, invalid: !is_valid(bytes) })
}

fn is_valid(bytes: &[u8]) -> bool {
    let summed = bytes.get(2..4) == Some(&[0, 0]) || checksum::of(bytes) == 0;
    if bytes.first().is_none_or(|first| first >> 4 != VERSION) || !summed {
        return false;
    }
    let mut rest = bytes.get(HEADER_LEN..).unwrap_or_default();
    while let Some([high, low, ..]) = rest.first_chunk::<OBJECT_LEN>() {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        match rest.get(len..) {
            Some(after) if len >= OBJECT_LEN => rest = after,
            _ => return false,
        }
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An MPLS label stack (RFC 4950) behind 128 bytes.
    fn message() -> Vec<u8> {
        let mut bytes = vec![0x20, 0, 0, 0, 0, 8, 1, 1, 0, 1, 0x01, 0x40];
        let sum = checksum::of(&bytes).to_be_bytes();
        bytes[2..4].copy_from_slice(&sum);
        [vec![7; 128], bytes].concat()
    }

    #[test]
    fn whole_extensions_are_found_and_broken_ones_are_told() {
        let good = message();
        assert_eq!(find(&good, 128), Some(Extensions { offset: 128, invalid: false }));
        for (at, byte) in [(128, 0x10), (130, 0xff), (133, 9), (133, 3), (139, 0x41)] {
            let mut broken = good.clone();
            broken[at] = byte;
            assert_eq!(find(&broken, 128).map(|found| found.invalid), Some(true), "byte {at}");
        }
        assert_eq!(find(&good, 137), None);
        assert_eq!(find(&good, 1000), None);
        let mut unsummed = good;
        unsummed[130..132].fill(0);
        assert_eq!(find(&unsummed, 128).map(|found| found.invalid), Some(false));
    }
}
