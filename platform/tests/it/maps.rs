//! Changes of a memory map hold at once, for every thread, also while others run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use platform::{
    Access, Context, Event, MapOp, PAGE_SIZE, Platform, PlatformError, Populate, Prot, Registers,
};

use crate::fixture::{CODE, DATA, Guest, LOOP, SYSCALL, map_guest, program};

crate::platform_tests!(
    bad_ranges_are_refused_before_anything_changes,
    a_batch_longer_than_a_page_of_commands_works,
    unmap_and_protect_hold_for_a_running_thread,
    populated_pages_do_not_fault_and_file_pages_are_shared,
    threads_share_a_space,
    threads_begin_while_the_map_changes,
    protecting_a_hole_is_an_error,
);

fn bad_ranges_are_refused_before_anything_changes(platform: Arc<dyn Platform>) {
    let guest = Guest::new(platform.clone(), &SYSCALL);
    let (range, size) = (platform.user_range(), platform.memory().size());
    let bad =
        [(0, PAGE_SIZE), (range.end, PAGE_SIZE), (CODE + 1, PAGE_SIZE), (CODE, 12), (CODE, 0)];
    for (addr, len) in bad {
        let result = guest.space.unmap(addr, len);
        assert!(matches!(result, Err(PlatformError::BadRange { .. })), "{addr:#x}");
    }
    let behind = guest.space.map_file(DATA, PAGE_SIZE, size, Prot::READ, Populate::Lazy);
    assert!(matches!(behind, Err(PlatformError::BadRange { .. })));
    let mixed = [
        MapOp::Unmap { addr: CODE, len: PAGE_SIZE },
        MapOp::Unmap { addr: range.end - PAGE_SIZE, len: 2 * PAGE_SIZE },
    ];
    assert!(guest.space.batch(&mixed).is_err());
    let mut guest = guest;
    guest.regs.rax = 3;
    guest.expect_syscall(3);
}

fn a_batch_longer_than_a_page_of_commands_works(platform: Arc<dyn Platform>) {
    // mov rax, [rbx]; syscall
    let mut guest = Guest::new(platform, &program(&[&[0x48, 0x8b, 0x03], &SYSCALL]));
    let base = 0x1000_0000;
    let ops: Vec<MapOp> = (0..200)
        .map(|page| MapOp::MapFile {
            addr: base + page * 2 * PAGE_SIZE,
            len: PAGE_SIZE,
            file_offset: guest.data.start + page % 4 * PAGE_SIZE,
            prot: Prot::READ,
            populate: Populate::Lazy,
        })
        .collect();
    guest.space.batch(&ops).unwrap();
    for page in 0..4 {
        guest.set_word(page * PAGE_SIZE, 700 + page);
    }
    for page in 0..200 {
        let addr = base + page * 2 * PAGE_SIZE;
        guest.regs = Registers { rbx: addr, ..Registers::at_entry(CODE, 0) };
        guest.expect_syscall(700 + page % 4);
        guest.regs = Registers { rbx: addr + PAGE_SIZE, ..Registers::at_entry(CODE, 0) };
        assert!(matches!(guest.run(), Event::Fault { .. }), "between the pages is nothing");
    }
    guest.space.unmap(base, 400 * PAGE_SIZE).unwrap();
    guest.regs = Registers { rbx: base, ..Registers::at_entry(CODE, 0) };
    assert!(matches!(guest.run(), Event::Fault { .. }));
}

/// A second thread of the guest that writes its counter to DATA in a loop until it faults.
fn spin_until_fault(guest: &Guest) -> std::thread::JoinHandle<(Event, Registers)> {
    let (platform, space) = (guest.platform.clone(), guest.space.clone());
    let mut context = platform.new_context().unwrap();
    std::thread::spawn(move || {
        let mut regs = Registers { rbx: DATA, ..Registers::at_entry(CODE, 0) };
        let event = context.switch(&space, &mut regs).unwrap();
        (event, regs)
    })
}

/// `1: inc rax; mov [rbx], rax; jmp 1b`
const COUNT: [u8; 8] = [0x48, 0xff, 0xc0, 0x48, 0x89, 0x03, 0xeb, 0xf8];

/// Waits until the counter has moved on: the thread runs.
fn wait_for_progress(guest: &Guest) {
    let before = guest.word(0);
    while guest.word(0) == before {
        std::thread::yield_now();
    }
}

fn unmap_and_protect_hold_for_a_running_thread(platform: Arc<dyn Platform>) {
    let guest = Guest::new(platform, &COUNT);
    let running = spin_until_fault(&guest);
    wait_for_progress(&guest);
    guest.space.protect(DATA, PAGE_SIZE, Prot::READ).unwrap();
    let frozen = guest.word(0);
    let (event, regs) = running.join().unwrap();
    assert_eq!(event, Event::Fault { addr: DATA, access: Access::Write, error_code: 7 });
    assert_eq!(guest.word(0), frozen, "no write after protect returned");
    assert_eq!(regs.rax, frozen + 1);
    guest.space.protect(DATA, PAGE_SIZE, Prot::READ | Prot::WRITE).unwrap();
    let running = spin_until_fault(&guest);
    wait_for_progress(&guest);
    guest.space.unmap(DATA, PAGE_SIZE).unwrap();
    let frozen = guest.word(0);
    let (event, _) = running.join().unwrap();
    assert_eq!(event, Event::Fault { addr: DATA, access: Access::Write, error_code: 6 });
    assert_eq!(guest.word(0), frozen);
}

