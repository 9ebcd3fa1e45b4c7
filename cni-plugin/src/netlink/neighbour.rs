//! Permanent neighbours of a link.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};

use super::link::mac_text;
use super::{Rtnl, RtnlError};

/// A neighbour that somebody entered for good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Neighbour {
    pub(crate) address: IpAddr,
    /// As `02:00:00:00:00:01`.
    pub(crate) mac: String,
}

impl Neighbour {
    fn of_message(message: &NeighbourMessage) -> Option<Self> {
        let (mut address, mut mac) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(it)) => {
                    address = Some((*it).into());
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(it)) => {
                    address = Some((*it).into());
                }
                NeighbourAttribute::LinkLayerAddress(it) => mac = Some(mac_text(it)),
                _ => {}
            }
        }
        Some(Self { address: address?, mac: mac? })
    }
}

impl Rtnl {
    /// The permanent neighbours of both families of a link.
    pub(crate) fn permanent_neighbours(&mut self, index: u32) -> Result<Vec<Neighbour>, RtnlError> {
        let dump = self.dump(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()))?;
        let of_link = |message| match message {
            RouteNetlinkMessage::NewNeighbour(m)
                if m.header.ifindex == index && m.header.state == NeighbourState::Permanent =>
            {
                Neighbour::of_message(&m)
            }
            _ => None,
        };
        Ok(dump.complete()?.into_iter().filter_map(of_link).collect())
    }
}
