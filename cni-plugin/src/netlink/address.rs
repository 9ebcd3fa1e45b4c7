//! Addresses of a link.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};

use super::{Rtnl, RtnlError};

/// An address of a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Address {
    /// With the length of its prefix.
    pub(crate) address: IpNet,
    /// The other end, where that is what the prefix belongs to.
    pub(crate) peer: Option<IpAddr>,
    /// The kernel made no route for its prefix.
    pub(crate) no_prefix_route: bool,
    /// Valid on this link only.
    pub(crate) link_local: bool,
}

impl Address {
    fn of_message(message: &AddressMessage) -> Option<Self> {
        let (mut address, mut local, mut flags) = (None, None, AddressFlags::empty());
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Address(it) => address = Some(*it),
                AddressAttribute::Local(it) => local = Some(*it),
                AddressAttribute::Flags(it) => flags = *it,
                _ => {}
            }
        }
        // rtnetlink(7): IFA_ADDRESS is the prefix address; it differs from IFA_LOCAL, ours, on point-to-point links.
        let ours = local.or(address)?;
        Some(Self {
            address: IpNet::new(ours, message.header.prefix_len).ok()?,
            peer: address.filter(|other| *other != ours),
            no_prefix_route: flags.contains(AddressFlags::Noprefixroute),
            link_local: message.header.scope == AddressScope::Link,
        })
    }
}

impl Rtnl {
    /// The addresses of both families of a link.
    pub(crate) fn addresses(&mut self, index: u32) -> Result<Vec<Address>, RtnlError> {
        let dump = self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        let of_link = |message| match message {
            RouteNetlinkMessage::NewAddress(m) if m.header.index == index => {
                Address::of_message(&m)
            }
            _ => None,
        };
        Ok(dump.complete()?.into_iter().filter_map(of_link).collect())
    }
}
