//! epoll(7): a set of watched files and the list of those that may be ready.
//!
//! A file's wake-up puts its item on the ready list; waiting takes items from there and asks each file what is true now.
//! Level-triggered items go back on the list as long as they are ready. No lock is held while a file is asked.

use core::any::Any;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bitflags::bitflags;
use sentry_abi::Errno;

use crate::error::Result;
use crate::file::description::FileDescription;
use crate::file::ops::{FileKind, FileOps};
use crate::sync::{Mutex, Rank};
use crate::vfs::OpenFlags;
use crate::wait::{Events, Sharing, WaitKey, WaitQueue, Wake};

/// Deepest nesting of epoll instances.
const NESTING_MAX: u32 = 4;

bitflags! {
    /// How an item reports, beside its readiness bits.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct EpollMode: u32 {
        /// EPOLLEXCLUSIVE
        const EXCLUSIVE = 1 << 28;
        /// EPOLLWAKEUP: nothing here ever sleeps, so it changes nothing.
        const WAKEUP = 1 << 29;
        /// EPOLLONESHOT
        const ONESHOT = 1 << 30;
        /// EPOLLET
        const EDGE = 1 << 31;
    }
}

/// What to watch for and what to answer: `struct epoll_event`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interest {
    /// Readiness bits.
    pub events: Events,
    /// EPOLLET and the like.
    pub mode: EpollMode,
    /// The program's own word.
    pub data: u64,
}

impl Interest {
    /// From the `events` and `data` of `struct epoll_event`. Bits that Linux does not know are ignored, as there.
    pub fn new(events: u32, data: u64) -> Self {
        let mode = EpollMode::from_bits_truncate(events);
        Self { events: Events::from_bits_truncate(events), mode, data }
    }
}

/// An event to hand out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ready {
    /// What is true.
    pub events: Events,
    /// The program's own word.
    pub data: u64,
}

/// Names an item: descriptor number and description.
pub type ItemKey = (i32, u64);

struct ItemState {
    interest: Interest,
    /// After EPOLLONESHOT fired.
    disabled: bool,
    wait_key: Option<WaitKey>,
}

struct Item {
    core: Weak<EpollCore>,
    key: ItemKey,
    file: Weak<FileDescription>,
    state: Mutex<ItemState>,
    queued: AtomicBool,
    /// The last call of [`Epoll::take_ready`] that took it.
    taken_by: AtomicU64,
    /// Itself, for the ready list.
    this: Weak<Item>,
}

impl Wake for Item {
    fn wake(&self, _: Events) {
        let (Some(core), Some(this)) = (self.core.upgrade(), self.this.upgrade()) else { return };
        if self.state.lock().disabled || self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        core.ready.lock().push_back(this);
        core.queue.notify(Events::IN | Events::RDNORM);
    }
}

/// The state of an epoll instance.
pub struct EpollCore {
    items: Mutex<HashMap<ItemKey, Arc<Item>>>,
    ready: Mutex<VecDeque<Arc<Item>>>,
    queue: WaitQueue,
    /// How often [`Epoll::take_ready`] was called.
    calls: AtomicU64,
}

/// An epoll instance as an open file.
pub struct Epoll {
    core: Arc<EpollCore>,
}

/// Held while instances are put into each other, so that two threads cannot close a loop together.
static NESTING: Mutex<()> = Mutex::new(Rank::EPOLL, ());

impl Epoll {
    /// epoll_create1(2): a new open file.
    pub fn create() -> Arc<FileDescription> {
        let core = EpollCore {
            items: Mutex::new(Rank::LEAF, HashMap::new()),
            ready: Mutex::new(Rank::EPOLL_READY, VecDeque::new()),
            queue: WaitQueue::new(),
            calls: AtomicU64::new(0),
        };
        FileDescription::new(Arc::new(Self { core: Arc::new(core) }), None, OpenFlags::RDWR)
    }

