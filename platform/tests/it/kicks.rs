//! Kicks are sticky, idempotent and never lost, and the guest does not notice them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use platform::{Event, Platform};

use crate::fixture::{CODE, Guest, LOOP, SYSCALL, program};

crate::platform_tests!(
    a_kick_before_a_switch_is_not_lost,
    a_kick_stops_a_spinning_guest,
    kicks_at_every_moment_are_neither_lost_nor_seen,
    a_kick_after_the_context_is_gone_is_harmless,
);

fn a_kick_before_a_switch_is_not_lost(platform: Arc<dyn Platform>) {
    let mut guest = Guest::new(platform, &SYSCALL);
    guest.regs.rax = 8;
    let before = guest.regs;
    let kick = guest.context.kick_handle();
    kick.kick();
    kick.kick();
    assert_eq!(guest.run(), Event::Interrupted);
    assert_eq!(guest.regs, before, "nothing was executed");
    guest.expect_syscall(8);
}

fn a_kick_stops_a_spinning_guest(platform: Arc<dyn Platform>) {
    let mut guest = Guest::new(platform, &LOOP);
    let kick = guest.context.kick_handle();
    for _ in 0..20 {
        let kick = kick.clone();
        let kicker = std::thread::spawn(move || kick.kick());
        assert_eq!(guest.run(), Event::Interrupted);
        kicker.join().unwrap();
        assert_eq!(guest.regs.rip, CODE);
    }
}

fn kicks_at_every_moment_are_neither_lost_nor_seen(platform: Arc<dyn Platform>) {
    // 1: inc rbx; syscall; jmp 1b
    let code = program(&[&[0x48, 0xff, 0xc3], &SYSCALL, &[0xeb, 0xf9]]);
    let mut guest = Guest::new(platform, &code);
    guest.regs.rax = 7;
    let kick = guest.context.kick_handle();
    let answered = Arc::new(AtomicBool::new(true));
    let done = Arc::new(AtomicBool::new(false));
    let kicker = std::thread::spawn({
        let (answered, done) = (answered.clone(), done.clone());
        move || {
            let mut kicks = 0;
            while !done.load(Ordering::SeqCst) {
                if answered.swap(false, Ordering::SeqCst) {
                    kick.kick();
                    kicks += 1;
                }
                std::thread::yield_now();
            }
            kicks
        }
    });
    let (mut calls, mut interrupts) = (0u64, 0);
    while interrupts < 300 || calls < 300 {
        match guest.run() {
            Event::Syscall => {
                calls += 1;
                assert_eq!((guest.regs.nr(), guest.regs.rbx), (7, calls));
                guest.regs.rax = 7;
            }
            Event::Interrupted => {
                interrupts += 1;
                answered.store(true, Ordering::SeqCst);
            }
            event => panic!("{event:?}"),
        }
    }
    done.store(true, Ordering::SeqCst);
    let kicks = kicker.join().unwrap();
    assert!(kicks == interrupts || kicks == interrupts + 1, "{kicks} kicks, {interrupts} answers");
}

fn a_kick_after_the_context_is_gone_is_harmless(platform: Arc<dyn Platform>) {
    let mut guest = Guest::new(platform, &SYSCALL);
    guest.run();
    let kick = guest.context.kick_handle();
    drop(guest);
    kick.kick();
}
