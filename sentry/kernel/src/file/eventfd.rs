//! eventfd(2): a counter that can be waited for.

use sentry_abi::Errno;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::Result;
use crate::file::description::FileDescription;
use crate::file::ops::{FileOps, WriteAt, Written};
use crate::io::{Sink, Source};
use crate::sync::{Mutex, Rank};
use crate::vfs::OpenFlags;
use crate::wait::{Events, WaitQueue};

/// The highest value that the counter takes.
const MAX: u64 = u64::MAX - 1;

/// What a read takes from the counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taking {
    /// All of it.
    All,
    /// One (EFD_SEMAPHORE).
    One,
}

/// An eventfd as an open file.
pub struct EventFd {
    count: Mutex<u64>,
    taking: Taking,
    queue: WaitQueue,
    /// Tells eventfds apart in /proc/PID/fdinfo.
    id: u32,
}

impl EventFd {
    /// eventfd2(2). `flags` may hold O_NONBLOCK.
    pub fn create(initial: u32, taking: Taking, flags: OpenFlags) -> Arc<FileDescription> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let count = Mutex::new(Rank::FILE, u64::from(initial));
        let ops = Arc::new(Self { count, taking, queue: WaitQueue::new(), id });
        FileDescription::new(ops, None, OpenFlags::RDWR | (flags & OpenFlags::NONBLOCK))
    }
}

impl FileOps for EventFd {
    fn read(&self, _: u64, dst: &mut dyn Sink) -> Result<usize> {
        if dst.room() < 8 {
            return Err(Errno::EINVAL.into());
        }
        let mut count = self.count.lock();
        if *count == 0 {
            return Err(Errno::EAGAIN.into());
        }
        let value = if self.taking == Taking::One { 1 } else { *count };
        *count -= value;
        drop(count);
        self.queue.notify(Events::OUT);
        dst.write(&value.to_ne_bytes())
    }

    fn write(&self, _: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let mut bytes = [0; 8];
        // eventfd(2): exactly eight bytes, as Linux has checked since 6.9.
        if src.remaining() != 8 || src.read(&mut bytes)? < 8 {
            return Err(Errno::EINVAL.into());
        }
        let value = u64::from_ne_bytes(bytes);
        if value == u64::MAX {
            return Err(Errno::EINVAL.into());
        }
        let mut count = self.count.lock();
        if value > MAX - *count {
            return Err(Errno::EAGAIN.into());
        }
        *count += value;
        drop(count);
        self.queue.notify(Events::IN);
        Ok(Written { len: 8, end: 0 })
    }

    fn readiness(&self) -> Events {
        let count = *self.count.lock();
        let mut events = Events::empty();
        if count > 0 {
            events |= Events::IN;
        }
        if count < MAX {
            events |= Events::OUT;
        }
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn details(&self) -> String {
        let semaphore = u8::from(self.taking == Taking::One);
        format!(
            "eventfd-count: {:16x}\neventfd-id: {}\neventfd-semaphore: {semaphore}\n",
            *self.count.lock(),
            self.id
        )
    }

    fn label(&self) -> &'static str {
        "[eventfd]"
    }
}
