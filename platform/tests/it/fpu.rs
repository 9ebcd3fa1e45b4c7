//! The FPU and vector state belongs to the context: it starts clean, is saved, loaded, and carried
//! over to another address space.

use std::sync::Arc;

use platform::{Event, FpuState, Platform, Registers};

use crate::fixture::{CODE, DATA, Guest, SYSCALL, map_guest, program};

crate::platform_tests!(
    a_fresh_context_has_the_initial_state,
    state_is_kept_over_calls_and_can_be_saved_and_loaded,
    state_goes_along_to_another_space,
    the_widest_vectors_survive_calls_and_kicks_and_are_nobody_elses,
);

/// movups xmm0, [rbx]; syscall; movups [rbx + 32], xmm0; syscall
fn load_and_store() -> Vec<u8> {
    program(&[&[0x0f, 0x10, 0x03], &SYSCALL, &[0x0f, 0x11, 0x43, 0x20], &SYSCALL])
}

fn xmm0(state: &FpuState) -> &[u8] {
    &state.as_bytes()[160..176]
}

fn a_fresh_context_has_the_initial_state(platform: Arc<dyn Platform>) {
    // stmxcsr [rbx]; fnstcw [rbx + 8]; movups [rbx + 32], xmm0; syscall
    let code =
        program(&[&[0x0f, 0xae, 0x1b], &[0xd9, 0x7b, 0x08], &[0x0f, 0x11, 0x43, 0x20], &SYSCALL]);
    let mut guest = Guest::new(platform, &code);
    guest.set_word(32, 1);
    guest.regs.rbx = DATA;
    guest.regs.rax = 1;
    guest.expect_syscall(1);
    assert_eq!((guest.word(0), guest.word(8), guest.word(32)), (0x1f80, 0x37f, 0));
}

fn state_is_kept_over_calls_and_can_be_saved_and_loaded(platform: Arc<dyn Platform>) {
    let mut guest = Guest::new(platform, &load_and_store());
    guest.set_word(0, 0x1122_3344_5566_7788);
    guest.regs.rbx = DATA;
    guest.regs.rax = 1;
    guest.expect_syscall(1);
    let saved = guest.context.save_fpu().unwrap();
    assert_eq!(xmm0(&saved)[..8], 0x1122_3344_5566_7788u64.to_le_bytes());
    let mut changed = saved.as_bytes().to_vec();
    changed[160] = 0x99;
    let changed = FpuState::from_user_xsave(&changed, u64::MAX).unwrap();
    guest.context.load_fpu(&changed).unwrap();
    assert_eq!(xmm0(&guest.context.save_fpu().unwrap()), xmm0(&changed), "before it runs, too");
    guest.regs.rax = 2;
    guest.expect_syscall(2);
    assert_eq!(guest.word(32), 0x1122_3344_5566_7799);
    guest.context.load_fpu(&FpuState::initial()).unwrap();
    guest.regs.rip -= 6;
    guest.regs.rax = 2;
    guest.expect_syscall(2);
    assert_eq!(guest.word(32), 0);
}

fn state_goes_along_to_another_space(platform: Arc<dyn Platform>) {
    let mut guest = Guest::new(platform, &load_and_store());
    guest.set_word(0, 77);
    guest.regs.rbx = DATA;
    guest.regs.rax = 1;
    guest.expect_syscall(1);
    let other = guest.platform.new_address_space().unwrap();
    map_guest(&*other, guest.code, guest.data);
    guest.space = other;
    guest.regs.rax = 2;
    guest.expect_syscall(2);
    assert_eq!(guest.word(32), 77);
}

/// Loads and stores of the widest register that this processor has, from [rbx] and to [rbx + 64].
fn widest() -> (&'static [u8], &'static [u8], usize) {
    if std::arch::is_x86_feature_detected!("avx512f") {
        let (load, store) =
            (&[0x62, 0xf1, 0xfe, 0x48, 0x6f, 0x03], &[0x62, 0xf1, 0xfe, 0x48, 0x7f, 0x43, 0x01]);
        (load, store, 64)
    } else if std::arch::is_x86_feature_detected!("avx") {
        (&[0xc5, 0xfe, 0x6f, 0x03], &[0xc5, 0xfe, 0x7f, 0x43, 0x40], 32)
    } else {
        (&[0x0f, 0x10, 0x03], &[0x0f, 0x11, 0x43, 0x40], 16)
    }
}

fn the_widest_vectors_survive_calls_and_kicks_and_are_nobody_elses(platform: Arc<dyn Platform>) {
    let (load, store, bytes) = widest();
    // load; 1: dec rcx; jnz 1b; syscall; store; syscall
    let code = program(&[load, &[0x48, 0xff, 0xc9, 0x75, 0xfb], &SYSCALL, store, &SYSCALL]);
    let guests = (1..=2u64).map(|number| {
        let platform = platform.clone();
        let code = code.clone();
        std::thread::spawn(move || {
            let mut guest = Guest::new(platform, &code);
            let kick = guest.context.kick_handle();
            for round in 0..50 {
                let words = bytes as u64 / 8;
                (0..words)
                    .for_each(|word| guest.set_word(8 * word, number << 56 | round << 8 | word));
                guest.regs = Registers { rbx: DATA, rcx: 20_000, ..Registers::at_entry(CODE, 0) };
                let kicker = std::thread::spawn({
                    let kick = kick.clone();
                    move || kick.kick()
                });
                let mut calls = 0;
                while calls < 2 {
                    match guest.run() {
                        Event::Syscall => calls += 1,
                        Event::Interrupted => {}
                        event => panic!("{event:?}"),
                    }
                }
                kicker.join().unwrap();
                for word in 0..words {
                    assert_eq!(guest.word(64 + 8 * word), guest.word(8 * word), "word {word}");
                }
            }
        })
    });
    let guests: Vec<_> = guests.collect();
    guests.into_iter().for_each(|guest| guest.join().unwrap());
}
