//! What an interface does by itself about IPv6: duplicate address detection (RFC 4862 section 5.4, RFC 7527), questions for
//! routers (RFC 4861 section 6.3.7, RFC 7559), lifetimes. State only: what is to be done comes out as values.

use core::net::Ipv6Addr;
use std::collections::BTreeMap;

use super::conf::Ipv6Conf;
use crate::rng::Rng;
use crate::time::{Duration, Instant};

/// The detection of one address.
struct Probing {
    /// Questions that are still asked.
    left: u8,
    at: Instant,
    /// Told from our own questions that come back (RFC 7527).
    nonce: [u8; 6],
}

/// The questions for routers.
struct Soliciting {
    /// Below zero without end.
    left: i32,
    at: Instant,
    interval: Duration,
}

/// A temporary address, and when the next one is made.
struct Temporary {
    /// The address whose prefix it shares.
    public: Ipv6Addr,
    renew_at: Option<Instant>,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Ask whether somebody has an address, with a nonce.
    Probe(Ipv6Addr, [u8; 6]),
    /// Nobody has an address: it is ours.
    Unique(Ipv6Addr),
    /// Ask for routers.
    Solicit,
    /// Make the next temporary address beside this public one.
    Renew(Ipv6Addr),
}

/// The state of an interface.
pub struct Autoconf {
    probing: BTreeMap<Ipv6Addr, Probing>,
    soliciting: Option<Soliciting>,
    temporary: BTreeMap<Ipv6Addr, Temporary>,
    /// How often stable addresses of a prefix collided: (prefix, count).
    collisions: BTreeMap<Ipv6Addr, u8>,
    rng: Rng,
}

impl Autoconf {
    /// Nothing to do.
    pub fn new(rng: Rng) -> Autoconf {
        Autoconf {
            probing: BTreeMap::new(),
            soliciting: None,
            temporary: BTreeMap::new(),
            collisions: BTreeMap::new(),
            rng,
        }
    }

    /// 64 random bits.
    pub fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// Begins the detection of an address. It is due at once; the first question then waits for a random time.
    pub fn probe(&mut self, address: Ipv6Addr, conf: &Ipv6Conf) {
        let [a, b, c, d, e, f, ..] = self.rng.next_u64().to_be_bytes();
        let nonce = [a, b, c, d, e, f];
        let probing = Probing { left: conf.dad_transmits, at: Instant::ZERO, nonce };
        self.probing.insert(address, probing);
    }

    /// Ends the detection of an address; answers whether there was one.
    pub fn stop_probing(&mut self, address: Ipv6Addr) -> bool {
        self.probing.remove(&address).is_some()
    }

    /// Whether an address is being probed, and a question about it is not our own that came back.
    pub fn collides(&self, address: Ipv6Addr, nonce: Option<[u8; 6]>) -> bool {
        self.probing.get(&address).is_some_and(|probing| nonce != Some(probing.nonce))
    }

    /// Counts a collision of a stable address; gives how many there were with this one.
    pub fn collided(&mut self, prefix: Ipv6Addr) -> u8 {
        let count = self.collisions.entry(prefix).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// How often stable addresses of a prefix collided.
    pub fn collisions(&self, prefix: Ipv6Addr) -> u8 {
        self.collisions.get(&prefix).copied().unwrap_or(0)
    }

    /// Begins to ask for routers, at once: what began with the interface has waited at random already, as its address was probed.
    pub fn solicit(&mut self, now: Instant, conf: &Ipv6Conf) {
        if conf.router_solicitations == 0 {
            return;
        }
        let interval = Duration::from_secs(u64::from(conf.router_solicitation_interval));
        self.soliciting = Some(Soliciting { left: conf.router_solicitations, at: now, interval });
    }

    /// A router answered (RFC 4861 section 6.3.7: "the host MUST desist from sending additional solicitations").
    pub fn heard_router(&mut self) {
        self.soliciting = None;
    }

    /// Notes a temporary address, and when the next one is due.
    pub fn note_temporary(&mut self, own: Ipv6Addr, public: Ipv6Addr, renew_at: Option<Instant>) {
        self.temporary.insert(own, Temporary { public, renew_at });
    }

    /// The temporary addresses beside a public one.
    pub fn temporaries_of(&self, public: Ipv6Addr) -> Vec<Ipv6Addr> {
        let of = self.temporary.iter().filter(|(_, temporary)| temporary.public == public);
        of.map(|(own, _)| *own).collect()
    }

    /// Forgets what is known of an address that is gone.
    pub fn forget(&mut self, address: Ipv6Addr) {
        self.probing.remove(&address);
        self.temporary.remove(&address);
    }

    /// Forgets everything: the interface went down.
    pub fn clear(&mut self) {
        self.probing.clear();
        self.temporary.clear();
        self.soliciting = None;
    }

    fn within(&mut self, span: Duration) -> Duration {
        let span = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.below(span.max(1)))
    }

