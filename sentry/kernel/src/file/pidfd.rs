//! pidfd_open(2): a process as an open file, readable once it has ended.

use core::any::Any;
use std::sync::Arc;

use sentry_abi::Errno;

use crate::error::Result;
use crate::file::description::FileDescription;
use crate::file::ops::{FileKind, FileOps};
use crate::task::ThreadGroup;
use crate::vfs::OpenFlags;
use crate::wait::{Events, WaitQueue};

/// A process as an open file.
pub struct PidFd {
    group: Arc<ThreadGroup>,
}

impl PidFd {
    /// pidfd_open(2), CLONE_PIDFD. `flags` may hold O_NONBLOCK.
    pub fn create(group: &Arc<ThreadGroup>, flags: OpenFlags) -> Arc<FileDescription> {
        let ops = Arc::new(Self { group: group.clone() });
        FileDescription::new(ops, None, OpenFlags::RDWR | (flags & OpenFlags::NONBLOCK))
    }

    /// The process behind an open file. Errors: EBADF where it is another kind.
    pub fn of(ops: &dyn FileOps) -> Result<&Self> {
        match ops.kind() {
            FileKind::Kernel(any) => Ok(any.downcast_ref().ok_or(Errno::EBADF)?),
            _ => Err(Errno::EBADF.into()),
        }
    }

    /// The process behind an open file; `None` where it is another kind.
    pub fn group_of(file: &FileDescription) -> Option<Arc<ThreadGroup>> {
        Self::of(&**file.ops()).ok().map(|pidfd| pidfd.group.clone())
    }

    /// The process.
    pub fn group(&self) -> &Arc<ThreadGroup> {
        &self.group
    }
}

impl FileOps for PidFd {
    fn readiness(&self) -> Events {
        if self.group.has_ended() { Events::IN } else { Events::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(self.group.ended_queue())
    }

    fn label(&self) -> &'static str {
        "[pidfd]"
    }

    fn kind(&self) -> FileKind<'_> {
        FileKind::Kernel(self as &dyn Any)
    }
}
