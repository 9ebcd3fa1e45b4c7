//! The lock order as ranks, declared once. A thread may take a lock only of a higher rank than all it holds, or of the same rank where the rank nests.

/// A place in the lock order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rank {
    order: u16,
    name: &'static str,
    nests: bool,
}

macro_rules! ranks {
    ($($(#[$doc:meta])* $name:ident = $order:literal $($nests:ident)?;)*) => {
        impl Rank {
            $($(#[$doc])* pub const $name: Rank =
                Rank { order: $order, name: stringify!($name), nests: ranks!(@ $($nests)?) };)*
        }
    };
    (@ nests) => { true };
    (@) => { false };
}

ranks! {
    /// The position of an open file: held for the length of a read or write, so outside everything that those take.
    FILE_POSITION = 50 nests;
    /// Owners of futex locks: program memory is read and written below it.
    FUTEX_OWNERS = 60;
    /// Kernel-wide tables.
    KERNEL = 100;
    /// Process ids, groups and sessions.
    PID_NAMESPACE = 200;
    /// A thread group's members and exit state.
    THREAD_GROUP = 300;
    /// One task's own state.
    TASK = 400 nests;
    /// Pending and blocked signals, handlers.
    SIGNAL = 450 nests;
    /// A table of file descriptors.
    FD_TABLE = 500 nests;
    /// The nesting of epoll instances.
    EPOLL = 520;
    /// State of an open file, a terminal or a pipe.
    FILE = 560 nests;
    /// One reader or writer of a socket at a time, across copies to and from a program's memory.
    SOCKET_IO = 570 nests;
    /// Mounts (below before on top).
    MOUNT = 600 nests;
    /// Changes of a filesystem's tree.
    RENAME = 640;
    /// Directory entries (parent before child).
    DENTRY = 650 nests;
    /// Inodes (directory before entry; two directories by rename's rule).
    INODE = 700 nests;
    /// A socket.
    SOCKET = 800 nests;
    /// Futex buckets: the word is read (without faults) while its bucket is held.
    FUTEX = 840 nests;
    /// A pipe (not held while another file is asked).
    PIPE = 810;
    /// Locks on a file's content.
    FILE_LOCKS = 820;
    /// A memory manager's areas.
    MM = 850 nests;
    /// Who maps a file (for invalidation).
    MAPPINGS = 870 nests;
    /// A memory manager's pages.
    MM_PAGES = 880 nests;
    /// Pages of a file: taken by a fault under a memory manager's locks, so never held while program memory is copied.
    PAGE_CACHE = 885 nests;
    /// Wait queues.
    WAIT_QUEUE = 950 nests;
    /// An epoll instance's list of ready files.
    EPOLL_READY = 955;
    /// Timers.
    TIMER = 960;
    /// Leaves: nothing is taken below.
    LEAF = 1000;
}

#[cfg(debug_assertions)]
mod check {
    use super::Rank;
    use std::cell::RefCell;

    thread_local! {
        static STACK: RefCell<Vec<Rank>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn push(rank: Rank, checked: bool) {
        STACK.with_borrow_mut(|stack| {
            let highest = stack.iter().max_by_key(|r| r.order).copied();
            if let Some(top) = highest
                && checked
            {
                let fine = rank.order > top.order || (rank == top && rank.nests);
                assert!(fine, "lock order: {} taken while {} is held", rank.name, top.name);
            }
            stack.push(rank);
        });
    }

    pub(super) fn pop(rank: Rank) {
        STACK.with_borrow_mut(|stack| {
            if let Some(at) = stack.iter().rposition(|r| *r == rank) {
                stack.remove(at);
            }
        });
    }
}

/// Says, in debug and test builds, that this thread holds a lock of a rank.
#[derive(Debug)]
pub struct Held {
    #[cfg(debug_assertions)]
    rank: Rank,
}

impl Held {
    #[cfg(debug_assertions)]
    pub(super) fn enter(rank: Rank) -> Self {
        check::push(rank, true);
        Self { rank }
    }

    #[cfg(debug_assertions)]
    pub(super) fn enter_unordered(rank: Rank) -> Self {
        check::push(rank, false);
        Self { rank }
    }

    #[cfg(not(debug_assertions))]
    pub(super) fn enter(_: Rank) -> Self {
        Self {}
    }

    #[cfg(not(debug_assertions))]
    pub(super) fn enter_unordered(_: Rank) -> Self {
        Self {}
    }
}

#[cfg(debug_assertions)]
impl Drop for Held {
    fn drop(&mut self) {
        check::pop(self.rank);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mutex;
    use super::*;

    #[test]
    #[should_panic(expected = "lock order: TASK taken while INODE is held")]
    fn a_lock_out_of_order_panics() {
        let inode = Mutex::new(Rank::INODE, ());
        let task = Mutex::new(Rank::TASK, ());
        let _inode = inode.lock();
        let _task = task.lock();
    }

    #[test]
    fn locks_in_order_and_nesting_ranks_are_fine() {
        let (a, b) = (Mutex::new(Rank::INODE, ()), Mutex::new(Rank::INODE, ()));
        let queue = Mutex::new(Rank::WAIT_QUEUE, ());
        let _a = a.lock();
        let _b = b.lock();
        let _queue = queue.lock();
    }
}
