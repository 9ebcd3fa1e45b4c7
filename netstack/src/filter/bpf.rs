//! Classic BPF: the verifier and the interpreter of the filters that programs attach to sockets (socket(7), SO_ATTACH_FILTER;
//! Linux Documentation/networking/filter.rst). A verified program only jumps forwards, so that it ends.

use std::sync::Arc;

use super::bpf_view::View;

/// The most instructions of a program (BPF_MAXINSNS).
pub const MAX_INSTRUCTIONS: usize = 4096;
/// Words of scratch memory (BPF_MEMWORDS).
const MEMORY_WORDS: usize = 16;
/// Offsets from here on ask for what is known of the packet besides its bytes (SKF_AD_OFF).
const ANCILLARY: u32 = 0xffff_f000;

// Classes, sizes, modes, operations and sources of an instruction's code (linux/bpf_common.h).
const LD: u16 = 0x00;
const LDX: u16 = 0x01;
const ST: u16 = 0x02;
const STX: u16 = 0x03;
const ALU: u16 = 0x04;
const JMP: u16 = 0x05;
const RET: u16 = 0x06;
const MISC: u16 = 0x07;
const W: u16 = 0x00;
const H: u16 = 0x08;
const B: u16 = 0x10;
const IMM: u16 = 0x00;
const ABS: u16 = 0x20;
const IND: u16 = 0x40;
const MEM: u16 = 0x60;
const LEN: u16 = 0x80;
const MSH: u16 = 0xa0;
const X: u16 = 0x08;
const A: u16 = 0x10;
const TXA: u16 = 0x80;

/// One instruction (struct sock_filter).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip when a comparison holds.
    pub jt: u8,
    /// How many when it does not.
    pub jf: u8,
    /// A constant.
    pub k: u32,
}

/// The kernel's verifier refuses the program (EINVAL).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the filter is no valid program")]
pub struct Invalid;

/// A verified program. Cloning it copies nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program(Arc<[Instruction]>);

/// An operation that a comparison or a calculation of a verified code stands for.
#[derive(Clone, Copy)]
enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Or,
    And,
    Lsh,
    Rsh,
    Mod,
    Xor,
}

impl Binary {
    fn of(code: u16) -> Option<Binary> {
        Some(match code & 0xf0 {
            0x00 => Binary::Add,
            0x10 => Binary::Sub,
            0x20 => Binary::Mul,
            0x30 => Binary::Div,
            0x40 => Binary::Or,
            0x50 => Binary::And,
            0x60 => Binary::Lsh,
            0x70 => Binary::Rsh,
            0x90 => Binary::Mod,
            0xa0 => Binary::Xor,
            _ => return None,
        })
    }

    /// The result; None for a division by zero, which ends the program with 0.
    fn apply(self, a: u32, b: u32) -> Option<u32> {
        Some(match self {
            Binary::Add => a.wrapping_add(b),
            Binary::Sub => a.wrapping_sub(b),
            Binary::Mul => a.wrapping_mul(b),
            Binary::Div => a.checked_div(b)?,
            Binary::Or => a | b,
            Binary::And => a & b,
            Binary::Lsh => a.wrapping_shl(b),
            Binary::Rsh => a.wrapping_shr(b),
            Binary::Mod => a.checked_rem(b)?,
            Binary::Xor => a ^ b,
        })
    }
}

/// Whether a code is one that a program may contain, apart from its constants.
fn known(code: u16) -> bool {
    const NEG: u16 = ALU | 0x80;
    match code & 7 {
        LD => {
            let sized = matches!(code & 0x18, W | H | B) && matches!(code & 0xe0, ABS | IND);
            code <= 0xff && (sized || matches!(code, 0x00 | 0x60 | 0x80))
        }
        LDX => matches!(code & !7, IMM | MEM | LEN) || code == LDX | B | MSH,
        ST | STX => code & !7 == 0,
        ALU => code == NEG || (code <= 0xff && Binary::of(code).is_some()),
        JMP => matches!(code & !(X | 7), 0x10 | 0x20 | 0x30 | 0x40) || code == JMP,
        RET => matches!(code & !7, 0 | A),
        _ => matches!(code & !7, 0 | TXA),
    }
}

/// Whether an instruction's constants make sense at its place.
fn sound(instruction: &Instruction, at: usize, len: usize) -> bool {
    let Instruction { code, jt, jf, k } = *instruction;
    let after = len - at - 1;
    match code & 7 {
        LD if code & 0xe0 == ABS => k < ANCILLARY || View::knows(k - ANCILLARY),
        LD | LDX if code & 0xe0 == MEM => (k as usize) < MEMORY_WORDS,
        ST | STX => (k as usize) < MEMORY_WORDS,
        ALU if code & X == 0 => match code & 0xf0 {
            0x30 | 0x90 => k != 0,
            0x60 | 0x70 => k < 32,
            _ => true,
        },
        JMP if code == JMP => (k as usize) < after,
        JMP => usize::from(jt) < after && usize::from(jf) < after,
        _ => true,
    }
}

