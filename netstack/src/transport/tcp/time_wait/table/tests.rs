//! The table of remnants: what it holds, when it forgets, and how little each costs.

use super::*;

fn flow(n: u32) -> FlowKey {
    let [_, a, b, c] = n.to_be_bytes();
    let remote = SocketAddr::from(([10, a, b, c], 4000));
    FlowKey::new(SocketAddr::from(([192, 0, 2, 1], 80)), remote)
}

fn remnant(expires: Instant) -> Remnant {
    Remnant {
        awaits: Awaits::Silence,
        expires,
        send_next: Seq(1),
        receive_next: Seq(2),
        receive_window: 3,
        window: 4,
        recent: Some(5),
        recent_at: Instant::from_secs(6),
        timestamp_offset: 7,
        acked_at: None,
        nic: Some(NicId(8)),
    }
}

fn table() -> TimeWaitTable {
    TimeWaitTable::new(SipKey::new(1, 2))
}

fn insert(table: &TimeWaitTable, n: u32, expires: Instant) -> Instant {
    table.insert(&flow(n), (&remnant(expires), Family::V4), None, usize::MAX).unwrap().0
}

#[test]
fn a_remnant_costs_at_most_128_bytes_with_its_index_and_timer() {
    // The entry holds its links in the hash chain and in the wheel: there is no other timer. There are at most two
    // buckets of four bytes an entry (the index doubles when each has one), and slabs are allocated whole, so that
    // no more than one is partly empty. The wheel is 2 KB for all.
    let many = 100_000;
    let table = table();
    for n in 0..many {
        insert(&table, n, Instant::from_secs(60));
    }
    let inner = table.table.lock();
    let entries = inner.slabs.len() * SLAB * size_of::<Entry>();
    let index = inner.buckets.capacity() * size_of::<u32>();
    let pointers = inner.slabs.capacity() * size_of::<usize>();
    let wheel = size_of::<[u32; SLOTS]>();
    let each = (entries + index + pointers + wheel).div_ceil(many as usize);
    assert!(each <= 128 && size_of::<Entry>() <= 112, "{each} bytes, entry {}", size_of::<Entry>());
}

#[test]
fn what_is_put_in_comes_out_the_same() {
    let table = table();
    let now = Instant::from_secs(100);
    let kept = Remnant { acked_at: Some(now), awaits: Awaits::Fin, ..remnant(now) };
    table.insert(&flow(1), (&kept, Family::V6), None, 10).unwrap();
    assert_eq!(table.with(now, &flow(1), |found| *found), Some(kept));
    assert_eq!(table.with(now, &flow(2), |found| *found), None);
    let listed = table.list()[0];
    assert_eq!((listed.family, listed.awaits), (Family::V6, Awaits::Fin));
    assert_eq!((listed.local, listed.remote), (flow(1).local(), flow(1).remote()));
    assert_eq!(table.remove(now, &flow(1)).map(|gone| gone.0), Some(kept));
    assert!(table.is_empty() && table.remove(now, &flow(1)).is_none());
}

#[test]
fn each_expires_once_within_a_tick_of_its_time() {
    let table = table();
    let mut rng = crate::rng::Rng::new(&crate::rng::seed_from(5), 0);
    let times: Vec<Instant> =
        (0..5000).map(|_| Instant::from_millis(1 + rng.below(200_000))).collect();
    for (n, at) in (0u32..).zip(&times) {
        insert(&table, n, *at);
    }
    let mut now = Instant::ZERO;
    while let (_, Some(next)) = table.expire(now) {
        let gone = times.len() - table.len();
        let due = times.iter().filter(|at| **at <= now).count();
        let late = times.iter().filter(|at| **at + Duration::from_millis(128) <= now).count();
        assert!(late <= gone && gone <= due, "{now:?}: {late} {gone} {due}");
        assert!(next > now);
        now = next;
    }
    assert_eq!((table.len(), table.list().len()), (0, 0));
}

#[test]
fn a_longer_wait_moves_and_a_full_table_refuses() {
    let table = table();
    insert(&table, 1, Instant::from_secs(1));
    insert(&table, 2, Instant::from_secs(1));
    table.with(Instant::ZERO, &flow(1), |found| found.expires = Instant::from_secs(100));
    let (_, next) = table.expire(Instant::from_secs(2));
    assert_eq!(table.len(), 1);
    assert!(next.is_some_and(|at| at <= Instant::from_millis(100_128)));
    let another = remnant(Instant::from_secs(5));
    assert_eq!(table.insert(&flow(3), (&another, Family::V4), None, 1), Err(Full));
    assert!(table.insert(&flow(1), (&another, Family::V4), None, 1).is_ok());
}
