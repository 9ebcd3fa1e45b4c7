//! Maps by endpoints, for which every frame is looked up: hashes in few words, with a seed that who writes a capture cannot foresee.

use std::collections::{HashMap, HashSet};
use std::hash::Hasher;
use std::net::IpAddr;

use crate::packet::Endpoint;

/// A map whose hash is quick, and seeded anew by each process.
pub type Map<K, V> = HashMap<K, V, foldhash::quality::RandomState>;

/// A set of the same kind.
pub type Set<K> = HashSet<K, foldhash::quality::RandomState>;

/// Hashes what two endpoints share, in as few words as tell it apart. `first` stands in the upper byte of the first word.
pub fn hash_ends<H: Hasher>(state: &mut H, first: u8, ends: [&Endpoint; 2]) {
    let mut first = u64::from(first) << 56;
    for (address, port) in ends {
        let low = match address {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                state.write_u64((bits >> 64) as u64);
                state.write_u64(bits as u64);
                1 << 32
            }
        };
        state.write_u64(first | low << 16 | u64::from(*port));
        first = 0;
    }
}
