//! The seccomp filter of every stub: nothing but the command loop's few calls, and only from the
//! stub's own code page. System calls of the guest never come this far (PTRACE_SYSEMU stops them
//! before); this is what stands if they ever did.

use super::stub::{CLONE_FLAGS, FD_MEMORY};

/// One instruction of classic BPF (`struct sock_filter`, filter.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    operand: u32,
}

const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data` (seccomp.h).
const DATA_NR: u32 = 0;
const DATA_ARCH: u32 = 4;
const DATA_IP_LOW: u32 = 8;
const DATA_IP_HIGH: u32 = 12;
const fn argument_low(index: u32) -> u32 {
    16 + 8 * index
}

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ALLOW: u32 = 0x7fff_0000;

/// The calls of the command loop without conditions of their own.
const PLAIN_CALLS: [i64; 7] = [
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_futex,
    libc::SYS_lseek,
    libc::SYS_pause,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// The filter for a stub whose code page is at `code_page`.
pub(super) fn filter(code_page: u64) -> Vec<Instruction> {
    let (low, high) = (code_page as u32, (code_page >> 32) as u32);
    let mut program = vec![
        load(DATA_ARCH),
        unless_equal_trap(AUDIT_ARCH_X86_64),
        trap(),
        load(DATA_IP_HIGH),
        unless_equal_trap(high),
        trap(),
        load(DATA_IP_LOW),
        // The page never crosses a 4 GiB boundary, so its low half is one interval.
        jump(JUMP_AT_LEAST, low, 1, 0),
        trap(),
        jump(JUMP_AT_LEAST, low | 0xfff, 0, 1),
        trap(),
        load(DATA_NR),
    ];
    for nr in PLAIN_CALLS {
        program.push(jump(JUMP_EQUAL, nr as u32, 0, 1));
        program.push(allow());
    }
    // Only the memory file may be mapped, and only threads may be made.
    only_with(&mut program, libc::SYS_mmap, argument_low(4), FD_MEMORY as u32);
    only_with(&mut program, libc::SYS_clone, argument_low(0), CLONE_FLAGS as u32);
    program.push(trap());
    program
}

/// Allows `nr` if the low half of an argument has this value, and traps it otherwise.
fn only_with(program: &mut Vec<Instruction>, nr: i64, argument: u32, value: u32) {
    program.push(jump(JUMP_EQUAL, nr as u32, 0, 4));
    program.push(load(argument));
    program.push(jump(JUMP_EQUAL, value, 0, 1));
    program.push(allow());
    program.push(trap());
}

fn load(offset: u32) -> Instruction {
    jump(LOAD_WORD, offset, 0, 0)
}

fn jump(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, operand }
}

/// Skips the trap that follows if the word is as it should be.
fn unless_equal_trap(value: u32) -> Instruction {
    jump(JUMP_EQUAL, value, 1, 0)
}

fn trap() -> Instruction {
    jump(RETURN, RET_TRAP, 0, 0)
}

fn allow() -> Instruction {
    jump(RETURN, RET_ALLOW, 0, 0)
}

/// The instructions as the kernel reads them.
pub(super) fn to_bytes(program: &[Instruction]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for instruction in program {
        bytes.extend_from_slice(&instruction.code.to_le_bytes());
        bytes.extend_from_slice(&[instruction.jump_true, instruction.jump_false]);
        bytes.extend_from_slice(&instruction.operand.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 0x7f12_3456_7000;

    /// Runs the filter as the kernel would.
    fn run(arch: u32, nr: i64, ip: u64, args: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend_from_slice(&(nr as u32).to_le_bytes());
        data.extend_from_slice(&arch.to_le_bytes());
        data.extend_from_slice(&ip.to_le_bytes());
        args.iter().for_each(|word| data.extend_from_slice(&word.to_le_bytes()));
        let program = filter(PAGE);
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let Instruction { code, jump_true, jump_false, operand } = program[at];
            at += 1;
            let taken = match code {
                LOAD_WORD => {
                    let offset = operand as usize;
                    accumulator = u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap());
                    continue;
                }
                JUMP_EQUAL => accumulator == operand,
                JUMP_AT_LEAST => accumulator >= operand,
                _ => return operand,
            };
            at += usize::from(if taken { jump_true } else { jump_false });
        }
    }

    #[test]
    fn the_command_loop_may_do_its_few_calls() {
        let clone = [CLONE_FLAGS, 0, 0, 0, 0, 0];
        let inside = PAGE + 0x123;
        for nr in PLAIN_CALLS {
            assert_eq!(run(AUDIT_ARCH_X86_64, nr, inside, [0; 6]), RET_ALLOW);
        }
        assert_eq!(run(AUDIT_ARCH_X86_64, libc::SYS_mmap, inside, [0; 6]), RET_ALLOW);
        assert_eq!(run(AUDIT_ARCH_X86_64, libc::SYS_clone, inside, clone), RET_ALLOW);
    }

    #[test]
    fn other_calls_places_and_architectures_trap() {
        let inside = PAGE + 0x10;
        for nr in [libc::SYS_open, libc::SYS_execve, libc::SYS_write, libc::SYS_ptrace, 1 << 30] {
            assert_eq!(run(AUDIT_ARCH_X86_64, nr, inside, [0; 6]), RET_TRAP, "{nr}");
        }
        for ip in [PAGE - 1, PAGE + 0x1000, PAGE + (1 << 32), 0x40_0000, 0xffff_ffff_ff60_0002] {
            assert_eq!(run(AUDIT_ARCH_X86_64, libc::SYS_munmap, ip, [0; 6]), RET_TRAP, "{ip:#x}");
        }
        assert_eq!(run(0x4000_0003, libc::SYS_munmap, inside, [0; 6]), RET_TRAP);
        let fork = [libc::SIGCHLD as u64, 0, 0, 0, 0, 0];
        assert_eq!(run(AUDIT_ARCH_X86_64, libc::SYS_clone, inside, fork), RET_TRAP);
        let other_file = [0, 0, 0, 0, 5, 0];
        assert_eq!(run(AUDIT_ARCH_X86_64, libc::SYS_mmap, inside, other_file), RET_TRAP);
    }
}
