//! When the two sides of a hand-off spin, and on which cores they are.
//!
//! Measured on two cores (nanoseconds for one hand-off there and back): 2,000 if both sides spin, each
//! on a core of its own; 7,000 by futexes on one core; 40,000 and more by a futex that has to wake an
//! idle core. So a context is either **apart**, its stub's thread on another core than the sentry's
//! and both spinning, or **together**, both on one core and none of them spinning.
//!
//! A context begins together. It goes apart when it has made many short turns in a row while there are
//! two cores for each context that is awake, and comes back when its turns have become long (the
//! other side's wake-up would then be paid each time), or others want to run.
//!
//! Whether the host has a core to spare shows only when it is tried: on a busy one each side waits for
//! its share of its own core, which takes milliseconds where two threads of one core pass on what is
//! left of theirs. So one very long turn ends a try at once, and each try that ends makes all contexts
//! of the sandbox wait four times as long for the next; short turns apart win that back.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::stub::cores::Spread;

/// How long a side that spins does so at most: a little less than it costs to wake an idle core.
pub(super) const SPIN: Duration = Duration::from_micros(30);
/// A turn that was shorter than this, hand-off included, is worth spinning for.
const SHORT: Duration = Duration::from_micros(25);
/// A turn apart that was longer than this brings the context back.
const VERY_LONG: Duration = Duration::from_micros(500);
/// So many short turns in a row make a context go apart, at first and at most.
const PATIENCE_MIN: u32 = 64;
const PATIENCE_MAX: u32 = 1 << 20;
/// So many long turns more than short ones bring it back.
const LONG_TURNS_MAX: u32 = 8;
/// So many short turns apart halve the patience.
const PROOF: u32 = 256;

/// How many short turns in a row contexts of one sandbox wait for until they go apart.
pub(super) struct Patience(AtomicU32);

impl Patience {
    pub(super) fn new() -> Patience {
        Patience(AtomicU32::new(PATIENCE_MIN))
    }

    fn turns(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// A try was good. (Of two that are told at once one may be lost: it is a guess anyway.)
    fn shrink(&self) {
        self.0.store((self.turns() / 2).max(PATIENCE_MIN), Ordering::Relaxed);
    }

    /// A try was bad.
    fn grow(&self) {
        self.0.store(self.turns().saturating_mul(4).min(PATIENCE_MAX), Ordering::Relaxed);
    }
}
/// So long may others be awake before it comes back.
const CROWDED_MAX: Duration = Duration::from_millis(1);

/// A context's state.
#[derive(Debug)]
pub(super) struct Policy {
    spread: Spread,
    /// Together: short turns in a row. Apart: long turns, less a short one each.
    count: u32,
    /// Apart: short turns since the patience was last halved.
    proof: u32,
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
        Policy { spread: Spread::Together, count: 0, proof: 0, crowded_since: None }
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
    pub(super) fn turn(
        &mut self,
        took: Duration,
        room: Room,
        now: Instant,
        patience: &Patience,
    ) -> Option<Spread> {
        match self.spread {
            Spread::Together => {
                self.count = if took < SHORT && room == Room::Enough { self.count + 1 } else { 0 };
                (self.count >= patience.turns()).then(|| self.change(Spread::Apart))
            }
            Spread::Apart => {
                self.crowded_since = match room {
                    Room::Enough => None,
                    Room::Short => self.crowded_since.or(Some(now)),
                };
                if took < SPIN {
                    self.count = self.count.saturating_sub(1);
                    self.proof += 1;
                    if self.proof == PROOF {
                        self.proof = 0;
                        patience.shrink();
                    }
                } else {
                    self.count += 1;
                }
                let crowded = |since| now.saturating_duration_since(since) > CROWDED_MAX;
                if self.crowded_since.is_some_and(crowded) {
                    return Some(self.change(Spread::Together));
                }
                (took > VERY_LONG || self.count > LONG_TURNS_MAX).then(|| {
                    patience.grow();
                    self.change(Spread::Together)
                })
            }
        }
    }

    fn change(&mut self, spread: Spread) -> Spread {
        self.spread = spread;
        self.count = 0;
        self.proof = 0;
        self.crowded_since = None;
        spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        policy: Policy,
        patience: Patience,
    }

    impl Case {
        fn new() -> Case {
            Case { policy: Policy::new(), patience: Patience::new() }
        }

        fn turns(&mut self, count: u32, took_us: u64, room: Room) -> Vec<Spread> {
            let (took, now) = (Duration::from_micros(took_us), Instant::now());
            let turn = |_| self.policy.turn(took, room, now, &self.patience);
            (0..count).filter_map(turn).collect()
        }
    }

    #[test]
    fn many_short_turns_are_worth_a_core() {
        let mut case = Case::new();
        assert_eq!(case.policy.spin(Room::Enough), Duration::ZERO);
        assert_eq!(case.turns(PATIENCE_MIN - 1, 7, Room::Enough), []);
        assert_eq!(case.turns(1, 100, Room::Enough), []);
        assert_eq!(case.turns(PATIENCE_MIN, 7, Room::Enough), [Spread::Apart]);
        assert_eq!(case.policy.spin(Room::Enough), SPIN);
        assert_eq!(case.policy.spin(Room::Short), Duration::ZERO, "others want to run");
    }

    #[test]
    fn without_room_nobody_spins() {
        assert_eq!(Case::new().turns(10_000, 7, Room::Short), []);
    }

    #[test]
    fn long_turns_come_back_and_the_next_try_is_later() {
        let mut case = Case::new();
        case.turns(PATIENCE_MIN, 7, Room::Enough);
        assert_eq!(case.turns(LONG_TURNS_MAX + 1, 100, Room::Enough), [Spread::Together]);
        assert_eq!(case.turns(4 * PATIENCE_MIN - 1, 7, Room::Enough), []);
        assert_eq!(case.turns(1, 7, Room::Enough), [Spread::Apart]);
        // A long one now and then does not matter.
        for _ in 0..100 {
            assert_eq!(case.turns(1, 100, Room::Enough), []);
            assert_eq!(case.turns(1, 7, Room::Enough), []);
        }
    }

    #[test]
    fn one_turn_without_a_core_ends_a_try_and_delays_those_of_others() {
        let mut case = Case::new();
        case.turns(PATIENCE_MIN, 7, Room::Enough);
        assert_eq!(case.turns(1, 3000, Room::Enough), [Spread::Together]);
        case.policy = Policy::new();
        assert_eq!(case.turns(4 * PATIENCE_MIN - 1, 7, Room::Enough), []);
        assert_eq!(case.turns(1, 7, Room::Enough), [Spread::Apart]);
        // What goes well wins it back.
        case.turns(2 * PROOF, 2, Room::Enough);
        case.policy = Policy::new();
        assert_eq!(case.turns(PATIENCE_MIN, 7, Room::Enough), [Spread::Apart]);
    }

    #[test]
    fn others_that_stay_awake_end_it() {
        let mut case = Case::new();
        case.turns(PATIENCE_MIN, 7, Room::Enough);
        let (start, short) = (Instant::now(), Duration::from_micros(2));
        let mut turn = |room, now| case.policy.turn(short, room, now, &case.patience);
        assert_eq!(turn(Room::Short, start), None);
        assert_eq!(turn(Room::Enough, start + CROWDED_MAX * 2), None, "a moment");
        assert_eq!(turn(Room::Short, start + CROWDED_MAX * 3), None);
        assert_eq!(turn(Room::Short, start + CROWDED_MAX * 5), Some(Spread::Together));
    }
}
