//! Tasks (threads), thread groups, process groups, sessions and the pid namespace; the run loop of each task.

use std::ops::Deref;
use std::sync::Arc;

use crate::cred::Credentials;
use crate::sync::{Rank, RwLock};

/// A task, as others see it.
pub struct Task {
    credentials: RwLock<Arc<Credentials>>,
}

impl Task {
    /// A task with this identity.
    pub fn new(credentials: Arc<Credentials>) -> Self {
        Self { credentials: RwLock::new(Rank::TASK, credentials) }
    }

    /// Its identity now.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.read().clone()
    }
}

/// A task on its own thread: what a system call runs on behalf of.
pub struct CurrentTask {
    task: Arc<Task>,
}

impl CurrentTask {
    /// The task as others see it.
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }
}

impl Deref for CurrentTask {
    type Target = Task;
    fn deref(&self) -> &Task {
        &self.task
    }
}
