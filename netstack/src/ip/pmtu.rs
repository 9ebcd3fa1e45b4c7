//! What is known of paths' MTUs (RFC 1191, RFC 8201), learned from ICMP and forgotten after ten minutes.

use core::net::IpAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::HashMap;

use parking_lot::Mutex;

use super::Family;
use super::conf::IpConf;
use crate::rng::KeyedState;
use crate::time::Instant;

/// RFC 8201 section 4: "A node MUST NOT reduce its estimate of the Path MTU below the IPv6 minimum link MTU".
const MIN_V6: u32 = 1280;
/// How many paths are remembered.
const MAX_PATHS: usize = 4096;

/// The cache.
pub struct PathMtus {
    paths: Mutex<HashMap<IpAddr, (u32, Instant), KeyedState>>,
    // Read before the lock, so that a stack without lowered paths pays nothing.
    count: AtomicUsize,
}

impl PathMtus {
    /// Nothing known.
    pub fn new(hasher: KeyedState) -> PathMtus {
        PathMtus { paths: Mutex::new(HashMap::with_hasher(hasher)), count: AtomicUsize::new(0) }
    }

    /// Learns that packets to `dst` must not exceed `mtu` bytes; returns the MTU that holds from now on. None for what
    /// no honest router says. Smaller MTUs than `min_pmtu` would be an attack on throughput.
    pub fn lower(&self, now: Instant, dst: IpAddr, mtu: u32, conf: &IpConf) -> Option<u32> {
        // RFC 8201 section 4: "a Packet Too Big message with an MTU less than the IPv6 minimum link MTU ... MUST be
        // discarded".
        if dst.is_ipv6() && mtu < MIN_V6 {
            return None;
        }
        let mtu = mtu.max(if dst.is_ipv4() { conf.min_pmtu } else { MIN_V6 });
        let lifetime = conf.mtu_expires[Family::of(dst) as usize];
        let mut paths = self.paths.lock();
        if paths.len() >= MAX_PATHS && !paths.contains_key(&dst) {
            let oldest = paths.iter().min_by_key(|(at, (_, until))| (*until, **at));
            if let Some(at) = oldest.map(|(at, _)| *at) {
                paths.remove(&at);
            }
        }
        let known = paths.get(&dst).filter(|(_, until)| *until > now).map(|(known, _)| *known);
        let mtu = known.map_or(mtu, |known| known.min(mtu));
        paths.insert(dst, (mtu, now + lifetime));
        self.count.store(paths.len(), Ordering::Relaxed);
        Some(mtu)
    }

    /// Forgets the paths of a family (`route/flush`).
    pub fn flush(&self, family: Family) {
        let mut paths = self.paths.lock();
        paths.retain(|dst, _| Family::of(*dst) != family);
        self.count.store(paths.len(), Ordering::Relaxed);
    }

    /// The MTU to `dst`, at most that of the link.
    pub fn mtu(&self, now: Instant, dst: IpAddr, link_mtu: u32) -> u32 {
        if self.count.load(Ordering::Relaxed) == 0 {
            return link_mtu;
        }
        let mut paths = self.paths.lock();
        match paths.get(&dst) {
            Some((mtu, until)) if *until > now => (*mtu).min(link_mtu),
            Some(_) => {
                paths.remove(&dst);
                self.count.store(paths.len(), Ordering::Relaxed);
                link_mtu
            }
            None => link_mtu,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SipKey;
    use crate::time::Duration;

    #[test]
    fn a_path_is_lowered_bounded_and_forgotten() {
        let paths = PathMtus::new(KeyedState::new(SipKey::new(1, 1)));
        let dst = IpAddr::from([10, 0, 0, 9]);
        let now = Instant::from_secs(1);
        let conf = IpConf::default();
        assert_eq!(paths.mtu(now, dst, 1500), 1500);
        assert_eq!(paths.lower(now, dst, 1400, &conf), Some(1400));
        assert_eq!(
            paths.lower(now, dst, 1450, &conf),
            Some(1400),
            "an MTU is never raised by ICMP"
        );
        assert_eq!(paths.mtu(now, dst, 1500), 1400);
        assert_eq!(paths.mtu(now, dst, 1300), 1300);
        assert_eq!(paths.lower(now, dst, 68, &conf), Some(552));
        assert_eq!(paths.mtu(now + conf.mtu_expires[0], dst, 1500), 1500);
        let v6 = "fd00::1".parse().unwrap();
        assert_eq!(paths.lower(now, v6, 1279, &conf), None);
        assert_eq!(paths.mtu(now, v6, 1500), 1500);
        assert_eq!(paths.lower(now, v6, 1280, &conf), Some(1280));
        let strict = IpConf { min_pmtu: 1000, mtu_expires: [Duration::from_secs(5); 2], ..conf };
        let dst = IpAddr::from([10, 0, 0, 8]);
        assert_eq!(paths.lower(now, dst, 68, &strict), Some(1000));
        assert_eq!(paths.mtu(now + Duration::from_secs(5), dst, 1500), 1500);
        paths.lower(now, dst, 1400, &conf);
        paths.flush(Family::V6);
        assert_eq!((paths.mtu(now, dst, 1500), paths.mtu(now, v6, 1500)), (1400, 1500));
    }
}
