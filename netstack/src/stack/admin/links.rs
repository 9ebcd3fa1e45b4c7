//! What an administrator says of one link: the identifier of its addresses (`ip token`), how identifiers are made, and the
//! link-layer addresses that its device is to listen to (`ip maddress`).

use core::net::{IpAddr, Ipv6Addr};

use crate::ip::{Address, AddressFlags};
use crate::link::{MacAddr, NicId};
use crate::stack::{Stack, router::MADE_BY_RA};
use crate::time::Instant;

/// How many link-layer addresses a device may be told to listen to; each is a few bytes of memory.
const MAX_LISTENED: usize = 1024;
/// The bits of an address that a token is.
const IDENTIFIER: u128 = u64::MAX as u128;

/// Why a token was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// No such interface (ENODEV).
    #[error("no such interface")]
    NoNic,
    /// It is a loopback interface (EINVAL).
    #[error("the interface is loopback")]
    Loopback,
    /// It takes no router advertisements, from which addresses would be made (EINVAL).
    #[error("router advertisements are not taken")]
    NoAdverts,
    /// It asks no routers (EINVAL).
    #[error("no router is asked")]
    NoSolicits,
}

/// Why the link-layer addresses of a device were not changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ListenError {
    /// No such interface (ENODEV).
    #[error("no such interface")]
    NoNic,
    /// It was not told to listen to this one (ENOENT).
    #[error("the device does not listen to the address")]
    NotFound,
    /// It listens to too many (ENOMEM).
    #[error("the device listens to too many addresses")]
    Full,
}

/// Whether an address was made of a prefix and a token.
fn tokenized(own: &Address, token: Ipv6Addr) -> bool {
    let IpAddr::V6(ip) = own.ip() else { return false };
    let made = own.made_by == MADE_BY_RA && !own.flags.contains(AddressFlags::TEMPORARY);
    made && u128::from(ip) & IDENTIFIER == u128::from(token) & IDENTIFIER
}

impl Stack {
    /// Sets the last 64 bits of the addresses that an interface makes of routers' prefixes; the unspecified address takes the
    /// token away. Addresses of the old one end, and routers are asked for their prefixes (Linux's inet6_set_iftoken).
    pub fn set_token(&self, now: Instant, nic: NicId, token: Ipv6Addr) -> Result<(), TokenError> {
        self.change(|topology, changes| {
            let found = topology.nic(nic).cloned().ok_or(TokenError::NoNic)?;
            let conf = topology.of_nic(nic).ipv6;
            if found.is_loopback() {
                return Err(TokenError::Loopback);
            }
            if !conf.takes_adverts() {
                return Err(TokenError::NoAdverts);
            }
            if conf.router_solicitations == 0 {
                return Err(TokenError::NoSolicits);
            }
            let edit = |own: &mut crate::ip::conf::NicTunables| own.ipv6.token = token;
            topology.edit_nic(nic, changes, edit).map_err(|_| TokenError::NoNic)?;
            let old = conf.token;
            if !old.is_unspecified() {
                topology
                    .edit_addresses(&found, changes, |all| all.retain(|own| !tokenized(own, old)));
            }
            if !token.is_unspecified() && found.is_up() {
                topology.ask_for_routers(&found, now);
            }
            Ok(())
        })?;
        self.schedule_autoconf();
        Ok(())
    }

    /// Lets a device listen to a link-layer address; what it listens to already stays (SIOCADDMULTI of netdevice(7)). Links
    /// here take every frame, so that it is but told.
    pub fn listen_to(&self, nic: NicId, mac: MacAddr) -> Result<(), ListenError> {
        let topology = self.topology();
        let nic = topology.nic(nic).ok_or(ListenError::NoNic)?;
        let mut listened = nic.listened.lock();
        if listened.len() >= MAX_LISTENED && !listened.contains(&mac) {
            return Err(ListenError::Full);
        }
        listened.insert(mac);
        Ok(())
    }

    /// Takes back what `listen_to` said (SIOCDELMULTI).
    pub fn stop_listening_to(&self, nic: NicId, mac: MacAddr) -> Result<(), ListenError> {
        let topology = self.topology();
        let nic = topology.nic(nic).ok_or(ListenError::NoNic)?;
        match nic.listened.lock().remove(&mac) {
            true => Ok(()),
            false => Err(ListenError::NotFound),
        }
    }
}
