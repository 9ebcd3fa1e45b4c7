//! All requests of a stack by their flow, whichever listener has them: a listener that joins a group or binds a
//! narrower address takes no handshake away from the one that began it.

use core::net::{IpAddr, SocketAddr};
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::Request;
use crate::rng::KeyedState;
use crate::time::Instant;
use crate::transport::Endpoint;

/// The two ends of a flow, ours first, without the padding of socket addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowKey {
    local: IpAddr,
    remote: IpAddr,
    ports: (u16, u16),
}

impl FlowKey {
    /// The key of a flow.
    pub fn new(local: SocketAddr, remote: SocketAddr) -> FlowKey {
        FlowKey { local: local.ip(), remote: remote.ip(), ports: (local.port(), remote.port()) }
    }

    /// Our end.
    pub fn local(&self) -> SocketAddr {
        SocketAddr::new(self.local, self.ports.0)
    }

    /// The peer's end.
    pub fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.remote, self.ports.1)
    }
}

struct Tables {
    requests: HashMap<FlowKey, Request, KeyedState>,
    listeners: HashMap<u64, Weak<dyn Endpoint>, KeyedState>,
    next_id: u64,
}

/// The table.
pub struct RequestTable(Mutex<Tables>);

impl RequestTable {
    /// An empty table whose placement is keyed.
    pub fn new(hasher: KeyedState) -> RequestTable {
        RequestTable(Mutex::new(Tables {
            requests: HashMap::with_hasher(hasher.clone()),
            listeners: HashMap::with_hasher(hasher),
            next_id: 1,
        }))
    }

    /// A number for a listener that begins.
    pub fn enter(&self, listener: Weak<dyn Endpoint>) -> u64 {
        let mut tables = self.0.lock();
        let id = tables.next_id;
        tables.next_id += 1;
        tables.listeners.insert(id, listener);
        id
    }

    /// A listener ended.
    pub fn leave(&self, id: u64) {
        self.0.lock().listeners.remove(&id);
    }

    /// The listener of that number.
    pub fn listener(&self, id: u64) -> Option<Arc<dyn Endpoint>> {
        self.0.lock().listeners.get(&id)?.upgrade()
    }

    /// Remembers a request. False where the flow has one already.
    pub fn insert(&self, flow: FlowKey, request: Request) -> bool {
        let mut tables = self.0.lock();
        let free = !tables.requests.contains_key(&flow);
        if free {
            tables.requests.insert(flow, request);
        }
        free
    }

    /// Works on the request of a flow.
    pub fn with<R>(&self, flow: &FlowKey, work: impl FnOnce(&mut Request) -> R) -> Option<R> {
        self.0.lock().requests.get_mut(flow).map(work)
    }

    /// Forgets the request of a flow, if it is that listener's.
    pub fn remove(&self, flow: &FlowKey, listener: u64) -> Option<Request> {
        let mut tables = self.0.lock();
        tables.requests.get(flow).filter(|request| request.listener == listener)?;
        let gone = tables.requests.remove(flow);
        // The memory of a flood is given back once it is over.
        if tables.requests.is_empty() && tables.requests.capacity() > 1024 {
            tables.requests.shrink_to_fit();
        }
        gone
    }

    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.0.lock().requests.len()
    }

    /// The requests with the time of their next SYN-ACK and how often it was repeated, for listings.
    pub fn list(&self) -> Vec<(FlowKey, Instant, u8)> {
        let tables = self.0.lock();
        let row =
            |(flow, request): (&FlowKey, &Request)| (*flow, request.deadline, request.retries);
        tables.requests.iter().map(row).collect()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