fn populated_pages_do_not_fault_and_file_pages_are_shared(platform: Arc<dyn Platform>) {
    // mov [rbx], rax; mov rax, [rcx]; syscall
    let code = program(&[&[0x48, 0x89, 0x03], &[0x48, 0x8b, 0x01], &SYSCALL]);
    let mut guest = Guest::new(platform, &code);
    let (first, second) = (0x2000_0000, 0x3000_0000);
    let rw = Prot::READ | Prot::WRITE;
    for addr in [first, second] {
        guest.space.map_file(addr, 4 * PAGE_SIZE, guest.data.start, rw, Populate::Now).unwrap();
    }
    guest.regs.rax = 4321;
    guest.regs.rbx = first + 16;
    guest.regs.rcx = second + 16;
    guest.expect_syscall(4321);
    assert_eq!(guest.word(16), 4321, "and the sentry sees it too");
}

fn threads_share_a_space(platform: Arc<dyn Platform>) {
    // lock inc qword [rbx]; dec rcx; jnz -9; syscall
    let code =
        program(&[&[0xf0, 0x48, 0xff, 0x03], &[0x48, 0xff, 0xc9], &[0x75, 0xf7], &SYSCALL, &LOOP]);
    let guest = Guest::new(platform, &code);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut context = guest.platform.new_context().unwrap();
            let space = guest.space.clone();
            scope.spawn(move || {
                for _ in 0..5 {
                    let mut regs =
                        Registers { rbx: DATA, rcx: 20_000, ..Registers::at_entry(CODE, 0) };
                    assert_eq!(context.switch(&space, &mut regs).unwrap(), Event::Syscall);
                }
                drop(context);
            });
        }
        // Meanwhile the map changes elsewhere.
        for round in 0..50 {
            let addr = 0x4000_0000 + round * PAGE_SIZE;
            let data = guest.data.start;
            guest.space.map_file(addr, PAGE_SIZE, data, Prot::READ, Populate::Lazy).unwrap();
        }
    });
    assert_eq!(guest.word(0), 4 * 5 * 20_000);
}

/// A new thread runs for the first time when the command that made it may be overwritten already.
fn threads_begin_while_the_map_changes(platform: Arc<dyn Platform>) {
    let guest = Guest::new(platform, &program(&[&SYSCALL, &[0xeb, 0xfc]]));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for lane in 0..2u64 {
            let (space, data, done) = (guest.space.clone(), guest.data.start, &done);
            scope.spawn(move || {
                // As long as the batch in which a thread is made, so that no word of it stays.
                let map = |page| MapOp::MapFile {
                    addr: 0x4000_0000 + (8 * lane + page) * PAGE_SIZE,
                    len: PAGE_SIZE,
                    file_offset: data,
                    prot: Prot::READ,
                    populate: Populate::Lazy,
                };
                let ops: Vec<MapOp> = (0..3).map(map).collect();
                while !done.load(Ordering::Relaxed) {
                    space.batch(&ops).unwrap();
                }
            });
        }
        let mut contexts = Vec::new();
        for number in 0..200 {
            let mut context = guest.platform.new_context().unwrap();
            let mut regs = Registers { rax: number, ..Registers::at_entry(CODE, 0) };
            assert_eq!(context.switch(&guest.space, &mut regs).unwrap(), Event::Syscall);
            contexts.push(context);
        }
        done.store(true, Ordering::Relaxed);
    });
}

fn protecting_a_hole_is_an_error(platform: Arc<dyn Platform>) {
    let guest = Guest::new(platform.clone(), &SYSCALL);
    let hole = guest.space.protect(0x6000_0000, PAGE_SIZE, Prot::READ);
    assert!(matches!(hole, Err(PlatformError::Map { .. })), "{hole:?}");
    let other = platform.new_address_space().unwrap();
    map_guest(&*other, guest.code, guest.data);
}

#[test]
fn spaces_of_another_platform_are_refused() {
    let fake = platform::fake::FakePlatform::new().unwrap();
    let backend = platform::by_name("ptrace").expect("listed");
    let real = (backend.start)(platform::BackendOptions::default()).unwrap();
    let mut context: Box<dyn Context> = real.new_context().unwrap();
    let foreign = fake.new_address_space().unwrap();
    let result = context.switch(&foreign, &mut Registers::default());
    assert!(matches!(result, Err(PlatformError::ForeignSpace)));
}
