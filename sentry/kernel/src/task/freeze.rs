//! A task whose container is held or has ended.

use crate::task::current::CurrentTask;
use crate::task::task::Attention;
use crate::task::times::Mode;

impl CurrentTask {
    /// Parks this task while its container is frozen; ends it where that has ended.
    pub(super) fn park_held(&self) {
        let (task, container) = (self.task(), self.container());
        task.clear_attention(Attention::FREEZE);
        if container.is_over() {
            // It was made while the others were told to end.
            self.thread_group().kill();
            return;
        }
        self.account().change(Mode::Blocked, self.kernel().now());
        while container.is_frozen() && !task.attention().contains(Attention::EXIT) {
            self.park(None);
        }
        self.account().change(Mode::System, self.kernel().now());
    }
}
