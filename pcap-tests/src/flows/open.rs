//! The flows that are open: by what their two endpoints share, and by number for who knows it from the frame before.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use super::flow::{Flow, Protocol};
use crate::keyed;
use crate::packet::Endpoint;
use crate::table::{Id, Keyed, Recent};

/// The number of an open flow. That of one that is over is given again.
pub type FlowId = Id;

/// What is known of a frame before it is summed up.
#[derive(Debug)]
pub struct Known<'a> {
    /// The flow of the segment before it on the same connection, which is found so without a search. It is told which flow this one was of.
    pub flow: &'a mut Option<FlowId>,
    /// Whether its bytes are those of the other trace, whatever they are: nobody has to compare them.
    pub is_same: bool,
}

/// What two endpoints share: the protocol and both of them, in order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(pub Protocol, Endpoint, Endpoint);

impl Key {
    pub fn of(protocol: Protocol, one: Endpoint, other: Endpoint) -> Self {
        let is_in_order = match (one.0, other.0) {
            // Sooner told than by comparing what may be either family.
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits(), one.1) <= (b.to_bits(), other.1),
            _ => one <= other,
        };
        let (first, second) = if is_in_order { (one, other) } else { (other, one) };
        Self(protocol, first, second)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        keyed::hash_ends(state, self.0 as u8, [&self.1, &self.2]);
    }
}

impl Recent for Key {
    fn place(&self) -> u8 {
        (self.1.1 ^ self.2.1) as u8
    }
}

/// Flows. Boxed, since they are moved about when they are over.
pub(super) type Open = Keyed<Key, Box<Flow>>;
