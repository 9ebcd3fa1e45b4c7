//! Addresses of interfaces: flags, lifetimes, peers (`linux/if_addr.h`).

use core::net::{IpAddr, Ipv4Addr};

use super::cidr::IpCidr;
use super::route::{Protocol, Scope};
use crate::time::Instant;

bitflags::bitflags! {
    /// `IFA_F_`
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct AddressFlags: u32 {
        /// IPv4: another address of the same subnet comes first (`IFA_F_SECONDARY`).
        const SECONDARY = 0x01;
        /// IPv6: temporary (RFC 8981); the same bit as SECONDARY.
        const TEMPORARY = 0x01;
        /// Not probed for duplicates.
        const NODAD = 0x02;
        /// Used while it is probed (RFC 4429).
        const OPTIMISTIC = 0x04;
        /// Somebody else has it.
        const DADFAILED = 0x08;
        /// A home address.
        const HOMEADDRESS = 0x10;
        /// No longer preferred.
        const DEPRECATED = 0x20;
        /// Being probed: not used yet.
        const TENTATIVE = 0x40;
        /// Valid without end.
        const PERMANENT = 0x80;
        /// Temporary addresses are made from its prefix.
        const MANAGETEMPADDR = 0x100;
        /// It brings no route to its prefix.
        const NOPREFIXROUTE = 0x200;
        /// A multicast group joined by hand.
        const MCAUTOJOIN = 0x400;
        /// Its identifier is stable and private (RFC 7217).
        const STABLE_PRIVACY = 0x800;
    }
}

/// An address of an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// The address, and how long its prefix is.
    pub cidr: IpCidr,
    /// The other end of a point-to-point link; the prefix is then that of this address.
    pub peer: Option<IpAddr>,
    /// The broadcast address that was set, which adds to the one that the prefix makes.
    pub broadcast: Option<Ipv4Addr>,
    /// The name of the interface, or an alias of it (IPv4).
    pub label: Option<String>,
    /// How far it means something.
    pub scope: Scope,
    /// What it is.
    pub flags: AddressFlags,
    /// Until when it is valid; None without end.
    pub valid_until: Option<Instant>,
    /// Until when it is preferred; None without end.
    pub preferred_until: Option<Instant>,
    /// The metric of the route to its prefix; 0 for the family's default.
    pub metric: u32,
    /// Who made it: an `IFAPROT_` number.
    pub made_by: u8,
    /// When it was made.
    pub created: Instant,
    /// When it was last changed.
    pub updated: Instant,
}

impl Address {
    /// A permanent address.
    pub fn new(cidr: IpCidr) -> Address {
        Address {
            cidr,
            peer: None,
            broadcast: None,
            label: None,
            scope: scope_of(cidr.address()),
            flags: AddressFlags::PERMANENT,
            valid_until: None,
            preferred_until: None,
            metric: 0,
            made_by: 0,
            created: Instant::ZERO,
            updated: Instant::ZERO,
        }
    }

    /// The address alone.
    pub fn ip(&self) -> IpAddr {
        self.cidr.address()
    }

    /// The prefix that is on the link: of the peer, when there is one.
    pub fn prefix(&self) -> IpCidr {
        IpCidr::new(self.peer.unwrap_or(self.ip()), self.cidr.prefix_len()).network()
    }

    /// Whether packets may come from it and go to it: neither tentative nor a duplicate.
    pub fn is_usable(&self) -> bool {
        let tentative = self.flags.contains(AddressFlags::TENTATIVE)
            && !self.flags.contains(AddressFlags::OPTIMISTIC);
        !tentative && !self.flags.contains(AddressFlags::DADFAILED)
    }

    /// Whether another one should be taken as a source for new connections.
    pub fn is_deprecated(&self) -> bool {
        self.flags.contains(AddressFlags::DEPRECATED)
    }

    /// When something about it changes by itself.
    pub fn next_deadline(&self) -> Option<Instant> {
        let preferred = self.preferred_until.filter(|_| !self.is_deprecated());
        [preferred, self.valid_until].into_iter().flatten().min()
    }

    /// Who makes the routes that come with it.
    pub const ROUTES_BY: Protocol = Protocol::KERNEL;
}

/// The scope that an address has by itself.
pub fn scope_of(address: IpAddr) -> Scope {
    match address {
        IpAddr::V4(v4) if v4.is_loopback() => Scope::HOST,
        IpAddr::V4(v4) if v4.is_link_local() => Scope::LINK,
        IpAddr::V6(v6) if v6.is_loopback() => Scope::HOST,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Scope::LINK,
        // fec0::/10, deprecated by RFC 3879.
        IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfec0 => Scope::SITE,
        _ => Scope::UNIVERSE,
    }
}
