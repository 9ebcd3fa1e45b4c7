//! Patched call sites: what a program sees of them is what it saw before.

use platform::arch::registers::{FLAG_DIRECTION, FLAG_TRAP};
use platform::{CallSite, Event, PAGE_SIZE, Populate, Prot, Registers};

use crate::fixture::{CODE, DATA, DATA_LEN, Guest, LOOP, SYSCALL, mov_eax, program};

/// Where the site begins: a call at the very start of a page is not patched.
const SITE: u64 = CODE + 32;
const BEHIND: u64 = SITE + 7;
const NR: u64 = 39;
/// CF PF AF ZF SF OF.
const ARITHMETIC: u64 = 0x8d5;

/// No operations, `mov $39, %eax; syscall`, `tail`: the site is patched, as is seen in the program's own text.
fn patched(tail: &[u8]) -> Guest {
    let code = program(&[&[0x90; 32], &mov_eax(NR as u32), &SYSCALL, tail]);
    let mut guest = Guest::new(crate::fixture::start("systrap"), &code);
    patch(&mut guest);
    guest
}

fn patch(guest: &mut Guest) {
    guest.space.patch_call(CallSite { behind: BEHIND, nr: NR }, guest.code.start);
    assert_ne!(text(guest)[..5], mov_eax(NR as u32)[..], "not patched");
}

/// The seven bytes at the site as the program reads them, by a piece of code in another page.
fn text(guest: &mut Guest) -> [u8; 7] {
    const READER: u64 = 0x7100_0000;
    let memory = guest.platform.memory().clone();
    let page = memory.allocate(PAGE_SIZE, PAGE_SIZE).unwrap();
    // mov (%rsi), %rbx; syscall
    memory.write_at(page.start, &program(&[&[0x48, 0x8b, 0x1e], &SYSCALL])).unwrap();
    let prot = Prot::READ | Prot::EXEC;
    guest.space.map_file(READER, PAGE_SIZE, page.start, prot, Populate::Lazy).unwrap();
    let mut context = guest.platform.new_context().unwrap();
    let mut regs = Registers { rsi: SITE, ..Registers::at_entry(READER, 0) };
    assert_eq!(context.switch(&guest.space, &mut regs).unwrap(), Event::Syscall);
    guest.space.unmap(READER, PAGE_SIZE).unwrap();
    memory.decref(page);
    regs.rbx.to_le_bytes()[..7].try_into().unwrap()
}

/// Registers that all differ.
fn all_different(rip: u64) -> Registers {
    Registers {
        r15: 15,
        r14: 14,
        r13: 13,
        r12: 12,
        rbp: 11,
        rbx: 10,
        r10: 9,
        r9: 8,
        r8: 7,
        rdx: 6,
        rsi: 5,
        rdi: 4,
        ..Registers::at_entry(rip, DATA + DATA_LEN - 1024)
    }
}

/// Whether it came by the trampoline shows in nothing but the time, and in this: a single-stepped program comes by
/// the instruction in the middle.
#[test]
fn a_patched_call_has_all_registers_and_flags_of_a_call() {
    let mut guest = patched(&[0x90]);
    for (round, flags) in
        [0, ARITHMETIC, 1, 0x10, 0x40, 0x80, 0x800, FLAG_DIRECTION, 0x20_0000, 0x4_0000, 0x4000]
            .into_iter()
            .enumerate()
    {
        // The first turn comes by the trap: the thread has no area by its segment yet.
        let before = Registers {
            eflags: flags | 0x202,
            fs_base: 0x1234_5000 + round as u64,
            ..all_different(SITE)
        };
        guest.regs = before;
        assert_eq!(guest.run(), Event::Syscall);
        let expected = Registers {
            rip: BEHIND,
            rcx: BEHIND,
            r11: before.eflags,
            rax: -38i64 as u64,
            orig_rax: NR,
            ..before
        };
        assert_eq!(guest.regs, expected, "flags {flags:#x}");
        guest.regs.orig_rax = before.orig_rax;
    }
}

