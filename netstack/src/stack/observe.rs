//! Who wants to know of changes: netlink's notifications.

use core::sync::atomic::Ordering;
use std::sync::Arc;

use super::{NicInfo, Stack};
use crate::ip::neigh::Neighbour;
use crate::ip::{Address, Route, Rule};
use crate::link::NicId;

/// Whether something is there now, or no longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// New, or changed.
    New,
    /// Gone.
    Deleted,
}

/// What changed.
#[derive(Clone, Debug)]
pub enum Change {
    /// An interface.
    Link(Presence, NicInfo),
    /// An address of an interface.
    Address(Presence, NicId, Address),
    /// A route.
    Route(Presence, Route),
    /// A rule.
    Rule(Presence, Rule),
    /// A neighbour of an interface.
    Neighbour(Presence, NicId, Neighbour),
    /// A tunable of an interface that has notifications (`RTM_NEWNETCONF`).
    Tunables(NicId),
}

/// Is told of changes.
pub trait Observer: Send + Sync {
    /// Something changed. Called without any lock of the stack held, on the thread that caused it; it must not wait.
    fn changed(&self, change: &Change);
}

impl Stack {
    /// Tells an observer of every change from now on.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        let mut observers = self.observers.write();
        let mut more = Vec::clone(&observers);
        more.push(observer);
        *observers = Arc::new(more);
        self.observed.store(true, Ordering::Release);
        drop(observers);
        self.topology().nics().for_each(|nic| nic.neighbours.lock().watch());
    }

    /// Whether anybody wants to know.
    pub(super) fn is_observed(&self) -> bool {
        self.observed.load(Ordering::Acquire)
    }

    /// Tells the observers.
    pub(super) fn tell(&self, changes: &[Change]) {
        if changes.is_empty() || !self.is_observed() {
            return;
        }
        let observers = self.observers.read().clone();
        for change in changes {
            observers.iter().for_each(|observer| observer.changed(change));
        }
    }
}
