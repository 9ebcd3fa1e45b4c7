//! The stack's drivers on Linux: TAP devices, packet sockets, the loop that feeds them, captures. It must not know any program, task or system call.
//!
//! With platform this is the only room with `unsafe`: the ioctls of [`tap`], the socket options of [`packet`] and of [`netns::foreign`]. Everything else goes through safe wrappers.

pub mod capture;
pub mod device;
pub mod driver;
pub mod loopback;
mod netlink;
pub mod netns;
pub mod packet;
pub mod pcapng;
pub mod rtnetlink;
pub mod tap;
mod vnet;

pub use capture::Capture;
pub use device::Device;
pub use driver::Driver;
pub use tap::{Tap, TapConfig, TapError};
