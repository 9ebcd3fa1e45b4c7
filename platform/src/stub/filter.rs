//! The seccomp filters of the stubs, in classic BPF: nothing but a few calls, and only from the
//! stub's own code page. seccomp(2), filter.h, seccomp.h.
//!
//! Two filters lie on top of each other: that of the process, which bounds its leader, and that of
//! the guest's threads, which leaves nothing of the leader's calls.

use super::AUDIT_ARCH_X86_64;
use super::code::{FD_COMMANDS, FD_MEMORY, leader_offset};

/// One instruction (`struct sock_filter`, filter.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
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

/// prctl.h.
const PR_SET_SYSCALL_USER_DISPATCH: i32 = 59;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ALLOW: u32 = 0x7fff_0000;

/// The calls of the command loop without conditions of their own, and of what ends a stub, which stands behind it.
const LEADER_CALLS: [i64; 5] =
    [libc::SYS_munmap, libc::SYS_mprotect, libc::SYS_futex, libc::SYS_lseek, libc::SYS_exit_group];

/// The calls of the zygote and of a stub that is not ready yet, without conditions of their own.
const MAKING_CALLS: [i64; 6] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_getppid,
    libc::SYS_memfd_create,
    libc::SYS_mseal,
];

/// The filter of the zygote and its stubs, whose code page is at `code_page`: before the leader's code
/// what makes a stub; there what a leader does, `clone` with exactly these flags, and what the
/// backend's threads do.
pub(crate) fn process(code_page: u64, clone_flags: u64, thread_calls: &[i64]) -> Vec<Instruction> {
    let (low, high) = halves(code_page);
    let leader = low + leader_offset() as u32;
    let making = {
        let mut part = calls(&MAKING_CALLS);
        only_with(&mut part, libc::SYS_clone, 0, libc::SIGCHLD as u32);
        only_with(&mut part, libc::SYS_mmap, 4, FD_COMMANDS as u32);
        for option in [libc::PR_SET_PDEATHSIG, libc::PR_SET_NAME] {
            only_with(&mut part, libc::SYS_prctl, 0, option as u32);
        }
        part.push(trap());
        part
    };
    let mut program = native_from(high);
    program.extend([
        load(DATA_IP_LOW),
        // The page never crosses a 4 GiB boundary, so its low half is one interval.
        jump(JUMP_AT_LEAST, low, 1, 0),
        trap(),
        jump(JUMP_AT_LEAST, low | 0xfff, 0, 1),
        trap(),
        jump(JUMP_AT_LEAST, leader, making.len() as u8 + 1, 0),
        load(DATA_NR),
    ]);
    program.extend(making);
    program.push(load(DATA_NR));
    program.extend(calls(&LEADER_CALLS));
    program.extend(calls(thread_calls));
    // Only the memory file may be mapped, only threads may be made, and what bounds a thread may only be added.
    only_with(&mut program, libc::SYS_mmap, 4, FD_MEMORY as u32);
    only_with(&mut program, libc::SYS_clone, 0, clone_flags as u32);
    for option in [libc::PR_SET_SECCOMP, PR_SET_SYSCALL_USER_DISPATCH] {
        only_with(&mut program, libc::SYS_prctl, 0, option as u32);
    }
    program.push(trap());
    program
}

/// Allows these, whatever their arguments.
fn calls(numbers: &[i64]) -> Vec<Instruction> {
    let pair = |nr: &i64| [jump(JUMP_EQUAL, *nr as u32, 0, 1), allow()];
    numbers.iter().flat_map(pair).collect()
}

/// A call that a thread of the guest may make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    /// Offset in the code page behind its `syscall` instruction.
    pub(crate) behind: u64,
    pub(crate) nr: i64,
    /// An argument (its index) whose low half must have this value.
    pub(crate) argument: Option<(u32, u32)>,
}

