//! A socket hears of a group only the sources it asked for, or all but those it blocked (RFC 3678); another socket of the host is its own judge.

use core::net::IpAddr;

use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::{HostId, Sim};
use netstack::socket::datagram::{FilterMode, SourceChange};
use netstack::socket::options::{Membership, OptionError};
use netstack::socket::{DatagramOption, IpOption, RecvFlags, UdpSocket};
use netstack::time::Duration;
use netstack::wire::group::{Record, RecordType, parse_report};

use super::igmp_v3_report_and_query::igmp;

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
    // Linux: what anybody on the host wants of a group reaches who did not join, unless it says no (IP_MULTICAST_ALL).
    assert_eq!(heard(&mut sim, senders, &bystander), b"bb");
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

/// What the first host told the routers of the group since `from` messages: each record once.
fn told(sim: &Sim, from: usize) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    for (_, _, body) in igmp(sim).split_off(from) {
        for record in parse_report(&body, false).unwrap() {
            if !records.contains(&record) {
                records.push(record);
            }
        }
    }
    records
}

#[test]
fn routers_are_told_what_the_sockets_of_a_host_want_together() {
    // RFC 3376 section 3.2: the interface's filter is made of those of its sockets.
    let (mut sim, [a, _]) = Sim::pair(2, Faults::default());
    let nic = sim.stack(a).nics().iter().find(|nic| nic.name == "eth0").unwrap().id;
    let group = Membership { group: ip(GROUP), nic: Some(nic) };
    let sockets = [listener(&sim, a), listener(&sim, a)];
    let after = |sim: &mut Sim, n: usize, source: &str, how| {
        let seen = igmp(sim).len();
        sockets[n].change_source(sim.now(), group, ip(source), how).unwrap();
        sim.run_for(Duration::from_secs(4));
        told(sim, seen)
    };
    let record = |kind, sources: &[&str]| Record {
        kind,
        group: ip(GROUP),
        sources: sources.iter().map(|at| ip(at)).collect(),
    };
    use RecordType::{AllowNewSources, BlockOldSources, ChangeToExclude, ChangeToInclude};
    let allow = |source| vec![record(AllowNewSources, &[source])];
    let block = |source| vec![record(BlockOldSources, &[source])];
    assert_eq!(after(&mut sim, 0, "10.0.0.7", SourceChange::Join), allow("10.0.0.7"));
    assert_eq!(after(&mut sim, 0, "10.0.0.8", SourceChange::Join), allow("10.0.0.8"));
    assert_eq!(after(&mut sim, 1, "10.0.0.8", SourceChange::Join), []);
    assert_eq!(after(&mut sim, 0, "10.0.0.8", SourceChange::Leave), []);
    assert_eq!(after(&mut sim, 1, "10.0.0.8", SourceChange::Leave), block("10.0.0.8"));
    // The second socket hears all but one source: the first still wants its own.
    let seen = igmp(&sim).len();
    sockets[1].set_option(sim.now(), IpOption::JoinGroup(group).into()).unwrap();
    sim.run_for(Duration::from_secs(4));
    assert_eq!(told(&sim, seen), [record(ChangeToExclude, &[])]);
    assert_eq!(after(&mut sim, 1, "10.0.0.7", SourceChange::Block), []);
    assert_eq!(after(&mut sim, 1, "10.0.0.9", SourceChange::Block), block("10.0.0.9"));
    let listed = sim.stack(a).memberships(sim.now());
    let listed = listed.iter().find(|on| on.nic == nic).unwrap();
    let listed = listed.groups.iter().find(|group| group.address == ip(GROUP)).unwrap();
    assert_eq!((listed.users, listed.last_reporter), (2, false));
    assert_eq!(listed.sources, [(ip("10.0.0.7"), 1, 1), (ip("10.0.0.9"), 0, 1)]);
    let seen = igmp(&sim).len();
    sockets[1].close(sim.now());
    sim.run_for(Duration::from_secs(4));
    assert_eq!(told(&sim, seen), [record(ChangeToInclude, &["10.0.0.7"])]);
    let seen = igmp(&sim).len();
    sockets[0].close(sim.now());
    sim.run_for(Duration::from_secs(4));
    assert_eq!(told(&sim, seen), block("10.0.0.7"));
    let gone = sim.stack(a).memberships(sim.now());
    assert!(gone.iter().all(|on| on.groups.iter().all(|group| group.address != ip(GROUP))));
}
