//! What decides about packets by rules that a program gave: classic BPF. It must not know sockets or the stack.

pub mod bpf;
mod bpf_view;

pub use bpf::{Instruction, Program};
pub use bpf_view::View;
