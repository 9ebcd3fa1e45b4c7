//! Which core a context runs on: the guest's thread and the sentry thread that serves it share one,
//! because waking another core costs ten times a switch on the same one. (A backend that spins may ask
//! for two.)
//!
//! For the same reason tasks that take turns (a pipe, a parent that waits for its child) belong on one
//! core, and tasks that run at the same time belong on several. Who takes turns shows in who sleeps:
//! a new context starts on its maker's core; a context that wakes while all others sleep goes to
//! the sandbox's home core; and where several contexts of one core stay awake for longer than a turn
//! takes while another core has fewer, the balancer moves one there. It sleeps as long as no core is
//! crowded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use parking_lot::{Condvar, Mutex};

use super::own_tid;

/// A core is crowded when contexts have been awake together for so long.
const CROWDED_AFTER: Duration = Duration::from_millis(3);
/// How often the balancer looks while the awake contexts are spread unevenly.
const BALANCE_INTERVAL: Duration = Duration::from_millis(5);
/// The balancer only reads counts and sets affinities.
const BALANCER_STACK_SIZE: usize = 64 * 1024;

/// The cores that the sentry may use, and the contexts on them.
pub(crate) struct Cores {
    shared: Arc<Shared>,
    balancer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    /// Contexts that do not sleep, and cores.
    awake: AtomicUsize,
    count: usize,
    /// For the balancer: contexts are spread unevenly, or the end has come.
    changed: Condvar,
}

struct State {
    cores: Vec<Core>,
    places: BTreeMap<u64, Place>,
    next: u64,
    /// Where a context goes that is alone awake: the core of the first.
    home: Option<usize>,
    balancing: bool,
    ended: bool,
}

struct Core {
    number: usize,
    /// Contexts here that do not sleep.
    awake: usize,
    /// Since when they are more than one.
    shared_since: Option<Instant>,
}

struct Place {
    /// Index in the list of cores.
    core: usize,
    awake: bool,
    /// The sentry's thread, and the stub's while there is one.
    tracer: i32,
    stub: Option<i32>,
    spread: Spread,
}

/// Where a context's two threads are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// On one core.
    Together,
    /// The stub's on another core than the sentry's.
    Apart,
}

/// Names a context's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlaceId(u64);

