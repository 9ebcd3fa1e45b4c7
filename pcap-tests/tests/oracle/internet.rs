//! Probes of the Internet layer: ARP of every kind, options, fragments, impossible addresses, solicitations, extension headers.

use crate::frames::*;

type Probe = (&'static str, Vec<Vec<u8>>);

/// All of them; none leaves anything behind that another would meet.
pub fn all() -> Vec<Probe> {
    [arps(), options4(), fragments4(), martians4(), solicitations(), headers6(), martians6()]
        .concat()
}

const NOBODY: [u8; 6] = [0; 6];
const EVERYBODY: [u8; 6] = [0xff; 6];

/// An ARP packet to a link-layer address: operation, sender, target.
fn arp(to: [u8; 6], op: u16, sender: ([u8; 6], [u8; 4]), target: ([u8; 6], [u8; 4])) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(op.to_be_bytes());
    packet.extend(sender.0);
    packet.extend(sender.1);
    packet.extend(target.0);
    packet.extend(target.1);
    let mut frame = ethernet(0x0806, &packet);
    frame[..6].copy_from_slice(&to);
    frame
}

fn arps() -> Vec<Probe> {
    let us = (FROM_MAC, US4);
    let who_has = |sender, target| vec![arp(EVERYBODY, 1, sender, (NOBODY, target))];
    let with = |at: usize, value: u8| {
        let mut frame = arp(MAC, 1, us, (NOBODY, PEER4));
        frame[14 + at] = value;
        vec![frame]
    };
    vec![
        ("arp by unicast", vec![arp(MAC, 1, us, (NOBODY, PEER4))]),
        ("arp probe without a sender", who_has((FROM_MAC, [0; 4]), PEER4)),
        ("arp announcement", who_has(us, US4)),
        ("arp announcement as an answer", vec![arp(EVERYBODY, 2, us, (FROM_MAC, US4))]),
        ("arp from another subnet", who_has((FROM_MAC, [192, 0, 2, 9]), PEER4)),
        ("arp from the peer's own address", who_has((FROM_MAC, PEER4), PEER4)),
        ("arp from a group", who_has((FROM_MAC, [224, 0, 0, 9]), PEER4)),
        ("arp from everybody", who_has((FROM_MAC, [255; 4]), PEER4)),
        ("arp from loopback", who_has((FROM_MAC, [127, 0, 0, 1]), PEER4)),
        ("arp for loopback", who_has(us, [127, 0, 0, 1])),
        ("arp for a group", who_has(us, [224, 0, 0, 1])),
        ("arp for the subnet's broadcast", who_has(us, [10, 9, 0, 255])),
        ("arp for the subnet", who_has(us, [10, 9, 0, 0])),
        ("arp for any", who_has(us, [0; 4])),
        ("arp answer that nobody asked for", vec![arp(MAC, 2, us, (MAC, PEER4))]),
        ("arp of another hardware", with(1, 6)),
        ("arp of another protocol", with(2, 9)),
        ("arp with long addresses", with(4, 8)),
        ("arp of an unknown operation", with(7, 3)),
        ("arp of no operation", with(7, 0)),
    ]
}

