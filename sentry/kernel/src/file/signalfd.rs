//! signalfd(2): pending signals of the reader, read as records.

use core::any::Any;
use std::sync::Arc;

use sentry_abi::Errno;
use sentry_abi::poll::SignalFdSiginfo;
use sentry_abi::signal::{SigInfo, SigSet};
use zerocopy::IntoBytes;

use crate::error::Result;
use crate::file::description::FileDescription;
use crate::file::ops::{FileKind, FileOps};
use crate::io::Sink;
use crate::sync::{Mutex, Rank};
use crate::task::{ThreadGroup, current};
use crate::vfs::OpenFlags;
use crate::wait::{Events, WaitQueue};

/// A set of signals as an open file. Signals are those of whoever reads or polls; wake-ups are those of the process that made it.
pub struct SignalFd {
    mask: Mutex<SigSet>,
    group: Arc<ThreadGroup>,
}

impl SignalFd {
    /// signalfd4(2). `flags` may hold O_NONBLOCK.
    pub fn create(
        group: &Arc<ThreadGroup>,
        mask: SigSet,
        flags: OpenFlags,
    ) -> Arc<FileDescription> {
        let mask = Mutex::new(Rank::LEAF, mask.without(SigSet::UNBLOCKABLE));
        let ops = Arc::new(Self { mask, group: group.clone() });
        FileDescription::new(ops, None, OpenFlags::RDWR | (flags & OpenFlags::NONBLOCK))
    }

    /// The signal descriptor behind an open file. Errors: EINVAL.
    pub fn of(ops: &dyn FileOps) -> Result<&Self> {
        match ops.kind() {
            FileKind::Kernel(any) => Ok(any.downcast_ref().ok_or(Errno::EINVAL)?),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    /// Sets the signals; who waits looks again.
    pub fn set_mask(&self, mask: SigSet) {
        *self.mask.lock() = mask.without(SigSet::UNBLOCKABLE);
        self.group.signal_came().notify(Events::IN);
    }
}

fn record(info: &SigInfo) -> SignalFdSiginfo {
    SignalFdSiginfo {
        signo: info.signo as u32,
        errno: info.errno,
        code: info.code,
        pid: info.pid(),
        uid: info.uid(),
        fd: 0,
        tid: info.timer_id() as u32,
        band: 0,
        overrun: info.overrun() as u32,
        trapno: 0,
        status: info.status(),
        int: info.value() as i32,
        ptr: info.value(),
        utime: info.fields[2],
        stime: info.fields[3],
        addr: info.addr(),
        pad: [0; 48],
    }
}

impl FileOps for SignalFd {
    fn read(&self, _: u64, dst: &mut dyn Sink) -> Result<usize> {
        const RECORD: usize = size_of::<SignalFdSiginfo>();
        if dst.room() < RECORD {
            return Err(Errno::EINVAL.into());
        }
        let task = current().ok_or(Errno::EAGAIN)?;
        let mask = *self.mask.lock();
        let mut done = 0;
        while dst.room() >= RECORD {
            let Some((_, info)) = task.take_signal(mask) else { break };
            match dst.write(record(&info).as_bytes()) {
                Ok(n) => done += n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        if done == 0 { Err(Errno::EAGAIN.into()) } else { Ok(done) }
    }

    fn readiness(&self) -> Events {
        let mask = *self.mask.lock();
        let pending = match current() {
            Some(task) => task.pending().union(task.thread_group().pending()),
            None => self.group.pending(),
        };
        if pending.intersection(mask).is_empty() { Events::empty() } else { Events::IN }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(self.group.signal_came())
    }

    fn label(&self) -> &'static str {
        "[signalfd]"
    }

    fn kind(&self) -> FileKind<'_> {
        FileKind::Kernel(self as &dyn Any)
    }
}