/// The filter of a guest's thread: each call only at its own instruction. Where a call has an address
/// as its first argument (`address_nr`), that lies in `start..end`.
pub(crate) fn thread(
    code_page: u64,
    sites: &[Site],
    address_nr: i64,
    addresses: std::ops::Range<u64>,
) -> Vec<Instruction> {
    let (_, high) = halves(code_page);
    let mut program = native_from(high);
    for site in sites {
        let at = (code_page + site.behind) as u32;
        let mut conditions = vec![(DATA_NR, JUMP_EQUAL, site.nr as u32, Wanted::True)];
        if let Some((index, value)) = site.argument {
            conditions.push((argument_low(index), JUMP_EQUAL, value, Wanted::True));
        }
        if site.nr == address_nr {
            conditions.push((argument_low(0) + 4, JUMP_EQUAL, high, Wanted::True));
            let (start, _) = halves(addresses.start);
            let (end, _) = halves(addresses.end);
            conditions.push((argument_low(0), JUMP_AT_LEAST, start, Wanted::True));
            conditions.push((argument_low(0), JUMP_AT_LEAST, end, Wanted::False));
        }
        program.push(load(DATA_IP_LOW));
        // Each condition is three instructions, and the whole ends with `allow`.
        program.push(jump(JUMP_EQUAL, at, 0, 3 * conditions.len() as u8 + 1));
        for (offset, code, operand, wanted) in conditions {
            let (on_true, on_false) = match wanted {
                Wanted::True => (1, 0),
                Wanted::False => (0, 1),
            };
            program.extend([load(offset), jump(code, operand, on_true, on_false), trap()]);
        }
        program.push(allow());
    }
    program.push(trap());
    program
}

/// Which outcome of a comparison goes on.
enum Wanted {
    True,
    False,
}

/// Traps what is not a 64-bit call from this 4 GiB.
fn native_from(high: u32) -> Vec<Instruction> {
    vec![
        load(DATA_ARCH),
        unless_equal_trap(AUDIT_ARCH_X86_64),
        trap(),
        load(DATA_IP_HIGH),
        unless_equal_trap(high),
        trap(),
    ]
}

fn halves(address: u64) -> (u32, u32) {
    (address as u32, (address >> 32) as u32)
}

