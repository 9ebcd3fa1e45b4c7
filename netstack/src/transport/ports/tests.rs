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
    let polite = PortRequest { reuse_address: Reuse::Yes, ..request("0.0.0.0", 80) };
    assert!(ports.reserve(&polite).is_ok());
    ports.release(&child);
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
