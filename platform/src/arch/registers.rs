//! The user-visible registers of x86-64 and the Linux system-call ABI on them.

/// `cs` of 64-bit user code.
pub const USER_CS: u64 = 0x33;
/// `ss` of user code.
pub const USER_SS: u64 = 0x2b;
/// `cs` of 32-bit user code, which a program may reach by a far jump.
pub const USER32_CS: u64 = 0x23;

/// Flags that a program may set itself: CF PF AF ZF SF TF DF OF RF AC ID (eflags(7), `FLAG_MASK` of
/// Linux's ptrace).
const USER_FLAGS: u64 = 0x0025_4dd5;
/// Always set in a program: bit 1 (reserved) and IF.
const FIXED_FLAGS: u64 = 0x202;

/// Trap flag: single step.
pub const FLAG_TRAP: u64 = 1 << 8;
/// Direction flag.
pub const FLAG_DIRECTION: u64 = 1 << 10;
/// Resume flag.
pub const FLAG_RESUME: u64 = 1 << 16;

/// All general registers of a guest thread, in the order of `user_regs_struct` (user.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The number of the system call that the thread is in; all ones otherwise.
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

/// How many general registers there are beside `rsp`.
pub(crate) const GENERAL: usize = 15;

/// `orig_rax` of a thread that is in no system call.
pub const NO_SYSCALL: u64 = u64::MAX;

impl Default for Registers {
    fn default() -> Self {
        Registers {
            r15: 0,
            r14: 0,
            r13: 0,
            r12: 0,
            rbp: 0,
            rbx: 0,
            r11: 0,
            r10: 0,
            r9: 0,
            r8: 0,
            rax: 0,
            rcx: 0,
            rdx: 0,
            rsi: 0,
            rdi: 0,
            orig_rax: NO_SYSCALL,
            rip: 0,
            cs: USER_CS,
            eflags: FIXED_FLAGS,
            rsp: 0,
            ss: USER_SS,
            fs_base: 0,
            gs_base: 0,
            ds: 0,
            es: 0,
            fs: 0,
            gs: 0,
        }
    }
}

impl Registers {
    /// The registers of a fresh program (execve): all zero but the entry point and the stack.
    pub fn at_entry(rip: u64, rsp: u64) -> Registers {
        Registers { rip, rsp, ..Registers::default() }
    }

    /// The general registers but `rsp`, in the order of a signal frame (`struct sigcontext_64`).
    pub(crate) fn general(&self) -> [u64; GENERAL] {
        [
            self.r8, self.r9, self.r10, self.r11, self.r12, self.r13, self.r14, self.r15, self.rdi,
            self.rsi, self.rbp, self.rbx, self.rdx, self.rax, self.rcx,
        ]
    }

    /// Sets those of [`general`](Registers::general).
    pub(crate) fn set_general(&mut self, words: [u64; GENERAL]) {
        [
            self.r8, self.r9, self.r10, self.r11, self.r12, self.r13, self.r14, self.r15, self.rdi,
            self.rsi, self.rbp, self.rbx, self.rdx, self.rax, self.rcx,
        ] = words;
    }

    /// The number of the system call, after [`Event::Syscall`](crate::Event::Syscall).
    pub fn nr(&self) -> u64 {
        self.orig_rax
    }

    /// The six argument words of the system call (syscall(2): rdi rsi rdx r10 r8 r9).
    pub fn args(&self) -> [u64; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }

    /// The word in the result register.
    pub fn result(&self) -> u64 {
        self.rax
    }

    /// Sets the result of the system call: a value, or a negative errno as two's complement.
    pub fn set_result(&mut self, value: i64) {
        self.rax = value as u64;
    }

    /// Goes back to the `syscall` instruction, so that the call is made again with the same
    /// arguments. To be called while `orig_rax` still holds the number.
    pub fn rewind_syscall(&mut self) {
        self.rewind_syscall_as(self.orig_rax);
    }

    /// Goes back to the `syscall` instruction with another number (restart_syscall).
    pub fn rewind_syscall_as(&mut self, nr: u64) {
        // Both `syscall` and `int 0x80` are two bytes long.
        self.rip = self.rip.wrapping_sub(2);
        self.rax = nr;
        self.orig_rax = NO_SYSCALL;
    }

    /// Makes the values that only the hardware or the host may choose harmless: reserved flags and
    /// segment selectors. Backends call it before every switch.
    pub fn sanitize(&mut self) {
        self.eflags = (self.eflags & USER_FLAGS) | FIXED_FLAGS;
        if self.cs != USER32_CS {
            self.cs = USER_CS;
        }
        self.ss = USER_SS;
        for selector in [&mut self.ds, &mut self.es, &mut self.fs, &mut self.gs] {
            // Only the null selectors and the flat user data segment exist for programs here.
            if *selector != USER_SS {
                *selector = 0;
            }
        }
        self.fs_base = canonical_user(self.fs_base);
        self.gs_base = canonical_user(self.gs_base);
    }
}

/// A segment base that the host accepts: addresses of the upper half become 0, as arch_prctl(2)
/// would have refused them already.
fn canonical_user(base: u64) -> u64 {
    if base < 0x7fff_ffff_f000 { base } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_in_the_order_of_the_abi() {
        let regs =
            Registers { rdi: 1, rsi: 2, rdx: 3, r10: 4, r8: 5, r9: 6, ..Registers::default() };
        assert_eq!(regs.args(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn rewinding_restores_the_number_and_the_instruction() {
        let mut regs = Registers { rip: 0x1002, orig_rax: 35, ..Registers::default() };
        regs.set_result(-4);
        assert_eq!(regs.result() as i64, -4);
        regs.rewind_syscall();
        assert_eq!((regs.rip, regs.rax, regs.orig_rax), (0x1000, 35, NO_SYSCALL));
    }

    #[test]
    fn a_program_chooses_neither_privilege_nor_foreign_segments() {
        let mut regs = Registers {
            cs: 0x10,
            ss: 0x18,
            gs: 0x63,
            eflags: u64::MAX,
            fs_base: 0xffff_8000_0000_0000,
            ..Registers::default()
        };
        regs.sanitize();
        assert_eq!((regs.cs, regs.ss, regs.gs, regs.fs_base), (USER_CS, USER_SS, 0, 0));
        assert_eq!(regs.eflags & 0x3000, 0, "the I/O privilege level stays 0");
        assert_eq!(regs.eflags & 0x200, 0x200, "interrupts stay on");
    }
}
