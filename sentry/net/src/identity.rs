//! Who asks: the identity that peer credentials and permission checks see; and what a socket is known by: inode and owner.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use sentry_abi::socket::UCred;
use sentry_kernel::cred::Credentials;
use sentry_kernel::sync::{Mutex, Rank};
use sentry_kernel::task::{self, CurrentTask, PID_MAX, Task};

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
    task.pids().group(pid).is_some()
}

/// A process of a kernel with several containers: their numbers, and the process ids of each, begin anew.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ProcessId {
    /// The container's number.
    pub container: u32,
    /// The process's id in it.
    pub pid: u32,
}

impl ProcessId {
    /// The process that this host thread runs.
    pub fn current() -> Option<Self> {
        task::current().map(|task| Self { container: task.container().number(), pid: task.pid() })
    }

    /// As one word, not 0, where it fits: in a kernel's first 131,072 containers.
    pub fn to_word(self) -> Option<u32> {
        self.container.checked_mul(PID_MAX)?.checked_add(self.pid)
    }

    /// What [`Self::to_word`] gave; `None` for 0.
    pub fn from_word(word: u32) -> Option<Self> {
        (word != 0).then_some(Self { container: word / PID_MAX, pid: word % PID_MAX })
    }
}

/// What /proc and sock_diag(7) tell of a socket as a file.
/// Of a socket that is no file yet number and owner are 0, as Linux shows connections that nobody has accepted.
#[derive(Debug, Default)]
pub struct Inode {
    number: AtomicU64,
    uid: AtomicU32,
    process: AtomicU32,
}

impl Inode {
    /// The socket became a file of the task on this host thread.
    pub fn open(&self, id: u64) {
        self.number.store(id, Ordering::Relaxed);
        let task = task::current();
        let uid = task.as_ref().map_or(0, |task| task.credentials().fsuid);
        self.uid.store(uid, Ordering::Relaxed);
        let process = ProcessId::current().and_then(ProcessId::to_word);
        self.process.store(process.unwrap_or(0), Ordering::Relaxed);
    }

    /// The number that /proc/PID/fd shows.
    pub fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed) as u32
    }

    /// The process that made it, or accepted it; none before.
    pub fn process(&self) -> Option<ProcessId> {
        ProcessId::from_word(self.process.load(Ordering::Relaxed))
    }

    /// The owner.
    pub fn uid(&self) -> u32 {
        self.uid.load(Ordering::Relaxed)
    }
}

/// Sockets that live, or did when they were last looked at.
pub struct Registry<T>(Mutex<Listed<T>>);

struct Listed<T> {
    all: Vec<Weak<T>>,
    /// Dead ones are forgotten when the list has grown to this.
    sweep_at: usize,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self(Mutex::new(Rank::LEAF, Listed { all: Vec::new(), sweep_at: 64 }))
    }
}

impl<T> Registry<T> {
    /// Notes a new socket.
    pub fn add(&self, socket: Weak<T>) {
        let mut list = self.0.lock();
        if list.all.len() >= list.sweep_at {
            list.all.retain(|socket| socket.strong_count() > 0);
            list.sweep_at = list.all.len() * 2 + 64;
        }
        list.all.push(socket);
    }

    /// The sockets that live, the oldest first.
    pub fn all(&self) -> Vec<Arc<T>> {
        let all = self.0.lock().all.clone();
        all.iter().filter_map(Weak::upgrade).collect()
    }
}
