//! Tests of the futex table.

use super::*;
use std::sync::atomic::AtomicU32;

#[derive(Default)]
struct Count(AtomicU32);
impl Wake for Count {
    fn wake(&self, _: Events) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn key(addr: u64) -> FutexKey {
    FutexKey::Private { space: 1, addr }
}

#[test]
fn waiters_are_woken_in_order_and_only_where_bitsets_meet() {
    let table = FutexTable::new();
    let waker = Arc::new(Count::default());
    let a = table.enqueue(key(4), 1, waker.clone());
    let b = table.enqueue(key(4), 2, waker.clone());
    let c = table.enqueue(key(4), 3, waker.clone());
    assert_eq!(table.wake(key(8), 9, u32::MAX), 0);
    assert_eq!(table.wake(key(4), 1, 2), 1);
    assert!(!a.is_woken() && b.is_woken() && !c.is_woken());
    assert_eq!(table.wake(key(4), 9, u32::MAX), 2);
    assert_eq!(waker.0.load(Ordering::Relaxed), 3);
    assert!(table.cancel(&a), "a cancelled waiter that was woken says so");
}

#[test]
fn requeued_waiters_wake_and_cancel_at_their_new_word() {
    for to in 0..40u64 {
        let table = FutexTable::new();
        let waker = Arc::new(Count::default());
        let waiters: Vec<_> =
            (0..3).map(|_| table.enqueue(key(1000), u32::MAX, waker.clone())).collect();
        assert_eq!(table.requeue(key(1000), key(to), 1, 9), (1, 2));
        assert!(waiters[0].is_woken());
        assert_eq!(table.wake(key(1000), 9, u32::MAX), 0);
        assert!(!table.cancel(&waiters[1]));
        assert_eq!(table.wake(key(to), 9, u32::MAX), 1);
        assert!(waiters[2].is_woken());
    }
}
