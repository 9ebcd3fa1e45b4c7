//! Clocks of the host (clock_gettime(2)), in nanoseconds.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::time::ClockId;
use nix::unistd::Pid;

/// Nanoseconds since an unspecified start; stands still while the host is suspended.
pub fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// Nanoseconds since 1970; may jump.
pub fn realtime_ns() -> u64 {
    read(ClockId::CLOCK_REALTIME)
}

/// As `monotonic_ns`, but goes on while the host is suspended.
pub fn boottime_ns() -> u64 {
    read(ClockId::CLOCK_BOOTTIME)
}

/// CPU time that the calling thread has used.
pub fn thread_cpu_ns() -> u64 {
    read(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time that this process has used.
pub fn process_cpu_ns() -> u64 {
    read(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time that another process has used.
pub fn cpu_ns_of(pid: Pid) -> Result<u64, Errno> {
    nix::time::clock_getcpuclockid(pid).and_then(nix::time::clock_gettime).map(nanoseconds)
}

/// CPU time that a thread has used, of which this is the open /proc/PID/task/TID/schedstat: its first
/// number.
pub(crate) fn scheduled_ns(file: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut text = [0; 64];
    let read = super::file::read_at(file, 0, &mut text)?;
    let digits = text[..read].iter().take_while(|byte| byte.is_ascii_digit());
    Ok(digits.fold(0u64, |sum, digit| sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'))))
}

/// The smallest step of the clocks.
pub fn resolution_ns() -> u64 {
    nix::time::clock_getres(ClockId::CLOCK_MONOTONIC).map_or(1, nanoseconds)
}

/// These clocks exist on every Linux, so an error cannot come; it would read as the start of time.
fn read(clock: ClockId) -> u64 {
    nix::time::clock_gettime(clock).map_or(0, nanoseconds)
}

fn nanoseconds(time: TimeSpec) -> u64 {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_run_forward() {
        for clock in [monotonic_ns, realtime_ns, boottime_ns, thread_cpu_ns, process_cpu_ns] {
            let before = clock();
            assert!(before > 0);
            assert!(clock() >= before);
        }
        assert!(cpu_ns_of(Pid::this()).unwrap() > 0);
        assert!(resolution_ns() > 0);
    }
}
