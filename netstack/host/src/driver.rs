//! The driver loop: one thread that waits for frames and deadlines and hands both to a stack.
//! Sends do not pass here: they go to the device on the sender's thread.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use netstack::link::NicId;
use netstack::stack::Stack;
use netstack::time::Instant;
use netstack::transport::DeadlineHook;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use parking_lot::Mutex;

use crate::device::{Device, FrameRoom, burst};

/// "Sleeping without a deadline".
const NEVER: u64 = u64::MAX;
/// "Not sleeping".
const AWAKE: u64 = 0;

/// Tells the stack's time.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// A device and the interface of the stack that it feeds.
#[derive(Clone)]
pub struct Feed {
    /// The interface.
    pub nic: NicId,
    /// The device.
    pub device: Arc<dyn Device>,
}

struct Shared {
    /// What is read now: a new list where a device comes or goes, so that the loop holds no lock while it waits.
    feeds: Mutex<Arc<Vec<Feed>>>,
    event: EventFd,
    stop: AtomicBool,
    /// Until when the thread sleeps, in the stack's nanoseconds.
    asleep_until: AtomicU64,
}

impl Shared {
    fn edit_feeds(&self, edit: impl FnOnce(&mut Vec<Feed>)) {
        let mut feeds = self.feeds.lock();
        let mut next = Vec::clone(&feeds);
        edit(&mut next);
        *feeds = Arc::new(next);
    }

    fn wake(&self) {
        // It fails only where the counter is full, and then the thread wakes as well.
        let _ = self.event.write(1);
    }
}

impl DeadlineHook for Shared {
    fn deadline_moved(&self, deadline: Instant) {
        if deadline.nanos() < self.asleep_until.load(Ordering::SeqCst) {
            self.wake();
        }
    }
}

/// A running loop. It ends when this is dropped.
pub struct Driver {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Driver {
    /// Starts the loop for a stack and its devices; without devices it serves the timers alone.
    /// Errors: no descriptor or thread is to be had.
    pub fn start(stack: Arc<Stack>, feeds: Vec<Feed>, clock: Clock) -> io::Result<Driver> {
        let event =
            EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let shared = Arc::new(Shared {
            feeds: Mutex::new(Arc::new(feeds)),
            event,
            stop: AtomicBool::new(false),
            asleep_until: AtomicU64::new(AWAKE),
        });
        stack.set_deadline_hook(shared.clone());
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("net driver".into())
            .spawn(move || Loop { stack, clock, shared: of_thread }.run())?;
        Ok(Driver { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Feeds the stack from one more device.
    pub fn attach(&self, feed: Feed) {
        self.shared.edit_feeds(|feeds| feeds.push(feed));
        self.shared.wake();
    }

    /// Feeds an interface no more.
    pub fn detach(&self, nic: NicId) {
        self.shared.edit_feeds(|feeds| feeds.retain(|feed| feed.nic != nic));
        self.shared.wake();
    }

    /// Ends the loop and waits for its thread.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.wake();
        if let Some(thread) = self.thread.lock().take() {
            // A panic of the thread was reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Loop {
    stack: Arc<Stack>,
    clock: Clock,
    shared: Arc<Shared>,
}

impl Loop {
    fn run(self) {
        let mut room = FrameRoom::default();
        while !self.shared.stop.load(Ordering::SeqCst) {
            let now = (self.clock)();
            if self.stack.next_deadline().is_some_and(|deadline| deadline <= now) {
                self.stack.poll(now);
            }
            let feeds = self.shared.feeds.lock().clone();
            for (feed, readable) in feeds.iter().zip(self.sleep(&feeds)) {
                if readable && self.receive(feed, &mut room).is_err() {
                    // The device was deleted under us: its interface stays and sends fail as on a link that is down.
                    self.shared.edit_feeds(|feeds| feeds.retain(|other| other.nic != feed.nic));
                }
            }
        }
    }

    /// Waits for frames, the next deadline or a wake-up; tells which devices have frames.
    fn sleep(&self, feeds: &[Feed]) -> Vec<bool> {
        let nanos = |deadline: Option<Instant>| deadline.map_or(NEVER, |at| at.nanos().max(1));
        let until = nanos(self.stack.next_deadline());
        self.shared.asleep_until.store(until, Ordering::SeqCst);
        // A deadline that moved before the store above has woken nobody.
        let left_ns = match nanos(self.stack.next_deadline()).min(until) {
            NEVER => None,
            at => Some(at.saturating_sub((self.clock)().nanos())),
        };
        let timeout = left_ns.map(|ns| {
            TimeSpec::new((ns / 1_000_000_000).min(3600) as i64, (ns % 1_000_000_000) as i64)
        });
        let mut fds = vec![PollFd::new(self.shared.event.as_fd(), PollFlags::POLLIN)];
        fds.extend(feeds.iter().map(|feed| PollFd::new(feed.device.as_fd(), PollFlags::POLLIN)));
        // An error (EINTR) is like a wake-up for nothing.
        let _ = ppoll(&mut fds, timeout, None);
        self.shared.asleep_until.store(AWAKE, Ordering::SeqCst);
        if fds.first().is_some_and(|fd| fd.any() == Some(true)) {
            let _ = self.shared.event.read();
        }
        fds.iter().skip(1).map(|fd| fd.any() == Some(true)).collect()
    }

    /// Feeds the stack what a device has, up to a burst. Errors: the device is gone.
    fn receive(&self, feed: &Feed, room: &mut FrameRoom) -> io::Result<()> {
        let mut failed = None;
        let mut frames = burst(&*feed.device, room, &mut failed);
        self.stack.handle_frames((self.clock)(), feed.nic, &mut frames);
        drop(frames);
        failed.map_or(Ok(()), Err)
    }
}
