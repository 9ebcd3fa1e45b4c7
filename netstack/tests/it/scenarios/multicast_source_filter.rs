//! A socket hears of a group only the sources it asked for, or all but those it blocked (RFC 3678); another socket of the host is its own judge.

use core::net::IpAddr;

use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::{HostId, Sim};
use netstack::socket::datagram::{FilterMode, SourceChange};
use netstack::socket::options::{Membership, OptionError};
use netstack::socket::{DatagramOption, IpOption, RecvFlags, UdpSocket};
use netstack::time::Duration;

const GROUP: &str = "239.1.2.3";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn listener(sim: &Sim, host: HostId) -> UdpSocket {
    let socket = sim.stack(host).udp_socket(Family::V4);
    socket
        .set_option(sim.now(), netstack::socket::SocketOption::ReuseAddress(true).into())
        .unwrap();
    socket.bind("0.0.0.0:5000".parse().unwrap()).unwrap();
    socket
}

/// Three hosts on one segment; the last two say who they are to the group; gives what the socket heard.
fn heard(sim: &mut Sim, [b, c]: [HostId; 2], socket: &UdpSocket) -> Vec<u8> {
    for (host, name) in [(b, b'b'), (c, b'c')] {
        let sender = sim.stack(host).udp_socket(Family::V4);
        let nic = sim.stack(host).nics().iter().find(|nic| nic.name == "eth0").unwrap().id;
        let way = IpOption::MulticastInterface(Some(nic));
        sender.set_option(sim.now(), way.into()).unwrap();
        let to = format!("{GROUP}:5000").parse().unwrap();
        sender.send_to(sim.now(), &mut &[name][..], Some(to), &Default::default()).unwrap();
        sim.run_for(Duration::from_millis(10));
    }
    let mut bytes = Vec::new();
    while socket.recv_from(sim.now(), &mut bytes, RecvFlags::empty()).is_ok() {}
    bytes
}

#[test]
fn sources_are_included_excluded_and_left() {
    let mut sim = Sim::new(1);
    let segment = sim.add_segment(Faults::delay(Duration::from_millis(1)));
    let hosts = [sim.add_host(), sim.add_host(), sim.add_host()];
    for (host, n) in hosts.iter().zip(1u8..) {
        sim.attach(*host, segment, 1500, &Sim::pair_addresses(n));
    }
    let [a, b, c] = hosts;
    let nic = sim.stack(a).nics().iter().find(|nic| nic.name == "eth0").unwrap().id;
    let group = Membership { group: ip(GROUP), nic: Some(nic) };
    let (socket, bystander) = (listener(&sim, a), listener(&sim, a));
    let change =
        |sim: &Sim, source: &str, how| socket.change_source(sim.now(), group, ip(source), how);
    let senders = [b, c];
    assert_eq!(heard(&mut sim, senders, &socket), b"");
    change(&sim, "10.0.0.2", SourceChange::Join).unwrap();
    assert_eq!(heard(&mut sim, senders, &socket), b"b");
    // Linux: a group that anybody on the host joined reaches who did not, unless it says no (IP_MULTICAST_ALL).
    assert_eq!(heard(&mut sim, senders, &bystander), b"bcbc");
    bystander.set_option(sim.now(), DatagramOption::MulticastAll(false).into()).unwrap();
    assert_eq!(heard(&mut sim, senders, &bystander), b"");
    heard(&mut sim, senders, &socket);
    let twice = change(&sim, "10.0.0.2", SourceChange::Join);
    assert_eq!(twice, Err(OptionError::AddressNotAvailable));
    assert_eq!(change(&sim, "10.0.0.3", SourceChange::Block), Err(OptionError::Invalid));
    change(&sim, "10.0.0.3", SourceChange::Join).unwrap();
    assert_eq!(heard(&mut sim, senders, &socket), b"bc");
    change(&sim, "10.0.0.2", SourceChange::Leave).unwrap();
    assert_eq!(heard(&mut sim, senders, &socket), b"c");
    assert_eq!(socket.sources(group), Ok((FilterMode::Include, vec![ip("10.0.0.3")])));
    // The last source takes the membership with it.
    change(&sim, "10.0.0.3", SourceChange::Leave).unwrap();
    assert_eq!(socket.sources(group), Err(OptionError::AddressNotAvailable));
    socket.set_option(sim.now(), IpOption::JoinGroup(group).into()).unwrap();
    change(&sim, "10.0.0.2", SourceChange::Block).unwrap();
    assert_eq!(heard(&mut sim, senders, &socket), b"c");
    change(&sim, "10.0.0.2", SourceChange::Unblock).unwrap();
    assert_eq!(heard(&mut sim, senders, &socket), b"bc");
    let all = |mode, sources| socket.set_sources(sim.now(), group, mode, sources);
    all(FilterMode::Exclude, vec![ip("10.0.0.2"), ip("10.0.0.3")]).unwrap();
    assert_eq!(all(FilterMode::Exclude, vec![ip("10.0.0.2"); 11]), Err(OptionError::NoBuffers));
    assert_eq!(heard(&mut sim, senders, &socket), b"");
    socket.set_sources(sim.now(), group, FilterMode::Include, Vec::new()).unwrap();
    assert_eq!(socket.sources(group), Err(OptionError::AddressNotAvailable));
}
