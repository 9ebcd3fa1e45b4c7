//! TCP as a pure state machine (RFC 9293): segments and time go in, segments and deadlines come out. It holds
//! one connection at a time, and must not know sockets, the stack, or how segments travel.
//!
//! `input`, `output` and `timer` are the three ways into a [`Connection`]; `state` holds a struct per state, `tcb`
//! what they share; `send` and `receive` are the halves, with `flight`, `recovery`, `undo`, `probe`, `sack`, `rack`, `rtt`, `congestion` on one side and
//! `reassembly` on the other. `splice` joins two connections of one stack without segments. `listen` and `time_wait` hold what comes before and after a connection.

pub mod accounts;
mod acking;
mod challenge;
mod config;
pub mod congestion;
mod connection;
mod ecn;
pub mod fast_open;
mod flight;
mod input;
mod isn;
pub mod listen;
mod mtu_search;
mod output;
mod pacing;
mod probe;
mod rack;
mod rate;
mod reassembly;
mod receive;
mod receive_space;
mod recovery;
mod right_sizing;
mod rtt;
mod sack;
mod segment;
mod send;
mod seq;
mod shared;
mod shown;
mod splice;
pub mod state;
mod tcb;
mod time_wait;
mod timer;
mod undo;
mod urgent;

pub use challenge::{Challenge, ChallengeBudget};
pub use config::{
    Error, MtuProbing, PathLimits, Report, Secrets, Settings, SynCookies, TcpConfig, TimeWaitReuse,
};
pub use connection::{Connection, Disposition, DropReason, Info, Take};
pub use ecn::{Codepoint, EcnPolicy, Mode as EcnMode};
pub use isn::IsnKeys;
pub use receive::{ReceiveCounters, Run};
pub use segment::Segment;
pub use send::{Phase, SendCounters};
pub use seq::Seq;
pub use shared::TcpShared;
pub use shown::{PendingTimer, TimerKind};
pub use splice::Spliced;
pub use state::{State, StateName};
pub use time_wait::{Awaits, Listed, Remnant, RemnantDisposition, TimeWaitTable};
pub use urgent::NoUrgent;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
