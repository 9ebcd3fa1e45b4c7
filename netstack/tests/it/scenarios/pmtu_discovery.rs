//! A router says that packets are too large (RFC 1191, RFC 8201): segments shrink at once, nothing is lost, and ten minutes
//! later larger ones are tried again. A socket that does not want to know lets routers cut.

use super::paths::{Path, quoted};
use super::segments::*;
use netstack::ip::Family;
use netstack::socket::options::{IpOption, MtuDiscover};
use netstack::socket::tcp::TcpSocket;

#[test]
fn segments_shrink_to_the_path_and_grow_again() {
    for (family, most) in [(Family::V4, 1000), (Family::V6, 1300)] {
        let mut path = Path::new(1, 1500, most);
        let (client, server) = path.connected(family);
        let bytes: Vec<u8> = (0..100_000u32).map(|n| (n / 5) as u8).collect();
        let large = |path: &Path, from: usize| -> Vec<Vec<u8>> {
            let frames = &path.sim.capture().frames()[from..];
            frames
                .iter()
                .map(|frame| frame.bytes[14..].to_vec())
                .filter(|packet| packet.len() > most)
                .collect()
        };
        // Large packets never reach the wire of the simulation; the router has seen one all the same.
        send(&path.sim, &client, &bytes[..1400]).unwrap();
        path.sim.run_for(20 * MS);
        let lost = lost_packet(&client);
        path.complain(&lost, most as u32);
        path.sim.run_for(20 * MS);
        let headers = if family == Family::V4 { 40 } else { 60 };
        assert_eq!(client.info().unwrap().mss, most - headers - 12);
        let limit = path.sim.now() + 20 * SEC;
        let mut received = recv(&path.sim, &server).unwrap_or_default();
        received.extend(path.transfer(&client, &server, &bytes[1400..], limit));
        assert!(received == bytes, "{family:?}: {} bytes", received.len());
        assert!(large(&path, 0).is_empty());
        // The path has become wider; after ten minutes that is found out.
        path.most.store(1500, std::sync::atomic::Ordering::Relaxed);
        path.sim.run_for(601 * SEC);
        let limit = path.sim.now() + 5 * SEC;
        let again = path.transfer(&client, &server, &bytes, limit);
        assert!(again == bytes);
        assert_eq!(client.info().unwrap().mss, 1500 - headers - 12);
    }
}

/// The start of the packet with the first byte that is not acknowledged.
fn lost_packet(client: &TcpSocket) -> Vec<u8> {
    let info = client.info().unwrap();
    quoted(client.local_addr(), client.peer_addr().unwrap(), info.send_next - info.outstanding)
}

#[test]
fn a_socket_that_lets_routers_cut_keeps_its_size() {
    let mut path = Path::new(2, 1500, 1500);
    let (client, server) = path.connected(Family::V4);
    for mode in [MtuDiscover::Dont, MtuDiscover::Interface, MtuDiscover::Omit] {
        client.set_option(path.sim.now(), IpOption::MtuDiscover(mode)).unwrap();
        let before = path.sim.capture().frames().len();
        send(&path.sim, &client, &[1; 5000]).unwrap();
        let lost = lost_packet(&client);
        path.complain(&lost, 1000);
        path.sim.run_for(50 * MS);
        assert_eq!(recv(&path.sim, &server).unwrap().len(), 5000);
        let frames = &path.sim.capture().frames()[before..];
        let from_client = frames.iter().filter(|frame| frame.port == 0 && frame.bytes.len() > 200);
        for frame in from_client {
            assert_eq!(frame.bytes[20] & 0x40, 0, "{mode:?} forbids routers to cut");
        }
        assert_eq!(client.info().unwrap().mss, 1448);
    }
}
