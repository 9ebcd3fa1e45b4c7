//! CPU time of a thread in a stub, by the host's statistics of it.

use std::fs::File;
use std::os::fd::AsFd;

/// A thread's schedstat file, once it was asked for.
#[derive(Default)]
pub(crate) struct Usage(Option<File>);

impl Usage {
    /// What the thread has used, in nanoseconds; 0 where the host does not say.
    pub(crate) fn used_ns(&mut self, pid: i32, tid: i32) -> u64 {
        if self.0.is_none() {
            self.0 = File::open(format!("/proc/{pid}/task/{tid}/schedstat")).ok();
        }
        let file = self.0.as_ref();
        file.and_then(|file| crate::host::clock::scheduled_ns(file.as_fd()).ok()).unwrap_or(0)
    }
}
