//! Interface identifiers: from a link-layer address (RFC 4291 appendix A), stable and private (RFC 7217), at random (RFC 8981).

use core::net::Ipv6Addr;

use crate::link::MacAddr;

/// The modified EUI-64 identifier of a link-layer address.
pub fn eui64(mac: MacAddr) -> [u8; 8] {
    let [a, b, c, d, e, f] = mac.0;
    [a ^ 2, b, c, 0xff, 0xfe, d, e, f]
}

/// A prefix of 64 bits with an identifier.
pub fn join(prefix: Ipv6Addr, identifier: [u8; 8]) -> Ipv6Addr {
    let prefix = u128::from(prefix) & !u128::from(u64::MAX);
    Ipv6Addr::from(prefix | u128::from(u64::from_be_bytes(identifier)))
}

/// RFC 7217 section 5: "RID = F(Prefix, Net_Iface, Network_ID, DAD_Counter, secret_key)". F is the one of Linux (SHA-1 over one
/// block of secret, prefix, link-layer address and counter), so that a moved system keeps its addresses.
pub fn stable(secret: Ipv6Addr, prefix: Ipv6Addr, mac: MacAddr, dad_count: u8) -> [u8; 8] {
    /// Linux's MAX_ADDR_LEN, in which the link-layer address lies.
    const HARDWARE: usize = 32;
    let mut block = [0; 64];
    block[..16].copy_from_slice(&secret.octets());
    block[16..24].copy_from_slice(&prefix.octets()[..8]);
    block[24..30].copy_from_slice(&mac.0);
    block[24 + HARDWARE] = dad_count;
    let [first, second, ..] = sha1_block(&block);
    let mut identifier = [0; 8];
    // Linux puts the words into the address as its processor holds them.
    identifier[..4].copy_from_slice(&first.to_le_bytes());
    identifier[4..].copy_from_slice(&second.to_le_bytes());
    identifier
}

/// Whether an identifier is reserved (RFC 5453): the subnet-router anycast address, and the ranges of IANA.
pub fn is_reserved(identifier: [u8; 8]) -> bool {
    let value = u64::from_be_bytes(identifier);
    let ethernet = (0x0200_5eff_fe00_0000..=0x0200_5eff_feff_ffff).contains(&value);
    let anycast = (0xfdff_ffff_ffff_ff80..=0xfdff_ffff_ffff_ffff).contains(&value);
    value == 0 || ethernet || anycast
}

/// The compression of SHA-1 (FIPS 180-4 section 6.1.2) of one block from the initial state, without padding.
fn sha1_block(block: &[u8; 64]) -> [u32; 5] {
    const INITIAL: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut words = [0u32; 80];
    for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
        *word = bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
    }
    for at in 16..80 {
        let mixed = words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16];
        words[at] = mixed.rotate_left(1);
    }
    let [mut a, mut b, mut c, mut d, mut e] = INITIAL;
    for (at, word) in words.into_iter().enumerate() {
        let (mix, constant) = match at / 20 {
            0 => (b & c | !b & d, 0x5a82_7999),
            1 => (b ^ c ^ d, 0x6ed9_eba1),
            2 => (b & c | b & d | c & d, 0x8f1b_bcdc),
            _ => (b ^ c ^ d, 0xca62_c1d6u32),
        };
        let next = a
            .rotate_left(5)
            .wrapping_add(mix)
            .wrapping_add(e)
            .wrapping_add(constant)
            .wrapping_add(word);
        (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
    }
    let [h0, h1, h2, h3, h4] = INITIAL;
    [
        h0.wrapping_add(a),
        h1.wrapping_add(b),
        h2.wrapping_add(c),
        h3.wrapping_add(d),
        h4.wrapping_add(e),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compression_is_that_of_sha_1() {
        // "abc" with its padding: the example of FIPS 180-4.
        let mut block = [0; 64];
        block[..4].copy_from_slice(b"abc\x80");
        block[63] = 24;
        let digest = [0xa999_3e36, 0x4706_816a, 0xba3e_2571, 0x7850_c26c, 0x9cd0_d89d];
        assert_eq!(sha1_block(&block), digest);
    }

    #[test]
    fn identifiers_are_those_of_linux() {
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        assert_eq!(join("fe80::".parse().unwrap(), eui64(mac)).to_string(), "fe80::ff:fe00:9");
        // Linux 6.18 with stable_secret 2001:db8::1 on a veth whose address was set: its permanent address, which goes into
        // the hash, is then zero.
        let (secret, prefix) = ("2001:db8::1".parse().unwrap(), "fe80::".parse().unwrap());
        let own = stable(secret, prefix, MacAddr::ZERO, 0);
        assert_eq!(join(prefix, own).to_string(), "fe80::88cf:4891:a68c:e03f");
        assert_ne!(stable(secret, prefix, MacAddr::ZERO, 1), own);
        assert_ne!(stable(secret, prefix, mac, 0), own);
        assert!(is_reserved([0; 8]) && !is_reserved(own));
    }
}
