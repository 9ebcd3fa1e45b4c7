//! The few requests of rtnetlink(7) that bring a device of the host up: link flags and MTU, addresses.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFF_UP: u32 = 1;
/// No duplicate address detection: the device has no other node yet, and programs want to use it at once.
const IFA_F_NODAD: u8 = 2;

/// A netlink socket of the route family.
pub struct RouteSocket {
    fd: OwnedFd,
    seq: u32,
}

impl RouteSocket {
    /// Opens it in the caller's network namespace.
    pub fn open() -> Result<RouteSocket, Errno> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        Ok(RouteSocket { fd, seq: 0 })
    }

    /// Brings a link up with this MTU in bytes.
    pub fn set_link_up(&mut self, ifindex: u32, mtu: u32) -> Result<(), Errno> {
        let mut body = vec![0u8; 16];
        body[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        body[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
        body[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
        attribute(&mut body, IFLA_MTU, &mtu.to_ne_bytes());
        self.request(RTM_NEWLINK, 0, &body)
    }

    /// Gives a link an address. EEXIST where the link has it.
    pub fn add_address(&mut self, ifindex: u32, address: IpAddr, prefix: u8) -> Result<(), Errno> {
        let body = address_body(ifindex, address, prefix);
        self.request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &body)
    }

    /// Takes an address from a link.
    pub fn remove_address(
        &mut self,
        ifindex: u32,
        address: IpAddr,
        prefix: u8,
    ) -> Result<(), Errno> {
        self.request(RTM_DELADDR, 0, &address_body(ifindex, address, prefix))
    }

    /// Sends one request and waits for its answer.
    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<(), Errno> {
        self.seq += 1;
        let len = u32::try_from(16 + body.len()).map_err(|_| Errno::EMSGSIZE)?;
        let mut message = Vec::new();
        message.extend_from_slice(&len.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        message.extend_from_slice(&self.seq.to_ne_bytes());
        message.extend_from_slice(&0u32.to_ne_bytes());
        message.extend_from_slice(body);
        let kernel = NetlinkAddr::new(0, 0);
        sendto(self.fd.as_raw_fd(), &message, &kernel, MsgFlags::empty())?;
        loop {
            let mut answer = [0u8; 8192];
            let n = match recv(self.fd.as_raw_fd(), &mut answer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            if let Some(result) = acknowledgement(answer.get(..n).unwrap_or_default(), self.seq) {
                return result;
            }
        }
    }
}

/// The result in an NLMSG_ERROR that answers request `seq`.
fn acknowledgement(answer: &[u8], seq: u32) -> Option<Result<(), Errno>> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let answered = u32::from_ne_bytes(answer.get(8..12)?.try_into().ok()?);
    let code = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    if kind != NLMSG_ERROR || answered != seq {
        return None;
    }
    Some(if code == 0 { Ok(()) } else { Err(Errno::from_raw(code.saturating_neg())) })
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
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
