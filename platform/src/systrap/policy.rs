//! When the two sides of a hand-off spin, and on which cores they are.
//!
//! Measured on two cores (nanoseconds for one hand-off there and back): 2,000 if both sides spin, each
//! on a core of its own; 7,000 by futexes on one core; 40,000 and more by a futex that has to wake an
//! idle core. So a context is either **apart**, its stub's thread on another core than the sentry's
//! and both spinning, or **together**, both on one core and none of them spinning.
//!
//! A context begins together. It goes apart when it has made many short turns in a row while there are
//! two cores for each context that is awake, and comes back when its turns have become long (the
//! other side's wake-up would then be paid each time), or others want to run. The more often it has
//! come back, the longer it waits until the next try.

use std::time::{Duration, Instant};

use crate::stub::cores::Spread;

/// How long a side that spins does so at most: a little less than it costs to wake an idle core.
pub(super) const SPIN: Duration = Duration::from_micros(30);
/// A turn that was shorter than this, hand-off included, is worth spinning for.
const SHORT: Duration = Duration::from_micros(25);
/// So many short turns in a row make a context go apart, at first and at most.
const PATIENCE_MIN: u32 = 64;
const PATIENCE_MAX: u32 = 1 << 16;
/// So many long turns more than short ones bring it back.
const LONG_TURNS_MAX: u32 = 8;
/// So long may others be awake before it comes back.
const CROWDED_MAX: Duration = Duration::from_millis(1);

/// A context's state.
#[derive(Debug)]
pub(super) struct Policy {
    spread: Spread,
    /// Together: short turns in a row. Apart: long turns, less a short one each.
    count: u32,
    patience: u32,
    /// Since when there are too few cores.
    crowded_since: Option<Instant>,
}

/// Whether there are two cores for each context that is awake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Enough,
    Short,
}

impl Policy {
    pub(super) fn new() -> Policy {
        Policy { spread: Spread::Together, count: 0, patience: PATIENCE_MIN, crowded_since: None }
    }

    /// Where the context belongs.
    pub(super) fn spread(&self) -> Spread {
        self.spread
    }

    /// How long the sentry spins for the next event.
    pub(super) fn spin(&self, room: Room) -> Duration {
        if self.spread == Spread::Apart && room == Room::Enough { SPIN } else { Duration::ZERO }
    }

    /// Takes notice of a turn of the guest, from the hand-off there to that back; says where the
    /// context belongs if that is somewhere else from now on.
    pub(super) fn turn(&mut self, took: Duration, room: Room, now: Instant) -> Option<Spread> {
        match self.spread {
            Spread::Together => {
                self.count = if took < SHORT && room == Room::Enough { self.count + 1 } else { 0 };
                (self.count >= self.patience).then(|| self.change(Spread::Apart))
            }
            Spread::Apart => {
                self.crowded_since = match room {
                    Room::Enough => None,
                    Room::Short => self.crowded_since.or(Some(now)),
                };
                self.count =
                    if took < SPIN { self.count.saturating_sub(1) } else { self.count + 1 };
                let crowded = |since| now.saturating_duration_since(since) > CROWDED_MAX;
                let back = self.count > LONG_TURNS_MAX || self.crowded_since.is_some_and(crowded);
                back.then(|| {
                    self.patience = self.patience.saturating_mul(2).min(PATIENCE_MAX);
                    self.change(Spread::Together)
                })
            }
        }
    }

    fn change(&mut self, spread: Spread) -> Spread {
        self.spread = spread;
        self.count = 0;
        self.crowded_since = None;
        spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(policy: &mut Policy, count: u32, took_us: u64, room: Room) -> Vec<Spread> {
        let (took, now) = (Duration::from_micros(took_us), Instant::now());
        (0..count).filter_map(|_| policy.turn(took, room, now)).collect()
    }

    #[test]
    fn many_short_turns_are_worth_a_core() {
        let mut policy = Policy::new();
        assert_eq!(policy.spin(Room::Enough), Duration::ZERO);
        assert_eq!(turns(&mut policy, PATIENCE_MIN - 1, 7, Room::Enough), []);
        assert_eq!(turns(&mut policy, 1, 100, Room::Enough), []);
        assert_eq!(turns(&mut policy, PATIENCE_MIN, 7, Room::Enough), [Spread::Apart]);
        assert_eq!(policy.spin(Room::Enough), SPIN);
        assert_eq!(policy.spin(Room::Short), Duration::ZERO, "others want to run");
    }

    #[test]
    fn without_room_nobody_spins() {
        let mut policy = Policy::new();
        assert_eq!(turns(&mut policy, 10_000, 7, Room::Short), []);
    }

    #[test]
    fn long_turns_come_back_and_the_next_try_is_later() {
        let mut policy = Policy::new();
        turns(&mut policy, PATIENCE_MIN, 7, Room::Enough);
        assert_eq!(turns(&mut policy, LONG_TURNS_MAX + 1, 100, Room::Enough), [Spread::Together]);
        assert_eq!(turns(&mut policy, 2 * PATIENCE_MIN - 1, 7, Room::Enough), []);
        assert_eq!(turns(&mut policy, 1, 7, Room::Enough), [Spread::Apart]);
        // A long one now and then does not matter.
        for _ in 0..100 {
            assert_eq!(turns(&mut policy, 1, 100, Room::Enough), []);
            assert_eq!(turns(&mut policy, 1, 7, Room::Enough), []);
        }
    }

    #[test]
    fn others_that_stay_awake_end_it() {
        let mut policy = Policy::new();
        turns(&mut policy, PATIENCE_MIN, 7, Room::Enough);
        let (start, short) = (Instant::now(), Duration::from_micros(2));
        assert_eq!(policy.turn(short, Room::Short, start), None);
        assert_eq!(policy.turn(short, Room::Enough, start + CROWDED_MAX * 2), None, "a moment");
        assert_eq!(policy.turn(short, Room::Short, start + CROWDED_MAX * 3), None);
        let later = start + CROWDED_MAX * 5;
        assert_eq!(policy.turn(short, Room::Short, later), Some(Spread::Together));
    }
}
