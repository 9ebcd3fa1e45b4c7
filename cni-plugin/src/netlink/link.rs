//! Links: found by name, changed, made and removed.

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::str::FromStr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage,
};
use nix::errno::Errno;

use super::{Rtnl, RtnlError};

/// The hardware address of an Ethernet link, one that a link may have for its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mac([u8; 6]);

impl Mac {
    /// A random address, locally administered.
    pub(crate) fn of_random_bytes(mut bytes: [u8; 6]) -> Self {
        bytes[0] = bytes[0] & !MULTICAST_BIT | LOCAL_BIT;
        Self(bytes)
    }
}

/// IEEE 802: the bit of an address of a group.
const MULTICAST_BIT: u8 = 1;
/// IEEE 802: the bit of an address that no manufacturer gave.
const LOCAL_BIT: u8 = 2;

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let byte = |part: &str| {
            let two_digits = part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit());
            two_digits.then(|| u8::from_str_radix(part, 16).ok()).flatten()
        };
        let bytes: Option<Vec<u8>> = text.split([':', '-']).map(byte).collect();
        let bytes: Option<[u8; 6]> = bytes.and_then(|bytes| bytes.try_into().ok());
        match bytes {
            Some(bytes) if bytes[0] & MULTICAST_BIT == 0 && bytes != [0; 6] => Ok(Self(bytes)),
            Some(_) => Err(format!("{text:?} is no address of a single link")),
            None => Err(format!("{text:?} is no hardware address")),
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mac_text(&self.0))
    }
}

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
    pub(crate) is_bridge: bool,
    /// Index of the bridge that it is a port of.
    pub(crate) controller: Option<u32>,
    /// What `ip link set alias` sets.
    pub(crate) alias: String,
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
            is_bridge: false,
            controller: None,
            alias: String::new(),
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(mac) => link.mac = mac_text(mac),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Controller(index) => link.controller = Some(*index),
                LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
                LinkAttribute::LinkInfo(infos) => {
                    link.is_bridge = infos.contains(&LinkInfo::Kind(InfoKind::Bridge));
                }
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

    /// All links that can be understood: others are not ours.
    pub(crate) fn links(&mut self) -> Result<Vec<Link>, RtnlError> {
        let dump = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        let link = |message: &_| match message {
            RouteNetlinkMessage::NewLink(message) => Some(Link::of_message(message)),
            _ => None,
        };
        Ok(dump.messages.iter().filter_map(link).collect())
    }

    /// Makes a bridge.
    pub(crate) fn add_bridge(&mut self, name: &str, mtu: Option<u32>) -> Result<(), RtnlError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message.attributes.extend(mtu.map(LinkAttribute::Mtu));
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
        self.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Makes a pair of links: one here, its peer in another namespace.
    pub(crate) fn add_veth(&mut self, name: &str, peer: &VethPeer<'_>) -> Result<(), RtnlError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message.attributes.extend(peer.mtu.map(LinkAttribute::Mtu));
        let mut far = LinkMessage::default();
        far.attributes.push(LinkAttribute::IfName(peer.name.to_owned()));
        far.attributes.push(LinkAttribute::NetNsFd(peer.netns.as_raw_fd()));
        far.attributes.extend(peer.mtu.map(LinkAttribute::Mtu));
        far.attributes.extend(peer.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
        ]));
        self.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Brings a link up.
    pub(crate) fn set_up(&mut self, index: u32) -> Result<(), RtnlError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.change(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Gives a link its MTU in bytes.
    pub(crate) fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), RtnlError> {
        self.set(index, LinkAttribute::Mtu(mtu))
    }

    /// Gives a link a hardware address that it keeps: a bridge takes another one with each port where it was given none.
    pub(crate) fn set_mac(&mut self, index: u32, mac: Mac) -> Result<(), RtnlError> {
        self.set(index, LinkAttribute::Address(mac.0.to_vec()))
    }

    /// Says what a link is for.
    pub(crate) fn set_alias(&mut self, index: u32, alias: &str) -> Result<(), RtnlError> {
        self.set(index, LinkAttribute::IfAlias(alias.to_owned()))
    }

    /// Makes a link a port of a bridge.
    pub(crate) fn set_controller(&mut self, index: u32, bridge: u32) -> Result<(), RtnlError> {
        self.set(index, LinkAttribute::Controller(bridge))
    }

    fn set(&mut self, index: u32, attribute: LinkAttribute) -> Result<(), RtnlError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(attribute);
        self.change(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Lets frames leave a port of a bridge by which they came.
    pub(crate) fn set_hairpin(&mut self, index: u32) -> Result<(), RtnlError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let on = InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)]);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(on),
        ]));
        // The attributes of a port are taken with RTM_NEWLINK alone (rtnl_newlink in net/core/rtnetlink.c).
        self.change(RouteNetlinkMessage::NewLink(message), 0)
    }

    /// Removes a link; the peer of a pair goes with it. One that is gone is no error.
    pub(crate) fn delete_link(&mut self, index: u32) -> Result<(), RtnlError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        match self.change(RouteNetlinkMessage::DelLink(message), 0) {
            Err(error) if error.is(Errno::ENODEV) => Ok(()),
            done => done,
        }
    }
}

/// The far end of a pair of links.
pub(crate) struct VethPeer<'a> {
    pub(crate) name: &'a str,
    pub(crate) netns: BorrowedFd<'a>,
    /// Of both ends, in bytes.
    pub(crate) mtu: Option<u32>,
    pub(crate) mac: Option<Mac>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_those_of_single_links() {
        for text in [
            "",
            "02",
            "02:00:00:00:00",
            "02:00:00:00:00:00:01",
            "2:0:0:0:0:1",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "02:00:00:00:00:0g",
            "+2:00:00:00:00:01",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text:?}");
        }
        let mac: Mac = "02-AB-00-00-00-01".parse().expect("an address");
        assert_eq!(mac.to_string(), "02:ab:00:00:00:01");
        assert_eq!(Mac::of_random_bytes([0xff; 6]).to_string(), "fe:ff:ff:ff:ff:ff");
    }
}
