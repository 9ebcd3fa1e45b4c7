//! The stack's drivers on Linux: TAP devices, the loop that feeds them, captures. It must not know any program, task or system call.
//!
//! With platform this is the only room with `unsafe`: the ioctls of [`tap`]. Everything else goes through safe wrappers.

pub mod capture;
pub mod driver;
pub mod pcapng;
pub mod rtnetlink;
pub mod tap;

pub use capture::Capture;
pub use driver::Driver;
pub use tap::{Tap, TapConfig, TapError};
