//! Process descriptors: signals and waits that never hit another process that got the same number.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::unistd::Pid;

use super::zygote::owned;

/// Opens the process.
pub(crate) fn open(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: plain numbers; the result is checked and owned.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })
}

/// A copy of one of its descriptors, sharing the open file.
pub(crate) fn descriptor(pidfd: &OwnedFd, fd: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: plain numbers; the result is checked and owned. Linux sets close-on-exec.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) })
}

/// Kills it.
pub(crate) fn kill(pidfd: &OwnedFd) {
    let fd = pidfd.as_raw_fd();
    // SAFETY: plain numbers and a null siginfo. It fails only for a process that is gone already.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGKILL, 0usize, 0) };
}

/// Whether the process has ended but was not waited for. Only meaningful while its descriptor says
/// that it is not gone, so that the number is still its own.
pub(crate) fn is_zombie(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state is the field behind the name in brackets.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Whether it is gone, waiting up to that long.
pub(crate) fn wait_gone(pidfd: &OwnedFd, timeout: Duration) -> bool {
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::ZERO);
    loop {
        let mut ready = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut ready, timeout) {
            Err(Errno::EINTR) => continue,
            Ok(count) => return count > 0,
            Err(_) => return true,
        }
    }
}
