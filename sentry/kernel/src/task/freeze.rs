//! Keeping all programs from running for a while, unseen by them: what a cgroup's freezer does on Linux.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::kernel::Kernel;
use crate::task::current::CurrentTask;
use crate::task::task::{Attention, Task};
use crate::task::times::Mode;

impl Kernel {
    /// Keeps every task from program code, also those that are made meanwhile, until [`Self::thaw`]. A call that a task is in goes on;
    /// its program does not see the result before. The end of the sandbox is not kept off.
    pub fn freeze(&self) {
        self.frozen.store(true, Ordering::SeqCst);
        // A task that is made meanwhile is inserted before it first looks at the flag: it is found here or sees it.
        for task in self.all_tasks() {
            task.demand(Attention::FREEZE);
        }
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        self.frozen.store(false, Ordering::SeqCst);
        for task in self.all_tasks() {
            task.waker().nudge();
        }
    }

    /// True between [`Self::freeze`] and [`Self::thaw`].
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::SeqCst)
    }

    fn all_tasks(&self) -> Vec<Arc<Task>> {
        self.pids().groups().iter().flat_map(|group| group.tasks()).collect()
    }
}

impl CurrentTask {
    /// Parks this task while the kernel is frozen.
    pub(super) fn park_frozen(&self) {
        let task = self.task();
        task.clear_attention(Attention::FREEZE);
        self.account().change(Mode::Blocked, self.kernel().now());
        while self.kernel().is_frozen() && !task.attention().contains(Attention::EXIT) {
            self.park(None);
        }
        self.account().change(Mode::System, self.kernel().now());
    }
}
