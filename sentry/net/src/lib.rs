//! Socket families behind the kernel's `Socket` trait: unix here, inet on netstack, netlink's route family read-only.
//! It must not know any filesystem, nor how system calls arrive.
#![forbid(unsafe_code)]

pub mod errno;
pub mod identity;
pub mod inet;
mod ioctl;
pub mod netlink;
pub mod netns;
pub mod proc_net;
pub mod sockopt;
pub mod unix;

pub use netns::{Loopback, NetConfig, NetError, NetNamespace, NicLink, NicSetup, RouteSetup};
