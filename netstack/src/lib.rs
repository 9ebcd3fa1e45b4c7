//! A TCP/IP stack without I/O: it holds protocols and sockets, and must not know any clock, OS, thread or global.
//!
//! One packet in: `Stack::handle_frame(now, nic, frame)` goes through `link`, `ip` and `transport` to an endpoint's
//! receive queue, and the endpoint's waker tells its owner. One packet out: an endpoint calls [`ip::IpOutput`],
//! which the stack implements, and the frame leaves through [`link::Link`] on the sender's thread.
//!
//! Layers: `wire` imports none of the others; `link`, `ip` and `transport` never import `stack`; `socket` sits on
//! `transport`; `stack` owns all of it; `sim` joins stacks for tests.
#![forbid(unsafe_code)]

pub mod buffer;
pub mod filter;
pub mod ip;
pub mod lazy;
pub mod link;
pub mod memory;
pub mod rng;
pub mod sim;
pub mod socket;
pub mod stack;
pub mod stats;
pub mod time;
pub mod transport;
pub mod wire;
