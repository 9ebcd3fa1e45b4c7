//! Who asks: the identity that peer credentials and permission checks see.

use std::sync::Arc;

use sentry_abi::socket::UCred;
use sentry_kernel::cred::Credentials;
use sentry_kernel::task::{self, CurrentTask, Task};

/// The task's process id with its real user and group, as SCM_CREDENTIALS carries them.
pub fn cred_of(task: &Task) -> UCred {
    let credentials = task.credentials();
    UCred { pid: task.pid() as i32, uid: credentials.uid, gid: credentials.gid }
}

/// The task's process id with its effective user and group, as SO_PEERCRED tells them.
pub fn peer_cred_of(task: &Task) -> UCred {
    let credentials = task.credentials();
    UCred { uid: credentials.euid, gid: credentials.egid, ..cred_of(task) }
}

/// The identity of the task on this host thread (write(2) hands none to a file), or `other` where it runs none.
pub fn current_or(other: UCred) -> UCred {
    task::current().map_or(other, |task| cred_of(&task))
}

/// The task's credentials.
pub fn credentials(task: &CurrentTask) -> Arc<Credentials> {
    task.credentials()
}

/// True where the task's pid namespace has a process of this number.
pub fn is_process(task: &CurrentTask, pid: u32) -> bool {
    task.kernel().pids().group(pid).is_some()
}
