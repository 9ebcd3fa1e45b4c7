//! Links: found by name, changed, made and removed.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use nix::errno::Errno;

use super::{Rtnl, RtnlError};

/// What is of interest about a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// Hardware address as `02:00:00:00:00:01`; empty where it has none.
    pub(crate) mac: String,
    /// In bytes.
    pub(crate) mtu: u32,
    pub(crate) up: bool,
}

impl Link {
    fn of_message(message: &LinkMessage) -> Self {
        let up = message.header.flags.contains(LinkFlags::Up);
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: String::new(),
            mtu: 0,
            up,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(mac) => link.mac = mac_text(mac),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                _ => {}
            }
        }
        link
    }
}

/// A hardware address as people write it.
pub(crate) fn mac_text(mac: &[u8]) -> String {
    mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

impl Rtnl {
    /// The link of a name, or None.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>, RtnlError> {
        let mut query = LinkMessage::default();
        query.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.one(RouteNetlinkMessage::GetLink(query)) {
            Ok(RouteNetlinkMessage::NewLink(message)) => Ok(Some(Link::of_message(&message))),
            Ok(_) => Err(RtnlError::Undecodable("another answer to RTM_GETLINK".into())),
            Err(error) if error.is(Errno::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
