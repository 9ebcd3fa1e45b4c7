//! The user's terminal in raw mode while a sandbox has it.

use std::io;
use std::os::fd::AsFd;

use platform::host::terminal::{self, KernelTermios, When};

/// The terminal at standard input in raw mode; its own modes come back when this is dropped.
pub(crate) struct RawMode {
    before: KernelTermios,
}

impl RawMode {
    /// Enters raw mode; `None` where standard input is no terminal.
    pub(crate) fn enter() -> Option<Self> {
        let input = io::stdin();
        let before = terminal::settings(input.as_fd()).ok()?;
        let mut raw = terminal::raw(&before);
        if !terminal::is_terminal(io::stdout().as_fd()) {
            // `netcell run … | less`: the terminal's output is somebody else's, who counts on its modes.
            raw.output = before.output;
        }
        terminal::set_settings(input.as_fd(), &raw, When::Drain).ok()?;
        Some(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone by now, and then there is nothing to put back.
        let _ = terminal::set_settings(io::stdin().as_fd(), &self.before, When::Drain);
    }
}