impl Cores {
    /// The cores that the calling thread is allowed.
    pub(crate) fn new() -> Cores {
        let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
        let numbers = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu) == Ok(true));
        let cores = numbers.map(|number| Core { number, awake: 0, shared_since: None }).collect();
        let state = State {
            cores,
            places: BTreeMap::new(),
            next: 0,
            home: None,
            balancing: false,
            ended: false,
        };
        let count = state.cores.len();
        let awake = AtomicUsize::new(0);
        let shared = Shared { state: Mutex::new(state), awake, count, changed: Condvar::new() };
        Cores { shared: Arc::new(shared), balancer: Mutex::default() }
    }

    /// All of them.
    pub(crate) fn all(&self) -> CpuSet {
        self.shared.state.lock().all()
    }

    /// Gives the calling thread's context a place on the core where it runs, which is that of the
    /// thread that made it, and pins both threads there.
    pub(crate) fn bind(&self, stub: i32) -> Option<PlaceId> {
        let mut state = self.shared.state.lock();
        let here = nix::sched::sched_getcpu().ok();
        let core = state.cores.iter().position(|core| Some(core.number) == here);
        let core = core.or((!state.cores.is_empty()).then_some(0))?;
        state.home.get_or_insert(core);
        let id = state.next;
        state.next += 1;
        let place = Place {
            core,
            awake: true,
            tracer: own_tid(),
            stub: Some(stub),
            spread: Spread::Together,
        };
        pin_threads(&place, &state.cores);
        state.places.insert(id, place);
        self.shared.awake.fetch_add(1, Ordering::Relaxed);
        let uneven = state.add_awake(core);
        drop(state);
        self.balance_if(uneven);
        Some(PlaceId(id))
    }

    /// Undoes `bind`.
    pub(crate) fn unbind(&self, id: PlaceId) {
        self.sleeps(id);
        self.shared.state.lock().places.remove(&id.0);
    }

    /// The context has a new stub thread, or none.
    pub(crate) fn set_stub(&self, id: PlaceId, stub: Option<i32>) {
        let mut state = self.shared.state.lock();
        let Some(place) = state.places.get_mut(&id.0) else { return };
        place.stub = stub;
        state.pin_stub(id.0);
    }

    /// Puts the context's threads on one core, or on two.
    pub(crate) fn set_spread(&self, id: PlaceId, spread: Spread) {
        let mut state = self.shared.state.lock();
        let Some(place) = state.places.get_mut(&id.0) else { return };
        place.spread = spread;
        state.pin_stub(id.0);
    }

    /// Whether there are two cores for each context that is awake.
    pub(crate) fn has_room_apart(&self) -> bool {
        self.shared.awake.load(Ordering::Relaxed).saturating_mul(2) <= self.shared.count
    }

    /// The calling thread's context sleeps.
    pub(crate) fn sleeps(&self, id: PlaceId) {
        let mut state = self.shared.state.lock();
        let Some(place) = state.places.get_mut(&id.0) else { return };
        if !std::mem::replace(&mut place.awake, false) {
            return;
        }
        let core = place.core;
        self.shared.awake.fetch_sub(1, Ordering::Relaxed);
        let uneven = state.remove_awake(core);
        drop(state);
        self.balance_if(uneven);
    }

    /// It sleeps no more.
    pub(crate) fn wakes(&self, id: PlaceId) {
        let mut state = self.shared.state.lock();
        let (home, alone) = (state.home, state.cores.iter().all(|core| core.awake == 0));
        let Some(place) = state.places.get_mut(&id.0) else { return };
        if std::mem::replace(&mut place.awake, true) {
            return;
        }
        let core = home.filter(|_| alone).unwrap_or(place.core);
        if core != place.core {
            state.move_to(id.0, core);
        }
        self.shared.awake.fetch_add(1, Ordering::Relaxed);
        let uneven = state.add_awake(core);
        drop(state);
        self.balance_if(uneven);
    }

    /// Wakes the balancer, or starts it.
    fn balance_if(&self, uneven: Uneven) {
        if uneven == Uneven::No {
            return;
        }
        let mut balancer = self.balancer.lock();
        if balancer.is_none() {
            let shared = self.shared.clone();
            let thread = std::thread::Builder::new()
                .name("cores".to_owned())
                .stack_size(BALANCER_STACK_SIZE)
                .spawn(move || shared.balance());
            // Without it everything runs, on fewer cores.
            *balancer = thread.ok();
        }
        self.shared.changed.notify_one();
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        self.shared.state.lock().ended = true;
        self.shared.changed.notify_one();
        if let Some(balancer) = self.balancer.get_mut().take() {
            let _ = balancer.join();
        }
    }
}

/// Whether the balancer should look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Uneven {
    Yes,
    No,
}

impl State {
    fn all(&self) -> CpuSet {
        let mut all = CpuSet::new();
        for core in &self.cores {
            let _ = all.set(core.number);
        }
        all
    }

    fn add_awake(&mut self, index: usize) -> Uneven {
        let Some(core) = self.cores.get_mut(index) else { return Uneven::No };
        core.awake += 1;
        if core.awake < 2 {
            return Uneven::No;
        }
        core.shared_since.get_or_insert_with(Instant::now);
        self.is_uneven()
    }

    fn remove_awake(&mut self, index: usize) -> Uneven {
        let Some(core) = self.cores.get_mut(index) else { return Uneven::No };
        core.awake = core.awake.saturating_sub(1);
        if core.awake < 2 {
            core.shared_since = None;
        }
        self.is_uneven()
    }

    /// Whether a move would help and nobody looks after it yet.
    fn is_uneven(&self) -> Uneven {
        if !self.balancing && self.best_move().is_some() { Uneven::Yes } else { Uneven::No }
    }

    /// From the core with most awake contexts to that with fewest, if that makes a difference.
    fn best_move(&self) -> Option<(usize, usize)> {
        let counts = || self.cores.iter().map(|core| core.awake).enumerate();
        let (from, most) = counts().max_by_key(|(_, awake)| *awake)?;
        let (to, fewest) = counts().min_by_key(|(_, awake)| *awake)?;
        (most >= fewest + 2).then_some((from, to))
    }

