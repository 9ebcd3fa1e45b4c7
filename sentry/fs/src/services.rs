//! What filesystems need from boot, handed to them as values: the memory file, the clock, device numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use platform::MemoryFile;
use sentry_kernel::device::makedev;
use sentry_kernel::vfs::{SetTime, Timespec};

use crate::host::Known;

/// The wall clock that stamps files.
pub type Clock = Arc<dyn Fn() -> Timespec + Send + Sync>;

/// Memory and clock of one sandbox.
#[derive(Clone)]
pub struct Services {
    /// Where file pages live.
    pub memory: Arc<MemoryFile>,
    /// The wall clock.
    pub clock: Clock,
    devices: Arc<AtomicU64>,
    pub(crate) host: Arc<Known>,
}

impl Services {
    /// Services on this memory and clock.
    pub fn new(memory: Arc<MemoryFile>, clock: Clock) -> Self {
        // Low minors are left to the kernel's own filesystems (pipes, sockets).
        let host = Arc::new(Known::default());
        Self { memory, clock, devices: Arc::new(AtomicU64::new(32)), host }
    }

    /// The time now.
    pub fn now(&self) -> Timespec {
        (self.clock)()
    }

    /// The time that a change asks for.
    pub fn resolve(&self, time: SetTime) -> Timespec {
        match time {
            SetTime::Now => self.now(),
            SetTime::To(time) => time,
        }
    }

    /// A device number (major 0) for a filesystem without a device, unused so far.
    pub fn anonymous_device(&self) -> u64 {
        makedev(0, self.devices.fetch_add(1, Ordering::Relaxed) as u32)
    }
}
