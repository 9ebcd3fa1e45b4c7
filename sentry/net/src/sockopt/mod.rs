//! Socket options: tables by level, and the layouts that values have in program memory (socket(7), ip(7), ipv6(7), tcp(7), udp(7)).

pub mod ip;
pub mod ipv6;
pub mod socket;
pub mod tcp;
pub mod value;

pub use socket::Common;
