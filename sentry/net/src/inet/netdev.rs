//! What ioctl(2) on a socket tells of interfaces (netdevice(7)). Changes are refused: the sandbox's network is set up from outside.

use core::net::IpAddr;

use netstack::ip::cidr::mask;
use netstack::link::NicKind;
use netstack::stack::{NicInfo, NicState, Stack};
use sentry_abi::if_::*;
use sentry_abi::in_::SockAddrIn;
use sentry_abi::netlink::{ARPHRD_ETHER, ARPHRD_LOOPBACK};
use sentry_abi::socket::AF_INET;
use sentry_abi::{Errno, UserAddr, UserPtr};
use sentry_kernel::Result;
use sentry_kernel::task::CurrentTask;
use zerocopy::IntoBytes;

/// IFF_* of an interface.
pub fn flags(nic: &NicInfo) -> u32 {
    let kind = match nic.kind {
        NicKind::Loopback => IFF_LOOPBACK,
        NicKind::Ethernet => IFF_BROADCAST | IFF_MULTICAST,
    };
    match nic.state {
        NicState::Up => kind | IFF_UP | IFF_RUNNING | IFF_LOWER_UP,
        NicState::Down => kind,
    }
}

/// ARPHRD_* of an interface.
pub fn hardware_type(nic: &NicInfo) -> u16 {
    match nic.kind {
        NicKind::Loopback => ARPHRD_LOOPBACK,
        NicKind::Ethernet => ARPHRD_ETHER,
    }
}

fn first_v4(nic: &NicInfo) -> Option<netstack::ip::IpCidr> {
    nic.addresses.iter().find(|cidr| cidr.address().is_ipv4()).copied()
}

/// struct sockaddr_in of an address alone.
fn sockaddr(address: IpAddr) -> [u8; 16] {
    let addr = super::sockaddr::octets4(address);
    let raw = SockAddrIn { family: AF_INET as u16, addr, ..SockAddrIn::default() };
    let mut bytes = [0; 16];
    bytes.copy_from_slice(raw.as_bytes());
    bytes
}

fn name_bytes(name: &str) -> [u8; IFNAMSIZ] {
    let mut bytes = [0; IFNAMSIZ];
    for (to, from) in bytes.iter_mut().take(IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from;
    }
    bytes
}

/// Answers a request. Errors: ENODEV, EADDRNOTAVAIL, EPERM for changes, ENOTTY for what is no request of interfaces.
pub fn ioctl(stack: &Stack, task: &CurrentTask, request: u32, arg: UserAddr) -> Result<u64> {
    match request {
        SIOCGIFCONF => list(stack, task, UserPtr::new(arg.0)),
        SIOCGIFNAME | SIOCGIFFLAGS | SIOCGIFADDR | SIOCGIFDSTADDR | SIOCGIFBRDADDR
        | SIOCGIFNETMASK | SIOCGIFMETRIC | SIOCGIFMTU | SIOCGIFHWADDR | SIOCGIFINDEX
        | SIOCGIFTXQLEN => {
            let ptr = UserPtr::<IfReq>::new(arg.0);
            let mut ifreq = task.mm().read_obj(ptr)?;
            answer(stack, request, &mut ifreq)?;
            task.mm().write_obj(ptr, &ifreq)?;
            Ok(0)
        }
        SIOCSIFFLAGS | SIOCSIFADDR | SIOCSIFNETMASK | SIOCSIFMTU => Err(Errno::EPERM.into()),
        SIOCETHTOOL | SIOCGIFMAP => Err(Errno::EOPNOTSUPP.into()),
        _ => Err(Errno::ENOTTY.into()),
    }
}