#[test]
fn what_the_kernel_changes_is_there_behind_a_patched_call() {
    // Stores all registers, and flags by the stack: mov %rax, 8(%rbx); ...; then another call.
    let store = program(&[
        &[0x9c],                   // pushf
        &[0x48, 0x89, 0x03],       // mov %rax, (%rbx)
        &[0x48, 0x89, 0x4b, 0x08], // mov %rcx, 8(%rbx)
        &[0x4c, 0x89, 0x5b, 0x10], // mov %r11, 16(%rbx)
        &SYSCALL,
    ]);
    let mut guest = patched(&store);
    for round in 0..4u64 {
        guest.regs = all_different(SITE);
        assert_eq!(guest.run(), Event::Syscall);
        let changed = Registers {
            rbx: DATA,
            rax: 1000 + round,
            rsp: DATA + DATA_LEN - 8 * round,
            eflags: 0x202 | ARITHMETIC,
            gs_base: if round == 2 { DATA } else { 0 },
            r9: 77 + round,
            ..guest.regs
        };
        guest.regs = changed;
        assert_eq!(guest.run(), Event::Syscall);
        assert_eq!(guest.word(0), 1000 + round);
        assert_eq!((guest.word(8), guest.word(16)), (BEHIND, changed.r11));
        assert_eq!(guest.word(DATA_LEN - 8 * round - 8) & !0x10000, changed.eflags);
        assert_eq!((guest.regs.r9, guest.regs.gs_base), (77 + round, changed.gs_base));
        assert_eq!(guest.regs.rsp, changed.rsp - 8);
    }
}

/// Only calls that come by a signal are counted.
#[test]
fn a_site_that_is_called_often_is_hot_until_it_is_patched() {
    let code = program(&[&[0x90; 32], &mov_eax(NR as u32), &SYSCALL]);
    let mut guest = Guest::new(crate::fixture::start("systrap"), &code);
    let calls = |guest: &mut Guest, count: u32| {
        let mut hot = Vec::new();
        for _ in 0..count {
            guest.regs = all_different(SITE);
            guest.expect_syscall(NR);
            hot.extend(guest.context.hot_call());
        }
        hot
    };
    let site = CallSite { behind: BEHIND, nr: NR };
    assert_eq!(calls(&mut guest, 100), [site]);
    guest.space.patch_call(site, guest.code.start);
    assert_eq!(calls(&mut guest, 1000), []);
    let text = Prot::READ | Prot::EXEC;
    guest.space.map_file(CODE, PAGE_SIZE, guest.code.start, text, Populate::Lazy).unwrap();
    assert_eq!(calls(&mut guest, 100), [site]);
}

#[test]
fn a_jump_into_the_middle_finds_the_call() {
    let mut guest = patched(&[0x90]);
    for nr in [0, 1, 39, 333] {
        guest.regs = Registers { rax: nr, ..all_different(SITE + 5) };
        guest.expect_syscall(nr);
        assert_eq!(guest.regs.rip, BEHIND);
        // As a call that is made again.
        guest.regs.rewind_syscall();
        guest.expect_syscall(nr);
    }
}

#[test]
fn the_red_zone_is_not_touched() {
    let mut guest = patched(&[0x90]);
    for round in 0..3 {
        guest.regs = all_different(SITE);
        let below = guest.regs.rsp - DATA;
        for word in 1..=64 {
            guest.set_word(below - 8 * word, 0xabcd_0000 + word);
        }
        guest.expect_syscall(NR);
        for word in 1..=64 {
            assert_eq!(guest.word(below - 8 * word), 0xabcd_0000 + word, "{round}");
        }
    }
}

#[test]
fn a_single_stepped_program_sees_two_instructions() {
    let mut guest = patched(&[0x90, 0x90]);
    guest.regs = all_different(SITE);
    guest.regs.eflags |= FLAG_TRAP;
    for turn in 0..2 {
        let event = guest.run();
        assert!(
            matches!(event, Event::Signal(signal) if signal.signo == libc::SIGTRAP),
            "{turn}: {event:?}"
        );
        assert_eq!((guest.regs.rip, guest.regs.rax), (SITE + 5, NR));
        assert_eq!(guest.run(), Event::Syscall);
        assert_eq!(guest.regs.rip, BEHIND);
        guest.regs.rip = SITE;
    }
}

