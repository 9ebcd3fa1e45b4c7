//! The list of backends, and how one is chosen by name.

use std::sync::Arc;

use crate::{Platform, PlatformError};

/// What every backend needs to know at its start.
#[derive(Clone, Copy, Debug)]
pub struct BackendOptions {
    /// The most bytes of guest memory that may be allocated at a time.
    pub memory_limit_bytes: u64,
}

impl Default for BackendOptions {
    fn default() -> Self {
        BackendOptions { memory_limit_bytes: u64::MAX }
    }
}

/// A backend that runs real programs.
#[derive(Clone, Copy)]
pub struct Backend {
    /// The name as users write it.
    pub name: &'static str,
    /// One line for a listing.
    pub summary: &'static str,
    /// Says whether it works on this host; the error says what is missing and what to do.
    pub probe: fn() -> Result<(), PlatformError>,
    /// Starts it. To be called before the process has other threads.
    pub start: fn(BackendOptions) -> Result<Arc<dyn Platform>, PlatformError>,
}

/// All backends, the preferred one first.
pub fn all() -> &'static [Backend] {
    &[Backend {
        name: "ptrace",
        summary: "traps system calls with PTRACE_SYSEMU: works wherever ptrace is allowed",
        probe: crate::ptrace::probe,
        start: crate::ptrace::start,
    }]
}

/// The backend of that name.
pub fn by_name(name: &str) -> Option<&'static Backend> {
    all().iter().find(|backend| backend.name == name)
}
