//! Who may share a port with whom, and where ephemeral ports come from.

use super::*;
use crate::rng::seed_from;

fn ports() -> Ports {
    Ports::new(SipKey::new(1, 2), Rng::new(&seed_from(1), 0))
}

fn request(address: &str, port: u16) -> PortRequest {
    PortRequest::new(6, address.parse().unwrap(), port)
}

#[test]
fn a_port_is_taken_until_it_is_released() {
    let ports = ports();
    let lease = ports.reserve(&request("0.0.0.0", 80)).unwrap();
    assert_eq!(ports.reserve(&request("10.0.0.1", 80)), Err(PortError::InUse));
    assert!(ports.reserve(&PortRequest::new(17, "0.0.0.0".parse().unwrap(), 80)).is_ok());
    ports.release(&lease);
    assert!(ports.reserve(&request("10.0.0.1", 80)).is_ok());
    assert!(ports.reserve(&request("10.0.0.2", 80)).is_ok());
    assert_eq!(ports.reserve(&request("0.0.0.0", 80)), Err(PortError::InUse));
}

#[test]
fn a_dual_stack_wildcard_covers_ipv4_and_v6only_does_not() {
    let ports = ports();
    let only6 = ports.reserve(&request("::", 80)).unwrap();
    assert!(ports.reserve(&request("0.0.0.0", 80)).is_ok());
    ports.release(&only6);
    let dual = PortRequest { dual_stack: DualStack::Yes, ..request("::", 80) };
    assert_eq!(ports.reserve(&dual), Err(PortError::InUse));
}

#[test]
fn reuse_address_shares_until_somebody_listens() {
    let ports = ports();
    let polite = PortRequest { reuse_address: Reuse::Yes, ..request("0.0.0.0", 80) };
    let first = ports.reserve(&polite).unwrap();
    let second = ports.reserve(&polite).unwrap();
    assert_eq!(ports.listen(&first), Ok(()));
    assert_eq!(ports.listen(&second), Err(PortError::InUse));
    assert_eq!(ports.reserve(&polite), Err(PortError::InUse));
    ports.unlisten(&first);
    assert!(ports.reserve(&polite).is_ok());
    assert_eq!(ports.reserve(&request("0.0.0.0", 80)), Err(PortError::InUse));
}

#[test]
fn reuse_port_shares_even_between_listeners() {
    let ports = ports();
    let group = PortRequest { reuse_port: Reuse::Yes, ..request("0.0.0.0", 80) };
    let leases = [ports.reserve(&group).unwrap(), ports.reserve(&group).unwrap()];
    assert!(leases.iter().all(|lease| ports.listen(lease).is_ok()));
}

#[test]
fn an_accepted_connection_shares_its_listeners_port() {
    let ports = ports();
    let listener = ports.reserve(&request("0.0.0.0", 80)).unwrap();
    ports.listen(&listener).unwrap();
    let child = ports.share(&listener).unwrap();
    ports.release(&listener);
    assert_eq!(ports.len(), 1);
    // As on Linux, SO_REUSEADDR helps a restarted server only where the old listener had it, too.
    let polite = PortRequest { reuse_address: Reuse::Yes, ..request("0.0.0.0", 80) };
    assert_eq!(ports.reserve(&polite), Err(PortError::InUse));
    ports.release(&child);
    let listener = ports.reserve(&polite).unwrap();
    ports.listen(&listener).unwrap();
    let children: Vec<_> = (0..1000).map(|_| ports.share(&listener).unwrap()).collect();
    ports.release(&listener);
    assert_eq!(ports.len(), 1000);
    let again = ports.reserve(&polite).unwrap();
    children.iter().for_each(|child| ports.release(child));
    ports.release(&again);
    assert!(ports.is_empty());
}