#[test]
fn a_program_with_a_gs_of_its_own_goes_by_the_trap() {
    let mut guest = patched(&[0x90]);
    for round in 0..4 {
        let before =
            Registers { gs_base: DATA + 64, eflags: 0x202 | ARITHMETIC, ..all_different(SITE) };
        guest.regs = before;
        assert_eq!(guest.run(), Event::Syscall, "{round}");
        assert_eq!((guest.regs.gs_base, guest.regs.nr(), guest.regs.rip), (DATA + 64, NR, BEHIND));
        assert_eq!((guest.regs.eflags, guest.regs.r15), (before.eflags, 15));
    }
}

/// FPU state stays in the processor at a patched call, and is got from there when somebody asks.
#[test]
fn fpu_state_is_kept_read_and_replaced_at_a_patched_call() {
    // movq %rdi, %xmm7; mov $39, %eax; syscall; movq %xmm7, %rbx; syscall
    let set = [0x66, 0x48, 0x0f, 0x6e, 0xff];
    let get = [0x66, 0x48, 0x0f, 0x7e, 0xfb];
    let mut guest = patched(&program(&[&get, &SYSCALL]));
    let mut page = vec![0x90; 64];
    page[32 - set.len()..32].copy_from_slice(&set);
    page[32..39].copy_from_slice(&program(&[&mov_eax(NR as u32), &SYSCALL]));
    page[39..46].copy_from_slice(&program(&[&get, &SYSCALL]));
    guest.platform.memory().write_at(guest.code.start, &page).unwrap();
    guest.space.unmap(CODE, PAGE_SIZE).unwrap();
    crate::fixture::map_guest(&*guest.space, guest.code, guest.data);
    patch(&mut guest);
    let mut earlier = None;
    for round in 0..6u64 {
        guest.regs = Registers { rdi: 0x1111 + round, ..all_different(SITE - 5) };
        guest.expect_syscall(NR);
        let state = guest.context.save_fpu().unwrap();
        let xmm7 = &state.as_bytes()[160 + 7 * 16..][..8];
        assert_eq!(xmm7, (0x1111 + round).to_le_bytes());
        assert_eq!(guest.context.save_fpu().unwrap(), state, "asking changes nothing");
        let mut wanted = 0x1111 + round;
        if let Some(earlier) = earlier.replace(state).filter(|_| round % 2 == 1) {
            guest.context.load_fpu(&earlier).unwrap();
            assert_eq!(guest.context.save_fpu().unwrap(), earlier);
            wanted -= 1;
        }
        assert_eq!(guest.run(), Event::Syscall);
        assert_eq!(guest.regs.rbx, wanted, "{round}");
    }
    // Into another space.
    guest.regs = Registers { rdi: 0x77, ..all_different(SITE - 5) };
    guest.expect_syscall(NR);
    let space = guest.platform.new_address_space().unwrap();
    crate::fixture::map_guest(&*space, guest.code, guest.data);
    guest.space = space;
    assert_eq!(guest.run(), Event::Syscall);
    assert_eq!(guest.regs.rbx, 0x77);
}

/// Kicks at every point of the hand-off: none is lost, and no call happens twice or never.
#[test]
fn kicks_meet_a_patched_call_anywhere() {
    // 1: nops; mov $39, %eax; syscall; inc %r15; jmp 1b
    let tail = program(&[&[0x49, 0xff, 0xc7], &[0xeb, (-44i8) as u8]]);
    let mut guest = patched(&tail);
    guest.regs = Registers { r15: 0, ..all_different(CODE) };
    let kick = guest.context.kick_handle();
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let kicker = std::thread::spawn({
        let (kick, done) = (kick.clone(), done.clone());
        move || {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                kick.kick();
                (0..500).for_each(|_| std::hint::spin_loop());
            }
        }
    });
    let (mut calls, mut interrupted) = (0, 0);
    while calls < 20_000 || interrupted < 200 {
        let before = guest.regs.r15;
        match guest.run() {
            Event::Syscall => {
                calls += 1;
                assert_eq!((guest.regs.nr(), guest.regs.rip, guest.regs.r14), (NR, BEHIND, 14));
                assert_eq!(guest.regs.r15, calls - 1, "was {before}");
                guest.regs.set_result(5);
            }
            Event::Interrupted => interrupted += 1,
            event => panic!("{event:?} {:x?}", guest.regs),
        }
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    kicker.join().unwrap();
    kick.kick();
    guest.regs.rip = BEHIND + 100;
    assert_eq!(guest.run(), Event::Interrupted);
}

