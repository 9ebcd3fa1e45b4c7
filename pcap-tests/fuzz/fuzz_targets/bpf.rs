//! Classic BPF: whatever program the verifier lets pass ends on every packet, without a panic.
//!
//! An input is the number of instructions (one byte), the instructions of 8 bytes each, and then the packet.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netstack::buffer::PacketBuffer;
use netstack::filter::{Instruction, Program, View};

fuzz_target!(|data: &[u8]| {
    let [count, rest @ ..] = data else { return };
    let (code, packet) = rest.split_at((usize::from(*count) * 8).min(rest.len()));
    let instructions: Vec<Instruction> = code
        .chunks_exact(8)
        .map(|c| Instruction {
            code: u16::from_ne_bytes([c[0], c[1]]),
            jt: c[2],
            jf: c[3],
            k: u32::from_ne_bytes([c[4], c[5], c[6], c[7]]),
        })
        .collect();
    let Ok(program) = Program::new(&instructions) else { return };
    assert_eq!(program.instructions(), instructions);
    let (before, bytes) = packet.split_at(packet.len().min(34));
    let packet = PacketBuffer::from_slice(bytes);
    let view = View {
        packet: &packet,
        before,
        network_at: -20,
        link_at: Some(-34),
        protocol: 0x0800,
        packet_type: 0,
        ifindex: 1,
        hardware_type: 1,
        mark: 0,
        random: &|| 7,
    };
    program.run(&view);
});
