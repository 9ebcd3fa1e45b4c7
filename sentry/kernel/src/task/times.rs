//! CPU accounting of a task: time in program code and in the kernel, by the monotonic clock at each change of mode.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::time::Instant;

/// What a task does now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mode {
    /// Sleeping: counts for nothing.
    Blocked = 0,
    /// Program code.
    User = 1,
    /// Kernel code on its behalf.
    System = 2,
}

/// Nanoseconds of CPU time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuTime {
    /// In program code.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
}

impl CpuTime {
    /// Both.
    pub const fn total_ns(self) -> u64 {
        self.user_ns.saturating_add(self.system_ns)
    }

    /// The sum with another.
    pub const fn plus(self, other: Self) -> Self {
        Self {
            user_ns: self.user_ns.saturating_add(other.user_ns),
            system_ns: self.system_ns.saturating_add(other.system_ns),
        }
    }
}

/// A task's account. Only the task itself changes mode; others read.
#[derive(Default)]
pub struct Account {
    user_ns: AtomicU64,
    system_ns: AtomicU64,
    since: AtomicU64,
    mode: AtomicU8,
}

impl Account {
    /// Books the time since the last change and starts `mode`.
    pub fn change(&self, mode: Mode, now: Instant) {
        let since = self.since.swap(now.0, Ordering::Relaxed);
        let spent = now.since_ns(Instant(since));
        match self.mode.swap(mode as u8, Ordering::Relaxed) {
            m if m == Mode::User as u8 => _ = self.user_ns.fetch_add(spent, Ordering::Relaxed),
            m if m == Mode::System as u8 => _ = self.system_ns.fetch_add(spent, Ordering::Relaxed),
            _ => {}
        }
    }

    /// What was spent up to `now`, with the running stretch.
    pub fn read(&self, now: Instant) -> CpuTime {
        let mode = self.mode.load(Ordering::Relaxed);
        let running = now.since_ns(Instant(self.since.load(Ordering::Relaxed)));
        let extra = |m: Mode| if mode == m as u8 { running } else { 0 };
        CpuTime {
            user_ns: self.user_ns.load(Ordering::Relaxed).saturating_add(extra(Mode::User)),
            system_ns: self.system_ns.load(Ordering::Relaxed).saturating_add(extra(Mode::System)),
        }
    }

    /// What it does now.
    pub fn mode(&self) -> Mode {
        match self.mode.load(Ordering::Relaxed) {
            1 => Mode::User,
            2 => Mode::System,
            _ => Mode::Blocked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_booked_to_their_mode_and_sleep_to_none() {
        let account = Account::default();
        account.change(Mode::User, Instant(10));
        account.change(Mode::System, Instant(15));
        account.change(Mode::Blocked, Instant(18));
        account.change(Mode::User, Instant(100));
        assert_eq!(account.read(Instant(107)), CpuTime { user_ns: 12, system_ns: 3 });
    }
}
