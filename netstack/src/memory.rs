//! Memory of a whole stack: what all sockets of a protocol hold together, in three levels as Linux's tcp_mem and
//! udp_mem. Below `pressure` a socket is bounded by its own buffers alone; above it by a share of what is left up to
//! `high`, so that who came first cannot starve who came later; at `high` by a few kilobytes.
//!
//! A socket reports what it holds now and then, under its own lock; its [`Account`] passes on whole quanta, so that
//! the common counters are touched once in many packets.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;

use crate::stats::Counter;

/// Accounts are kept in multiples of this many bytes.
const QUANTUM: usize = 16 << 10;
/// What a socket holds without being asked (tcp_rmem[0], tcp_wmem[0]): even the shortest stack makes progress.
pub const LEAST: usize = 4096;

/// The levels, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Pressure ends below this.
    pub low: usize,
    /// Pressure begins above this.
    pub pressure: usize,
    /// No more than this.
    pub high: usize,
}

impl Limits {
    /// Linux's proportions, for at most `high` bytes.
    pub const fn up_to(high: usize) -> Limits {
        Limits { low: high / 2, pressure: high / 3 * 2, high }
    }
}

impl Default for Limits {
    /// A quarter of a gigabyte.
    fn default() -> Limits {
        Limits::up_to(256 << 20)
    }
}

/// How short of memory a pool is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// Not at all.
    Plenty,
    /// Sockets may not grow beyond their share.
    Pressure,
    /// Sockets may hold next to nothing.
    Exhausted,
}

/// On a cache line of its own: it is read with every segment, while its neighbours are written.
#[derive(Debug)]
#[repr(align(64))]
struct Alone(AtomicBool);

/// What the sockets of one protocol hold.
#[derive(Debug)]
pub struct Pool {
    used: AtomicUsize,
    holders: AtomicUsize,
    low: AtomicUsize,
    pressure: AtomicUsize,
    high: AtomicUsize,
    pressed: Alone,
    /// How often pressure began (TCPMemoryPressures).
    pub pressures: Counter,
}

impl Pool {
    /// An empty pool.
    pub fn new(limits: Limits) -> Pool {
        let Limits { low, pressure, high } = limits;
        Pool {
            used: AtomicUsize::new(0),
            holders: AtomicUsize::new(0),
            low: AtomicUsize::new(low),
            pressure: AtomicUsize::new(pressure),
            high: AtomicUsize::new(high),
            pressed: Alone(AtomicBool::new(false)),
            pressures: Counter::default(),
        }
    }

    /// The levels in force.
    pub fn limits(&self) -> Limits {
        let read = |level: &AtomicUsize| level.load(Ordering::Relaxed);
        Limits { low: read(&self.low), pressure: read(&self.pressure), high: read(&self.high) }
    }

    /// Changes the levels (tcp_mem, udp_mem); they hold from the next report on.
    pub fn set_limits(&self, limits: Limits) {
        self.low.store(limits.low, Ordering::Relaxed);
        self.pressure.store(limits.pressure, Ordering::Relaxed);
        self.high.store(limits.high, Ordering::Relaxed);
        self.note_level(self.used());
    }

    /// Bytes that are accounted for.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// How short memory is.
    pub fn level(&self) -> Level {
        match self.pressed.0.load(Ordering::Relaxed) {
            false => Level::Plenty,
            true if self.used() < self.high.load(Ordering::Relaxed) => Level::Pressure,
            true => Level::Exhausted,
        }
    }

    /// The most that one socket may hold at present. No bound but its own while there is plenty.
    pub fn allowance(&self) -> usize {
        match self.level() {
            Level::Plenty => usize::MAX,
            Level::Pressure => {
                let Limits { pressure, high, .. } = self.limits();
                let holders = self.holders.load(Ordering::Relaxed).max(1);
                (high.saturating_sub(pressure) / holders).max(LEAST)
            }
            Level::Exhausted => LEAST,
        }
    }

