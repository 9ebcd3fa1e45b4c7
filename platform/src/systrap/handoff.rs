//! The hand-off between a sentry thread and a stub thread: two words, one for each direction, each on
//! a cache line of its own, and no call to the host unless a side says that it sleeps.
//!
//! A side that waits spins for as long as the policy (`policy.rs`) allows, and then says that it sleeps. The other
//! side exchanges the word, and wakes it by a futex only if it found that said.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::area::Area;
use super::code::{EVENT, GO, IDLE, SLEEPS, TURN};
use crate::stub::futex;
use crate::{MemoryError, MemoryFile};

/// The two words of a thread's area.
pub(super) struct Handoff<'a> {
    turn: &'a AtomicU32,
    event: &'a AtomicU32,
}

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// The thread says that something has happened. (Its process may have forged that.)
    Event,
    /// The time has run out.
    Nothing,
}

impl<'a> Handoff<'a> {
    pub(super) fn of(memory: &'a MemoryFile, area: &Area) -> Result<Handoff<'a>, MemoryError> {
        Ok(Handoff {
            turn: memory.atomic_u32(area.file + TURN)?,
            event: memory.atomic_u32(area.file + EVENT)?,
        })
    }

    /// Tells the thread to go on ([`GO`]) or to end.
    pub(super) fn tell(&self, what: u32) {
        if self.turn.swap(what, Ordering::AcqRel) == SLEEPS {
            futex::wake(self.turn);
        }
    }

    /// Waits until something has happened, spinning for at most `spin` and then asleep for at most
    /// `timeout`.
    pub(super) fn wait(&self, spin: Duration, timeout: Duration) -> Waited {
        if !spin.is_zero() && self.spin(spin) {
            return Waited::Event;
        }
        let said = self.event.compare_exchange(IDLE, SLEEPS, Ordering::AcqRel, Ordering::Acquire);
        if said.is_ok() || said == Err(SLEEPS) {
            futex::wait(self.event, SLEEPS, timeout);
        }
        self.take()
    }

    fn spin(&self, limit: Duration) -> bool {
        /// Looks at the clock once in so many rounds.
        const ROUNDS: u32 = 32;
        let start = Instant::now();
        loop {
            for _ in 0..ROUNDS {
                if self.event.load(Ordering::Acquire) == GO {
                    return self.take() == Waited::Event;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() >= limit {
                return false;
            }
        }
    }

    /// Takes notice of what has happened.
    fn take(&self) -> Waited {
        if self.event.load(Ordering::Acquire) != GO {
            return Waited::Nothing;
        }
        self.event.store(IDLE, Ordering::Relaxed);
        Waited::Event
    }
}
