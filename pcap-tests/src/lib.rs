//! Packet traces as tests: reading captures and measuring what they show. It must not know the sentry.
//!
//! [`capture`] reads files, [`packet`] takes one frame apart and checks it, [`flows`] sums conversations up as an engineer would by hand, [`report`] tells it,
//! [`compare`] says in what two captures differ, [`plot`] draws one connection,
//! [`replay`] lets the stack play one side of a capture, [`script`] runs scripts in the language of packetdrill, [`scenario`] plays whole networks,
//! [`golden`] holds the stack to captures, [`check`] runs a folder of all three.
#![forbid(unsafe_code)]

pub mod capture;
pub mod check;
pub mod compare;
mod device;
pub mod flows;
pub mod golden;
mod keyed;
pub mod namespace;
pub mod packet;
pub mod plot;
pub mod replay;
pub mod report;
pub mod scenario;
pub mod script;
mod sysctl;
mod table;
#[cfg(test)]
mod testing;
