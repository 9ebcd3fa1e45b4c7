//! One lazily re-armed entry a timer in one heap: moving a deadline later costs a store, and the entry that
//! fires early is put back.

use core::cmp::Reverse;
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use crate::time::Instant;

/// What a timer calls. No lock of the stack is held.
pub trait OnTimer: Send + Sync {
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

struct Timer {
    deadline: AtomicU64,
    // The time of the earliest entry in the heap that will look at this timer.
    queued: AtomicU64,
    target: Weak<dyn OnTimer>,
}

/// A timer of one target.
#[derive(Clone)]
pub struct TimerHandle(Arc<Timer>);

impl TimerHandle {
    /// When it will fire, if it is armed.
    pub fn deadline(&self) -> Option<Instant> {
        Some(self.0.deadline.load(Ordering::SeqCst))
            .filter(|at| *at != NEVER)
            .map(Instant::from_nanos)
    }
}

type Targets = Vec<Arc<dyn OnTimer>>;

struct Entry {
    at: u64,
    order: u64,
    timer: Arc<Timer>,
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

#[derive(Default)]
struct Heap {
    entries: BinaryHeap<Reverse<Entry>>,
    order: u64,
}

impl Heap {
    fn push(&mut self, at: u64, timer: Arc<Timer>) {
        self.order += 1;
        self.entries.push(Reverse(Entry { at, order: self.order, timer }));
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

    /// A disarmed timer for a target; it does not keep the target alive.
    pub fn timer(&self, target: Weak<dyn OnTimer>) -> TimerHandle {
        let (deadline, queued) = (AtomicU64::new(NEVER), AtomicU64::new(NEVER));
        TimerHandle(Arc::new(Timer { deadline, queued, target }))
    }

    /// Arms, moves or (with None) disarms a timer.
    pub fn arm(&self, timer: &TimerHandle, deadline: Option<Instant>) {
        let at = deadline.map_or(NEVER, |at| at.nanos().min(NEVER - 1));
        timer.0.deadline.store(at, Ordering::SeqCst);
        self.queue(timer, at);
    }

    /// Sees to it that a timer that is not armed rests at `at` at the latest, unless it is armed meanwhile.
    pub fn rest_by(&self, timer: &TimerHandle, at: Instant) {
        self.queue(timer, at.nanos().min(NEVER - 1));
    }

    /// Arms a timer, or moves it earlier; never later.
    pub fn arm_earlier(&self, timer: &TimerHandle, deadline: Instant) {
        let at = deadline.nanos().min(NEVER - 1);
        if timer.0.deadline.fetch_min(at, Ordering::SeqCst) > at {
            self.queue(timer, at);
        }
    }

    /// Makes sure that an entry comes up no later than `at`.
    fn queue(&self, timer: &TimerHandle, at: u64) {
        // An entry that comes up no later will see the new deadline. Together with `take_due`, which clears
        // `queued` before it reads `deadline`, one of the two always sees the other's store.
        if timer.0.queued.load(Ordering::SeqCst) <= at {
            return;
        }
        let mut heap = self.heap.lock();
        if timer.0.queued.load(Ordering::SeqCst) <= at {
            return;
        }
        let before = heap.earliest();
        timer.0.queued.store(at, Ordering::SeqCst);
        heap.push(at, timer.0.clone());
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
        let mut heap = self.heap.lock();
        while heap.earliest() <= now {
            let Some(Reverse(entry)) = heap.entries.pop() else { break };
            let timer = entry.timer;
            // A later entry of a timer that was re-armed earlier meanwhile.
            if timer.queued.load(Ordering::SeqCst) != entry.at {
                continue;
            }
            timer.queued.store(NEVER, Ordering::SeqCst);
            let deadline = timer.deadline.load(Ordering::SeqCst);
            if deadline == NEVER {
                resting.extend(timer.target.upgrade());
                continue;
            }
            if deadline > now {
                timer.queued.store(deadline, Ordering::SeqCst);
                heap.push(deadline, timer);
                continue;
            }
            let disarm = timer.deadline.compare_exchange(
                deadline,
                NEVER,
                Ordering::SeqCst,
                Ordering::SeqCst,
            );
            if disarm.is_ok() {
                due.extend(timer.target.upgrade());
            }
        }
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

    #[derive(Default)]
    struct Target(Mutex<Vec<u64>>);

    impl OnTimer for Target {
        fn on_timer(&self, now: Instant) {
            self.0.lock().push(now.nanos());
        }
    }

    impl DeadlineHook for Target {
        fn deadline_moved(&self, deadline: Instant) {
            self.0.lock().push(deadline.nanos());
        }
    }

    fn at(nanos: u64) -> Option<Instant> {
        Some(Instant::from_nanos(nanos))
    }

    fn setup() -> (Timers, Arc<Target>, TimerHandle) {
        let timers = Timers::new();
        let target = Arc::new(Target::default());
        let weak: Weak<Target> = Arc::downgrade(&target);
        let timer = timers.timer(weak);
        (timers, target, timer)
    }

    #[test]
    fn a_timer_fires_once_at_its_latest_deadline() {
        let (timers, target, timer) = setup();
        timers.arm(&timer, at(10));
        timers.arm(&timer, at(30));
        timers.arm(&timer, at(20));
        assert_eq!(timers.fire(Instant::from_nanos(15)), 0);
        assert_eq!(timers.next_deadline(), at(20));
        assert_eq!(timers.fire(Instant::from_nanos(20)), 1);
        assert_eq!(timers.fire(Instant::from_nanos(99)), 0);
        assert_eq!(*target.0.lock(), [20]);
        assert_eq!(timer.deadline(), None);
    }

    #[test]
    fn an_earlier_deadline_takes_over_and_the_old_entry_is_forgotten() {
        let (timers, target, timer) = setup();
        timers.arm(&timer, at(50));
        timers.arm(&timer, at(10));
        assert_eq!(timers.fire(Instant::from_nanos(10)), 1);
        timers.arm(&timer, at(70));
        assert_eq!(timers.fire(Instant::from_nanos(60)), 0);
        assert_eq!(timers.fire(Instant::from_nanos(70)), 1);
        assert_eq!(*target.0.lock(), [10, 70]);
    }

    #[test]
    fn a_disarmed_or_dropped_target_never_fires() {
        let (timers, target, timer) = setup();
        timers.arm(&timer, at(5));
        timers.arm(&timer, None);
        assert_eq!(timers.fire(Instant::from_nanos(9)), 0);
        timers.arm(&timer, at(5));
        drop(target);
        assert_eq!(timers.fire(Instant::from_nanos(9)), 0);
        assert_eq!(timers.next_deadline(), None);
    }

    #[test]
    fn the_hook_hears_only_of_earlier_deadlines() {
        let (timers, _target, timer) = setup();
        let hook = Arc::new(Target::default());
        timers.set_hook(Some(hook.clone()));
        for deadline in [30, 40, 20, 25] {
            timers.arm(&timer, at(deadline));
        }
        assert_eq!(*hook.0.lock(), [30, 20]);
    }
}
