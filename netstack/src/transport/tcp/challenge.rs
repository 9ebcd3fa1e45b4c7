//! Challenge acknowledgments (RFC 5961): rationed for each connection, and for the whole stack where that is asked for
//! in a way that tells an attacker nothing of other connections (CVE-2016-5696).

use parking_lot::Mutex;

use super::receive::AckDue;
use super::tcb::Tcb;
use crate::rng::SipKey;
use crate::time::Instant;

/// No limit for the whole stack (Linux's default of tcp_challenge_ack_limit).
const UNLIMITED: u32 = i32::MAX as u32;

/// How many challenge acknowledgments are left to a stack in this second.
#[derive(Debug, Default)]
pub struct ChallengeBudget(Mutex<Budget>);

#[derive(Debug, Default)]
struct Budget {
    second: u64,
    left: u32,
}

impl ChallengeBudget {
    /// Takes one of about `limit` a second. How many there are differs from second to second by a keyed hash, so that
    /// what is left tells nothing (as Linux does since 4.7).
    pub fn take(&self, now: Instant, limit: u32, key: u64) -> bool {
        if limit == UNLIMITED {
            return true;
        }
        let second = now.millis() / 1000;
        let mut budget = self.0.lock();
        if budget.second != second {
            let half = limit / 2 + limit % 2;
            let hash = SipKey::new(key, !key).hash_words(&[second]);
            let extra = ((u128::from(hash) * u128::from(limit.max(1))) >> 64) as u32;
            *budget = Budget { second, left: half.saturating_add(extra) };
        }
        let some = budget.left > 0;
        budget.left = budget.left.saturating_sub(1);
        some
    }
}

/// What became of a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// An acknowledgment goes out.
    Sent,
    /// One went out shortly before.
    Rationed,
}

impl Tcb {
    /// Whether an acknowledgment of something invalid may go out: one in tcp_invalid_ratelimit.
    pub fn may_answer_invalid(&mut self, now: Instant) -> bool {
        let quiet = self.config.invalid_ratelimit;
        let may = self.challenge_at.is_none_or(|at| now.since(at) >= quiet);
        if may {
            self.challenge_at = Some(now);
        }
        may
    }

    /// Acknowledges an old or misplaced segment without data, if it may.
    pub fn acknowledge_invalid(&mut self, now: Instant) {
        if self.may_answer_invalid(now) {
            self.receive.ack_due = AckDue::Now;
        }
    }

    /// RFC 5961 section 7: "An implementation SHOULD include an ACK throttling mechanism to be conservative."
    pub fn challenge(&mut self, now: Instant) -> Challenge {
        let key = u64::from(self.send.iss.0);
        if !self.may_answer_invalid(now)
            || !self.config.challenges.take(now, self.config.challenge_ack_limit, key)
        {
            return Challenge::Rationed;
        }
        self.receive.ack_due = AckDue::Now;
        Challenge::Sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_gives_about_its_limit_a_second_and_never_the_same_number() {
        let budget = ChallengeBudget::default();
        let given =
            |second| (0..1000).filter(|_| budget.take(Instant::from_secs(second), 100, 77)).count();
        let counts: Vec<usize> = (1..20).map(given).collect();
        assert!(counts.iter().all(|count| (50..150).contains(count)), "{counts:?}");
        assert!(counts.iter().any(|count| *count != counts[0]), "{counts:?}");
        assert!((0..10_000).all(|_| budget.take(Instant::from_secs(1), UNLIMITED, 77)));
    }
}