    /// Moves one context from a core that is crowded.
    fn spread(&mut self) {
        let Some((from, to)) = self.best_move() else { return };
        let since = self.cores.get(from).and_then(|core| core.shared_since);
        if since.is_none_or(|since| since.elapsed() < CROWDED_AFTER) {
            return;
        }
        let newest = self.places.iter().rev().find(|(_, place)| place.awake && place.core == from);
        if let Some((&id, _)) = newest {
            self.move_to(id, to);
            self.remove_awake(from);
            self.add_awake(to);
        }
    }

    /// Changes the place's core, but no counts.
    fn move_to(&mut self, id: u64, core: usize) {
        if let Some(place) = self.places.get_mut(&id) {
            place.core = core;
            pin_threads(place, &self.cores);
        }
    }

    fn pin_stub(&self, id: u64) {
        let Some(place) = self.places.get(&id) else { return };
        if let (Some(stub), Some(core)) = (place.stub, stub_core(place, &self.cores)) {
            // A core that was taken away meanwhile (cpuset) only costs speed.
            let _ = pin_thread(stub, core);
        }
    }
}

impl Shared {
    /// The balancer's thread.
    fn balance(&self) {
        let mut state = self.state.lock();
        // Its maker was pinned.
        let _ = sched_setaffinity(Pid::from_raw(0), &state.all());
        while !state.ended {
            state.balancing = state.best_move().is_some();
            if state.balancing {
                self.changed.wait_for(&mut state, BALANCE_INTERVAL);
                state.spread();
            } else {
                self.changed.wait(&mut state);
            }
        }
    }
}

/// Puts both threads on their cores. One that was taken away meanwhile (cpuset) only costs speed.
fn pin_threads(place: &Place, cores: &[Core]) {
    let stub = place.stub.zip(stub_core(place, cores));
    let sentry = cores.get(place.core).map(|core| (place.tracer, core.number));
    for (thread, core) in stub.into_iter().chain(sentry) {
        let _ = pin_thread(thread, core);
    }
}

/// The number of the core for the stub's thread: the sentry's, or that of the others where fewest are
/// awake.
fn stub_core(place: &Place, cores: &[Core]) -> Option<usize> {
    let own = cores.get(place.core)?.number;
    match place.spread {
        Spread::Together => Some(own),
        Spread::Apart => {
            let others = cores.iter().filter(|core| core.number != own);
            Some(others.min_by_key(|core| core.awake).map_or(own, |core| core.number))
        }
    }
}

/// Pins a thread (0: the calling one) to a core.
pub(crate) fn pin_thread(tid: i32, core: usize) -> Result<(), Errno> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(tid), &set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(awake: [usize; 2]) -> State {
        let cores = awake.into_iter().enumerate().map(|(number, awake)| Core {
            number,
            awake,
            shared_since: Some(Instant::now() - Duration::from_secs(1)),
        });
        let cores = cores.collect();
        // Thread numbers that cannot be: no thread's affinity changes.
        let place = |core| Place {
            core,
            awake: true,
            tracer: i32::MAX,
            stub: None,
            spread: Spread::Together,
        };
        let places = (0..awake[0]).map(|_| 0).chain((0..awake[1]).map(|_| 1)).map(place);
        let places = (0u64..).zip(places).collect();
        State { cores, places, next: 9, home: Some(0), balancing: false, ended: false }
    }

    fn counts(state: &State) -> Vec<usize> {
        state.cores.iter().map(|core| core.awake).collect()
    }

    #[test]
    fn a_crowded_core_gives_to_an_idle_one_until_nothing_is_gained() {
        let mut state = state([3, 0]);
        state.spread();
        assert_eq!(counts(&state), [2, 1]);
        state.spread();
        assert_eq!(counts(&state), [2, 1]);
        assert_eq!(state.places.values().filter(|place| place.core == 1).count(), 1);
    }

    #[test]
    fn turns_on_one_core_are_not_a_crowd() {
        let mut state = state([1, 0]);
        assert!(state.add_awake(0) == Uneven::Yes);
        assert!(state.remove_awake(0) == Uneven::No);
        state.add_awake(0);
        // It was made for a moment: no move.
        state.spread();
        assert_eq!(counts(&state), [2, 0]);
    }
}
