//! Keyed hashing and seeded random numbers. Everything random in the stack comes from the seed in its
//! configuration, so a run can be replayed; in production the seed comes from the operating system.

use core::hash::{BuildHasher, Hasher};

/// The secret from which a stack derives all its keys and random numbers.
pub type Seed = [u8; 32];

/// A seed for simulations and tests, spread over all 32 bytes.
pub fn seed_from(number: u64) -> Seed {
    let mut state = number;
    let mut seed = [0u8; 32];
    for chunk in seed.chunks_exact_mut(8) {
        chunk.copy_from_slice(&splitmix(&mut state).to_le_bytes());
    }
    seed
}

/// One step of the SplitMix64 generator (Steele, Lea, Flood 2014).
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A key of SipHash (Aumasson and Bernstein 2012): a keyed hash that an attacker without the key cannot steer.
#[derive(Clone, Copy)]
pub struct SipKey {
    k0: u64,
    k1: u64,
}

impl SipKey {
    /// A key made of two words.
    pub const fn new(k0: u64, k1: u64) -> SipKey {
        SipKey { k0, k1 }
    }

    /// A key for one purpose (named by `domain`), derived from a stack's seed.
    pub fn derive(seed: &Seed, domain: u64) -> SipKey {
        let mut words = [0u64; 4];
        for (word, chunk) in words.iter_mut().zip(seed.chunks_exact(8)) {
            let mut bytes = [0u8; 8];
            bytes.copy_from_slice(chunk);
            *word = u64::from_le_bytes(bytes);
        }
        let root = SipKey::new(words[0], words[1]);
        let half = |n: u64| root.hash_words(&[words[2], words[3], domain, n]);
        SipKey::new(half(0), half(1))
    }

    /// The SipHash-2-4 of a message of whole words.
    pub fn hash_words(&self, words: &[u64]) -> u64 {
        let mut state = SipState::new(self);
        for word in words {
            state.absorb(*word, 2);
        }
        state.finish((words.len() as u64).wrapping_mul(8), 2, 4)
    }

    /// The hash of anything that implements [`core::hash::Hash`].
    pub fn hash_one<T: core::hash::Hash>(&self, value: T) -> u64 {
        SipBuild(*self).hash_one(value)
    }
}

/// The four words that SipHash mixes.
#[derive(Clone)]
struct SipState {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl SipState {
    fn new(key: &SipKey) -> SipState {
        SipState {
            v0: key.k0 ^ 0x736f_6d65_7073_6575,
            v1: key.k1 ^ 0x646f_7261_6e64_6f6d,
            v2: key.k0 ^ 0x6c79_6765_6e65_7261,
            v3: key.k1 ^ 0x7465_6462_7974_6573,
        }
    }

    #[inline]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
    }

    #[inline]
    fn absorb(&mut self, word: u64, rounds: u32) {
        self.v3 ^= word;
        for _ in 0..rounds {
            self.round();
        }
        self.v0 ^= word;
    }

    #[inline]
    fn finish(mut self, len: u64, rounds: u32, last_rounds: u32) -> u64 {
        self.absorb(len << 56, rounds);
        self.v2 ^= 0xff;
        for _ in 0..last_rounds {
            self.round();
        }
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }
}

/// SipHash-1-3 over the words that a `Hash` implementation writes: for what tells an attacker nothing though he sees it.
struct SipBuild(SipKey);

impl BuildHasher for SipBuild {
    type Hasher = SipHasher;
    fn build_hasher(&self) -> SipHasher {
        SipHasher { state: SipState::new(&self.0), len: 0 }
    }
}

struct SipHasher {
    state: SipState,
    len: u64,
}

impl Words for SipHasher {
    #[inline]
    fn word(&mut self, word: u64) {
        self.state.absorb(word, 1);
        self.len = self.len.wrapping_add(8);
    }

    fn end(&self) -> u64 {
        self.state.clone().finish(self.len, 1, 3)
    }
}

/// Makes hash maps whose placement an attacker cannot steer and whose order a seed reproduces. A hash never leaves the stack, so two
/// secret multipliers do: who knows neither can make no two keys meet, and a word costs a multiplication, a tenth of SipHash.
#[derive(Clone)]
pub struct KeyedState {
    start: u64,
    factor: u64,
}

impl KeyedState {
    /// A hasher state from a key.
    pub fn new(key: SipKey) -> KeyedState {
        // Odd, so that no word is lost in the product.
        KeyedState { start: key.hash_words(&[0]), factor: key.hash_words(&[1]) | 1 }
    }

    /// The hash of some words.
    #[inline]
    pub fn hash_words(&self, words: &[u64]) -> u64 {
        let mut hasher = self.build_hasher();
        words.iter().for_each(|word| hasher.word(*word));
        hasher.end()
    }
}

impl BuildHasher for KeyedState {
    type Hasher = KeyedHasher;
    #[inline]
    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher { sum: self.start, factor: self.factor }
    }
}

/// The hash of a map's key under way: each word is added to what was, multiplied by the secret, and the halves of the product are
/// folded together, so that all bits depend on all.
pub struct KeyedHasher {
    sum: u64,
    factor: u64,
}