fn answer(stack: &Stack, request: u32, ifreq: &mut IfReq) -> Result<()> {
    let nics = stack.nics();
    if request == SIOCGIFNAME {
        let index = ifreq.data.first_chunk::<4>().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
        let nic = nics.iter().find(|nic| nic.id.0 == index).ok_or(Errno::ENODEV)?;
        ifreq.name = name_bytes(&nic.name);
        return Ok(());
    }
    let wanted = ifreq.name.split(|b| *b == 0).next().unwrap_or_default();
    // An alias (eth0:1) is its interface.
    let wanted = wanted.split(|b| *b == b':').next().unwrap_or_default();
    let nic = nics.iter().find(|nic| nic.name.as_bytes() == wanted).ok_or(Errno::ENODEV)?;
    let address = || first_v4(nic).ok_or(Errno::EADDRNOTAVAIL);
    let (bytes, len): ([u8; 16], usize) = match request {
        SIOCGIFFLAGS => (front(&(flags(nic) as u16).to_ne_bytes()), 2),
        SIOCGIFADDR | SIOCGIFDSTADDR => (sockaddr(address()?.address()), 16),
        SIOCGIFBRDADDR => {
            let none = IpAddr::from([0; 4]);
            (sockaddr(address()?.broadcast().map_or(none, IpAddr::V4)), 16)
        }
        SIOCGIFNETMASK => {
            let prefix = address()?.prefix_len();
            (sockaddr(mask(IpAddr::from([255; 4]), prefix)), 16)
        }
        SIOCGIFMETRIC => (front(&0i32.to_ne_bytes()), 4),
        SIOCGIFMTU => (front(&nic.mtu.to_ne_bytes()), 4),
        SIOCGIFINDEX => (front(&nic.id.0.to_ne_bytes()), 4),
        SIOCGIFTXQLEN => (front(&1000i32.to_ne_bytes()), 4),
        SIOCGIFHWADDR => {
            let mut bytes = front(&hardware_type(nic).to_ne_bytes());
            bytes[2..8].copy_from_slice(&nic.mac.0);
            (bytes, 16)
        }
        _ => return Err(Errno::ENOTTY.into()),
    };
    ifreq.data[..len].copy_from_slice(&bytes[..len]);
    Ok(())
}

fn front(bytes: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    out[..bytes.len()].copy_from_slice(bytes);
    out
}

/// SIOCGIFCONF: the interfaces with an IPv4 address; a null buffer asks for the length.
fn list(stack: &Stack, task: &CurrentTask, ptr: UserPtr<IfConf>) -> Result<u64> {
    const ENTRY: usize = size_of::<IfReq>();
    let mut conf = task.mm().read_obj(ptr)?;
    let mut entries = Vec::new();
    for nic in stack.nics() {
        for cidr in nic.addresses.iter().filter(|cidr| cidr.address().is_ipv4()) {
            let mut entry = IfReq { name: name_bytes(&nic.name), data: [0; 24] };
            entry.data[..16].copy_from_slice(&sockaddr(cidr.address()));
            entries.extend_from_slice(entry.as_bytes());
        }
    }
    if conf.buf != 0 {
        let room = usize::try_from(conf.len).unwrap_or(0) / ENTRY * ENTRY;
        entries.truncate(room);
        task.mm().write(UserAddr(conf.buf), &entries)?;
    }
    conf.len = i32::try_from(entries.len()).unwrap_or(i32::MAX);
    task.mm().write_obj(ptr, &conf)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netstack::link::{MacAddr, NullLink};
    use netstack::stack::{Config, NicConfig};

    #[test]
    fn requests_by_name_and_index_answer_like_linux() {
        let stack = Stack::new(Config::new([7; 32]));
        let link = std::sync::Arc::new(NullLink);
        let config = |name: &str, kind| NicConfig {
            name: name.into(),
            kind,
            mac: MacAddr([2, 0, 0, 0, 0, 9]),
            mtu: 1400,
            link: link.clone(),
        };
        stack.add_nic(config("lo", NicKind::Loopback)).unwrap();
        let eth = stack.add_nic(config("eth0", NicKind::Ethernet)).unwrap();
        stack.add_address(eth, "10.9.0.2/24".parse().unwrap()).unwrap();
        let ask = |name: &str, request| {
            let mut ifreq = IfReq { name: name_bytes(name), data: [0; 24] };
            answer(&stack, request, &mut ifreq).map(|()| ifreq.data)
        };
        assert_eq!(ask("eth0", SIOCGIFADDR).unwrap()[4..8], [10, 9, 0, 2]);
        assert_eq!(ask("eth0", SIOCGIFNETMASK).unwrap()[4..8], [255, 255, 255, 0]);
        assert_eq!(ask("eth0", SIOCGIFBRDADDR).unwrap()[4..8], [10, 9, 0, 255]);
        assert_eq!(ask("eth0", SIOCGIFMTU).unwrap()[..4], 1400u32.to_ne_bytes());
        assert_eq!(ask("eth0", SIOCGIFHWADDR).unwrap()[..8], [1, 0, 2, 0, 0, 0, 0, 9]);
        assert_eq!(ask("lo", SIOCGIFFLAGS).unwrap()[0] & 9, 9);
        assert!(ask("eth1", SIOCGIFMTU).unwrap_err().is(Errno::ENODEV));
        let mut ifreq = IfReq { name: [0; 16], data: [0; 24] };
        ifreq.data[..4].copy_from_slice(&eth.0.to_ne_bytes());
        answer(&stack, SIOCGIFNAME, &mut ifreq).unwrap();
        assert_eq!(ifreq.name, name_bytes("eth0"));
    }
}