/// Allows `nr` if the low half of an argument has this value.
fn only_with(program: &mut Vec<Instruction>, nr: i64, argument: u32, value: u32) {
    program.push(jump(JUMP_EQUAL, nr as u32, 0, 4));
    program.push(load(argument_low(argument)));
    program.push(jump(JUMP_EQUAL, value, 0, 1));
    program.push(allow());
    program.push(load(DATA_NR));
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
pub(crate) fn to_bytes(program: &[Instruction]) -> Vec<u8> {
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
    use super::super::code::SHARE_ALL;
    use super::*;

    const PAGE: u64 = 0x7f12_3456_4000;
    const X86_64: u32 = AUDIT_ARCH_X86_64;

    /// Runs a filter as the kernel would.
    fn run(program: &[Instruction], arch: u32, nr: i64, ip: u64, args: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend_from_slice(&(nr as u32).to_le_bytes());
        data.extend_from_slice(&arch.to_le_bytes());
        data.extend_from_slice(&ip.to_le_bytes());
        args.iter().for_each(|word| data.extend_from_slice(&word.to_le_bytes()));
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
        let program = process(PAGE, SHARE_ALL, &[libc::SYS_pause]);
        let leader = PAGE + leader_offset();
        let run = |nr, args| run(&program, X86_64, nr, leader + 2, args);
        for nr in LEADER_CALLS.into_iter().chain([libc::SYS_pause]) {
            assert_eq!(run(nr, [0; 6]), RET_ALLOW);
        }
        assert_eq!(run(libc::SYS_mmap, [0; 6]), RET_ALLOW);
        assert_eq!(run(libc::SYS_clone, [SHARE_ALL, 0, 0, 0, 0, 0]), RET_ALLOW);
    }

    #[test]
    fn other_calls_places_and_architectures_trap() {
        let program = process(PAGE, SHARE_ALL, &[]);
        let inside = PAGE + leader_offset();
        for nr in [libc::SYS_open, libc::SYS_execve, libc::SYS_write, libc::SYS_ptrace, 1 << 30] {
            assert_eq!(run(&program, X86_64, nr, inside, [0; 6]), RET_TRAP, "{nr}");
        }
        for ip in [PAGE - 1, PAGE + 0x1000, PAGE + (1 << 32), 0x40_0000, 0xffff_ffff_ff60_0002] {
            assert_eq!(run(&program, X86_64, libc::SYS_munmap, ip, [0; 6]), RET_TRAP, "{ip:#x}");
        }
        assert_eq!(run(&program, 0x4000_0003, libc::SYS_munmap, inside, [0; 6]), RET_TRAP);
        let fork = [libc::SIGCHLD as u64, 0, 0, 0, 0, 0];
        assert_eq!(run(&program, X86_64, libc::SYS_clone, inside, fork), RET_TRAP);
        for file in [FD_COMMANDS as u64, 5] {
            let other_file = [0, 0, 0, 0, file, 0];
            assert_eq!(run(&program, X86_64, libc::SYS_mmap, inside, other_file), RET_TRAP);
        }
        for nr in MAKING_CALLS {
            assert_eq!(run(&program, X86_64, nr, inside, [0; 6]), RET_TRAP, "{nr}");
        }
    }

    #[test]
    fn what_makes_a_stub_does_nothing_of_a_leaders() {
        let program = process(PAGE, SHARE_ALL, &[libc::SYS_pause]);
        let run = |nr, args| run(&program, X86_64, nr, PAGE + leader_offset() - 1, args);
        for nr in MAKING_CALLS {
            assert_eq!(run(nr, [0; 6]), RET_ALLOW, "{nr}");
        }
        assert_eq!(run(libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0, 0, 0, 0]), RET_ALLOW);
        assert_eq!(run(libc::SYS_mmap, [0, 0, 0, 0, FD_COMMANDS as u64, 0]), RET_ALLOW);
        let leaders = [libc::SYS_munmap, libc::SYS_mprotect, libc::SYS_futex, libc::SYS_lseek];
        for nr in leaders.into_iter().chain([libc::SYS_exit_group, libc::SYS_pause]) {
            assert_eq!(run(nr, [0; 6]), RET_TRAP, "{nr}");
        }
        assert_eq!(run(libc::SYS_clone, [SHARE_ALL, 0, 0, 0, 0, 0]), RET_TRAP);
        assert_eq!(run(libc::SYS_mmap, [0; 6]), RET_TRAP);
        assert_eq!(run(libc::SYS_prctl, [libc::PR_SET_SECCOMP as u64, 0, 0, 0, 0, 0]), RET_TRAP);
    }

    #[test]
    fn a_guests_thread_makes_each_call_at_its_own_instruction_alone() {
        let sites = [
            Site { behind: 0x420, nr: libc::SYS_futex, argument: Some((1, 1)) },
            Site { behind: 0x440, nr: libc::SYS_rt_sigreturn, argument: None },
        ];
        let areas = PAGE + 0x4000..PAGE + 0x10_0000;
        let program = thread(PAGE, &sites, libc::SYS_futex, areas.clone());
        let run = |nr, offset, args| run(&program, X86_64, nr, PAGE + offset, args);
        let wake = |address| [address, 1, 0, 0, 0, 0];
        assert_eq!(run(libc::SYS_futex, 0x420, wake(areas.start)), RET_ALLOW);
        assert_eq!(run(libc::SYS_rt_sigreturn, 0x440, [0; 6]), RET_ALLOW);
        assert_eq!(run(libc::SYS_rt_sigreturn, 0x420, wake(areas.start)), RET_TRAP);
        assert_eq!(run(libc::SYS_futex, 0x440, wake(areas.start)), RET_TRAP);
        assert_eq!(run(libc::SYS_futex, 0x420, [areas.start, 9, 0, 0, 0, 0]), RET_TRAP);
        for address in [0, areas.start - 1, areas.end, areas.start + (1 << 32)] {
            assert_eq!(run(libc::SYS_futex, 0x420, wake(address)), RET_TRAP, "{address:#x}");
        }
        for nr in 0..1000 {
            assert_eq!(run(nr, 0x41e, [0; 6]), RET_TRAP);
            let own = [libc::SYS_futex, libc::SYS_rt_sigreturn].contains(&nr);
            assert!(own || run(nr, 0x440, [0; 6]) == RET_TRAP, "{nr}");
        }
    }
}
