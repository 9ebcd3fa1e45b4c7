//! The flows that are open: by what their two endpoints share, and by number for who knows it from the frame before.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use super::flow::{Flow, Protocol};
use crate::keyed::{self, Map};
use crate::packet::Endpoint;
use crate::table::{Id, Table};

/// The number of an open flow. That of one that is over is given again.
pub type FlowId = Id;

/// What is known of a frame before it is summed up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// The flow of the segment before it on the same connection, which is found so without a search.
    pub flow: Option<FlowId>,
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

/// Flows. Boxed, since they are moved about when they are over.
#[derive(Default)]
pub(super) struct Open {
    ids: Map<Key, FlowId>,
    flows: Table<Box<Flow>>,
}

impl Open {
    /// The flow of a key.
    pub fn find(&self, key: &Key) -> Option<FlowId> {
        self.ids.get(key).copied()
    }

    /// Whether a number is that of the connection between these.
    pub fn is_between(&self, id: FlowId, [one, other]: [&Endpoint; 2]) -> bool {
        self.flows.get(id).is_some_and(|flow| {
            let [first, second] = &flow.ends;
            let is_alike = first == one && second == other || first == other && second == one;
            flow.protocol == Protocol::Tcp && is_alike
        })
    }

    /// Adds one; there is none of its key.
    pub fn put(&mut self, key: Key, flow: Flow) -> FlowId {
        let id = self.flows.put(Box::new(flow));
        self.ids.insert(key, id);
        id
    }

    /// That of a number.
    pub fn get(&self, id: FlowId) -> Option<&Flow> {
        self.flows.get(id).map(Box::as_ref)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: FlowId) -> Option<&mut Flow> {
        self.flows.get_mut(id).map(Box::as_mut)
    }

    /// Takes one out.
    pub fn remove(&mut self, key: &Key) -> Option<Box<Flow>> {
        let id = self.ids.remove(key)?;
        self.flows.take(id)
    }

    /// Takes out those that are over. They stay in their boxes.
    #[expect(clippy::vec_box)]
    pub fn extract(&mut self, mut is_over: impl FnMut(&Flow) -> bool) -> Vec<Box<Flow>> {
        let flows = &mut self.flows;
        let over = |_: &Key, id: &mut FlowId| flows.get(*id).is_none_or(|flow| is_over(flow));
        let ids: Vec<FlowId> = self.ids.extract_if(over).map(|(_, id)| id).collect();
        ids.into_iter().filter_map(|id| flows.take(id)).collect()
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.flows.iter().map(Box::as_ref)
    }
}
