//! Neighbours, as an administrator sees and sets them.

use core::net::IpAddr;
use std::sync::Arc;

use crate::ip::neigh::{Neighbour, State};
use crate::link::{MacAddr, NicId};
use crate::stack::Stack;
use crate::stack::admin::NicError;
use crate::stack::nic::Nic;
use crate::stack::observe::{Change, Presence};
use crate::time::Instant;

/// Why a neighbour was not set or removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NeighbourError {
    /// No such interface (ENODEV).
    #[error("no such interface")]
    NoNic,
    /// The cache is full (ENOBUFS).
    #[error("the neighbour table is full")]
    Full,
    /// No such neighbour (ENOENT).
    #[error("no such neighbour")]
    NotFound,
}

impl Stack {
    /// The neighbours of all interfaces.
    pub fn neighbours(&self) -> Vec<(NicId, Neighbour)> {
        let topology = self.topology();
        let of = |nic: &Arc<Nic>| {
            let all = nic.neighbours.lock().list();
            let id = nic.id;
            all.into_iter().map(move |neighbour| (id, neighbour))
        };
        topology.nics().flat_map(of).collect()
    }

    /// Sets a neighbour by hand, for good.
    pub fn add_neighbour(
        &self,
        now: Instant,
        nic: NicId,
        address: IpAddr,
        mac: MacAddr,
    ) -> Result<(), NicError> {
        let neighbour = Neighbour::new(address, Some(mac), State::Permanent);
        self.set_neighbour(now, nic, neighbour).map_err(|_| NicError::NotFound)
    }

    /// Sets a neighbour to a state (`ip neighbour replace`). What waits for it is sent.
    pub fn set_neighbour(
        &self,
        now: Instant,
        nic: NicId,
        neighbour: Neighbour,
    ) -> Result<(), NeighbourError> {
        let topology = self.topology();
        let nic = topology.nic(nic).ok_or(NeighbourError::NoNic)?;
        let mut cache = nic.neighbours.lock();
        let waiting = cache.set(now, &neighbour).ok_or(NeighbourError::Full)?;
        let deadline = cache.next_deadline();
        drop(cache);
        self.routes.forget();
        self.schedule(deadline);
        self.tell(&[Change::Neighbour(Presence::New, nic.id, neighbour)]);
        if let Some(mac) = neighbour.mac {
            self.release(now, nic, neighbour.address, mac, waiting);
        }
        self.drain_looped(now);
        Ok(())
    }

    /// Forgets a neighbour; answers whether it was known.
    pub fn remove_neighbour(&self, nic: NicId, address: IpAddr) -> Result<bool, NicError> {
        let topology = self.topology();
        let nic = topology.nic(nic).ok_or(NicError::NotFound)?;
        let gone = nic.neighbours.lock().remove(address);
        self.routes.forget();
        if let Some(gone) = gone {
            self.tell(&[Change::Neighbour(Presence::Deleted, nic.id, gone)]);
        }
        Ok(gone.is_some())
    }

    /// Stops answering questions for an address; answers whether it did.
    pub fn remove_proxy(&self, nic: NicId, address: IpAddr) -> Result<bool, NicError> {
        let topology = self.topology();
        let nic = topology.nic(nic).ok_or(NicError::NotFound)?;
        Ok(nic.neighbours.lock().remove_proxy(address))
    }
}
