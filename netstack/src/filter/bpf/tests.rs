//! Tests of the verifier and the interpreter.

use super::*;
use crate::buffer::PacketBuffer;
use crate::rng::{Rng, seed_from};

fn stmt(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// A packet of 14 bytes of link header, 20 of IPv4 and a UDP header, as a filter of a message socket sees it at its UDP header.
fn run(program: &[Instruction], bytes: &[u8]) -> u32 {
    let packet = PacketBuffer::from_slice(bytes);
    let view = View {
        packet: &packet,
        before: &[0x45, 1, 2, 3, 4, 5, 6, 7, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2],
        network_at: -20,
        link_at: None,
        protocol: 0x0800,
        packet_type: 4,
        ifindex: 7,
        hardware_type: 1,
        mark: 99,
        random: &|| 42,
    };
    Program::new(program).expect("a valid program").run(&view)
}

const RET_A: Instruction = Instruction { code: 0x16, jt: 0, jf: 0, k: 0 };

#[test]
fn loads_reach_the_packet_its_headers_and_what_is_known_of_it() {
    let packet = [1, 2, 3, 4, 0x26, 6];
    let abs = |size: u16, k: u32| run(&[stmt(LD | size | ABS, k), RET_A], &packet);
    assert_eq!((abs(W, 0), abs(H, 1), abs(B, 5)), (0x0102_0304, 0x0203, 6));
    assert_eq!((abs(W, 3), abs(B, 6), abs(H, u32::MAX >> 1)), (0, 0, 0));
    // SKF_NET_OFF reaches before the front, and from there on into the packet.
    assert_eq!(abs(B, 0xfff0_0009), 17);
    assert_eq!(abs(W, 0xfff0_0012), 0x0002_0102);
    assert_eq!(abs(B, 0xffe0_0000), 0, "no link header");
    let known =
        [(0, 0x800), (4, 4), (8, 7), (20, 99), (24, 0), (28, 1), (36, 0), (52, 6), (56, 42)];
    for (what, value) in known {
        assert_eq!(abs(W, ANCILLARY + what), value, "ancillary {what}");
    }
    assert_eq!(run(&[stmt(LDX | B | MSH, 4), stmt(MISC | TXA, 0), RET_A], &packet), 24);
    assert_eq!(run(&[stmt(LD | LEN, 0), RET_A], &packet), 6);
    let indirect = [stmt(LDX | IMM, 2), stmt(LD | B | IND, 1), RET_A];
    assert_eq!(run(&indirect, &packet), 4);
    let xor = [stmt(LD | IMM, 6), stmt(LDX | IMM, 3), stmt(LD | W | ABS, ANCILLARY + 40), RET_A];
    assert_eq!(run(&xor, &packet), 5);
}

#[test]
fn arithmetic_wraps_and_a_division_by_zero_drops() {
    let calculate = |op: u16, a: u32, x: u32| {
        let all = [stmt(LD | IMM, a), stmt(LDX | IMM, x), stmt(ALU | op | X, 0), RET_A];
        run(&all, &[])
    };
    assert_eq!(calculate(0x00, u32::MAX, 2), 1);
    assert_eq!(calculate(0x10, 1, 2), u32::MAX);
    assert_eq!(calculate(0x20, 1 << 31, 2), 0);
    assert_eq!((calculate(0x30, 7, 2), calculate(0x30, 7, 0)), (3, 0));
    assert_eq!((calculate(0x90, 7, 4), calculate(0x90, 7, 0)), (3, 0));
    assert_eq!((calculate(0x60, 1, 33), calculate(0x70, 8, 2)), (2, 2));
    assert_eq!(run(&[stmt(LD | IMM, 1), stmt(ALU | 0x80, 0), RET_A], &[]), u32::MAX);
}

#[test]
fn jumps_choose_and_memory_keeps() {
    let program = [
        stmt(LD | B | ABS, 0),
        stmt(ST, 3),
        jump(JMP | 0x10, 9, 0, 1),
        stmt(RET, 100),
        jump(JMP | 0x30, 10, 1, 0),
        stmt(RET, 200),
        stmt(LDX | MEM, 3),
        stmt(MISC | TXA, 0),
        RET_A,
    ];
    assert_eq!([9, 3, 77].map(|first| run(&program, &[first])), [100, 200, 77]);
    assert_eq!(run(&[stmt(JMP, 1), stmt(RET, 1), stmt(RET, 2)], &[]), 2);
}

#[test]
fn what_linux_refuses_is_refused() {
    let ret = stmt(RET, 0);
    let refused: &[&[Instruction]] = &[
        &[],
        &[stmt(LD | IMM, 1)],
        &[stmt(0x0f, 0), ret],
        &[stmt(0xff, 0), ret],
        &[stmt(LD | 0x18 | ABS, 0), ret],
        &[stmt(LD | H | LEN, 0), ret],
        &[stmt(0x100, 0), ret],
        &[stmt(ALU | 0x30, 0), ret],
        &[stmt(ALU | 0x90, 0), ret],
        &[stmt(ALU | 0x60, 32), ret],
        &[stmt(ALU | 0xb0, 1), ret],
        &[stmt(ST, 16), ret],
        &[stmt(LD | MEM, 16), ret],
        &[stmt(LD | MEM, 0), ret],
        // One way writes the word, the other does not.
        &[jump(JMP | 0x10, 0, 0, 1), stmt(ST, 0), stmt(LD | MEM, 0), ret],
        &[stmt(JMP, 1), ret],
        &[stmt(JMP, u32::MAX), ret],
        &[jump(JMP | 0x10, 0, 0, 1), ret],
        &[stmt(LD | W | ABS, ANCILLARY + 64), ret],
        &[stmt(LD | W | ABS, ANCILLARY + 1), ret],
        &[stmt(RET | X, 0)],
        &[ret; MAX_INSTRUCTIONS + 1],
    ];
    for program in refused {
        assert_eq!(Program::new(program), Err(Invalid), "{program:?}");
    }
    assert!(Program::new(&[ret; MAX_INSTRUCTIONS]).is_ok());
    let both = [
        jump(JMP | 0x10, 0, 1, 0),
        jump(JMP, 1, 0, 0),
        stmt(ST, 0),
        stmt(ST, 0),
        stmt(LD | MEM, 0),
        ret,
    ];
    assert!(Program::new(&both).is_ok());
}

#[test]
fn random_programs_never_fault() {
    let seed = 20_261_128;
    println!("seed {seed}");
    let mut rng = Rng::new(&seed_from(seed), 0);
    let mut valid = 0;
    for _ in 0..20_000 {
        let word = rng.next_u64();
        let len = word as usize % 12;
        let mut program: Vec<Instruction> = (0..len)
            .map(|_| {
                let (word, k) = (rng.next_u64(), rng.next_u64());
                let k = match word >> 62 {
                    0 => k as u32,
                    1 => ANCILLARY + (k as u32 & 0x3c),
                    _ => k as u32 & 0xf,
                };
                let [jt, jf] = [(word >> 16) as u8 & 3, (word >> 24) as u8 & 3];
                Instruction { code: word as u16 & 0xff, jt, jf, k }
            })
            .collect();
        program.extend([RET_A]);
        if let Ok(program) = Program::new(&program) {
            valid += 1;
            let bytes = word.to_ne_bytes();
            let packet = PacketBuffer::from_slice(&bytes[..len.min(8)]);
            let view = View {
                packet: &packet,
                before: &bytes,
                network_at: -8,
                link_at: Some(-8),
                protocol: 0x86dd,
                packet_type: 0,
                ifindex: 1,
                hardware_type: 1,
                mark: 0,
                random: &|| 1,
            };
            program.run(&view);
        }
    }
    assert!(valid > 100, "only {valid} programs were valid");
}
