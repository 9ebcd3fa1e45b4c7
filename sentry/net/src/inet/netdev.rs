//! What ioctl(2) on a socket tells of interfaces (netdevice(7)); what it changes is in `netadmin` and `rtentry`.

use core::net::{IpAddr, Ipv4Addr};

use netstack::ip::cidr::mask;
use netstack::link::NicKind;
use netstack::stack::{NicInfo, NicState, Stack};
use sentry_abi::if_::*;
use sentry_abi::in_::SockAddrIn;
use sentry_abi::socket::AF_INET;
use sentry_abi::{Errno, UserAddr, UserPtr};
use sentry_kernel::Result;
use sentry_kernel::cred::Capabilities;
use sentry_kernel::task::CurrentTask;
use zerocopy::IntoBytes;

use super::{netadmin, rtentry};
use crate::identity;
use crate::netns::NetNamespace;

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

/// struct sockaddr_in of an address alone.
fn sockaddr(address: IpAddr) -> [u8; 16] {
    let addr = super::sockaddr::octets4(address);
    let raw = SockAddrIn { family: AF_INET as u16, addr, ..SockAddrIn::default() };
    let mut bytes = [0; 16];
    bytes.copy_from_slice(raw.as_bytes());
    bytes
}

/// A name in its field.
pub fn name_bytes(name: &str) -> [u8; IFNAMSIZ] {
    let mut bytes = [0; IFNAMSIZ];
    for (to, from) in bytes.iter_mut().take(IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from;
    }
    bytes
}

/// Answers a request, or makes the change that it asks for.
/// Errors: ENODEV, EADDRNOTAVAIL, EPERM for changes without CAP_NET_ADMIN, ENOTTY for what is no request of interfaces.
pub fn ioctl(net: &NetNamespace, task: &CurrentTask, request: u32, arg: UserAddr) -> Result<u64> {
    let stack = net.stack();
    let privileged = || match identity::credentials(task).has(Capabilities::NET_ADMIN) {
        true => Ok(()),
        false => Err(Errno::EPERM),
    };
    match request {
        SIOCGIFCONF => list(stack, task, UserPtr::new(arg.0)),
        SIOCGIFNAME | SIOCGIFFLAGS | SIOCGIFADDR | SIOCGIFDSTADDR | SIOCGIFBRDADDR
        | SIOCGIFNETMASK | SIOCGIFMETRIC | SIOCGIFMTU | SIOCGIFHWADDR | SIOCGIFINDEX
        | SIOCGIFTXQLEN | SIOCGIFMAP => {
            let ptr = UserPtr::<IfReq>::new(arg.0);
            let mut ifreq = task.mm().read_obj(ptr)?;
            answer(stack, request, &mut ifreq)?;
            task.mm().write_obj(ptr, &ifreq)?;
            Ok(0)
        }
        SIOCSIFFLAGS | SIOCSIFADDR | SIOCSIFNETMASK | SIOCSIFBRDADDR | SIOCSIFDSTADDR
        | SIOCSIFMTU | SIOCSIFMETRIC | SIOCSIFHWADDR | SIOCSIFNAME | SIOCSIFTXQLEN | SIOCSIFMAP
        | SIOCSIFHWBROADCAST | SIOCADDMULTI | SIOCDELMULTI => {
            let ifreq = task.mm().read_obj(UserPtr::<IfReq>::new(arg.0))?;
            privileged()?;
            netadmin::change(stack, request, &ifreq).map(|()| 0)
        }
        SIOCADDRT | SIOCDELRT => {
            privileged()?;
            rtentry::change_route(net, task, request, arg)
        }
        SIOCSARP | SIOCDARP => {
            privileged()?;
            rtentry::arp(net, task, request, arg)
        }
        SIOCGARP => rtentry::arp(net, task, request, arg),
        SIOCETHTOOL => ethtool(stack, task, UserPtr::new(arg.0)),
        _ => Err(Errno::ENOTTY.into()),
    }
}

