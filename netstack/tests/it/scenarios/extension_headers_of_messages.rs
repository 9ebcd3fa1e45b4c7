//! IPv6 extension headers that a program asks for go out before its messages, and are told to who wants them (RFC 3542 sections 6 to 9);
//! hop-by-hop options are in every fragment, those for the destination in the datagram alone (RFC 8200 section 4.5).

use netstack::link::fault::Faults;
use netstack::sim::{SegmentId, Sim};
use netstack::socket::datagram::Headers;
use netstack::socket::{Ancillary, RecvFlags, SendError, UdpSocket};

use super::lan::{ms, udp};

const PAD: [u8; 8] = [0, 0, 1, 4, 0, 0, 0, 0];
const OPTION: [u8; 8] = [0, 0, 0x1e, 2, 7, 7, 1, 0];

/// What came: the bytes, and the extension headers with their kinds.
fn recv(sim: &Sim, socket: &UdpSocket) -> Option<(usize, Vec<u8>, u32)> {
    let mut bytes = Vec::new();
    let told = socket.recv_from(sim.now(), &mut bytes, RecvFlags::empty()).ok()?;
    let extensions = told.extensions.map_or_else(Vec::new, |bytes| bytes.to_vec());
    Some((bytes.len(), extensions, told.largest_fragment))
}

#[test]
fn headers_are_sent_and_told() {
    let (mut sim, [a, b]) = Sim::pair(62, Faults::default());
    let (client, server) = (udp(&sim, a, "[::]:5"), udp(&sim, b, "[::]:7"));
    client.connect(sim.now(), "[fd00::2]:7".parse().unwrap()).unwrap();
    let hop_by_hop = Headers { hop_by_hop: Some(PAD.into()), destination: None };
    let both = Headers { hop_by_hop: Some(PAD.into()), destination: Some(OPTION.into()) };
    let mut say = |headers: Option<Headers>| {
        let with = Ancillary { headers, ..Ancillary::default() };
        client.send_to(sim.now(), &mut &b"hello"[..], None, &with).unwrap();
        sim.run_for(ms(5));
        recv(&sim, &server).unwrap().1
    };
    assert_eq!(say(None), []);
    // The kind, then the header, whose first byte tells what follows: options for the destination (60), UDP (17).
    let told = |kind, next, header: [u8; 8]| [&[kind, next][..], &header[1..]].concat();
    assert_eq!(say(Some(hop_by_hop.clone())), told(0, 17, PAD));
    let told_both = [told(0, 60, PAD), told(60, 17, OPTION)].concat();
    assert_eq!(say(Some(both.clone())), told_both);
    client.set_headers(both);
    assert_eq!(say(None), told_both);
    // Those of the message are instead of those of the socket.
    assert_eq!(say(Some(hop_by_hop)), told(0, 17, PAD));
    client.set_headers(Headers::default());
    assert_eq!(say(None), []);
}

#[test]
fn hop_by_hop_options_are_in_every_fragment() {
    let (mut sim, [a, b]) = Sim::pair(63, Faults::default());
    let (client, server) = (udp(&sim, a, "[::]:5"), udp(&sim, b, "[::]:7"));
    client.connect(sim.now(), "[fd00::2]:7".parse().unwrap()).unwrap();
    let headers = Some(Headers { hop_by_hop: Some(PAD.into()), destination: Some(OPTION.into()) });
    let with = Ancillary { headers, ..Ancillary::default() };
    client.send_to(sim.now(), &mut &[1; 4000][..], None, &with).unwrap();
    sim.run_for(ms(5));
    let sent = sim.capture().sent_by(SegmentId::FIRST, 0);
    let fragments: Vec<Vec<u8>> = sent
        .map(|frame| frame.bytes[14..].to_vec())
        .filter(|packet| packet[0] >> 4 == 6 && packet[6] == 0 && packet[40] == 44)
        .collect();
    assert_eq!(fragments.len(), 3);
    for packet in &fragments {
        assert!(packet.len() <= 1500);
        assert_eq!((&packet[41..48], packet[48]), (&PAD[1..], 60), "options, then the fragment");
    }
    let largest = fragments.iter().map(Vec::len).max().unwrap() as u32;
    let (len, extensions, told) = recv(&sim, &server).unwrap();
    assert_eq!((len, told), (4000, largest));
    assert!(extensions.ends_with(&[&[60, 17][..], &OPTION[1..]].concat()));
    // Trains are not cut behind extension headers.
    let train = Ancillary { segment: Some(100), ..with };
    let refused = client.send_to(sim.now(), &mut &[1; 400][..], None, &train);
    assert_eq!(refused, Err(SendError::Invalid));
}
