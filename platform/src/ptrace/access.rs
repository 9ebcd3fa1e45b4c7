//! What a faulting instruction wanted to do: ptrace tells the address of a fault but not its error
//! code, so the instruction is decoded.

use iced_x86::{Decoder, DecoderOptions, InstructionInfoFactory, OpAccess, Register, UsedMemory};

use crate::{Access, Registers};

/// The longest x86 instruction in bytes.
pub(super) const INSTRUCTION_MAX: usize = 15;

/// Classifies a fault at `addr`; `code` is what can be read at `rip`, up to [`INSTRUCTION_MAX`]
/// bytes. The answer is a good guess if other threads change the code meanwhile.
pub(super) fn classify(regs: &Registers, code: &[u8], addr: u64) -> Access {
    let mut decoder = Decoder::with_ip(64, code, regs.rip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let fetch = addr.wrapping_sub(regs.rip) < INSTRUCTION_MAX as u64;
    if instruction.is_invalid() {
        return if fetch { Access::Execute } else { Access::Read };
    }
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(&instruction);
    // First the operands' own sizes, then those without a fixed size (xsave, repeated strings),
    // which may be a few pages.
    for unsized_bytes in [8, 16384] {
        let touched = info.used_memory().iter().find(|at| touches(regs, at, addr, unsized_bytes));
        if let Some(memory) = touched {
            return if is_write(memory.access()) { Access::Write } else { Access::Read };
        }
    }
    let writes = info.used_memory().iter().any(|memory| is_write(memory.access()));
    if fetch {
        Access::Execute
    } else if writes {
        Access::Write
    } else {
        Access::Read
    }
}

fn is_write(access: OpAccess) -> bool {
    matches!(
        access,
        OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
    )
}

/// Whether the memory operand covers the address. Vector-indexed operands are not computed.
fn touches(regs: &Registers, memory: &UsedMemory, addr: u64, unsized_bytes: u64) -> bool {
    let start = memory.virtual_address(0, |register, _, _| register_value(regs, register));
    let size = match memory.memory_size().size() {
        0 => unsized_bytes,
        size => size as u64,
    };
    start.is_some_and(|start| addr.wrapping_sub(start) < size)
}

/// The value of a general register, cut to its width, or the base of a segment.
// tidy: table
fn register_value(regs: &Registers, register: Register) -> Option<u64> {
    match register {
        Register::FS => return Some(regs.fs_base),
        Register::GS => return Some(regs.gs_base),
        Register::CS | Register::DS | Register::ES | Register::SS => return Some(0),
        _ => {}
    }
    let value = match register.full_register() {
        Register::RAX => regs.rax,
        Register::RBX => regs.rbx,
        Register::RCX => regs.rcx,
        Register::RDX => regs.rdx,
        Register::RSI => regs.rsi,
        Register::RDI => regs.rdi,
        Register::RBP => regs.rbp,
        Register::RSP => regs.rsp,
        Register::R8 => regs.r8,
        Register::R9 => regs.r9,
        Register::R10 => regs.r10,
        Register::R11 => regs.r11,
        Register::R12 => regs.r12,
        Register::R13 => regs.r13,
        Register::R14 => regs.r14,
        Register::R15 => regs.r15,
        Register::RIP => regs.rip,
        _ => return None,
    };
    Some(if register.size() == 4 { value & 0xffff_ffff } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regs() -> Registers {
        Registers {
            rip: 0x1000,
            rax: 0x5000,
            rdi: 0x6000,
            rsi: 0x7000,
            rcx: 4,
            rsp: 0x9000,
            fs_base: 0xa000,
            ..Registers::default()
        }
    }

    #[test]
    fn instructions_tell_what_they_wanted() {
        let cases: [(&str, &[u8], u64, Access); 9] = [
            ("mov [rax], ecx", &[0x89, 0x08], 0x5000, Access::Write),
            ("mov ecx, [rax]", &[0x8b, 0x08], 0x5000, Access::Read),
            ("add [rax], ecx", &[0x01, 0x08], 0x5000, Access::Write),
            ("rep movsb, at its source", &[0xf3, 0xa4], 0x7000, Access::Read),
            ("rep movsb, at its target", &[0xf3, 0xa4], 0x6000, Access::Write),
            ("push rax", &[0x50], 0x8ff8, Access::Write),
            ("mov eax, fs:[0x10]", &[0x64, 0x8b, 4, 0x25, 0x10, 0, 0, 0], 0xa010, Access::Read),
            ("a fetch of a page that is not executable", &[0x90], 0x1000, Access::Execute),
            ("a fetch over the end of a page", &[0x48, 0x8b], 0x1002, Access::Execute),
        ];
        for (name, code, addr, access) in cases {
            assert_eq!(classify(&regs(), code, addr), access, "{name}");
        }
    }

    #[test]
    fn without_code_it_is_a_fetch_at_rip_and_a_read_elsewhere() {
        assert_eq!(classify(&regs(), &[], 0x1000), Access::Execute);
        assert_eq!(classify(&regs(), &[], 0x5000), Access::Read);
    }

    #[test]
    fn the_second_half_of_a_wide_store_is_a_write() {
        // movups [rax - 8], xmm0 across a page boundary: the address is the second page's first.
        assert_eq!(classify(&regs(), &[0x0f, 0x11, 0x40, 0xf8], 0x5000), Access::Write);
    }
}