    /// What is due. `retrans` is the time between two questions about an address.
    pub fn on_timer(&mut self, now: Instant, conf: &Ipv6Conf, retrans: Duration) -> Vec<Step> {
        let mut steps = Vec::new();
        let due: Vec<Ipv6Addr> =
            self.probing.iter().filter(|(_, at)| at.at <= now).map(|(own, _)| *own).collect();
        for address in due {
            let delay = Duration::from_secs(u64::from(conf.router_solicitation_delay));
            let delay = self.within(delay);
            let Some(probing) = self.probing.get_mut(&address) else { continue };
            if probing.at == Instant::ZERO && probing.left > 0 {
                // RFC 4862 section 5.4.2: the first question waits "between 0 and MAX_RTR_SOLICITATION_DELAY", so that hosts
                // that start together do not collide.
                probing.at = now + delay;
            } else if probing.left > 0 {
                probing.left -= 1;
                probing.at = now + retrans;
                steps.push(Step::Probe(address, probing.nonce));
            } else {
                self.probing.remove(&address);
                steps.push(Step::Unique(address));
            }
        }
        steps.extend(self.solicit_again(now, conf));
        for temporary in self.temporary.values_mut() {
            if temporary.renew_at.is_some_and(|at| at <= now) {
                temporary.renew_at = None;
                steps.push(Step::Renew(temporary.public));
            }
        }
        steps
    }

    fn solicit_again(&mut self, now: Instant, conf: &Ipv6Conf) -> Option<Step> {
        let soliciting = self.soliciting.as_mut().filter(|at| at.at <= now)?;
        // RFC 7559 section 2: the interval doubles, with a tenth of it at random, up to a bound.
        let interval = soliciting.interval;
        let tenth = u64::try_from(interval.as_micros() / 10).unwrap_or(u64::MAX);
        let jitter = self.rng.below(tenth.saturating_mul(2).max(1));
        let wait =
            interval.saturating_sub(Duration::from_micros(tenth)) + Duration::from_micros(jitter);
        let most = Duration::from_secs(u64::from(conf.router_solicitation_max_interval));
        soliciting.interval = (interval * 2).min(most.max(interval));
        soliciting.at = now + wait;
        soliciting.left = soliciting.left.saturating_sub(1).max(-1);
        if soliciting.left == 0 {
            self.soliciting = None;
        }
        Some(Step::Solicit)
    }

    /// When `on_timer` next has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let probing = self.probing.values().map(|probing| probing.at);
        let soliciting = self.soliciting.iter().map(|soliciting| soliciting.at);
        let renewing = self.temporary.values().filter_map(|temporary| temporary.renew_at);
        probing.chain(soliciting).chain(renewing).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::seed_from;

    fn run(state: &mut Autoconf, conf: &Ipv6Conf, until: u64) -> Vec<(u64, Step)> {
        let mut seen = Vec::new();
        let mut now = Instant::from_secs(1);
        while let Some(at) = state.next_deadline().filter(|at| *at <= Instant::from_secs(until)) {
            now = now.max(at);
            let steps = state.on_timer(now, conf, Duration::from_secs(1));
            seen.extend(steps.into_iter().map(|step| (now.millis(), step)));
        }
        seen
    }

    #[test]
    fn an_address_is_asked_for_and_then_ours() {
        let mut state = Autoconf::new(Rng::new(&seed_from(1), 0));
        let own: Ipv6Addr = "fe80::1".parse().unwrap();
        let conf = Ipv6Conf { dad_transmits: 2, ..Ipv6Conf::default() };
        state.probe(own, &conf);
        let nonce = state.probing[&own].nonce;
        assert!(state.collides(own, None) && !state.collides(own, Some(nonce)));
        let seen = run(&mut state, &conf, 100);
        let steps: Vec<_> = seen.iter().map(|(_, step)| step.clone()).collect();
        assert_eq!(steps, [Step::Probe(own, nonce), Step::Probe(own, nonce), Step::Unique(own)]);
        assert_eq!(seen[2].0 - seen[0].0, 2000);
        assert!(seen[0].0 < 2000 && !state.collides(own, None));
    }

    #[test]
    fn routers_are_asked_for_ever_more_rarely() {
        let mut state = Autoconf::new(Rng::new(&seed_from(2), 0));
        let conf = Ipv6Conf::default();
        state.solicit(Instant::from_secs(1), &conf);
        let seen = run(&mut state, &conf, 40_000);
        let gaps: Vec<u64> = seen.windows(2).map(|two| two[1].0 - two[0].0).collect();
        assert!((3600..=4400).contains(&gaps[0]), "{gaps:?}");
        assert!((7200..=8800).contains(&gaps[1]), "{gaps:?}");
        assert!(gaps.last().is_some_and(|last| (3_240_000..=3_960_000).contains(last)));
        state.heard_router();
        assert_eq!(state.next_deadline(), None);
        let three = Ipv6Conf { router_solicitations: 3, ..conf };
        state.solicit(Instant::from_secs(1), &three);
        assert_eq!(run(&mut state, &three, 40_000).len(), 3);
    }
}