fn options4() -> Vec<Probe> {
    let echo = |options: &[u8]| {
        let options = options.to_vec();
        vec![ipv4(&V4 { options, ..V4::default() }, 1, &icmp(8, 0, b"\0\x01\0\x01hello"))]
    };
    let closed = |options: &[u8]| {
        let datagram = checked(udp(CLOSED_PORT, b"hello"), 6, 17, &US4, &PEER4);
        vec![ipv4(&V4 { options: options.to_vec(), ..V4::default() }, 17, &datagram)]
    };
    vec![
        ("record route", echo(&[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        ("record route behind a no-operation", echo(&[1, 7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0])),
        ("record route that is half full", echo(&[7, 11, 8, 10, 0, 0, 7, 0, 0, 0, 0, 0])),
        ("record route that is full", echo(&[7, 7, 8, 10, 0, 0, 7, 0])),
        ("record route without room", echo(&[7, 3, 4, 0])),
        ("record route with a pointer in its head", echo(&[7, 7, 3, 0, 0, 0, 0, 0])),
        ("record route with a pointer that does not fit", echo(&[7, 7, 6, 0, 0, 0, 0, 0])),
        ("record route twice", echo(&[7, 7, 4, 0, 0, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0, 0])),
        ("timestamp for another host", echo(&[68, 12, 5, 3, 10, 9, 0, 77, 0, 0, 0, 0])),
        ("timestamp that is full", echo(&[68, 8, 9, 0, 0, 0, 0, 1])),
        ("timestamp whose overflow is full", echo(&[68, 8, 9, 0xf0, 0, 0, 0, 1])),
        ("timestamp with a short head", echo(&[68, 3, 5, 0])),
        ("timestamp with a pointer in its head", echo(&[68, 8, 4, 0, 0, 0, 0, 0])),
        ("no-operations", echo(&[1, 1, 1, 1])),
        ("end of options", echo(&[0, 7, 7, 7])),
        ("unknown option", echo(&[9, 4, 1, 2])),
        ("unknown option that is copied", echo(&[0x89 | 0x10, 4, 1, 2])),
        ("option without a length", echo(&[1, 1, 1, 9])),
        ("option of length 0", echo(&[9, 0, 0, 0])),
        ("option of length 1", echo(&[9, 1, 0, 0])),
        ("option that is too long", echo(&[9, 5, 0, 0])),
        ("router alert", echo(&[148, 4, 0, 0])),
        ("router alert that is short", echo(&[148, 3, 0, 0])),
        ("loose source route", echo(&[131, 7, 4, 10, 9, 0, 7, 0])),
        ("strict source route that is used up", echo(&[137, 7, 8, 10, 9, 0, 7, 0])),
        ("source route with a bad pointer", echo(&[131, 7, 3, 10, 9, 0, 7, 0])),
        ("closed port with a recorded route", closed(&[7, 7, 4, 0, 0, 0, 0, 0])),
        ("closed port with an unknown option", closed(&[9, 4, 1, 2])),
        ("closed port with a broken option", closed(&[9, 9, 1, 2])),
    ]
}

fn fragments4() -> Vec<Probe> {
    let message = icmp(8, 0, &[b"\0\x01\0\x01".as_slice(), &[3; 60]].concat());
    let part = |id, fragment, bytes: &[u8]| ipv4(&V4 { id, fragment, ..V4::default() }, 1, bytes);
    let datagram = checked(udp(CLOSED_PORT, &[4; 40]), 6, 17, &US4, &PEER4);
    let piece = |id, fragment, bytes: &[u8]| ipv4(&V4 { id, fragment, ..V4::default() }, 17, bytes);
    vec![
        (
            "fragments that overlap",
            vec![part(21, 0x2000, &message[..32]), part(21, 3, &message[24..])],
        ),
        (
            "a fragment within another",
            vec![
                part(22, 0x2000, &message[..40]),
                part(22, 0x2001, &message[8..16]),
                part(22, 5, &message[40..]),
            ],
        ),
        (
            "the last fragment twice",
            vec![
                part(23, 5, &message[40..]),
                part(23, 5, &message[40..]),
                part(23, 0x2000, &message[..40]),
            ],
        ),
        (
            "two ends that differ",
            vec![
                part(24, 5, &message[40..]),
                part(24, 4, &message[32..40]),
                part(24, 0x2000, &message[..40]),
            ],
        ),
        (
            "a fragment without a byte",
            vec![
                part(25, 0x2000, &[]),
                part(25, 0x2000, &message[..40]),
                part(25, 5, &message[40..]),
            ],
        ),
        ("a fragment beyond what a datagram can have", vec![part(26, 0x1fff, &[1; 64])]),
        (
            "a fragment that may not be cut",
            vec![part(27, 0x6000, &message[..40]), part(27, 0x4005, &message[40..])],
        ),
        (
            "a closed port in fragments",
            vec![piece(28, 0x2000, &datagram[..24]), piece(28, 3, &datagram[24..])],
        ),
        (
            "three fragments in a bad order",
            vec![
                part(29, 0x2003, &message[24..48]),
                part(29, 6, &message[48..]),
                part(29, 0x2000, &message[..24]),
            ],
        ),
        (
            "fragments of two protocols",
            vec![part(30, 0x2000, &message[..24]), piece(30, 3, &message[24..])],
        ),
    ]
}

/// The same frame from another address.
fn from4(mut frame: Vec<u8>, from: [u8; 4]) -> Vec<u8> {
    frame[26..30].copy_from_slice(&from);
    frame[24..26].fill(0);
    let check = !sum(&frame[14..34], 0);
    frame[24..26].copy_from_slice(&check.to_be_bytes());
    frame
}

fn martians4() -> Vec<Probe> {
    let echo = || ipv4(&V4::default(), 1, &icmp(8, 0, b"\0\x01\0\x01hello"));
    let from = |at| vec![from4(echo(), at)];
    let to = |to| vec![ipv4(&V4 { to, ..V4::default() }, 1, &icmp(8, 0, b"\0\x01\0\x01hello"))];
    let closed = |to: [u8; 4]| {
        let datagram = checked(udp(CLOSED_PORT, b"hello"), 6, 17, &US4, &to);
        vec![ipv4(&V4 { to, ..V4::default() }, 17, &datagram)]
    };
    let on_all = |mut frames: Vec<Vec<u8>>| {
        frames[0][..6].fill(0xff);
        frames
    };
    vec![
        ("from loopback", from([127, 0, 0, 1])),
        ("from a group", from([224, 0, 0, 9])),
        ("from everybody", from([255; 4])),
        ("from nobody", from([0; 4])),
        ("from this network", from([0, 0, 0, 7])),
        ("from the peer itself", from(PEER4)),
        ("from the subnet's broadcast", from([10, 9, 0, 255])),
        ("from class e", from([240, 0, 0, 1])),
        ("from a network without a way", from([192, 0, 2, 7])),
        ("to loopback", to([127, 0, 0, 1])),
        ("to nobody", to([0; 4])),
        ("to everybody", to([255; 4])),
        ("to the subnet's broadcast", to([10, 9, 0, 255])),
        ("to all hosts", to([224, 0, 0, 1])),
        ("to a group of nobody", to([224, 9, 9, 9])),
        ("to class e", to([240, 0, 0, 1])),
        ("to the peer in a frame to all", on_all(to(PEER4))),
        ("closed port in a frame to all", on_all(closed(PEER4))),
        ("closed port of all hosts", closed([224, 0, 0, 1])),
    ]
}

const SOLICITED: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 2];
const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// A message of ICMPv6 between any two addresses.
fn message6(from: [u8; 16], to: [u8; 16], kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let message = [&[kind, code, 0, 0][..], rest].concat();
    let mut frame = ipv6(58, 255, to, &checked(message, 2, 58, &from, &to));
    frame[22..38].copy_from_slice(&from);
    frame
}

fn solicitations() -> Vec<Probe> {
    let link_address = [&[1, 1][..], &FROM_MAC].concat();
    let ask = |from, to, target: [u8; 16], options: &[u8]| {
        vec![message6(from, to, 135, 0, &[&[0; 4][..], &target, options].concat())]
    };
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    let mut other = PEER6;
    other[15] = 3;
    let short = [&[0; 4][..], &PEER6[..12]].concat();
    let advert = |flags: u8, to| {
        let options = [&[2, 1][..], &FROM_MAC].concat();
        vec![message6(US6, to, 136, 0, &[&[flags, 0, 0, 0][..], &US6, &options].concat())]
    };
    vec![
        ("solicitation by unicast without an address", ask(US6, PEER6, PEER6, &[])),
        ("solicitation by multicast without an address", ask(US6, SOLICITED, PEER6, &[])),
        ("solicitation of nobody", ask([0; 16], SOLICITED, PEER6, &[])),
        ("solicitation of nobody with a nonce", ask([0; 16], SOLICITED, PEER6, &nonce)),
        ("solicitation of nobody with an address", ask([0; 16], SOLICITED, PEER6, &link_address)),
        ("solicitation of nobody by unicast", ask([0; 16], PEER6, PEER6, &[])),
        ("solicitation for another", ask(US6, SOLICITED, other, &link_address)),
        ("solicitation for a group", ask(US6, SOLICITED, ALL_NODES, &link_address)),
        ("solicitation to all nodes", ask(US6, ALL_NODES, PEER6, &link_address)),
        (
            "solicitation with two options",
            ask(US6, SOLICITED, PEER6, &[&link_address[..], &nonce].concat()),
        ),
        (
            "solicitation with an unknown option",
            ask(US6, SOLICITED, PEER6, &[&link_address[..], &[77, 1, 0, 0, 0, 0, 0, 0]].concat()),
        ),
        ("solicitation that is cut short", vec![message6(US6, SOLICITED, 135, 0, &short)]),
        (
            "solicitation with a code",
            vec![message6(US6, SOLICITED, 135, 1, &[&[0; 4][..], &PEER6, &link_address].concat())],
        ),
        ("advertisement that answers", advert(0x60, PEER6)),
        ("advertisement that answers, by multicast", advert(0x60, ALL_NODES)),
        ("advertisement that nobody asked for", advert(0x20, ALL_NODES)),
        (
            "router solicitation",
            vec![message6(US6, PEER6, 133, 0, &[&[0; 4][..], &link_address].concat())],
        ),
        ("echo to all nodes", vec![message6(US6, ALL_NODES, 128, 0, b"\0\x01\0\x01hello")]),
        ("unknown error of icmpv6", vec![message6(US6, PEER6, 99, 0, b"\0\0\0\0hello")]),
        ("unknown message of icmpv6", vec![message6(US6, PEER6, 222, 0, b"\0\0\0\0hello")]),
    ]
}

fn headers6() -> Vec<Probe> {
    let echo = || icmp6(128, 0, b"\0\x01\0\x01hello", PEER6);
    let chain =
        |first: u8, header: &[u8]| vec![ipv6(first, 64, PEER6, &[header, &echo()].concat())];
    let routing =
        |kind: u8, left: u8| chain(43, &[&[58, 2, kind, left, 0, 0, 0, 0][..], &US6].concat());
    let part = |id: u8, offset: u16, more: u16, bytes: &[u8]| {
        let word = (offset | more).to_be_bytes();
        ipv6(44, 64, PEER6, &[&[58, 0, word[0], word[1], 0, 0, 0, id][..], bytes].concat())
    };
    let whole = icmp6(128, 0, &[b"\0\x01\0\x01".as_slice(), &[9; 56]].concat(), PEER6);
    let mut long = ipv6(58, 64, PEER6, &echo());
    long[19] += 9;
    let mut padded = ipv6(58, 64, PEER6, &echo());
    padded.extend([0xaa; 9]);
    let group_option = |kind: u8| {
        let payload =
            [&[58, 0, kind, 4, 0, 0, 0, 0][..], &icmp6(128, 0, b"\0\x01\0\x01x", ALL_NODES)]
                .concat();
        vec![ipv6(60, 64, ALL_NODES, &payload)]
    };
    vec![
        ("destination options", chain(60, &[58, 0, 1, 4, 0, 0, 0, 0])),
        ("padding that is not zero", chain(60, &[58, 0, 1, 4, 0, 1, 0, 0])),
        ("padding of eight bytes", chain(60, &[58, 1, 1, 6, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0])),
        ("one byte of padding each", chain(60, &[58, 0, 0, 0, 0, 0, 0, 0])),
        (
            "destination options twice",
            chain(60, &[60, 0, 1, 4, 0, 0, 0, 0, 58, 0, 1, 4, 0, 0, 0, 0]),
        ),
        (
            "hop-by-hop options in the middle",
            chain(60, &[0, 0, 1, 4, 0, 0, 0, 0, 58, 0, 1, 4, 0, 0, 0, 0]),
        ),
        ("an option that is too long", chain(60, &[58, 0, 1, 9, 0, 0, 0, 0])),
        ("options that are longer than the packet", chain(60, &[58, 99, 1, 4, 0, 0, 0, 0])),
        ("router alert of ipv6", chain(0, &[58, 0, 5, 2, 0, 0, 1, 0])),
        ("router alert that is too long", chain(0, &[58, 0, 5, 3, 0, 0, 0, 0])),
        ("jumbogram", chain(0, &[58, 0, 0xc2, 4, 0, 0, 0, 99])),
        ("option to complain of, of a group", group_option(0xde)),
        ("option to complain of even of a group", group_option(0x9e)),
        ("routing header that is done", routing(0, 0)),
        ("routing header with a segment left", routing(0, 1)),
        ("routing header of type 2", routing(2, 1)),
        ("routing header of an unknown type", routing(77, 1)),
        ("routing header of an unknown type that is done", routing(77, 0)),
        ("atomic fragment", vec![part(1, 0, 0, &whole)]),
        ("fragments of ipv6", vec![part(2, 0, 1, &whole[..32]), part(2, 32, 0, &whole[32..])]),
        (
            "fragments of ipv6, last first",
            vec![part(3, 32, 0, &whole[32..]), part(3, 0, 1, &whole[..32])],
        ),
        (
            "fragments of ipv6 that overlap",
            vec![part(4, 0, 1, &whole[..40]), part(4, 32, 0, &whole[32..])],
        ),
        (
            "a fragment of ipv6 twice",
            vec![
                part(5, 0, 1, &whole[..32]),
                part(5, 0, 1, &whole[..32]),
                part(5, 32, 0, &whole[32..]),
            ],
        ),
        ("a fragment of ipv6 of an odd length", vec![part(6, 0, 1, &whole[..31])]),
        ("a fragment of ipv6 beyond all", vec![part(7, 0xfff8, 0, &whole[..32])]),
        (
            "a first fragment without its header",
            vec![ipv6(44, 64, PEER6, &[60, 0, 0, 1, 0, 0, 0, 8, 58, 3, 1, 4, 0, 0, 0, 0])],
        ),
        ("hop limit 0", vec![ipv6(58, 0, PEER6, &echo())]),
        ("hop limit 1", vec![ipv6(58, 1, PEER6, &echo())]),
        ("longer than its frame", vec![long]),
        ("shorter than its frame", vec![padded]),
        ("cut within the header", vec![ipv6(58, 64, PEER6, &echo())[..40].to_vec()]),
    ]
}

fn martians6() -> Vec<Probe> {
    let rest = b"\0\x01\0\x01hello";
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 9, 0, 1];
    let mut one = [0; 16];
    one[15] = 1;
    let node_local = {
        let mut group = ALL_NODES;
        group[1] = 1;
        group
    };
    let from = |from| vec![message6(from, PEER6, 128, 0, rest)];
    let to = |to| vec![message6(US6, to, 128, 0, rest)];
    let stranger = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    let mut other = PEER6;
    other[15] = 3;
    vec![
        ("from the loopback of ipv6", from(one)),
        ("from a group of ipv6", from(ALL_NODES)),
        ("from a mapped address", from(mapped)),
        ("from the peer itself over ipv6", from(PEER6)),
        ("from a network of ipv6 without a way", from(stranger)),
        ("to the loopback of ipv6", to(one)),
        ("to a group of the node", to(node_local)),
        ("to another host over ipv6", to(other)),
        ("to any over ipv6", to([0; 16])),
    ]
}
