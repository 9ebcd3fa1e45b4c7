//! What is particular to x86-64: registers, the system-call ABI, FPU state and signal frames.
//! Pure functions over values and byte buffers; nothing here touches a process.

pub mod fpu;
pub mod registers;
pub mod signal_frame;

pub use fpu::FpuState;
pub use registers::Registers;
