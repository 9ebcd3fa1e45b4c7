//! Signals that netcell gets are passed on to the program.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::Result;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use platform::host::signals::{Arrived, SignalSource};
use platform::host::terminal::{self, WindowSize};
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
pub(crate) struct Source(SignalSource);

impl Source {
    /// Blocks the signals and takes them from a descriptor instead.
    pub(crate) fn new() -> Result<Self> {
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

    /// Starts the thread that passes their numbers on.
    pub(crate) fn forward(self, mut pass_on: impl FnMut(i32) + Send + 'static) -> Result<()> {
        let thread = std::thread::Builder::new().name("signals".into());
        thread.spawn(move || {
            while let Ok(arrived) = self.next() {
                pass_on(arrived.signo);
            }
        })?;
        Ok(())
    }

    /// Passes them on to a sandbox's first program, and the size of its terminal: this one, or standard input.
    pub(crate) fn forward_to(self, remote: Remote, terminal: Option<OwnedFd>) -> Result<()> {
        self.forward(move |signal| {
            if signal != Signal::SIGWINCH as i32 {
                remote.signal(signal);
            } else if let Some(size) = size(terminal.as_ref()) {
                remote.resize(size);
            }
        })
    }
}

/// The size of this terminal, or of standard input.
pub(crate) fn size(terminal: Option<&OwnedFd>) -> Option<WindowSize> {
    match terminal {
        Some(terminal) => terminal::window_size(terminal.as_fd()).ok(),
        None => terminal::window_size(io::stdin().as_fd()).ok(),
    }
}
