//! Copies between ioctl(2) arguments of sockets and program memory.

use sentry_abi::{UserAddr, UserPtr};
use sentry_kernel::Result;
use sentry_kernel::task::CurrentTask;

/// Stores a count as an int. Errors: EFAULT.
pub fn write_int(task: &CurrentTask, arg: UserAddr, count: usize) -> Result<u64> {
    let number = i32::try_from(count).unwrap_or(i32::MAX);
    task.mm().write_obj(UserPtr::<i32>::new(arg.0), &number)?;
    Ok(0)
}
