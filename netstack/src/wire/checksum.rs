//! The Internet checksum (RFC 1071), incremental over scattered bytes.

use core::net::IpAddr;

/// A running ones' complement sum. Bytes may be added in pieces of any length.
#[derive(Clone, Copy, Default, Debug)]
pub struct Checksum {
    sum: u64,
    // Whether an odd number of bytes was added: the next byte is then the low half of a word.
    odd: bool,
}

impl Checksum {
    /// An empty sum.
    pub const fn new() -> Checksum {
        Checksum { sum: 0, odd: false }
    }

    /// The sum of a TCP or UDP pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1).
    pub fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> Checksum {
        // 16-bit words that lie side by side in a larger number add up as well as one by one: folding brings them together.
        let address = |address| match address {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                let (high, low) = ((bits >> 64) as u64, bits as u64);
                (high >> 32) + (high & 0xffff_ffff) + (low >> 32) + (low & 0xffff_ffff)
            }
        };
        let sum = address(src) + address(dst) + u64::from(protocol) + (len as u64 & 0xffff_ffff);
        Checksum { sum, odd: false }
    }

    /// Adds bytes in network order.
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut bytes = bytes;
        if self.odd {
            self.sum += u64::from(bytes[0]);
            bytes = &bytes[1..];
            self.odd = false;
        }
        // Byte order does not matter to the sum until the end (RFC 1071 section 2 B). Lanes of eight bytes are added with their carries, the
        // carries of four at once are counted apart: an instruction a lane.
        let (blocks, tail) = bytes.as_chunks::<32>();
        let (mut sum, mut carries) = (0u64, 0u64);
        for block in blocks {
            let mut carry = false;
            for lane in block.as_chunks::<8>().0 {
                (sum, carry) = sum.carrying_add(u64::from_ne_bytes(*lane), carry);
            }
            carries += u64::from(carry);
        }
        let (lanes, tail) = tail.as_chunks::<8>();
        let (words, tail) = tail.as_chunks::<4>();
        let (halves, tail) = tail.as_chunks::<2>();
        let mut rest = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum::<u64>();
        rest += halves.iter().map(|half| u64::from(u16::from_ne_bytes(*half))).sum::<u64>();
        for lane in lanes {
            let lane = u64::from_ne_bytes(*lane);
            rest += (lane >> 32) + (lane & 0xffff_ffff);
        }
        if let [last] = tail {
            rest += u64::from(u16::from_ne_bytes([*last, 0]));
            self.odd = true;
        }
        // 2^64 is 1 in ones' complement arithmetic. Folded, each of the three has 16 bits.
        let sum = u64::from(fold(sum)) + u64::from(fold(carries)) + u64::from(fold(rest));
        self.sum += u64::from(u16::from_be(fold(sum)));
    }

    /// Adds one 16-bit word.
    pub fn add_word(&mut self, word: u16) {
        self.add_bytes(&word.to_be_bytes());
    }

    /// Adds another sum (both of whole words).
    pub fn add(&mut self, other: Checksum) {
        self.sum += u64::from(fold(other.sum));
        self.odd |= other.odd;
    }

    /// The folded sum, not inverted: what a partial checksum field holds.
    pub fn partial(self) -> u16 {
        fold(self.sum)
    }

    /// The checksum: the inverted sum. Over data that includes a right checksum it is zero.
    pub fn finish(self) -> u16 {
        !fold(self.sum)
    }
}

/// Folds carries back until 16 bits remain.
fn fold(mut sum: u64) -> u16 {
    sum = (sum >> 32) + (sum & 0xffff_ffff);
    sum = (sum >> 32) + (sum & 0xffff_ffff);
    let mut sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

/// The checksum of an IPv4 header without options.
pub fn of_header(bytes: &[u8; 20]) -> u16 {
    let (words, _) = bytes.as_chunks::<4>();
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    !u16::from_be(fold(sum))
}

/// The checksum of contiguous bytes.
pub fn of(bytes: &[u8]) -> u16 {
    let mut sum = Checksum::new();
    sum.add_bytes(bytes);
    sum.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, word by word.
    fn slow(bytes: &[u8]) -> u16 {
        let mut sum: u32 = 0;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn the_example_of_rfc_1071_sums_to_ddf2() {
        let mut sum = Checksum::new();
        sum.add_bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.partial(), 0xddf2);
    }

    proptest! {
        #[test]
        fn a_header_has_the_sum_of_its_bytes(bytes in any::<[u8; 20]>()) {
            prop_assert_eq!(of_header(&bytes), slow(&bytes));
        }

        #[test]
        fn any_split_gives_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..600), cuts in proptest::collection::vec(0usize..600, 0..5)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut sum = Checksum::new();
            let mut at = 0;
            for cut in cuts {
                let cut = cut.min(bytes.len());
                sum.add_bytes(&bytes[at..cut]);
                at = cut;
            }
            sum.add_bytes(&bytes[at..]);
            prop_assert_eq!(sum.finish(), slow(&bytes));
        }
    }
}
