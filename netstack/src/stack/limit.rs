//! How many ICMP errors leave: a bucket for all (`icmp_msgs_per_sec`, `icmp_msgs_burst`) and one for each host
//! (`icmp_ratelimit`), as RFC 1812 section 4.3.2.8 and RFC 4443 section 2.4 f ask for.

use core::net::IpAddr;
use std::collections::HashMap;

use crate::ip::conf::IpConf;
use crate::rng::{KeyedState, Rng};
use crate::time::{Duration, Instant};
use crate::wire::icmp::{v4, v6};

/// How many messages a quiet host may get at once (`XRLIM_BURST_FACTOR`).
const HOST_BURST: u32 = 6;

/// Whether a message may leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Send,
    /// All hosts together have had enough.
    GlobalLimit,
    /// This host has had enough.
    HostLimit,
}

/// The buckets.
pub(super) struct RateLimit {
    credit: u32,
    stamp: Instant,
    hosts: HashMap<IpAddr, Host, KeyedState>,
    rng: Rng,
}

/// What a host has left: time it has saved up, and since when.
struct Host {
    saved: Duration,
    at: Instant,
}

impl RateLimit {
    pub fn new(hasher: KeyedState, rng: Rng) -> RateLimit {
        let hosts = HashMap::with_hasher(hasher);
        RateLimit { credit: 0, stamp: Instant::ZERO, hosts, rng }
    }

    /// Whether a message of a type may go to a host. `wide` divides the host's time between messages by as many powers of
    /// two: Linux gives the hosts behind one wide IPv6 route more.
    pub fn allow(
        &mut self,
        now: Instant,
        conf: &IpConf,
        (dst, wide): (IpAddr, u32),
        (kind, code): (u8, u8),
    ) -> Verdict {
        let limited = match dst {
            IpAddr::V4(_) => {
                // Path MTU discovery must go on.
                let path = (kind, code) == (v4::UNREACHABLE, v4::CODE_FRAGMENTATION);
                !path && kind < 32 && conf.icmp_ratemask >> kind & 1 != 0
            }
            IpAddr::V6(_) => {
                let mask = conf.icmp6_ratemask[usize::from(kind >> 6)];
                kind < 128 && kind != v6::TOO_BIG && mask >> (kind & 63) & 1 != 0
            }
        };
        if !limited {
            return Verdict::Send;
        }
        if !self.refill_global(now, conf) {
            return Verdict::GlobalLimit;
        }
        let between = match dst {
            IpAddr::V4(_) => conf.icmp_ratelimit,
            IpAddr::V6(_) => conf.icmp6_ratelimit >> wide.min(31),
        };
        let between = Duration::from_millis(u64::from(between));
        if !between.is_zero() && !self.take_of_host(now, conf, dst, between) {
            return Verdict::HostLimit;
        }
        // What a host was refused costs the others nothing.
        let taken = 1 + self.rng.below(3) as u32;
        self.credit = self.credit.saturating_sub(taken);
        Verdict::Send
    }

    /// Linux's `icmp_global_allow`: refilled by time, and emptied a little at random, so that nobody can count with it
    /// what others get (SAD DNS).
    fn refill_global(&mut self, now: Instant, conf: &IpConf) -> bool {
        let passed = match self.stamp {
            Instant::ZERO => Duration::from_secs(1),
            stamp => now.since(stamp).min(Duration::from_secs(1)),
        };
        let refill = passed.as_micros() as u64 * u64::from(conf.icmp_msgs_per_sec) / 1_000_000;
        if refill > 0 {
            self.stamp = now;
            let refill = u32::try_from(refill).unwrap_or(u32::MAX);
            self.credit = self.credit.saturating_add(refill).min(conf.icmp_msgs_burst);
        }
        self.credit > 0
    }

    /// Linux's `inet_peer_xrlim_allow`.
    fn take_of_host(
        &mut self,
        now: Instant,
        conf: &IpConf,
        dst: IpAddr,
        between: Duration,
    ) -> bool {
        let most = between * HOST_BURST;
        if self.hosts.len() >= conf.icmp_peers.max(1) && !self.hosts.contains_key(&dst) {
            // Who has saved everything up is as good as unknown; else the one that was quiet for longest goes.
            let oldest = self.hosts.iter().min_by_key(|(address, host)| (host.at, **address));
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                self.hosts.remove(&oldest);
            }
        }
        let host = self.hosts.entry(dst).or_insert(Host { saved: most, at: now });
        host.saved = (host.saved + now.since(host.at)).min(most);
        host.at = now;
        if host.saved < between {
            return false;
        }
        host.saved -= between;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{SipKey, seed_from};

    fn limit() -> RateLimit {
        RateLimit::new(KeyedState::new(SipKey::new(1, 2)), Rng::new(&seed_from(1), 0))
    }

    fn host(n: u32) -> (IpAddr, u32) {
        (IpAddr::V4((0x0a00_0000 + n).into()), 0)
    }

    const PORT: (u8, u8) = (v4::UNREACHABLE, v4::CODE_PORT);

    #[test]
    fn a_host_gets_six_at_once_and_then_one_a_second() {
        let (mut limit, conf) = (limit(), IpConf::default());
        let mut at = |ms: u64| limit.allow(Instant::from_millis(ms), &conf, host(1), PORT);
        for _ in 0..6 {
            assert_eq!(at(1000), Verdict::Send);
        }
        assert_eq!(at(1000), Verdict::HostLimit);
        assert_eq!(at(1999), Verdict::HostLimit);
        assert_eq!(at(2000), Verdict::Send);
        assert_eq!(at(2001), Verdict::HostLimit);
    }

    #[test]
    fn all_hosts_share_a_bucket_and_the_mask_says_for_which_types() {
        let (mut limit, conf) = (limit(), IpConf::default());
        let now = Instant::from_secs(1);
        let sent = (0..100).filter(|n| limit.allow(now, &conf, host(*n), PORT) == Verdict::Send);
        // Each takes one to three.
        let sent = sent.count();
        assert!((17..=50).contains(&sent), "{sent}");
        let fragmentation = (v4::UNREACHABLE, v4::CODE_FRAGMENTATION);
        assert_eq!(limit.allow(now, &conf, host(1), fragmentation), Verdict::Send);
        assert_eq!(limit.allow(now, &conf, host(1), (v4::ECHO_REPLY, 0)), Verdict::Send);
        let free = IpConf { icmp_ratemask: 0, ..conf };
        assert_eq!(limit.allow(now, &free, host(1), PORT), Verdict::Send);
        let v6_host = ("fd00::1".parse().unwrap(), 0);
        assert_eq!(limit.allow(now, &conf, v6_host, (v6::TOO_BIG, 0)), Verdict::Send);
        assert_eq!(limit.allow(now, &conf, v6_host, (v6::UNREACHABLE, 4)), Verdict::GlobalLimit);
    }

    #[test]
    fn the_hosts_that_are_remembered_are_bounded() {
        let mut limit = limit();
        let conf = IpConf { icmp_peers: 8, icmp_msgs_burst: u32::MAX, ..IpConf::default() };
        for n in 0..1000 {
            limit.allow(Instant::from_secs(u64::from(n) + 1), &conf, host(n), PORT);
        }
        assert_eq!(limit.hosts.len(), 8);
    }
}
