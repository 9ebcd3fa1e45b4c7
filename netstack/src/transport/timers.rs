//! One lazily re-armed entry a timer in one heap: moving a deadline later costs a store, and the entry that
//! fires early is put back.

use core::cmp::Reverse;
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use crate::time::Instant;

/// What has a timer, and is called by it. No lock of the stack is held.
pub trait OnTimer: Send + Sync {
    /// Its timer.
    fn timer(&self) -> &Timer;

    /// Itself; an entry does not keep it alive.
    fn handle(&self) -> Weak<dyn OnTimer>;

    /// The armed deadline has come. The timer is disarmed before this call and may be armed again in it.
    fn on_timer(&self, now: Instant);

    /// A while ago the timer was armed, and it is not now: nothing is under way.
    fn on_rest(&self) {}
}

/// Told when the earliest deadline moves earlier, so that a driver loop that sleeps wakes up.
pub trait DeadlineHook: Send + Sync {
    /// Nothing needs doing before this instant. Called with no lock of the stack held, but perhaps with the
    /// lock of the endpoint that armed the timer: it must only note and wake.
    fn deadline_moved(&self, deadline: Instant);
}

/// "Not armed", and "no entry in the heap".
const NEVER: u64 = u64::MAX;

/// The timer of one target.
#[derive(Debug)]
pub struct Timer {
    deadline: AtomicU64,
    // The time of the earliest entry in the heap that will look at this timer.
    queued: AtomicU64,
}

impl Default for Timer {
    fn default() -> Timer {
        Timer { deadline: AtomicU64::new(NEVER), queued: AtomicU64::new(NEVER) }
    }
}

impl Timer {
    /// When it will fire, if it is armed.
    pub fn deadline(&self) -> Option<Instant> {
        Some(self.deadline.load(Ordering::SeqCst))
            .filter(|at| *at != NEVER)
            .map(Instant::from_nanos)
    }
}

type Targets = Vec<Arc<dyn OnTimer>>;

struct Entry {
    at: u64,
    order: u64,
    target: Weak<dyn OnTimer>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> core::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// So many entries are not worth looking through.
const FEW: usize = 64;

#[derive(Default)]
struct Heap {
    entries: BinaryHeap<Reverse<Entry>>,
    order: u64,
    /// How many entries had a target when they were last looked through.
    alive: usize,
}

impl Heap {
    fn push(&mut self, at: u64, target: Weak<dyn OnTimer>) {
        // What is gone may have left an entry for a time that is far off (a keepalive). Looked through whenever there are twice as
        // many as were alive the last time: each push pays for two, and what is kept for nothing stays within that.
        if self.entries.len() >= FEW.max(2 * self.alive) {
            self.entries.retain(|Reverse(entry)| entry.target.strong_count() > 0);
            self.alive = self.entries.len();
        }
        self.order += 1;
        self.entries.push(Reverse(Entry { at, order: self.order, target }));
    }

    fn earliest(&self) -> u64 {
        self.entries.peek().map_or(NEVER, |Reverse(entry)| entry.at)
    }
}

/// The timers of a stack.
#[derive(Default)]
pub struct Timers {
    heap: Mutex<Heap>,
    hook: RwLock<Option<Arc<dyn DeadlineHook>>>,
}

impl Timers {
    /// No timers.
    pub fn new() -> Timers {
        Timers::default()
    }

    /// Arms, moves or (with None) disarms the timer of a target.
    pub fn arm(&self, target: &dyn OnTimer, deadline: Option<Instant>) {
        let at = deadline.map_or(NEVER, |at| at.nanos().min(NEVER - 1));
        let armed = &target.timer().deadline;
        // Who armed it for then has seen to the entry.
        if armed.load(Ordering::SeqCst) != at {
            armed.store(at, Ordering::SeqCst);
            self.queue(target, at);
        }
    }

    /// Sees to it that a timer that is not armed rests at `at` at the latest, unless it is armed meanwhile.
    pub fn rest_by(&self, target: &dyn OnTimer, at: Instant) {
        self.queue(target, at.nanos().min(NEVER - 1));
    }

    /// Arms a timer, or moves it earlier; never later.
    pub fn arm_earlier(&self, target: &dyn OnTimer, deadline: Instant) {
        let at = deadline.nanos().min(NEVER - 1);
        if target.timer().deadline.fetch_min(at, Ordering::SeqCst) > at {
            self.queue(target, at);
        }
    }

    /// Makes sure that an entry comes up no later than `at`.
    fn queue(&self, target: &dyn OnTimer, at: u64) {
        let timer = target.timer();
        // An entry that comes up no later will see the new deadline. Together with `take_due`, which clears
        // `queued` before it reads `deadline`, one of the two always sees the other's store.
        if timer.queued.load(Ordering::SeqCst) <= at {
            return;
        }
        let mut heap = self.heap.lock();
        if timer.queued.load(Ordering::SeqCst) <= at {
            return;
        }
        let before = heap.earliest();
        timer.queued.store(at, Ordering::SeqCst);
        heap.push(at, target.handle());
        drop(heap);
        if at < before {
            let hook = self.hook.read().clone();
            if let Some(hook) = hook {
                hook.deadline_moved(Instant::from_nanos(at));
            }
        }
    }

    /// When the next entry comes up. It may be early: a deadline that moved later leaves its entry behind.
    pub fn next_deadline(&self) -> Option<Instant> {
        Some(self.heap.lock().earliest()).filter(|at| *at != NEVER).map(Instant::from_nanos)
    }

