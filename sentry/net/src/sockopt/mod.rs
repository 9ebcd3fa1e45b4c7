//! Socket options: a table by level, a row an option, and the layouts that values have in program memory
//! (socket(7), ip(7), ipv6(7), tcp(7), udp(7), raw(7)).

pub mod common;
pub(crate) mod datagram;
pub mod docs;
pub mod filter;
pub(crate) mod headers;
pub mod ip;
pub mod ipv6;
pub mod raw;
pub mod row;
pub mod socket;
pub mod tcp;
pub(crate) mod timestamping;
pub mod udp;
pub mod value;

pub use common::Common;
pub use row::{Sorts, Target};