/// Whether every word of memory is written on each way to where it is read.
fn memory_is_written(instructions: &[Instruction]) -> bool {
    // The words that every known way to an instruction has written.
    let mut ways = vec![u16::MAX; instructions.len()];
    let mut written = 0u16;
    let mut narrow = |at: usize, words: u16| {
        if let Some(way) = ways.get_mut(at) {
            *way &= words;
            *way
        } else {
            words
        }
    };
    for (at, instruction) in instructions.iter().enumerate() {
        written = narrow(at, written);
        let word = 1u16.checked_shl(instruction.k).unwrap_or(0);
        match instruction.code & 7 {
            ST | STX => written |= word,
            LD | LDX if instruction.code & 0xe0 == MEM && written & word == 0 => return false,
            JMP if instruction.code == JMP => {
                narrow(at + 1 + instruction.k as usize, written);
                written = u16::MAX;
            }
            JMP => {
                narrow(at + 1 + usize::from(instruction.jt), written);
                narrow(at + 1 + usize::from(instruction.jf), written);
                written = u16::MAX;
            }
            _ => {}
        }
    }
    true
}

/// The registers and the memory of a running program.
struct Machine<'a> {
    a: u32,
    x: u32,
    memory: [u32; MEMORY_WORDS],
    view: &'a View<'a>,
}

/// What an instruction leads to.
enum Next {
    /// The instruction after `skip` others.
    Skip(usize),
    /// The end, with a result.
    Return(u32),
}

impl Program {
    /// Verifies a program as Linux's bpf_check_classic does.
    pub fn new(instructions: &[Instruction]) -> Result<Program, Invalid> {
        let len = instructions.len();
        let last = instructions.last().ok_or(Invalid)?;
        let fine = len <= MAX_INSTRUCTIONS
            && matches!(last.code, 0x06 | 0x16)
            && instructions
                .iter()
                .enumerate()
                .all(|(at, one)| known(one.code) && sound(one, at, len))
            && memory_is_written(instructions);
        if fine { Ok(Program(instructions.into())) } else { Err(Invalid) }
    }

    /// The instructions as they were given (SO_GET_FILTER).
    pub fn instructions(&self) -> &[Instruction] {
        &self.0
    }

    /// Runs it on a packet: how many bytes of it are kept; 0 drops it. A load outside of the packet drops it too.
    pub fn run(&self, view: &View<'_>) -> u32 {
        let mut machine = Machine { a: 0, x: 0, memory: [0; MEMORY_WORDS], view };
        let mut at = 0usize;
        while let Some(instruction) = self.0.get(at) {
            match machine.step(instruction) {
                Some(Next::Skip(skip)) => at += 1 + skip,
                Some(Next::Return(result)) => return result,
                None => return 0,
            }
        }
        0
    }
}

impl Machine<'_> {
    /// One instruction; None ends the program with 0.
    fn step(&mut self, instruction: &Instruction) -> Option<Next> {
        let Instruction { code, k, .. } = *instruction;
        match code & 7 {
            LD => self.a = self.load(code, k)?,
            LDX => {
                self.x = match code & 0xe0 {
                    MEM => *self.memory.get(k as usize)?,
                    LEN => self.view.len(),
                    MSH => (self.view.read(i64::from(k as i32), 1)? & 0xf) * 4,
                    _ => k,
                }
            }
            ST => *self.memory.get_mut(k as usize)? = self.a,
            STX => *self.memory.get_mut(k as usize)? = self.x,
            ALU => {
                let operand = if code & X == 0 { k } else { self.x };
                self.a = match Binary::of(code) {
                    Some(operation) => operation.apply(self.a, operand)?,
                    None => self.a.wrapping_neg(),
                };
            }
            JMP => return Some(Next::Skip(self.jump(instruction))),
            RET => return Some(Next::Return(if code & A == 0 { k } else { self.a })),
            MISC if code & TXA == 0 => self.x = self.a,
            _ => self.a = self.x,
        }
        Some(Next::Skip(0))
    }

    fn load(&self, code: u16, k: u32) -> Option<u32> {
        let size = match code & 0x18 {
            W => 4,
            H => 2,
            _ => 1,
        };
        match code & 0xe0 {
            ABS if k >= ANCILLARY => self.view.ancillary(k - ANCILLARY, self.a, self.x),
            ABS => self.view.read(i64::from(k as i32), size),
            IND => self.view.read(i64::from(self.x.wrapping_add(k) as i32), size),
            MEM => self.memory.get(k as usize).copied(),
            LEN => Some(self.view.len()),
            _ => Some(k),
        }
    }

    /// How many instructions a jump skips.
    fn jump(&self, instruction: &Instruction) -> usize {
        let Instruction { code, jt, jf, k } = *instruction;
        let operand = if code & X == 0 { k } else { self.x };
        let holds = match code & 0xf0 {
            0x10 => self.a == operand,
            0x20 => self.a > operand,
            0x30 => self.a >= operand,
            0x40 => self.a & operand != 0,
            _ => return k as usize,
        };
        usize::from(if holds { jt } else { jf })
    }
}

#[cfg(test)]
mod tests;