    /// Calls every target whose deadline has come. A target that arms itself in the past runs at the next call.
    pub fn fire(&self, now: Instant) -> usize {
        let (due, resting) = self.take_due(now.nanos());
        let count = due.len();
        for target in due {
            target.on_timer(now);
        }
        for target in resting {
            target.on_rest();
        }
        count
    }

    /// Those whose deadline has come, and those that have none any more.
    fn take_due(&self, now: u64) -> (Targets, Targets) {
        let (mut due, mut resting) = (Vec::new(), Vec::new());
        // Whose last reference may be ours: it goes after the lock.
        let mut looked_at: Targets = Vec::new();
        let mut heap = self.heap.lock();
        while heap.earliest() <= now {
            let Some(Reverse(entry)) = heap.entries.pop() else { break };
            let Some(target) = entry.target.upgrade() else { continue };
            let timer = target.timer();
            // A later entry of a timer that was re-armed earlier meanwhile.
            if timer.queued.load(Ordering::SeqCst) != entry.at {
                looked_at.push(target);
                continue;
            }
            timer.queued.store(NEVER, Ordering::SeqCst);
            let deadline = timer.deadline.load(Ordering::SeqCst);
            if deadline == NEVER {
                resting.push(target);
                continue;
            }
            if deadline > now {
                timer.queued.store(deadline, Ordering::SeqCst);
                heap.push(deadline, entry.target);
                looked_at.push(target);
                continue;
            }
            let disarm = timer.deadline.compare_exchange(
                deadline,
                NEVER,
                Ordering::SeqCst,
                Ordering::SeqCst,
            );
            match disarm {
                Ok(_) => due.push(target),
                Err(_) => looked_at.push(target),
            }
        }
        drop(heap);
        (due, resting)
    }

    /// Sets who is told when the earliest deadline moves earlier.
    pub fn set_hook(&self, hook: Option<Arc<dyn DeadlineHook>>) {
        *self.hook.write() = hook;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Target {
        timer: Timer,
        me: Weak<Target>,
        calls: Mutex<Vec<u64>>,
    }

    impl Target {
        fn new() -> Arc<Target> {
            Arc::new_cyclic(|me| Target {
                timer: Timer::default(),
                me: me.clone(),
                calls: Mutex::default(),
            })
        }
    }

    impl OnTimer for Target {
        fn timer(&self) -> &Timer {
            &self.timer
        }

        fn handle(&self) -> Weak<dyn OnTimer> {
            self.me.clone()
        }

        fn on_timer(&self, now: Instant) {
            self.calls.lock().push(now.nanos());
        }
    }

    impl DeadlineHook for Target {
        fn deadline_moved(&self, deadline: Instant) {
            self.calls.lock().push(deadline.nanos());
        }
    }

    fn at(nanos: u64) -> Option<Instant> {
        Some(Instant::from_nanos(nanos))
    }

    fn setup() -> (Timers, Arc<Target>) {
        (Timers::new(), Target::new())
    }

    #[test]
    fn entries_of_what_is_gone_do_not_pile_up() {
        let (timers, target) = setup();
        timers.arm(&*target, at(1_000_000));
        for n in 0..10_000 {
            timers.arm(&*Target::new(), at(1_000 + n));
        }
        assert!(timers.heap.lock().entries.len() <= FEW + 1);
        assert_eq!(timers.fire(Instant::from_nanos(1_000_000)), 1);
    }

    #[test]
    fn a_timer_fires_once_at_its_latest_deadline() {
        let (timers, target) = setup();
        timers.arm(&*target, at(10));
        timers.arm(&*target, at(30));
        timers.arm(&*target, at(20));
        assert_eq!(timers.fire(Instant::from_nanos(15)), 0);
        assert_eq!(timers.next_deadline(), at(20));
        assert_eq!(timers.fire(Instant::from_nanos(20)), 1);
        assert_eq!(timers.fire(Instant::from_nanos(99)), 0);
        assert_eq!(*target.calls.lock(), [20]);
        assert_eq!(target.timer.deadline(), None);
    }

    #[test]
    fn an_earlier_deadline_takes_over_and_the_old_entry_is_forgotten() {
        let (timers, target) = setup();
        timers.arm(&*target, at(50));
        timers.arm(&*target, at(10));
        assert_eq!(timers.fire(Instant::from_nanos(10)), 1);
        timers.arm(&*target, at(70));
        assert_eq!(timers.fire(Instant::from_nanos(60)), 0);
        assert_eq!(timers.fire(Instant::from_nanos(70)), 1);
        assert_eq!(*target.calls.lock(), [10, 70]);
    }

    #[test]
    fn a_disarmed_or_dropped_target_never_fires() {
        let (timers, target) = setup();
        timers.arm(&*target, at(5));
        timers.arm(&*target, None);
        assert_eq!(timers.fire(Instant::from_nanos(9)), 0);
        timers.arm(&*target, at(5));
        drop(target);
        assert_eq!(timers.fire(Instant::from_nanos(9)), 0);
        assert_eq!(timers.next_deadline(), None);
    }

    #[test]
    fn the_hook_hears_only_of_earlier_deadlines() {
        let (timers, target) = setup();
        let hook = Target::new();
        timers.set_hook(Some(hook.clone()));
        for deadline in [30, 40, 20, 25] {
            timers.arm(&*target, at(deadline));
        }
        assert_eq!(*hook.calls.lock(), [30, 20]);
    }
}
