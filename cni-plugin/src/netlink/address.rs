//! Addresses of a link.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

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

    /// Gives a link an address. Whether it is new: the link may have it.
    pub(crate) fn add_address(
        &mut self,
        index: u32,
        address: IpNet,
        prefix: PrefixRoute,
    ) -> Result<bool, RtnlError> {
        let mut message = of_link(index, address);
        // IPAM knows that nobody else has it: duplicate address detection would only make everybody wait.
        let mut flags = match address {
            IpNet::V4(_) => AddressFlags::empty(),
            IpNet::V6(_) => AddressFlags::Nodad,
        };
        if prefix == PrefixRoute::None {
            flags |= AddressFlags::Noprefixroute;
        }
        message.attributes.push(AddressAttribute::Flags(flags));
        if let IpNet::V4(v4) = address
            && v4.prefix_len() < 31
        {
            message.attributes.push(AddressAttribute::Broadcast(v4.broadcast()));
        }
        let add = RouteNetlinkMessage::NewAddress(message);
        match self.change(add, NLM_F_CREATE | NLM_F_EXCL) {
            Ok(()) => Ok(true),
            Err(error) if error.is(nix::errno::Errno::EEXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes an address away again.
    pub(crate) fn delete_address(&mut self, index: u32, address: IpNet) -> Result<(), RtnlError> {
        self.change(RouteNetlinkMessage::DelAddress(of_link(index, address)), 0)
    }
}

/// Whether the kernel makes a route for the prefix of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PrefixRoute {
    Made,
    None,
}

fn of_link(index: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.family = match address {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    };
    message.header.prefix_len = address.prefix_len();
    message.attributes.push(AddressAttribute::Local(address.addr()));
    message.attributes.push(AddressAttribute::Address(address.addr()));
    message
}
