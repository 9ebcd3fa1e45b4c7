//! The FPU and vector state belongs to the context: it starts clean, is saved, loaded, and carried
//! over to another address space.

use std::sync::Arc;

use platform::{FpuState, Platform};

use crate::fixture::{DATA, Guest, SYSCALL, map_guest, program};

crate::platform_tests!(
    a_fresh_context_has_the_initial_state,
    state_is_kept_over_calls_and_can_be_saved_and_loaded,
    state_goes_along_to_another_space,
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
