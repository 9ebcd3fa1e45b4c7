//! The table of file descriptors of a process: numbers to descriptions, each with its close-on-exec flag.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sentry_abi::Errno;

use crate::error::Result;
use crate::file::description::FileDescription;
use crate::sync::{Mutex, Rank};
use crate::vfs::OpenFlags;

/// The highest RLIMIT_NOFILE that Linux grants (fs.nr_open).
pub const NR_OPEN: u64 = 1 << 20;

/// What exec does with a descriptor (FD_CLOEXEC).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnExec {
    /// It stays open.
    Keep,
    /// It is closed.
    Close,
}

impl OnExec {
    /// From O_CLOEXEC.
    pub fn from_flags(flags: OpenFlags) -> Self {
        if flags.contains(OpenFlags::CLOEXEC) { Self::Close } else { Self::Keep }
    }
}

#[derive(Clone)]
struct Slot {
    file: Arc<FileDescription>,
    on_exec: OnExec,
}

struct Slots {
    by_number: Vec<Option<Slot>>,
    /// No number below this is free.
    lowest_free: usize,
}

impl Slots {
    fn free_from(&self, min: usize) -> usize {
        let start = min.max(self.lowest_free);
        let used = self.by_number.iter().skip(start).take_while(|s| s.is_some()).count();
        start + used
    }

    fn put(&mut self, fd: usize, slot: Slot) -> Option<Slot> {
        if self.by_number.len() <= fd {
            self.by_number.resize_with(fd + 1, || None);
        }
        if fd == self.lowest_free {
            self.lowest_free = fd + 1;
        }
        self.by_number[fd].replace(slot)
    }

    fn take(&mut self, fd: usize) -> Option<Slot> {
        let slot = self.by_number.get_mut(fd)?.take()?;
        self.lowest_free = self.lowest_free.min(fd);
        Some(slot)
    }

    fn slot(&self, fd: i32) -> Result<&Slot> {
        let fd = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        Ok(self.by_number.get(fd).and_then(Option::as_ref).ok_or(Errno::EBADF)?)
    }
}

/// File descriptors. Shared by the tasks of CLONE_FILES; the last one that goes closes them all.
pub struct FdTable {
    id: u64,
    slots: Mutex<Slots>,
}

impl Default for FdTable {
    fn default() -> Self {
        Self::with(Vec::new())
    }
}

impl FdTable {
    /// A table without descriptors.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    fn with(by_number: Vec<Option<Slot>>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let lowest_free = by_number.iter().take_while(|s| s.is_some()).count();
        let slots = Mutex::new(Rank::FD_TABLE, Slots { by_number, lowest_free });
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), slots }
    }

    /// A copy of its own: what fork(2) without CLONE_FILES and unshare(CLONE_FILES) make.
    pub fn fork(&self) -> Arc<Self> {
        let slots = self.slots.lock().by_number.clone();
        Arc::new(Self::with(slots))
    }

    /// Unique among all tables: who owns POSIX locks.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The open file of a descriptor. Errors: EBADF, also for O_PATH descriptors.
    pub fn file(&self, fd: i32) -> Result<Arc<FileDescription>> {
        let file = self.any(fd)?;
        if file.flags().contains(OpenFlags::PATH) { Err(Errno::EBADF.into()) } else { Ok(file) }
    }

    /// The open file of a descriptor, be it O_PATH or not. Errors: EBADF.
    pub fn any(&self, fd: i32) -> Result<Arc<FileDescription>> {
        Ok(self.slots.lock().slot(fd)?.file.clone())
    }

    /// The close-on-exec flag. Errors: EBADF.
    pub fn on_exec(&self, fd: i32) -> Result<OnExec> {
        Ok(self.slots.lock().slot(fd)?.on_exec)
    }

    /// Sets the close-on-exec flag. Errors: EBADF.
    pub fn set_on_exec(&self, fd: i32, on_exec: OnExec) -> Result<()> {
        let mut slots = self.slots.lock();
        slots.slot(fd)?;
        if let Some(Some(slot)) = slots.by_number.get_mut(fd as usize) {
            slot.on_exec = on_exec;
        }
        Ok(())
    }

    /// Gives `file` the lowest free number. `limit` is RLIMIT_NOFILE. Errors: EMFILE.
    pub fn install(&self, file: Arc<FileDescription>, on_exec: OnExec, limit: u64) -> Result<i32> {
        self.install_from(0, file, on_exec, limit)
    }

    /// Gives `file` the lowest free number that is at least `min` (F_DUPFD). Errors: EMFILE.
    pub fn install_from(
        &self,
        min: i32,
        file: Arc<FileDescription>,
        on_exec: OnExec,
        limit: u64,
    ) -> Result<i32> {
        let mut slots = self.slots.lock();
        let fd = slots.free_from(usize::try_from(min).map_err(|_| Errno::EINVAL)?);
        if fd as u64 >= limit.min(NR_OPEN) {
            drop(slots);
            return Err(Errno::EMFILE.into());
        }
        slots.put(fd, Slot { file, on_exec });
        Ok(fd as i32)
    }

    /// Gives `file` the number `fd`, closing what has it (dup2(2)). Errors: EBADF beyond `limit`.
    pub fn install_at(
        &self,
        fd: i32,
        file: Arc<FileDescription>,
        on_exec: OnExec,
        limit: u64,
    ) -> Result<()> {
        let number = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        if number as u64 >= limit.min(NR_OPEN) {
            return Err(Errno::EBADF.into());
        }
        let old = self.slots.lock().put(number, Slot { file, on_exec });
        self.finish_close(old);
        Ok(())
    }

    fn finish_close(&self, slot: Option<Slot>) {
        if let Some(slot) = slot {
            slot.file.close_in(self.id);
        }
    }

    /// close(2). Errors: EBADF.
    pub fn close(&self, fd: i32) -> Result<()> {
        let number = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        let slot = self.slots.lock().take(number).ok_or(Errno::EBADF)?;
        self.finish_close(Some(slot));
        Ok(())
    }

    /// Closes every descriptor from `first` to `last` (close_range(2)).
    pub fn close_range(&self, first: u32, last: u32) {
        for fd in self.list() {
            if (first..=last).contains(&(fd as u32)) {
                // Another thread may have closed it meanwhile.
                let _ = self.close(fd);
            }
        }
    }

    /// Marks every descriptor from `first` to `last` close-on-exec (CLOSE_RANGE_CLOEXEC).
    pub fn mark_range_close_on_exec(&self, first: u32, last: u32) {
        let mut slots = self.slots.lock();
        for (fd, slot) in slots.by_number.iter_mut().enumerate() {
            if let Some(slot) = slot
                && (first..=last).contains(&(fd as u32))
            {
                slot.on_exec = OnExec::Close;
            }
        }
    }

    /// Closes what is marked close-on-exec: execve(2).
    pub fn close_on_exec(&self) {
        for fd in self.list() {
            if self.on_exec(fd).is_ok_and(|e| e == OnExec::Close) {
                let _ = self.close(fd);
            }
        }
    }

    /// The open numbers in ascending order.
    pub fn list(&self) -> Vec<i32> {
        let slots = self.slots.lock();
        let open = slots.by_number.iter().enumerate().filter(|(_, s)| s.is_some());
        open.map(|(fd, _)| fd as i32).collect()
    }
}

impl Drop for FdTable {
    fn drop(&mut self) {
        let slots = core::mem::take(&mut self.slots.get_mut().by_number);
        for slot in slots {
            self.finish_close(slot);
        }
    }
}