#[test]
fn connects_and_binds_keep_out_of_each_others_way() {
    let ports = ports();
    ports.set_ephemeral_range(5_000, 5_099);
    let mine = request("10.0.0.1", 0);
    for n in 0..25 {
        let peer = (IpAddr::from([10, 0, 0, n]), 80);
        let lease = ports.reserve_for_connect(&mine, peer, &mut |_| true).unwrap();
        assert_eq!(lease.port() % 2, 0);
        assert_eq!(ports.reserve(&request("0.0.0.0", 0)).unwrap().port() % 2, 1);
    }
    ports.set_ephemeral_range(6_000, 6_000);
    ports.reserve(&request("10.0.0.7", 6_000)).unwrap();
    let bound = ports.reserve_for_connect(&mine, (IpAddr::from([10, 0, 0, 2]), 80), &mut |_| true);
    assert_eq!(bound, Err(PortError::Exhausted));
}

#[test]
fn reserved_ports_go_only_to_those_who_ask_and_a_socket_may_narrow_the_range() {
    let ports = ports();
    ports.set_ephemeral_range(5_000, 5_009);
    ports.set_reserved(&[(5_008, 5_002), (5_009, 5_009)]);
    let mut seen: Vec<u16> =
        (0..2).map(|_| ports.reserve(&request("0.0.0.0", 0)).unwrap().port()).collect();
    seen.sort_unstable();
    assert_eq!(seen, [5_000, 5_001]);
    assert_eq!(ports.reserve(&request("0.0.0.0", 0)), Err(PortError::Exhausted));
    assert!(ports.reserve(&request("0.0.0.0", 5_005)).is_ok());
    ports.set_reserved(&[]);
    let narrow = PortRequest { range: Some((5_004, 5_004)), ..request("0.0.0.0", 0) };
    assert_eq!(ports.reserve(&narrow).unwrap().port(), 5_004);
    assert_eq!(ports.reserve(&narrow), Err(PortError::Exhausted));
}

#[test]
fn a_flow_takes_other_ports_each_time_and_every_port_is_tried() {
    for count in [1u64, 2, 3, 7, 100] {
        for start in [0u64, 1, 5, 1 << 33 | 1] {
            for own in [None, Some((1, 2))] {
                let mut all: Vec<u64> = parities(start, count, own).collect();
                all.sort_unstable();
                assert_eq!(all, (0..count).collect::<Vec<_>>());
            }
        }
    }
    let ports = ports();
    let far = (IpAddr::from([10, 0, 0, 2]), 80);
    let mut seen: Vec<u16> = (0..100)
        .map(|_| {
            let lease = ports.reserve_for_connect(&request("10.0.0.1", 0), far, &mut |_| true);
            let lease = lease.unwrap();
            ports.release(&lease);
            lease.port()
        })
        .collect();
    seen.dedup();
    assert_eq!(seen.len(), 100);
}

#[test]
fn ephemeral_ports_stay_in_range_and_run_out() {
    let ports = ports();
    ports.set_ephemeral_range(5_009, 5_000);
    let mut seen: Vec<u16> =
        (0..10).map(|_| ports.reserve(&request("0.0.0.0", 0)).unwrap().port()).collect();
    assert_eq!(ports.reserve(&request("0.0.0.0", 0)), Err(PortError::Exhausted));
    seen.sort_unstable();
    assert_eq!(seen, (5_000..5_010).collect::<Vec<_>>());
}

#[test]
fn connections_to_different_peers_share_a_port_when_the_tuple_is_free() {
    let ports = ports();
    ports.set_ephemeral_range(5_000, 5_000);
    let mine = request("10.0.0.1", 0);
    let peer = |n: u8| (IpAddr::from([10, 0, 0, n]), 80);
    let one = ports.reserve_for_connect(&mine, peer(2), &mut |_| true).unwrap();
    let two = ports.reserve_for_connect(&mine, peer(3), &mut |_| true).unwrap();
    assert_eq!((one.port(), two.port()), (5_000, 5_000));
    let full = ports.reserve_for_connect(&mine, peer(2), &mut |_| false);
    assert_eq!(full, Err(PortError::Exhausted));
    assert_eq!(ports.reserve(&request("10.0.0.1", 5_000)), Err(PortError::InUse));
}