/// A context that leaves its thread at a patched call, for another one, which must get nothing of it.
#[test]
fn a_thread_that_was_left_at_a_patched_call_serves_another_context() {
    // movq %xmm7, %rbx; syscall
    let get = [0x66, 0x48, 0x0f, 0x7e, 0xfb];
    let mut guest = patched(&program(&[&get, &SYSCALL]));
    for _ in 0..3 {
        let mut context = guest.platform.new_context().unwrap();
        let mut regs = all_different(SITE);
        assert_eq!(context.switch(&guest.space, &mut regs).unwrap(), Event::Syscall);
        let mut state = context.save_fpu().unwrap().as_bytes().to_vec();
        state[160 + 7 * 16] = 99;
        let state = platform::FpuState::from_user_xsave(&state, u64::MAX).unwrap();
        context.load_fpu(&state).unwrap();
        assert_eq!(context.switch(&guest.space, &mut regs).unwrap(), Event::Syscall);
        assert_eq!(regs.rbx, 99);
        regs.rip = SITE;
        assert_eq!(context.switch(&guest.space, &mut regs).unwrap(), Event::Syscall);
        assert_eq!(regs.nr(), NR);
        drop(context);
        let mut other = guest.platform.new_context().unwrap();
        let mut regs = Registers::at_entry(BEHIND, 0);
        assert_eq!(other.switch(&guest.space, &mut regs).unwrap(), Event::Syscall);
        assert_eq!((regs.rbx, regs.r15), (0, 0));
    }
    guest.regs = all_different(SITE);
    guest.expect_syscall(NR);
}

/// Threads that call all the time, while the page is patched, made writable, mapped anew and taken away.
#[test]
fn threads_go_on_while_their_text_changes() {
    let tail = program(&[&[0x49, 0xff, 0xc7], &[0xeb, (-44i8) as u8]]);
    let mut guest = patched(&tail);
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let mut context = guest.platform.new_context().unwrap();
            let (space, done) = (guest.space.clone(), done.clone());
            std::thread::spawn(move || {
                let mut regs = Registers { r15: 0, ..all_different(CODE) };
                let mut calls = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) || calls < 100 {
                    match context.switch(&space, &mut regs).unwrap() {
                        Event::Syscall => {
                            assert_eq!((regs.nr(), regs.rip, regs.r15), (NR, BEHIND, calls));
                            calls += 1;
                        }
                        // Where the page was just taken away.
                        Event::Fault { addr, .. } => assert_eq!(addr / PAGE_SIZE, CODE / PAGE_SIZE),
                        event => panic!("{event:?}"),
                    }
                }
            })
        })
        .collect();
    let (text, all) = (Prot::READ | Prot::EXEC, Prot::READ | Prot::EXEC | Prot::WRITE);
    for round in 0..300 {
        match round % 3 {
            0 => guest.space.protect(CODE, PAGE_SIZE, all).unwrap(),
            1 => guest.space.unmap(CODE, PAGE_SIZE).unwrap(),
            _ => {}
        }
        let file = guest.code.start;
        guest.space.map_file(CODE, PAGE_SIZE, file, text, Populate::Lazy).unwrap();
        guest.space.patch_call(CallSite { behind: BEHIND, nr: NR }, file);
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    patch(&mut guest);
}

#[test]
fn text_that_becomes_writable_is_itself_again() {
    let mut guest = patched(&[0x90]);
    let original: [u8; 7] = program(&[&mov_eax(NR as u32), &SYSCALL]).try_into().unwrap();
    let used = guest.platform.memory().used_bytes();
    let all = Prot::READ | Prot::EXEC | Prot::WRITE;
    guest.space.protect(CODE, PAGE_SIZE, all).unwrap();
    assert_eq!(text(&mut guest), original);
    assert_eq!(guest.platform.memory().used_bytes(), used - PAGE_SIZE, "the copy is free");
    // What the program writes is what it runs.
    guest.platform.memory().write_at(guest.code.start + 33, &[40]).unwrap();
    guest.regs = all_different(SITE);
    guest.expect_syscall(40);
}

