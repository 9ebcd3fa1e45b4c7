//! Errors that no honest router sends do nothing (RFC 5927): about segments that are not under way, about sizes below what
//! the protocols allow, and about sizes that we do not exceed.

use super::paths::{Path, quoted};
use super::segments::*;
use netstack::ip::Family;
use netstack::transport::tcp::Seq;

#[test]
fn only_what_can_be_true_is_believed() {
    let mut path = Path::new(1, 1500, 1500);
    let (client, server) = path.connected(Family::V4);
    let (local, peer) = (client.local_addr(), client.peer_addr().unwrap());
    let next = client.info().unwrap().send_next;
    for offset in [1, 100_000, u32::MAX / 2, u32::MAX - 5] {
        let packet = quoted(local, peer, Seq(next.0.wrapping_add(offset)));
        path.complain(&packet, 600);
        path.sim.run_for(20 * MS);
        assert_eq!(client.info().unwrap().mss, 1448, "{offset}");
    }
    // In flight, but no smaller than what we send: nothing is repeated.
    send(&path.sim, &client, &[1; 14_480]).unwrap();
    let packet = quoted(local, peer, next);
    for mtu in [1500, 65_535] {
        path.complain(&packet, mtu);
    }
    path.sim.run_for(50 * MS);
    let info = client.info().unwrap();
    assert_eq!((info.mss, info.counters.retransmissions), (1448, 0));
    // Far too small: as small as Linux's min_pmtu, and no smaller.
    send(&path.sim, &client, &[1; 1448]).unwrap();
    let packet = quoted(local, peer, info.send_next);
    path.complain(&packet, 68);
    path.sim.run_for(SEC);
    assert_eq!(client.info().unwrap().mss, 552 - 52);
    assert_eq!(recv(&path.sim, &server).unwrap().len(), 15_928);
}

#[test]
fn less_than_ipv6_promises_is_no_path() {
    let mut path = Path::new(2, 1500, 1500);
    let (client, _server) = path.connected(Family::V6);
    send(&path.sim, &client, &[1; 1000]).unwrap();
    let info = client.info().unwrap();
    let start = info.send_next - info.outstanding;
    let packet = quoted(client.local_addr(), client.peer_addr().unwrap(), start);
    path.complain(&packet, 1279);
    path.sim.run_for(50 * MS);
    assert_eq!(client.info().unwrap().mss, 1428);
}
