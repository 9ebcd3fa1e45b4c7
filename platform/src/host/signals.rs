//! Signals to the sentry itself, as a descriptor to read instead of handlers to run.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals that arrive as data. To be made before the process has other threads, which inherit the
/// mask.
pub struct SignalSource {
    descriptor: SignalFd,
}

/// A signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    pub signo: i32,
    /// The sender's process, 0 for the host's kernel (a terminal).
    pub pid: u32,
    pub uid: u32,
    /// `si_code`.
    pub code: i32,
}

impl SignalSource {
    /// Blocks these signals in the calling thread and collects them.
    pub fn new(signals: &[Signal]) -> Result<SignalSource, Errno> {
        let mut set = SigSet::empty();
        signals.iter().for_each(|signal| set.add(*signal));
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(SignalSource { descriptor: SignalFd::with_flags(&set, flags)? })
    }

    /// Readable when a signal has arrived.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// The next signal, if one has arrived.
    pub fn take(&self) -> Result<Option<Arrived>, Errno> {
        let info = self.descriptor.read_signal()?;
        Ok(info.map(|info| Arrived {
            signo: info.ssi_signo as i32,
            pid: info.ssi_pid,
            uid: info.ssi_uid,
            code: info.ssi_code,
        }))
    }
}

/// Keeps the host from sending SIGCHLD for every stop of a child: a tracer has one at each system call
/// of the guest, and a thread that collects signals would wake for it.
pub fn ignore_stops_of_children() -> Result<(), Errno> {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null action only asks; the kernel fills the structure, which is plain data and was
    // zeroed. The second call sets the same action again with one more flag, so a handler that is
    // installed stays as valid as it was.
    let result = unsafe {
        libc::sigaction(libc::SIGCHLD, std::ptr::null(), action.as_mut_ptr());
        (*action.as_mut_ptr()).sa_flags |= libc::SA_NOCLDSTOP;
        libc::sigaction(libc::SIGCHLD, action.as_ptr(), std::ptr::null_mut())
    };
    Errno::result(result).map(drop)
}

/// Does with the sentry what the signal does by default: for ending with the program's signal, and
/// for stopping with it (SIGSTOP).
pub fn raise_default(signal: Signal) -> Result<(), Errno> {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, sigaction};
    if signal != Signal::SIGSTOP && signal != Signal::SIGKILL {
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: the default action is no code of ours.
        unsafe { sigaction(signal, &default) }?;
        let mut set = SigSet::empty();
        set.add(signal);
        set.thread_unblock()?;
    }
    nix::sys::signal::raise(signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_of_children_are_silent_and_the_handler_stays() {
        let read = || {
            let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
            // SAFETY: only asks; the structure is plain data and was zeroed.
            unsafe {
                libc::sigaction(libc::SIGCHLD, std::ptr::null(), action.as_mut_ptr());
                action.assume_init()
            }
        };
        let before = read();
        ignore_stops_of_children().unwrap();
        let after = read();
        assert_eq!(after.sa_sigaction, before.sa_sigaction);
        assert_eq!(after.sa_flags & libc::SA_NOCLDSTOP, libc::SA_NOCLDSTOP);
    }

    #[test]
    fn a_signal_to_this_thread_is_read_and_not_delivered() {
        // Directed at the thread: other tests' threads do not block it.
        let source = SignalSource::new(&[Signal::SIGUSR2]).unwrap();
        assert_eq!(source.take().unwrap(), None);
        nix::sys::signal::raise(Signal::SIGUSR2).unwrap();
        let arrived = source.take().unwrap().unwrap();
        assert_eq!((arrived.signo, arrived.pid), (libc::SIGUSR2, std::process::id()));
    }
}