    /// The instance behind an open file. Errors: EINVAL where it is another kind.
    pub fn of(ops: &dyn FileOps) -> Result<&Self> {
        match ops.kind() {
            FileKind::Kernel(any) => Ok(any.downcast_ref().ok_or(Errno::EINVAL)?),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    /// Who waits for events.
    pub fn queue(&self) -> &WaitQueue {
        &self.core.queue
    }

    /// EPOLL_CTL_ADD. Errors: EEXIST, EPERM for files that are always ready, EINVAL for itself or a bad EPOLLEXCLUSIVE, ELOOP.
    pub fn add(&self, fd: i32, file: &Arc<FileDescription>, interest: Interest) -> Result<()> {
        let queue = file.ops().wait_queue().ok_or(Errno::EPERM)?;
        let inner = Self::of(&**file.ops()).ok();
        check_exclusive(interest, inner.is_some())?;
        let nesting = inner.map(|_| NESTING.lock());
        if let Some(inner) = inner {
            if Arc::ptr_eq(&inner.core, &self.core) {
                return Err(Errno::EINVAL.into());
            }
            if inner.core.depth_towards(&self.core)? + 1 > NESTING_MAX {
                return Err(Errno::ELOOP.into());
            }
        }
        let key = (fd, file.id());
        let item = Arc::new_cyclic(|this| Item {
            core: Arc::downgrade(&self.core),
            key,
            file: Arc::downgrade(file),
            state: Mutex::new(Rank::LEAF, ItemState { interest, disabled: false, wait_key: None }),
            queued: AtomicBool::new(false),
            taken_by: AtomicU64::new(0),
            this: this.clone(),
        });
        {
            let mut items = self.core.items.lock();
            if items.contains_key(&key) {
                return Err(Errno::EEXIST.into());
            }
            items.insert(key, item.clone());
        }
        drop(nesting);
        file.add_watcher(Arc::downgrade(&self.core), key);
        item.register(queue, interest);
        item.wake_if_ready(file, interest);
        Ok(())
    }

    /// EPOLL_CTL_MOD. Errors: ENOENT, EINVAL where EPOLLEXCLUSIVE is or was set.
    pub fn modify(&self, fd: i32, file: &Arc<FileDescription>, interest: Interest) -> Result<()> {
        if interest.mode.contains(EpollMode::EXCLUSIVE) {
            return Err(Errno::EINVAL.into());
        }
        let item = self.core.items.lock().get(&(fd, file.id())).cloned().ok_or(Errno::ENOENT)?;
        let queue = file.ops().wait_queue().ok_or(Errno::EPERM)?;
        let old = {
            let mut state = item.state.lock();
            if state.interest.mode.contains(EpollMode::EXCLUSIVE) {
                return Err(Errno::EINVAL.into());
            }
            state.interest = interest;
            state.disabled = false;
            state.wait_key.take()
        };
        if let Some(old) = old {
            queue.remove(old);
        }
        item.register(queue, interest);
        item.wake_if_ready(file, interest);
        Ok(())
    }

    /// EPOLL_CTL_DEL. Errors: ENOENT.
    pub fn remove(&self, fd: i32, file: &Arc<FileDescription>) -> Result<()> {
        let key = (fd, file.id());
        let item = self.core.items.lock().remove(&key).ok_or(Errno::ENOENT)?;
        file.remove_watcher(&Arc::downgrade(&self.core), key);
        self.core.retire(&item, file.ops().wait_queue());
        Ok(())
    }

    /// Takes up to `max` events; empty where nothing is ready.
    pub fn take_ready(&self, max: usize) -> Vec<Ready> {
        let mut events = Vec::new();
        let mut again = Vec::new();
        let call = self.core.calls.fetch_add(1, Ordering::Relaxed) + 1;
        while events.len() < max {
            let Some(item) = self.core.ready.lock().pop_front() else { break };
            item.queued.store(false, Ordering::Release);
            // It was woken meanwhile, as was all behind it, and that is for the next call: a file stands in a result once, or who
            // handles it reads what is not there.
            if item.taken_by.swap(call, Ordering::Relaxed) == call {
                again.push(item);
                break;
            }
            let Some(file) = item.file.upgrade() else { continue };
            let interest = {
                let state = item.state.lock();
                if state.disabled {
                    continue;
                }
                state.interest
            };
            let ready = file.ops().readiness() & (interest.events | Events::ALWAYS);
            if ready.is_empty() {
                continue;
            }
            events.push(Ready { events: ready, data: interest.data });
            if interest.mode.contains(EpollMode::ONESHOT) {
                item.state.lock().disabled = true;
            } else if !interest.mode.contains(EpollMode::EDGE) {
                again.push(item);
            }
        }
        let mut list = self.core.ready.lock();
        for item in again {
            if !item.queued.swap(true, Ordering::AcqRel) {
                list.push_back(item);
            }
        }
        events
    }
}

/// epoll_ctl(2): EPOLLEXCLUSIVE goes only with IN, OUT, WAKEUP and ET, and not with an epoll instance.
fn check_exclusive(interest: Interest, nested: bool) -> Result<()> {
    if !interest.mode.contains(EpollMode::EXCLUSIVE) {
        return Ok(());
    }
    let fine = Events::IN | Events::OUT | Events::ALWAYS;
    let bad =
        nested || interest.mode.contains(EpollMode::ONESHOT) || !fine.contains(interest.events);
    if bad { Err(Errno::EINVAL.into()) } else { Ok(()) }
}

impl Item {
    fn register(&self, queue: &WaitQueue, interest: Interest) {
        let sharing = match interest.mode.contains(EpollMode::EXCLUSIVE) {
            true => Sharing::Exclusive,
            false => Sharing::All,
        };
        let Some(this) = self.this.upgrade() else { return };
        let key = queue.add(interest.events, sharing, this);
        self.state.lock().wait_key = Some(key);
    }

    fn wake_if_ready(&self, file: &FileDescription, interest: Interest) {
        let ready = file.ops().readiness() & (interest.events | Events::ALWAYS);
        if !ready.is_empty() {
            self.wake(ready);
        }
    }
}

impl EpollCore {
    /// How many instances are nested in this one. Errors: ELOOP where `target` is among them.
    fn depth_towards(&self, target: &Arc<EpollCore>) -> Result<u32> {
        let files: Vec<_> = self.items.lock().values().filter_map(|i| i.file.upgrade()).collect();
        let mut depth = 0;
        for file in files {
            let Ok(inner) = Epoll::of(&**file.ops()) else { continue };
            if Arc::ptr_eq(&inner.core, target) {
                return Err(Errno::ELOOP.into());
            }
            depth = depth.max(inner.core.depth_towards(target)? + 1);
        }
        Ok(depth)
    }

    fn retire(&self, item: &Arc<Item>, queue: Option<&WaitQueue>) {
        let key = {
            let mut state = item.state.lock();
            state.disabled = true;
            state.wait_key.take()
        };
        if let (Some(key), Some(queue)) = (key, queue) {
            queue.remove(key);
        }
        self.ready.lock().retain(|i| !Arc::ptr_eq(i, item));
    }

    /// A watched description went away.
    pub(crate) fn forget(&self, key: ItemKey, queue: Option<&WaitQueue>) {
        let item = self.items.lock().remove(&key);
        if let Some(item) = item {
            self.retire(&item, queue);
        }
    }
}

impl Drop for EpollCore {
    fn drop(&mut self) {
        for (_, item) in core::mem::take(self.items.get_mut()) {
            let Some(file) = item.file.upgrade() else { continue };
            file.remove_watcher(&item.core, item.key);
            let key = item.state.lock().wait_key.take();
            if let (Some(key), Some(queue)) = (key, file.ops().wait_queue()) {
                queue.remove(key);
            }
        }
    }
}

impl FileOps for Epoll {
    fn readiness(&self) -> Events {
        let items: Vec<Arc<Item>> = self.core.ready.lock().iter().cloned().collect();
        let is_ready = |item: &Arc<Item>| {
            let Some(file) = item.file.upgrade() else { return false };
            let interest = {
                let state = item.state.lock();
                if state.disabled {
                    return false;
                }
                state.interest
            };
            file.ops().readiness().intersects(interest.events | Events::ALWAYS)
        };
        if items.iter().any(is_ready) { Events::IN | Events::RDNORM } else { Events::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.core.queue)
    }

    fn label(&self) -> &'static str {
        "[eventpoll]"
    }

    fn kind(&self) -> FileKind<'_> {
        FileKind::Kernel(self as &dyn Any)
    }
}
