//! SYN cookies (RFC 4987 section 3.6): an initial sequence number that carries what a listener would otherwise have to
//! remember, and low bits of the timestamp that carry the rest. Nobody without the keys can make one.

use super::FlowKey;
use crate::rng::{Seed, SipKey};
use crate::time::Instant;
use crate::transport::tcp::seq::Seq;
use crate::wire::tcp::Options;

const DOMAIN_FIRST: u64 = 0x636f_6f6b_3031;
const DOMAIN_SECOND: u64 = 0x636f_6f6b_3032;
/// A cookie is good in the minute that made it and in the next.
const MINUTES: u32 = 2;
/// Seconds of one count.
const PERIOD_SECS: u64 = 60;
const LOW: u32 = 0xff_ffff;

/// The segment sizes that a cookie can tell: the index is what it carries (RFC 4987 appendix A.2: "a small table").
const SIZES_V4: [u16; 4] = [536, 1300, 1440, 1460];
const SIZES_V6: [u16; 4] = [1220, 1420, 1440, 8940];

/// Low bits of a timestamp that carry options.
const OPTION_BITS: u32 = 6;
const OPTION_MASK: u32 = (1 << OPTION_BITS) - 1;
const SCALE_MASK: u32 = 0xf;
const SACK_BIT: u32 = 1 << 4;
const ECN_BIT: u32 = 1 << 5;

/// The two secrets.
#[derive(Clone)]
pub struct CookieKeys {
    first: SipKey,
    second: SipKey,
}

/// What a cookie's timestamp told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echoed {
    /// The peer's window shift, if it offered one.
    pub window_scale: Option<u8>,
    /// Whether it offered SACK.
    pub sack: bool,
    /// Whether it asked for ECN.
    pub ecn: bool,
}

impl CookieKeys {
    /// Keys derived from a stack's seed.
    pub fn new(seed: &Seed) -> CookieKeys {
        CookieKeys {
            first: SipKey::derive(seed, DOMAIN_FIRST),
            second: SipKey::derive(seed, DOMAIN_SECOND),
        }
    }

    fn count(now: Instant) -> u32 {
        (now.millis() / 1000 / PERIOD_SECS) as u32
    }

    fn hashes(&self, flow: &FlowKey, irs: Seq, count: u32) -> (u32, u32) {
        let first = self.first.hash_one((flow, irs.0)) as u32;
        (first, self.second.hash_one((flow, irs.0, count)) as u32)
    }

    /// The cookie for a SYN with this sequence number and segment size, and the size that it will tell.
    pub fn make(&self, now: Instant, flow: &FlowKey, irs: Seq, mss: u16) -> (Seq, u16) {
        let sizes = sizes(flow);
        let index = sizes.iter().rposition(|size| *size <= mss).unwrap_or(0);
        let count = CookieKeys::count(now);
        let (fixed, rotating) = self.hashes(flow, irs, count);
        let low = rotating.wrapping_add(index as u32) & LOW;
        let cookie = fixed.wrapping_add(count << 24).wrapping_add(low);
        (Seq(cookie), sizes[index])
    }

    /// The segment size that a cookie tells; None for what this stack did not make lately.
    pub fn check(&self, now: Instant, flow: &FlowKey, irs: Seq, cookie: Seq) -> Option<u16> {
        let count = CookieKeys::count(now);
        let (fixed, _) = self.hashes(flow, irs, count);
        let rest = cookie.0.wrapping_sub(fixed);
        // The top byte is the count's; the age is its distance from now.
        let age = count.wrapping_sub(rest >> 24) & 0xff;
        if age >= MINUTES {
            return None;
        }
        let (_, rotating) = self.hashes(flow, irs, count.wrapping_sub(age));
        let index = (rest & LOW).wrapping_sub(rotating) & LOW;
        sizes(flow).get(index as usize).copied()
    }
}

fn sizes(flow: &FlowKey) -> &'static [u16; 4] {
    if flow.local().is_ipv4() { &SIZES_V4 } else { &SIZES_V6 }
}

/// A timestamp no later than `value` that carries the options of a SYN.
pub fn stamp(value: u32, syn: &Options, ecn: bool) -> u32 {
    let mut bits = syn.window_scale.map_or(SCALE_MASK, |shift| u32::from(shift) & SCALE_MASK);
    if syn.sack_permitted {
        bits |= SACK_BIT;
    }
    if ecn {
        bits |= ECN_BIT;
    }
    let stamped = (value & !OPTION_MASK) | bits;
    // Never ahead of the clock: the connection's own timestamps must not seem older to PAWS.
    if stamped > value { stamped.wrapping_sub(1 << OPTION_BITS) } else { stamped }
}

/// What [`stamp`] put into a timestamp that came back.
pub fn read_stamp(echo: u32) -> Echoed {
    let shift = (echo & SCALE_MASK) as u8;
    Echoed {
        window_scale: (u32::from(shift) != SCALE_MASK).then_some(shift),
        sack: echo & SACK_BIT != 0,
        ecn: echo & ECN_BIT != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::seed_from;

    fn flow(port: u16) -> FlowKey {
        let end = |port| core::net::SocketAddr::from(([10, 0, 0, 1], port));
        FlowKey::new(end(80), end(port))
    }

    #[test]
    fn a_cookie_tells_the_segment_size_for_a_minute_and_to_its_flow_only() {
        let keys = CookieKeys::new(&seed_from(1));
        let (now, irs) = (Instant::from_secs(100_000), Seq(77));
        for (mss, told) in [(100, 536), (536, 536), (1459, 1440), (1460, 1460), (9000, 1460)] {
            let (cookie, size) = keys.make(now, &flow(9), irs, mss);
            assert_eq!(size, told);
            let check = |seconds, flow: FlowKey, irs, cookie| {
                keys.check(now + core::time::Duration::from_secs(seconds), &flow, irs, cookie)
            };
            assert_eq!(check(0, flow(9), irs, cookie), Some(told));
            assert_eq!(check(60, flow(9), irs, cookie), Some(told));
            assert_eq!(check(121, flow(9), irs, cookie), None);
            assert_eq!(check(0, flow(10), irs, cookie), None);
            assert_eq!(check(0, flow(9), irs + 1, cookie), None);
            assert_eq!(check(0, flow(9), irs, cookie + 4), None);
        }
        assert_eq!(CookieKeys::new(&seed_from(2)).check(now, &flow(9), irs, Seq(5)), None);
    }

    #[test]
    fn guesses_seldom_hit() {
        let keys = CookieKeys::new(&seed_from(3));
        let now = Instant::from_secs(100_000);
        let mut rng = crate::rng::Rng::new(&seed_from(4), 0);
        let hits = (0..100_000)
            .filter(|_| keys.check(now, &flow(1), Seq(1), Seq(rng.next_u32())).is_some())
            .count();
        // Eight of 2^32 numbers are good.
        assert!(hits <= 1, "{hits}");
    }

    #[test]
    fn a_timestamp_carries_options_and_stays_behind_the_clock() {
        for value in [0u32, 63, 64, 1_000_000, u32::MAX] {
            for scale in [None, Some(0), Some(7), Some(14)] {
                for (sack, ecn) in [(false, false), (true, false), (false, true), (true, true)] {
                    let syn =
                        Options { window_scale: scale, sack_permitted: sack, ..Options::default() };
                    let stamped = stamp(value, &syn, ecn);
                    assert!(value.wrapping_sub(stamped) < 128);
                    assert_eq!(read_stamp(stamped), Echoed { window_scale: scale, sack, ecn });
                }
            }
        }
    }
}
