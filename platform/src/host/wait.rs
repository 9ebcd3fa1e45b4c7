//! Waiting for host descriptors (poll(2)), and a descriptor by which one thread wakes another.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// What is waited for on a descriptor, and what is ready afterwards.
#[derive(Clone, Copy, Debug)]
pub struct Watch<'a> {
    pub fd: BorrowedFd<'a>,
    pub wanted: PollFlags,
    /// Also `POLLERR`, `POLLHUP` and `POLLNVAL`, wanted or not.
    pub ready: PollFlags,
}

impl<'a> Watch<'a> {
    /// Waits for `wanted` on `fd`.
    pub fn new(fd: BorrowedFd<'a>, wanted: PollFlags) -> Watch<'a> {
        Watch { fd, wanted, ready: PollFlags::empty() }
    }
}

/// Waits until one is ready or the time is over (`None`: without end); returns how many are ready. A
/// signal ends the wait with EINTR.
pub fn poll(watches: &mut [Watch<'_>], timeout: Option<Duration>) -> Result<usize, Errno> {
    let mut list: Vec<PollFd<'_>> =
        watches.iter().map(|watch| PollFd::new(watch.fd, watch.wanted)).collect();
    let timeout = match timeout {
        None => PollTimeout::NONE,
        // Rounded up: a wait that ends early would spin.
        Some(timeout) => {
            let ms = timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i32;
            PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
        }
    };
    let count = nix::poll::poll(&mut list, timeout)?;
    for (watch, polled) in watches.iter_mut().zip(&list) {
        watch.ready = polled.revents().unwrap_or(PollFlags::empty());
    }
    Ok(usize::try_from(count).unwrap_or(0))
}

/// What is ready on one descriptor now.
pub fn ready_now(fd: BorrowedFd<'_>, wanted: PollFlags) -> Result<PollFlags, Errno> {
    let mut watches = [Watch::new(fd, wanted)];
    super::retry(|| poll(&mut watches, Some(Duration::ZERO)))?;
    Ok(watches[0].ready)
}

/// Wakes a thread that polls: an eventfd(2) that counts to one and never blocks.
#[derive(Debug)]
pub struct Waker {
    event: EventFd,
}

impl Waker {
    /// Makes one that is not woken.
    pub fn new() -> Result<Waker, Errno> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Waker { event: EventFd::from_value_and_flags(0, flags)? })
    }

    /// Readable from the first `wake` until `clear`.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Wakes. Any number of calls before a `clear` are one.
    pub fn wake(&self) {
        // EAGAIN means that it is as woken as can be.
        let _ = self.event.write(1);
    }

    /// Takes the wake-up back; says whether there was one.
    pub fn clear(&self) -> bool {
        self.event.read().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waker_is_ready_until_it_is_cleared() {
        let waker = Waker::new().unwrap();
        let ready = |waker: &Waker| ready_now(waker.fd(), PollFlags::POLLIN).unwrap();
        assert!(ready(&waker).is_empty());
        waker.wake();
        waker.wake();
        assert_eq!(ready(&waker), PollFlags::POLLIN);
        assert!(waker.clear());
        assert!(!waker.clear());
        assert!(ready(&waker).is_empty());
    }

    #[test]
    fn poll_says_which_descriptor_is_ready() {
        let (first, second) = (Waker::new().unwrap(), Waker::new().unwrap());
        second.wake();
        let mut watches = [&first, &second].map(|waker| Watch::new(waker.fd(), PollFlags::POLLIN));
        assert_eq!(poll(&mut watches, None), Ok(1));
        assert!(watches[0].ready.is_empty() && !watches[1].ready.is_empty());
    }
}
