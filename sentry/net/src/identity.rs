//! Who asks: the identity that peer credentials and permission checks see.

use std::sync::Arc;

use sentry_abi::socket::UCred;
use sentry_kernel::cred::Credentials;
use sentry_kernel::task::CurrentTask;

/// The task's process id with its real user and group, as SCM_CREDENTIALS carries them.
pub fn cred_of(task: &CurrentTask) -> UCred {
    let credentials = task.credentials();
    UCred { pid: 0, uid: credentials.uid, gid: credentials.gid }
}

/// The task's process id with its effective user and group, as SO_PEERCRED tells them.
pub fn peer_cred_of(task: &CurrentTask) -> UCred {
    let credentials = task.credentials();
    UCred { uid: credentials.euid, gid: credentials.egid, ..cred_of(task) }
}

/// The task's credentials.
pub fn credentials(task: &CurrentTask) -> Arc<Credentials> {
    task.credentials()
}
