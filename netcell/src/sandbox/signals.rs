//! Signals that netcell gets are passed on to the program.

use std::io;
use std::os::fd::AsFd;

use anyhow::Result;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use platform::host::signals::{Arrived, SignalSource};
use platform::host::terminal;
use sentry::Remote;

/// What is passed on. Those that job control of the host needs (SIGTSTP, SIGCONT) stay the host's.
const FORWARDED: &[Signal] = &[
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
];

/// Signals that wait for the sandbox. Made while the process has one thread, so that every later one has them blocked too.
pub(super) struct Source(SignalSource);

impl Source {
    /// Blocks the signals and takes them from a descriptor instead.
    pub(super) fn new() -> Result<Self> {
        let all: Vec<Signal> = FORWARDED.iter().copied().chain([Signal::SIGWINCH]).collect();
        Ok(Self(SignalSource::new(&all)?))
    }

    fn next(&self) -> Result<Arrived, Errno> {
        loop {
            if let Some(arrived) = self.0.take()? {
                return Ok(arrived);
            }
            poll(&mut [PollFd::new(self.0.descriptor(), PollFlags::POLLIN)], PollTimeout::NONE)?;
        }
    }

    /// Starts the thread that passes them on.
    pub(super) fn forward(self, remote: Remote) -> Result<()> {
        let pass_on = move || {
            while let Ok(arrived) = self.next() {
                if arrived.signo != Signal::SIGWINCH as i32 {
                    remote.signal(arrived.signo);
                } else if let Ok(size) = terminal::window_size(io::stdin().as_fd()) {
                    remote.resize(size);
                }
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(pass_on)?;
        Ok(())
    }
}