/// SIOCETHTOOL: which driver it is, and whether there is a link; a driver without more answers EOPNOTSUPP to the rest.
fn ethtool(stack: &Stack, task: &CurrentTask, ptr: UserPtr<IfReq>) -> Result<u64> {
    /// struct ethtool_drvinfo: the command, then fields of 32 bytes: driver, version, firmware, bus; 196 bytes in all.
    const DRVINFO: usize = 196;
    let ifreq = task.mm().read_obj(ptr)?;
    let name = ifreq.name.split(|b| *b == 0).next().unwrap_or_default();
    let nic = netadmin::nic_of(stack, &String::from_utf8_lossy(name))?;
    let data = ifreq.data.first_chunk::<8>().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
    let command = task.mm().read_obj(UserPtr::<u32>::new(data))?;
    match command {
        ETHTOOL_GLINK => {
            let up = u32::from(nic.state == NicState::Up);
            task.mm().write_obj(UserPtr::<[u32; 2]>::new(data), &[command, up])?;
        }
        ETHTOOL_GDRVINFO if nic.kind == NicKind::Ethernet => {
            let mut info = vec![0; DRVINFO];
            info[..4].copy_from_slice(&command.to_ne_bytes());
            info[4..11].copy_from_slice(b"netcell");
            let version = env!("CARGO_PKG_VERSION").as_bytes();
            let len = version.len().min(31);
            info[36..36 + len].copy_from_slice(&version[..len]);
            task.mm().write(UserAddr(data), &info)?;
        }
        _ => return Err(Errno::EOPNOTSUPP.into()),
    }
    Ok(0)
}

fn answer(stack: &Stack, request: u32, ifreq: &mut IfReq) -> Result<()> {
    let nics = stack.nics();
    if request == SIOCGIFNAME {
        let index = ifreq.data.first_chunk::<4>().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
        let nic = nics.iter().find(|nic| nic.id.0 == index).ok_or(Errno::ENODEV)?;
        ifreq.name = name_bytes(&nic.name);
        return Ok(());
    }
    let name = ifreq.name.split(|b| *b == 0).next().unwrap_or_default();
    let name = String::from_utf8_lossy(name).into_owned();
    let nic = &netadmin::nic_of(stack, &name)?;
    // A program that knows several addresses of a label says which one it means.
    let wanted = match ifreq.data {
        [f0, f1, _, _, a, b, c, d, ..] if i32::from(u16::from_ne_bytes([f0, f1])) == AF_INET => {
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    };
    let own = || netadmin::address_of(stack, nic, &name, wanted).ok_or(Errno::EADDRNOTAVAIL);
    let (bytes, len): ([u8; 16], usize) = match request {
        SIOCGIFFLAGS => (front(&(flags(nic) as u16).to_ne_bytes()), 2),
        SIOCGIFADDR => (sockaddr(own()?.ip()), 16),
        SIOCGIFDSTADDR => {
            let own = own()?;
            (sockaddr(own.peer.unwrap_or(own.ip())), 16)
        }
        SIOCGIFBRDADDR => {
            let broadcast = own()?.broadcast.unwrap_or(Ipv4Addr::UNSPECIFIED);
            (sockaddr(IpAddr::V4(broadcast)), 16)
        }
        SIOCGIFNETMASK => (sockaddr(mask(IpAddr::from([255; 4]), own()?.cidr.prefix_len())), 16),
        SIOCGIFMETRIC => (front(&0i32.to_ne_bytes()), 4),
        SIOCGIFMTU => (front(&nic.mtu.to_ne_bytes()), 4),
        SIOCGIFINDEX => (front(&nic.id.0.to_ne_bytes()), 4),
        SIOCGIFTXQLEN => (front(&1000i32.to_ne_bytes()), 4),
        // No interrupt, no port, no memory of the device: all of struct ifmap is zeros.
        SIOCGIFMAP => {
            ifreq.data = [0; 24];
            return Ok(());
        }
        SIOCGIFHWADDR => {
            let mut bytes = front(&nic.kind.hardware_type().to_ne_bytes());
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
    let (nics, all) = (stack.nics(), stack.addresses());
    for (id, own) in all.iter().filter(|(_, own)| own.ip().is_ipv4()) {
        let Some(nic) = nics.iter().find(|nic| nic.id == *id) else { continue };
        let label = own.label.as_deref().unwrap_or(&nic.name);
        let mut entry = IfReq { name: name_bytes(label), data: [0; 24] };
        entry.data[..16].copy_from_slice(&sockaddr(own.ip()));
        entries.extend_from_slice(entry.as_bytes());
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
        assert_eq!(ask("eth0", SIOCGIFBRDADDR).unwrap()[4..8], [0, 0, 0, 0]);
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
