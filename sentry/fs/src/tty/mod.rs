//! Terminals: the line discipline, the terminal that a program's end and a master's end share, and the two ends as open files.

pub mod console;
mod control;
mod ends;
pub mod line;
mod terminal;
mod terminals;

pub use ends::{MasterEnd, ProgramEnd};
pub use terminal::{Output, Terminal};
pub use terminals::{Attached, CONSOLE_RDEV, PTMX_RDEV, TTY_RDEV, TerminalDevice, Terminals};