    fn note_level(&self, used: usize) {
        let Limits { low, pressure, .. } = self.limits();
        if used > pressure {
            if !self.pressed.0.swap(true, Ordering::Relaxed) {
                self.pressures.inc();
            }
        } else if used <= low && self.pressed.0.load(Ordering::Relaxed) {
            self.pressed.0.store(false, Ordering::Relaxed);
        }
    }

    fn grow(&self, by: usize) {
        let before = self.used.fetch_add(by, Ordering::Relaxed);
        self.note_level(before.saturating_add(by));
    }

    fn shrink(&self, by: usize) {
        let before = self.used.fetch_sub(by, Ordering::Relaxed);
        self.note_level(before.saturating_sub(by));
    }
}

/// What one socket has been accounted; given back when it is dropped.
#[derive(Debug)]
pub struct Account {
    pool: Arc<Pool>,
    charged: usize,
}

impl Account {
    /// An account of nothing.
    pub fn new(pool: Arc<Pool>) -> Account {
        Account { pool, charged: 0 }
    }

    /// The pool.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The socket holds `held` bytes now. What is less than [`LEAST`] costs nothing.
    pub fn settle(&mut self, held: usize) {
        let wanted = if held <= LEAST { 0 } else { held.next_multiple_of(QUANTUM) };
        if wanted > self.charged {
            if self.charged == 0 {
                self.pool.holders.fetch_add(1, Ordering::Relaxed);
            }
            self.pool.grow(wanted - self.charged);
            self.charged = wanted;
        } else if wanted == 0 && self.charged > 0 {
            self.pool.holders.fetch_sub(1, Ordering::Relaxed);
            self.pool.shrink(self.charged);
            self.charged = 0;
        } else if wanted + QUANTUM < self.charged {
            // A quantum stays for what comes next.
            self.pool.shrink(self.charged - wanted - QUANTUM);
            self.charged = wanted + QUANTUM;
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.settle(0);
    }
}

/// The pools of a stack.
#[derive(Debug)]
pub struct Memory {
    /// TCP's (tcp_mem).
    pub tcp: Arc<Pool>,
    /// UDP's, and that of ping and raw sockets (udp_mem).
    pub udp: Arc<Pool>,
}

impl Memory {
    /// Empty pools.
    pub fn new(tcp: Limits, udp: Limits) -> Memory {
        Memory { tcp: Arc::new(Pool::new(tcp)), udp: Arc::new(Pool::new(udp)) }
    }
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::new(Limits::default(), Limits::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_rise_and_fall_with_what_is_held() {
        let pool = Arc::new(Pool::new(Limits { low: 1 << 20, pressure: 2 << 20, high: 3 << 20 }));
        let mut first = Account::new(pool.clone());
        first.settle(LEAST);
        assert_eq!((pool.used(), pool.level()), (0, Level::Plenty));
        first.settle(1 << 20);
        assert_eq!((pool.used(), pool.allowance()), (1 << 20, usize::MAX));
        let mut second = Account::new(pool.clone());
        second.settle((1 << 20) + 1);
        assert_eq!((pool.level(), pool.pressures.value()), (Level::Pressure, 1));
        assert_eq!(pool.allowance(), (1 << 20) / 2, "a share each of what is left");
        second.settle(5 << 20);
        assert_eq!((pool.level(), pool.allowance()), (Level::Exhausted, LEAST));
        second.settle(100_000);
        assert_eq!(pool.level(), Level::Pressure, "it ends only below the low mark");
        drop(second);
        assert_eq!((pool.level(), pool.used()), (Level::Plenty, 1 << 20));
        first.settle(0);
        assert_eq!((pool.used(), pool.holders.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn a_socket_that_breathes_within_a_quantum_touches_nothing_in_common() {
        let pool = Arc::new(Pool::new(Limits::default()));
        let mut account = Account::new(pool.clone());
        account.settle(60_000);
        let used = pool.used();
        for held in [50_000, 60_000, 49_153, 65_536] {
            account.settle(held);
            assert_eq!(pool.used(), used);
        }
        account.settle(5000);
        assert_eq!(pool.used(), 2 * QUANTUM);
    }
}
