//! Tasks (threads), thread groups, process groups, sessions and the pid namespace; the run loop of each task.
//!
//! One host thread runs one task: it owns a [`CurrentTask`], switches to program code, and answers what that does. Others see a [`Task`]
//! and reach it only through its attention bits. Who is whose parent or group is in [`PidNamespace`], under one lock.

mod clone;
mod container;
mod current;
mod exec;
mod exit;
mod freeze;
mod group;
mod namespace;
mod run;
mod session;
mod status;
#[expect(clippy::module_inception, reason = "the type's own file")]
mod task;
mod times;
mod vfork;
mod wait;
mod waker;

pub use clone::CloneRequest;
pub use container::{Container, ContainerConfig, ContainerUsage};
pub use current::{CurrentTask, RestartBlock, Unblocked, current};
pub use exec::{ExecRequest, InitArgs};
pub use group::{ThreadGroup, Usage};
pub use namespace::{INIT_PID, PID_MAX, PidNamespace};
pub use session::{ControllingTerminal, ProcessGroup, Session};
pub use status::WaitStatus;
pub use task::{Attention, Details, Resources, Scheduling, Task, TaskInit};
pub use times::{Account, CpuTime, Mode};
pub use wait::{WaitSelect, Waited};
pub use waker::TaskWaker;

#[cfg(test)]
mod tests;
