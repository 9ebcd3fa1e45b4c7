//! Socket families behind the kernel's `Socket` trait: unix here, inet on netstack, netlink with rtnetlink and sock_diag.
//! It must not know any filesystem, nor how system calls arrive.
#![forbid(unsafe_code)]

pub mod errno;
pub mod identity;
pub mod inet;
mod ioctl;
pub mod mirror;
pub mod netlink;
pub mod netns;
mod owners;
pub mod packet;
mod proc_counters;
mod proc_groups;
mod proc_misc;
pub mod proc_net;
mod proc_sockets;
pub mod sockopt;
pub mod sysctl;
pub mod unix;

pub use netns::{Loopback, NetConfig, NetError, NetNamespace, NicLink, NicSetup, RouteSetup};
