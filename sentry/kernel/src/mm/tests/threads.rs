//! Several host threads in one address space: what each writes stays, whatever the others do to areas and pages.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use platform::{Access, Platform};
use sentry_abi::mman::MapType;
use sentry_abi::{PAGE_SIZE, UserAddr};

use super::model::Random;
use super::{Guest, RW, guest_on, platform};
use crate::mm::{MmapArgs, Prot};

const THREADS: u64 = 4;
const PAGES: u64 = 64;

/// Counts in its own byte of every page while others fork and protect. Copies and faults only: the fake's own loads and stores
/// check and access in two steps, which no processor does.
fn count(guest: &Guest, base: u64, thread: u64, rounds: u64) {
    let mut random = Random::new(thread + 1);
    let mut expected = [0u8; PAGES as usize];
    for _ in 0..rounds {
        let page = random.below(PAGES);
        let addr = UserAddr(base + page * PAGE_SIZE + thread * 8);
        let mut byte = [0];
        guest.mm.read(addr, &mut byte).unwrap();
        assert_eq!(byte[0], expected[page as usize], "thread {thread}, page {page}");
        expected[page as usize] = byte[0].wrapping_add(1);
        if random.below(2) == 0 {
            guest.mm.handle_fault(addr.0, Access::Write).unwrap();
        }
        guest.mm.write(addr, &[byte[0].wrapping_add(1)]).unwrap();
    }
}

/// Forks, and writes in the child where the parent's threads write too.
fn fork_and_scribble(guest: &Guest, base: u64, rounds: u64) {
    let mut random = Random::new(99);
    for _ in 0..rounds {
        let child = guest.fork();
        for _ in 0..8 {
            let addr = base + random.below(PAGES) * PAGE_SIZE;
            child.mm.write(UserAddr(addr), &[0xee; 64]).unwrap();
            assert_eq!(child.load(addr + 3), Ok(0xee), "the child has one thread");
        }
    }
}

/// Maps and unmaps elsewhere, so that areas change all the time.
fn churn(guest: &Guest, rounds: u64) {
    for round in 0..rounds {
        let len = (1 + round % 7) * PAGE_SIZE;
        let at = guest.map(len, RW);
        guest.store(at, 1).unwrap();
        guest.mm.mprotect(UserAddr(at), len, Prot::READ).unwrap();
        assert!(guest.store(at, 1).is_err());
        guest.mm.munmap(UserAddr(at), len).unwrap();
    }
}

#[test]
fn threads_keep_what_they_write_through_forks() {
    let platform: Arc<dyn Platform> = platform();
    let guest = guest_on(&platform);
    let base = guest.map(PAGES * PAGE_SIZE, RW);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let guest = &guest;
            scope.spawn(move || count(guest, base, thread, 4000));
        }
        scope.spawn(|| fork_and_scribble(&guest, base, 150));
        scope.spawn(|| churn(&guest, 500));
    });
    drop(guest);
    assert_eq!(platform.memory().used_bytes(), 0, "a page was leaked");
}

#[test]
fn a_shared_word_counts_every_increment_of_two_programs() {
    let platform: Arc<dyn Platform> = platform();
    let parent = guest_on(&platform);
    let shared = MmapArgs { kind: MapType::Shared, ..MmapArgs::anonymous(PAGE_SIZE, RW) };
    let word = parent.mm.mmap(shared).unwrap();
    let child = parent.fork();
    let (start, done) = (Barrier::new(2), AtomicU64::new(0));
    thread::scope(|scope| {
        for guest in [&parent, &child] {
            let (start, done) = (&start, &done);
            scope.spawn(move || {
                start.wait();
                for _ in 0..5000 {
                    guest.mm.fetch_update_u32(word, |value| value + 1).unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(u64::from(parent.mm.load_u32(word).unwrap()), done.into_inner());
}