#[test]
fn the_kernel_sees_the_file_and_not_the_copy() {
    let mut guest = patched(&[0x90]);
    let mut bytes = [0; 7];
    guest.platform.memory().read_at(guest.code.start + 32, &mut bytes).unwrap();
    assert_eq!(bytes[..], program(&[&mov_eax(NR as u32), &SYSCALL]));
    assert_eq!(text(&mut guest)[5..], SYSCALL);
}

/// The place of the slots is the program's if it wants it, before or behind the first patch.
#[test]
fn a_program_may_map_its_own_where_slots_lie() {
    const SLOTS: u64 = 0x050f_0000;
    let mut guest = patched(&[0x90]);
    guest.regs = all_different(SITE);
    guest.expect_syscall(NR);
    let file = guest.data.start;
    let data = Prot::READ | Prot::WRITE;
    guest.space.map_file(SLOTS, PAGE_SIZE, file, data, Populate::Lazy).unwrap();
    assert_eq!(text(&mut guest)[..5], mov_eax(NR as u32)[..]);
    guest.space.patch_call(CallSite { behind: BEHIND, nr: NR }, guest.code.start);
    assert_eq!(text(&mut guest)[..5], mov_eax(NR as u32)[..]);
    for _ in 0..3 {
        guest.regs = all_different(SITE);
        guest.expect_syscall(NR);
    }
    // Or it says so before.
    let mut told = patched(&[0x90]);
    let range = told.space.patch_range().unwrap();
    assert_eq!(range.start, SLOTS);
    told.space.end_patches();
    assert_eq!(text(&mut told)[..5], mov_eax(NR as u32)[..]);
    told.regs = Registers { rsi: SLOTS, ..all_different(SITE) };
    told.expect_syscall(NR);
    let code = program(&[&[0x90; 32], &mov_eax(NR as u32), &SYSCALL]);
    let mut other = Guest::new(guest.platform.clone(), &code);
    other.space.map_file(SLOTS, PAGE_SIZE, file, data, Populate::Lazy).unwrap();
    other.space.patch_call(CallSite { behind: BEHIND, nr: NR }, other.code.start);
    assert_eq!(text(&mut other)[..5], mov_eax(NR as u32)[..]);
    other.regs = all_different(SITE);
    other.expect_syscall(NR);
}

/// A program jumps to the trampolines and what is behind them with registers of its choice: it may get a signal,
/// a call that is not its own, or lose its process.
#[test]
fn jumps_into_trampolines_harm_nobody_else() {
    let mut elsewhere = patched(&LOOP);
    let region = elsewhere.platform.user_range().end;
    let sites = region + (1 << 29);
    let code = program(&[&[0x90; 32], &mov_eax(NR as u32), &SYSCALL]);
    let targets: Vec<u64> = (sites..sites + 64)
        .chain([sites + 0x3ff0, sites + 0x3ffb])
        .chain((region + 0x400..region + 0xa00).step_by(53))
        .collect();
    for (round, rip) in targets.into_iter().enumerate() {
        let mut guest = Guest::new(elsewhere.platform.clone(), &code);
        patch(&mut guest);
        guest.regs = all_different(SITE);
        guest.expect_syscall(NR);
        let gs_base = [0, region + 0x4000, region + 0x8000, DATA][round % 4];
        let regs = Registers {
            r11: (round as u64) << 14,
            rbx: region + 0x4000,
            gs_base,
            rsp: DATA + 512,
            ..all_different(rip)
        };
        guest.regs = regs;
        let kick = guest.context.kick_handle();
        let (told, tell) = std::sync::mpsc::channel();
        let run = std::thread::spawn(move || {
            let result = guest.context.switch(&guest.space, &mut guest.regs);
            told.send(()).unwrap();
            result.is_ok()
        });
        // It may wait for a turn that nobody will give it.
        while tell.recv_timeout(std::time::Duration::from_millis(20)).is_err() {
            kick.kick();
        }
        run.join().unwrap();
        elsewhere.regs = all_different(SITE);
        elsewhere.expect_syscall(NR);
    }
}
