//! clone, fork, execve, exit, wait and the process's own identity.

use sentry_kernel::Result;
use sentry_kernel::task::CurrentTask;

use crate::rows;

rows! {
    getuid = 102 full;
}

/// getuid(2)
fn getuid(task: &CurrentTask) -> Result<u32> {
    Ok(task.credentials().uid)
}
