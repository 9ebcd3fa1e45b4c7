//! The guest's clock: the vDSO's pages, the thread that keeps their parameters fresh, and the same clock for system calls.

use std::sync::Arc;

use platform::MemoryFile;
use platform::vdso::{GuestClock, Vdso};
use sentry_kernel::loader;
use sentry_kernel::time::{Clock, Instant};

use crate::boot::BootError;

/// The clock that programs read, with or without a system call.
pub(crate) struct VdsoClock(Arc<Vdso>);

impl Clock for VdsoClock {
    fn monotonic(&self) -> Instant {
        Instant(self.0.now_ns(GuestClock::Monotonic))
    }

    fn realtime_ns(&self) -> i64 {
        i64::try_from(self.0.now_ns(GuestClock::Realtime)).unwrap_or(i64::MAX)
    }
}

/// Puts the vDSO into the memory file and starts the thread that refreshes its parameters.
pub(crate) fn start(memory: &Arc<MemoryFile>) -> Result<(Arc<VdsoClock>, loader::Vdso), BootError> {
    let no_memory =
        |_| BootError::Step { what: "make the vDSO".into(), errno: sentry_abi::Errno::ENOMEM };
    let vdso = Arc::new(Vdso::install(memory).map_err(no_memory)?);
    let pages = loader::Vdso::new(vdso.params(), vdso.image());
    let refreshed = Arc::downgrade(&vdso);
    std::thread::Builder::new().name("clock".into()).spawn(move || {
        while let Some(vdso) = refreshed.upgrade() {
            let wait = vdso.refresh();
            drop(vdso);
            std::thread::sleep(wait);
        }
    })?;
    Ok((Arc::new(VdsoClock(vdso)), pages))
}
