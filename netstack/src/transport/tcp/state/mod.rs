//! The states of RFC 9293 section 3.3.2, a struct each: what a state remembers of its own, and where events lead.

mod close_wait;
mod closed;
mod closing;
mod established;
mod fin_wait_1;
mod fin_wait_2;
mod last_ack;
mod listen;
mod syn_received;
mod syn_sent;
mod time_wait;

pub use close_wait::CloseWait;
pub use closed::Closed;
pub use closing::Closing;
pub use established::Established;
pub use fin_wait_1::{FinWait1, OurFin};
pub use fin_wait_2::FinWait2;
pub use last_ack::LastAck;
pub use listen::{Listen, ListenDisposition};
pub use syn_received::{Origin, SynReceived};
pub use syn_sent::{SynSent, SynSentDisposition};
pub use time_wait::TimeWait;

use crate::time::Instant;

/// The state of a connection, with what belongs to it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum State {
    Closed(Closed),
    SynSent(SynSent),
    SynReceived(SynReceived),
    Established(Established),
    FinWait1(FinWait1),
    FinWait2(FinWait2),
    CloseWait(CloseWait),
    Closing(Closing),
    LastAck(LastAck),
    TimeWait(TimeWait),
}

/// The names of the states, with Linux's numbers (`include/net/tcp_states.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum StateName {
    Established = 1,
    SynSent = 2,
    SynReceived = 3,
    FinWait1 = 4,
    FinWait2 = 5,
    TimeWait = 6,
    Closed = 7,
    CloseWait = 8,
    LastAck = 9,
    Listen = 10,
    Closing = 11,
}

impl State {
    /// Its name.
    pub fn name(&self) -> StateName {
        match self {
            State::Closed(_) => StateName::Closed,
            State::SynSent(_) => StateName::SynSent,
            State::SynReceived(_) => StateName::SynReceived,
            State::Established(_) => StateName::Established,
            State::FinWait1(_) => StateName::FinWait1,
            State::FinWait2(_) => StateName::FinWait2,
            State::CloseWait(_) => StateName::CloseWait,
            State::Closing(_) => StateName::Closing,
            State::LastAck(_) => StateName::LastAck,
            State::TimeWait(_) => StateName::TimeWait,
        }
    }

    /// Where the end of our stream leads; None where there is none to end.
    pub fn on_close(self) -> Option<State> {
        match self {
            State::SynReceived(state) => Some(State::FinWait1(state.on_close())),
            State::Established(state) => Some(State::FinWait1(state.on_close())),
            State::CloseWait(state) => Some(State::LastAck(state.on_close())),
            _ => None,
        }
    }

    /// Where the acknowledgment of our FIN leads.
    pub fn on_fin_acked(self, expires: Instant) -> State {
        match self {
            State::FinWait1(state) => State::FinWait2(state.on_fin_acked()),
            State::Closing(state) => State::TimeWait(state.on_fin_acked(expires)),
            State::LastAck(state) => State::Closed(state.on_fin_acked()),
            other => other,
        }
    }

    /// Where the peer's FIN leads, once all before it arrived.
    pub fn on_fin(self, ours: OurFin, expires: Instant) -> State {
        match self {
            State::SynReceived(state) => state.on_fin(),
            State::Established(state) => State::CloseWait(state.on_fin()),
            State::FinWait1(state) => state.on_fin(ours, expires),
            State::FinWait2(state) => State::TimeWait(state.on_fin(expires)),
            other => other,
        }
    }

    /// Whether both ends know of each other.
    pub fn is_synchronized(&self) -> bool {
        !matches!(self, State::Closed(_) | State::SynSent(_) | State::SynReceived(_))
    }

    /// Whether the program may still send.
    pub fn may_send(&self) -> bool {
        matches!(
            self,
            State::Established(_)
                | State::CloseWait(_)
                | State::SynReceived(SynReceived { origin: Origin::FastOpen })
        )
    }

    /// Whether the peer may still send data.
    pub fn may_receive(&self) -> bool {
        matches!(self, State::Established(_) | State::FinWait1(_) | State::FinWait2(_))
    }
}
