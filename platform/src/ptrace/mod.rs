//! The ptrace backend: every system call of the guest is stopped by PTRACE_SYSEMU.

use std::sync::Arc;

use crate::{BackendOptions, Platform, PlatformError};

/// Says whether this host lets us trace.
pub fn probe() -> Result<(), PlatformError> {
    start(BackendOptions::default()).map(|_| ())
}

/// Starts the backend. To be called before the process has other threads.
pub fn start(_options: BackendOptions) -> Result<Arc<dyn Platform>, PlatformError> {
    Err(PlatformError::Unavailable {
        backend: "ptrace",
        reason: "not built".into(),
        advice: "use another platform",
    })
}
