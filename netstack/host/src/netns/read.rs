//! Reads a namespace: its interfaces, and the messages that tell its addresses, routes, rules and neighbours.

use std::fs;

use netstack::link::MacAddr;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::SockProtocol;

use crate::netlink::{self, Message, Socket};

const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;
const RTM_GETNEIGH: u16 = 30;
const RTM_GETRULE: u16 = 34;
/// struct ifinfomsg
const IFINFO: usize = 16;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
/// ndm_flags of struct ndmsg: questions for the address are answered here.
const NTF_PROXY: u8 = 8;

/// An interface of the namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkInfo {
    /// Its number there, from 1.
    pub ifindex: u32,
    /// Its name there.
    pub name: String,
    /// What its frames are: ARPHRD_*.
    pub hardware: u16,
    /// Its kind as `ip link` has it, such as `veth`; empty where the host does not tell.
    pub kind: String,
    /// Its link-layer address; zeros where it has none of six bytes.
    pub mac: MacAddr,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether an administrator set it up (IFF_UP).
    pub up: bool,
    /// The interface of this namespace that it lies on (a VLAN's, a macvlan's), if any.
    pub lower: Option<u32>,
    /// The interface that it is a port of (a bridge, a bond), if any.
    pub master: Option<u32>,
}

impl LinkInfo {
    /// Whether it is the loopback interface.
    pub fn is_loopback(&self) -> bool {
        self.hardware == libc::ARPHRD_LOOPBACK
    }

    /// Whether its frames are Ethernet's.
    pub fn is_ethernet(&self) -> bool {
        self.hardware == libc::ARPHRD_ETHER
    }
}

/// What stands in a namespace at one moment. The messages are whole, with their headers, as rtnetlink(7) has them.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The interfaces.
    pub links: Vec<LinkInfo>,
    /// RTM_NEWADDR of each address.
    pub addresses: Vec<Vec<u8>>,
    /// RTM_NEWROUTE of each route of all tables.
    pub routes: Vec<Vec<u8>>,
    /// RTM_NEWRULE of each rule.
    pub rules: Vec<Vec<u8>>,
    /// RTM_NEWNEIGH of each neighbour, and of each address that is answered for.
    pub neighbours: Vec<Vec<u8>>,
}

/// The interface that an RTM_NEWLINK tells of; None where it does not make sense.
fn link(message: &Message) -> Option<LinkInfo> {
    let (fixed, attributes) = message.body().split_first_chunk::<IFINFO>()?;
    let word =
        |at: usize| u32::from_ne_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    let find = |kind| netlink::find(attributes, kind);
    let number = |kind| find(kind).and_then(netlink::number).filter(|number| *number != 0);
    let kind = find(IFLA_LINKINFO).and_then(|info| netlink::find(info, IFLA_INFO_KIND));
    let mac = find(IFLA_ADDRESS).and_then(|mac| <[u8; 6]>::try_from(mac).ok());
    // With the number of another namespace the other end is meant, as a veth's.
    let elsewhere = find(IFLA_LINK_NETNSID).is_some();
    let kind = kind.map(netlink::text).unwrap_or_default();
    let stacked = !elsewhere && kind != "veth";
    Some(LinkInfo {
        ifindex: word(4),
        name: netlink::text(find(IFLA_IFNAME)?),
        hardware: u16::from_ne_bytes([fixed[2], fixed[3]]),
        kind,
        mac: MacAddr(mac.unwrap_or_default()),
        mtu: number(IFLA_MTU).unwrap_or(0),
        up: word(8) & libc::IFF_UP as u32 != 0,
        lower: number(IFLA_LINK).filter(|lower| stacked && *lower != word(4)),
        master: number(IFLA_MASTER),
    })
}

/// The interfaces of the caller's namespace.
pub(crate) fn links() -> Result<Vec<LinkInfo>, Errno> {
    let mut socket = Socket::open(SockProtocol::NetlinkRoute)?;
    Ok(socket.dump(RTM_GETLINK, &[0; IFINFO])?.iter().filter_map(link).collect())
}

/// Reads the caller's namespace.
pub(crate) fn snapshot() -> Result<Snapshot, Errno> {
    let mut socket = Socket::open(SockProtocol::NetlinkRoute)?;
    let links = socket.dump(RTM_GETLINK, &[0; IFINFO])?.iter().filter_map(link).collect();
    let mut dump = |kind, body: &[u8]| match socket.dump(kind, body) {
        Ok(all) => Ok(all.into_iter().map(|message| message.bytes).collect::<Vec<_>>()),
        Err(errno) => Err(errno),
    };
    let (addresses, routes) = (dump(RTM_GETADDR, &[0; 8])?, dump(RTM_GETROUTE, &[0; 12])?);
    let rules = dump(RTM_GETRULE, &[0; 12])?;
    let mut neighbours = dump(RTM_GETNEIGH, &[0; 12])?;
    let mut proxies = [0; 12];
    proxies[10] = NTF_PROXY;
    neighbours.extend(dump(RTM_GETNEIGH, &proxies)?);
    Ok(Snapshot { links, addresses, routes, rules, neighbours })
}

/// What a setting of the caller's namespace says (below /proc/sys/net), without the end of its line; None where it is not there.
pub(crate) fn setting(path: &str) -> Option<Vec<u8>> {
    let mut bytes = fs::read(format!("/proc/sys/net/{path}")).ok()?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Some(bytes)
}