impl Words for KeyedHasher {
    #[inline]
    fn word(&mut self, word: u64) {
        let product = u128::from(self.sum ^ word) * u128::from(self.factor);
        self.sum = (product >> 64) as u64 ^ product as u64;
    }

    #[inline]
    fn end(&self) -> u64 {
        // The low and the high bits choose a place.
        let product = u128::from(self.sum) * u128::from(self.factor.rotate_left(32));
        (product >> 64) as u64 ^ product as u64
    }
}

/// A hash over words.
trait Words {
    /// Takes a word.
    fn word(&mut self, word: u64);

    /// The hash.
    fn end(&self) -> u64;

    /// Takes bytes; each piece of them tells its length.
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        let (whole, rest) = bytes.as_chunks::<8>();
        whole.iter().for_each(|chunk| self.word(u64::from_le_bytes(*chunk)));
        let mut word = rest.len() as u64;
        rest.iter().for_each(|byte| word = word << 8 | u64::from(*byte));
        self.word(word);
    }
}

/// Every write is a word of its own.
macro_rules! hasher_of_words {
    ($hasher:ty) => {
        impl Hasher for $hasher {
            #[inline]
            fn finish(&self) -> u64 {
                self.end()
            }
            #[inline]
            fn write(&mut self, bytes: &[u8]) {
                self.bytes(bytes);
            }
            #[inline]
            fn write_u8(&mut self, n: u8) {
                self.word(u64::from(n));
            }
            #[inline]
            fn write_u16(&mut self, n: u16) {
                self.word(u64::from(n));
            }
            #[inline]
            fn write_u32(&mut self, n: u32) {
                self.word(u64::from(n));
            }
            #[inline]
            fn write_u64(&mut self, n: u64) {
                self.word(n);
            }
            #[inline]
            fn write_u128(&mut self, n: u128) {
                self.word((n >> 64) as u64);
                self.word(n as u64);
            }
            #[inline]
            fn write_usize(&mut self, n: usize) {
                self.word(n as u64);
            }
        }
    };
}

hasher_of_words!(SipHasher);
hasher_of_words!(KeyedHasher);

/// A seeded generator: SipHash-2-4 of a counter, so past outputs do not tell future ones.
#[derive(Clone)]
pub struct Rng {
    key: SipKey,
    counter: u64,
}

impl Rng {
    /// A generator for one purpose, derived from a seed.
    pub fn new(seed: &Seed, domain: u64) -> Rng {
        Rng { key: SipKey::derive(seed, domain), counter: 0 }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        self.key.hash_words(&[self.counter])
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// A number in `0..bound` (0 when `bound` is 0), by multiply-shift.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// True with probability `numerator / 1_000_000` (parts per million).
    pub fn chance_ppm(&mut self, numerator: u32) -> bool {
        numerator > 0 && self.below(1_000_000) < u64::from(numerator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siphash_matches_the_reference_vector_of_its_authors() {
        // Appendix A of the SipHash paper: key 00..0f; the 8-byte message 00..07 hashes to this value.
        let key = SipKey::new(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        assert_eq!(key.hash_words(&[0x0706_0504_0302_0100]), 0x93f5_f579_9a93_2462);
    }

    #[test]
    fn keys_of_maps_spread_whatever_bits_they_differ_in() {
        let state = KeyedState::new(SipKey::new(1, 2));
        for shift in [0, 8, 16, 32, 48] {
            let hashes = (0..4096u64).map(|n| state.hash_one(n << shift));
            let (low, high): (Vec<u64>, Vec<u64>) =
                hashes.map(|hash| (hash & 0xfff, hash >> 52)).unzip();
            for mut places in [low, high] {
                places.sort_unstable();
                places.dedup();
                // Of 4,096 balls in as many boxes 63 % of the boxes have one.
                assert!((2400..2800).contains(&places.len()), "{shift}: {}", places.len());
            }
        }
    }

    #[test]
    fn pieces_of_bytes_and_their_lengths_count() {
        let state = KeyedState::new(SipKey::new(3, 4));
        let hash = |pieces: &[&[u8]]| {
            let mut hasher = state.build_hasher();
            pieces.iter().for_each(|piece| hasher.write(piece));
            hasher.finish()
        };
        let all = [
            hash(&[b"ab", b"c"]),
            hash(&[b"a", b"bc"]),
            hash(&[b"abc"]),
            hash(&[b"abc\0"]),
            hash(&[b"\0\0"]),
            hash(&[b"\0"]),
            KeyedState::new(SipKey::new(4, 3)).hash_one(b"abc"),
        ];
        let mut distinct = all.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn one_seed_gives_one_sequence_and_domains_differ() {
        let seed = seed_from(7);
        let run = |domain| {
            let mut rng = Rng::new(&seed, domain);
            (0..8).map(|_| rng.next_u64()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn below_stays_below() {
        let mut rng = Rng::new(&seed_from(1), 0);
        assert!((0..1000).all(|_| rng.below(10) < 10));
        assert_eq!(rng.below(0), 0);
    }
}
