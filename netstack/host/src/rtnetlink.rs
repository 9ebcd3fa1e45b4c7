//! The few requests of rtnetlink(7) that bring a device of the host up: link flags and MTU, addresses.

use std::net::IpAddr;

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use crate::netlink::{NLM_F_CREATE, NLM_F_EXCL, Socket, attribute};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFF_UP: u32 = 1;
/// No duplicate address detection: the device has no other node yet, and programs want to use it at once.
const IFA_F_NODAD: u8 = 2;

/// A netlink socket of the route family.
pub struct RouteSocket(Socket);

impl RouteSocket {
    /// Opens it in the caller's network namespace.
    pub fn open() -> Result<RouteSocket, Errno> {
        Socket::open(SockProtocol::NetlinkRoute).map(RouteSocket)
    }

    /// Brings a link up with this MTU in bytes.
    pub fn set_link_up(&mut self, ifindex: u32, mtu: u32) -> Result<(), Errno> {
        let mut body = vec![0u8; 16];
        body[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        body[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
        body[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
        attribute(&mut body, IFLA_MTU, &mtu.to_ne_bytes());
        self.0.request(RTM_NEWLINK, 0, &body)
    }

    /// Gives a link an address. EEXIST where the link has it.
    pub fn add_address(&mut self, ifindex: u32, address: IpAddr, prefix: u8) -> Result<(), Errno> {
        let body = address_body(ifindex, address, prefix);
        self.0.request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &body)
    }

    /// Takes an address from a link.
    pub fn remove_address(
        &mut self,
        ifindex: u32,
        address: IpAddr,
        prefix: u8,
    ) -> Result<(), Errno> {
        self.0.request(RTM_DELADDR, 0, &address_body(ifindex, address, prefix))
    }
}

fn address_body(ifindex: u32, address: IpAddr, prefix: u8) -> Vec<u8> {
    let (family, flags) = match address {
        IpAddr::V4(_) => (nix::libc::AF_INET as u8, 0),
        IpAddr::V6(_) => (nix::libc::AF_INET6 as u8, IFA_F_NODAD),
    };
    let mut body = vec![family, prefix, flags, 0];
    body.extend_from_slice(&ifindex.to_ne_bytes());
    match address {
        IpAddr::V4(v4) => {
            attribute(&mut body, IFA_LOCAL, &v4.octets());
            attribute(&mut body, IFA_ADDRESS, &v4.octets());
            if prefix <= 30 {
                let host = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                attribute(&mut body, IFA_BROADCAST, &(v4.to_bits() | host).to_be_bytes());
            }
        }
        IpAddr::V6(v6) => {
            attribute(&mut body, IFA_LOCAL, &v6.octets());
            attribute(&mut body, IFA_ADDRESS, &v6.octets());
        }
    }
    body
}

/// Whether the host already has this address on one of its interfaces. Where the host does not tell, it has none.
pub fn is_host_address(address: IpAddr) -> bool {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return false };
    interfaces.filter_map(|interface| interface.address).any(|own| {
        let v4 = own.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let v6 = own.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()));
        v4.or(v6) == Some(address)
    })
}
