//! inotify(7): watches on inodes, and the queue of what happened to them.

use core::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use sentry_abi::Errno;
use sentry_abi::inotify::{
    IN_ALL_EVENTS, IN_DELETE_SELF, IN_EXCL_UNLINK, IN_IGNORED, IN_ISDIR, IN_MASK_ADD,
    IN_MASK_CREATE, IN_ONESHOT, IN_Q_OVERFLOW, event,
};

use crate::error::Result;
use crate::file::description::FileDescription;
use crate::file::ops::{FileKind, FileOps};
use crate::io::Sink;
use crate::sync::{Mutex, Rank};
use crate::vfs::watch::Watcher;
use crate::vfs::{OpenFlags, Path};
use crate::wait::{Events, WaitQueue};

/// Events kept before the queue overflows (fs.inotify.max_queued_events).
const QUEUE_MAX: usize = 16384;
/// Watches of one instance (fs.inotify.max_user_watches is for all of a user; this bounds one).
const WATCHES_MAX: usize = 65536;

struct Watch {
    wd: i32,
    path: Path,
    mask: Mutex<u32>,
    core: Weak<Core>,
    me: Weak<Watch>,
}

#[derive(Default)]
struct State {
    events: VecDeque<Vec<u8>>,
    watches: BTreeMap<i32, Arc<Watch>>,
    next_wd: i32,
}

struct Core {
    state: Mutex<State>,
    queue: WaitQueue,
}

impl Core {
    fn push(&self, record: Vec<u8>) {
        {
            let mut state = self.state.lock();
            // inotify(7): an event equal to the one before it is not queued again.
            if state.events.back() == Some(&record) || state.events.len() > QUEUE_MAX {
                return;
            }
            if state.events.len() == QUEUE_MAX {
                state.events.push_back(event(-1, IN_Q_OVERFLOW, 0, &[]));
            } else {
                state.events.push_back(record);
            }
        }
        self.queue.notify(Events::IN | Events::RDNORM);
    }

    fn end_watch(&self, wd: i32) -> bool {
        let watch = self.state.lock().watches.remove(&wd);
        let Some(watch) = watch else { return false };
        watch.unregister();
        self.push(event(wd, IN_IGNORED, 0, &[]));
        true
    }
}

impl Watch {
    fn as_watcher(&self) -> Weak<dyn Watcher> {
        self.me.clone()
    }

    fn unregister(&self) {
        let superblock = self.path.dentry.superblock();
        superblock.watches().remove(self.path.inode(), &self.as_watcher());
    }
}

impl Watcher for Watch {
    fn event(&self, mask: u32, cookie: u32, name: &[u8]) {
        let wanted = *self.mask.lock();
        let Some(core) = self.core.upgrade() else { return };
        if mask & wanted & IN_ALL_EVENTS != 0 {
            core.push(event(self.wd, mask & (wanted | IN_ISDIR), cookie, name));
            if wanted & IN_ONESHOT != 0 {
                core.end_watch(self.wd);
            }
        }
        if mask & IN_DELETE_SELF != 0 && name.is_empty() {
            core.end_watch(self.wd);
        }
    }
}

/// An inotify instance as an open file.
pub struct Inotify {
    core: Arc<Core>,
}

impl Inotify {
    /// inotify_init1(2). `flags` may hold O_NONBLOCK.
    pub fn create(flags: OpenFlags) -> Arc<FileDescription> {
        let state = State { next_wd: 1, ..State::default() };
        let core = Core { state: Mutex::new(Rank::LEAF, state), queue: WaitQueue::new() };
        let ops = Arc::new(Self { core: Arc::new(core) });
        FileDescription::new(ops, None, flags & OpenFlags::NONBLOCK)
    }

    /// The instance behind an open file. Errors: EINVAL.
    pub fn of(ops: &dyn FileOps) -> Result<&Self> {
        match ops.kind() {
            FileKind::Kernel(any) => Ok(any.downcast_ref().ok_or(Errno::EINVAL)?),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    /// inotify_add_watch(2): watches the inode at `path`, or changes the watch on it. Errors: EEXIST with IN_MASK_CREATE, ENOSPC.
    pub fn watch(&self, path: &Path, mask: u32) -> Result<i32> {
        let kept = mask & (IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK);
        let watch = {
            let mut state = self.core.state.lock();
            let known = state.watches.values().find(|w| Arc::ptr_eq(w.path.inode(), path.inode()));
            if let Some(known) = known {
                if mask & IN_MASK_CREATE != 0 {
                    return Err(Errno::EEXIST.into());
                }
                let known = known.clone();
                drop(state);
                let mut old = known.mask.lock();
                *old = if mask & IN_MASK_ADD != 0 { *old | kept } else { kept };
                return Ok(known.wd);
            }
            if state.watches.len() >= WATCHES_MAX {
                return Err(Errno::ENOSPC.into());
            }
            let wd = state.next_wd;
            state.next_wd = wd.checked_add(1).ok_or(Errno::ENOSPC)?;
            let watch = Arc::new_cyclic(|me| Watch {
                wd,
                path: path.clone(),
                mask: Mutex::new(Rank::LEAF, kept),
                core: Arc::downgrade(&self.core),
                me: me.clone(),
            });
            state.watches.insert(wd, watch.clone());
            watch
        };
        path.dentry.superblock().watches().add(path.inode(), watch.as_watcher());
        Ok(watch.wd)
    }

    /// inotify_rm_watch(2). Errors: EINVAL.
    pub fn unwatch(&self, wd: i32) -> Result<()> {
        if self.core.end_watch(wd) { Ok(()) } else { Err(Errno::EINVAL.into()) }
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        let watches = core::mem::take(&mut self.core.state.lock().watches);
        for watch in watches.values() {
            watch.unregister();
        }
    }
}

impl FileOps for Inotify {
    fn read(&self, _: u64, dst: &mut dyn Sink) -> Result<usize> {
        let mut done = 0;
        loop {
            let record = {
                let mut state = self.core.state.lock();
                match state.events.front() {
                    None if done == 0 => return Err(Errno::EAGAIN.into()),
                    // inotify(7): a buffer too small for the next event is EINVAL.
                    Some(next) if next.len() > dst.room() && done == 0 => {
                        return Err(Errno::EINVAL.into());
                    }
                    Some(next) if next.len() <= dst.room() => state.events.pop_front(),
                    _ => None,
                }
            };
            let Some(record) = record else { return Ok(done) };
            match dst.write(&record) {
                Ok(n) => done += n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => return Ok(done),
            }
        }
    }

    fn readiness(&self) -> Events {
        let empty = self.core.state.lock().events.is_empty();
        if empty { Events::empty() } else { Events::IN | Events::RDNORM }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.core.queue)
    }

    fn bytes_readable(&self) -> Result<u64> {
        Ok(self.core.state.lock().events.iter().map(|e| e.len() as u64).sum())
    }

    fn label(&self) -> &'static str {
        "inotify"
    }

    fn kind(&self) -> FileKind<'_> {
        FileKind::Kernel(self as &dyn Any)
    }
}
