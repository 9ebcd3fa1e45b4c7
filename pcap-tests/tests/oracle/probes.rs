//! The probes: what is sent, by name. Each must be answered the same by Linux and by our stack.

use crate::frames::*;

type Probe = (&'static str, Vec<Vec<u8>>);

/// All probes, in an order that leaves no state between them (each TCP probe ends its connection).
pub fn all() -> Vec<Probe> {
    let first = [link(), echo4(), errors4(), fragments4(), tcp4(), ipv6_probes(), tcp6()].concat();
    [first, crate::internet::all()].concat()
}

fn arp(operation: u16, target: [u8; 4]) -> Vec<u8> {
    let mut request = vec![0, 1, 8, 0, 6, 4];
    request.extend(operation.to_be_bytes());
    request.extend(FROM_MAC);
    request.extend(US4);
    request.extend([0; 6]);
    request.extend(target);
    ethernet(0x0806, &request)
}

fn link() -> Vec<Probe> {
    let mut broadcast = arp(1, PEER4);
    broadcast[..6].fill(0xff);
    let mut truncated = arp(1, PEER4);
    truncated.truncate(30);
    let mut stranger = ipv4(&V4::default(), 1, &icmp(8, 0, b"\0\x01\0\x01hello"));
    stranger[5] = 9;
    vec![
        ("arp request by broadcast", vec![broadcast]),
        ("arp request for another address", vec![arp(1, [10, 9, 0, 3])]),
        ("arp truncated", vec![truncated]),
        ("frame for another station", vec![stranger]),
        ("unknown ethertype", vec![ethernet(0x88b5, b"hello hello hello hello")]),
    ]
}

fn echo4() -> Vec<Probe> {
    let echo = |header: V4, data: &[u8]| vec![ipv4(&header, 1, &icmp(8, 0, data))];
    let mut bad_header = ipv4(&V4::default(), 1, &icmp(8, 0, b"\0\x01\0\x01"));
    bad_header[24] ^= 1;
    let mut bad_message = ipv4(&V4::default(), 1, &icmp(8, 0, b"\0\x01\0\x01"));
    bad_message[36] ^= 1;
    let mut short = ipv4(&V4::default(), 1, &icmp(8, 0, b"\0\x01\0\x01hello"));
    short.truncate(40);
    let mut padded = ipv4(&V4::default(), 1, &icmp(8, 0, b"\0\x01\0\x01hello"));
    padded.extend([0xaa; 20]);
    vec![
        ("echo", echo(V4::default(), b"\0\x01\0\x01hello")),
        ("echo with a code", vec![ipv4(&V4::default(), 1, &icmp(8, 5, b"\0\x01\0\x01hello"))]),
        (
            "echo with a type of service",
            echo(V4 { tos: 0x28, ..V4::default() }, b"\0\x01\0\x01hello"),
        ),
        ("echo with ttl 1", echo(V4 { ttl: 1, ..V4::default() }, b"\0\x01\0\x01hello")),
        (
            "echo without don't-fragment",
            echo(V4 { fragment: 0, ..V4::default() }, b"\0\x01\0\x01hello"),
        ),
        ("echo of the largest frame", echo(V4::default(), &[7; 1476])),
        ("echo with a bad header checksum", vec![bad_header]),
        ("echo with a bad checksum", vec![bad_message]),
        ("echo cut short", vec![short]),
        ("echo with padding", vec![padded]),
        (
            "echo reply that nobody asked for",
            vec![ipv4(&V4::default(), 1, &icmp(0, 0, b"\0\x01\0\x01"))],
        ),
        ("timestamp request", vec![ipv4(&V4::default(), 1, &icmp(17, 0, &[0; 8]))]),
        ("unknown icmp type", vec![ipv4(&V4::default(), 1, &icmp(99, 0, b"\0\0\0\0"))]),
    ]
}

fn errors4() -> Vec<Probe> {
    let to_closed = |payload: &[u8]| checked(udp(CLOSED_PORT, payload), 6, 17, &US4, &PEER4);
    let mut bad = to_closed(b"hello");
    bad[6] ^= 1;
    let fragment = V4 { fragment: 0x2000, ..V4::default() };
    vec![
        ("udp to a closed port", vec![ipv4(&V4::default(), 17, &to_closed(b"hello"))]),
        ("udp to a closed port, long", vec![ipv4(&V4::default(), 17, &to_closed(&[5; 1000]))]),
        (
            "udp to a closed port, no checksum",
            vec![ipv4(&V4::default(), 17, &udp(CLOSED_PORT, b"hello"))],
        ),
        ("udp to a closed port, bad checksum", vec![ipv4(&V4::default(), 17, &bad)]),
        (
            "udp to a closed port by broadcast",
            vec![ipv4(
                &V4 { to: [10, 9, 0, 255], ..V4::default() },
                17,
                &udp(CLOSED_PORT, b"hello"),
            )],
        ),
        (
            "udp to an open port",
            vec![ipv4(&V4::default(), 17, &checked(udp(OPEN_PORT, b"x"), 6, 17, &US4, &PEER4))],
        ),
        ("unknown protocol", vec![ipv4(&V4::default(), 200, b"some payload of it")]),
        ("unknown protocol in a first fragment only", vec![ipv4(&fragment, 200, b"01234567")]),
        (
            "packet for another host",
            vec![ipv4(&V4 { to: [10, 9, 0, 3], ..V4::default() }, 1, &icmp(8, 0, b"\0\x01\0\x01"))],
        ),
    ]
}

fn fragments4() -> Vec<Probe> {
    let message = icmp(8, 0, &[b"\0\x01\0\x01".as_slice(), &[3; 44]].concat());
    let part = |id, fragment, bytes: &[u8]| ipv4(&V4 { id, fragment, ..V4::default() }, 1, bytes);
    vec![
        (
            "echo in two fragments",
            vec![part(1, 0x2000, &message[..24]), part(1, 3, &message[24..])],
        ),
        (
            "echo in two fragments, last first",
            vec![part(2, 3, &message[24..]), part(2, 0x2000, &message[..24])],
        ),
        (
            "echo with a fragment twice",
            vec![
                part(3, 0x2000, &message[..24]),
                part(3, 0x2000, &message[..24]),
                part(3, 3, &message[24..]),
            ],
        ),
        (
            "fragment that is no multiple of eight",
            vec![part(4, 0x2000, &message[..21]), part(4, 3, &message[24..])],
        ),
        (
            "fragments of two datagrams",
            vec![part(5, 0x2000, &message[..24]), part(6, 3, &message[24..])],
        ),
    ]
}

const SYN_OPTIONS: [u8; 20] = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7];

fn tcp4() -> Vec<Probe> {
    let segment = |bytes: Vec<u8>| ipv4(&V4::default(), 6, &checked(bytes, 16, 6, &US4, &PEER4));
    let mut bad = checked(tcp(CLOSED_PORT, 100, 0, 2, &[], &[]), 16, 6, &US4, &PEER4);
    bad[16] ^= 1;
    // A connection request, and the reset that ends it.
    let request = |options: &[u8]| {
        let reset = tcp(OPEN_PORT, 101, 0, 4, &[], &[]);
        vec![segment(tcp(OPEN_PORT, 100, 0, 2, options, &[])), segment(reset)]
    };
    vec![
        ("syn to a closed port", vec![segment(tcp(CLOSED_PORT, 100, 0, 2, &[], &[]))]),
        (
            "syn with data to a closed port",
            vec![segment(tcp(CLOSED_PORT, 100, 0, 2, &[], b"data"))],
        ),
        ("syn to a closed port, bad checksum", vec![ipv4(&V4::default(), 6, &bad)]),
        ("ack to a closed port", vec![segment(tcp(CLOSED_PORT, 100, 200, 16, &[], &[]))]),
        ("data to a closed port", vec![segment(tcp(CLOSED_PORT, 100, 200, 24, &[], b"data"))]),
        ("fin to a closed port", vec![segment(tcp(CLOSED_PORT, 100, 0, 1, &[], &[]))]),
        ("rst to a closed port", vec![segment(tcp(CLOSED_PORT, 100, 0, 4, &[], &[]))]),
        ("no flags to a closed port", vec![segment(tcp(CLOSED_PORT, 100, 0, 0, &[], b"x"))]),
        ("ack to a listener", vec![segment(tcp(OPEN_PORT, 100, 200, 16, &[], &[]))]),
        ("rst to a listener", vec![segment(tcp(OPEN_PORT, 100, 0, 4, &[], &[]))]),
        ("fin to a listener", vec![segment(tcp(OPEN_PORT, 100, 0, 1, &[], &[]))]),
        (
            "syn and fin to a listener",
            vec![
                segment(tcp(OPEN_PORT, 100, 0, 3, &[], &[])),
                segment(tcp(OPEN_PORT, 101, 0, 4, &[], &[])),
            ],
        ),
        ("syn without options", request(&[])),
        ("syn with every option", request(&SYN_OPTIONS)),
        ("syn with mss only", request(&[2, 4, 2, 0])),
        ("syn with sack only", request(&[1, 1, 4, 2])),
        ("syn with a window scale only", request(&[1, 3, 3, 2])),
        ("syn with timestamps only", request(&[1, 1, 8, 10, 0, 0, 1, 0, 0, 0, 0, 0])),
        ("syn with a malformed option", request(&[2, 9, 5, 180])),
        ("syn with an unknown option", request(&[77, 4, 0, 0])),
    ]
}

fn ipv6_probes() -> Vec<Probe> {
    let echo = |rest: &[u8]| icmp6(128, 0, rest, PEER6);
    let solicited = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 2];
    let solicitation = |to, hop_limit, option: &[u8]| {
        let rest = [&[0; 4][..], &PEER6, option].concat();
        ipv6(58, hop_limit, to, &icmp6(135, 0, &rest, to))
    };
    let link_address = [&[1, 1][..], &FROM_MAC].concat();
    let options = |kind: u8| {
        let mut payload = vec![58, 0, kind, 4, 0, 0, 0, 0];
        payload.extend(echo(b"\0\x01\0\x01hello"));
        payload
    };
    let to_closed = checked(udp(CLOSED_PORT, b"hello"), 6, 17, &US6, &PEER6);
    let mut bad = echo(b"\0\x01\0\x01");
    bad[2] ^= 1;
    vec![
        ("echo over ipv6", vec![ipv6(58, 64, PEER6, &echo(b"\0\x01\0\x01hello"))]),
        ("echo over ipv6, bad checksum", vec![ipv6(58, 64, PEER6, &bad)]),
        ("solicitation by multicast", vec![solicitation(solicited, 255, &link_address)]),
        ("solicitation by unicast", vec![solicitation(PEER6, 255, &link_address)]),
        ("solicitation from off link", vec![solicitation(solicited, 254, &link_address)]),
        (
            "solicitation with a malformed option",
            vec![solicitation(solicited, 255, &[1, 0, 0, 0, 0, 0, 0, 0])],
        ),
        ("udp over ipv6 to a closed port", vec![ipv6(17, 64, PEER6, &to_closed)]),
        (
            "udp over ipv6 without a checksum",
            vec![ipv6(17, 64, PEER6, &udp(CLOSED_PORT, b"hello"))],
        ),
        ("unknown next header", vec![ipv6(200, 64, PEER6, b"some payload of it")]),
        ("no next header", vec![ipv6(59, 64, PEER6, &[])]),
        ("hop-by-hop option to skip", vec![ipv6(0, 64, PEER6, &options(0x1e))]),
        ("hop-by-hop option to discard", vec![ipv6(0, 64, PEER6, &options(0x5e))]),
        ("hop-by-hop option to complain of", vec![ipv6(0, 64, PEER6, &options(0x9e))]),
        ("destination option to complain of", vec![ipv6(60, 64, PEER6, &options(0xde))]),
    ]
}

fn tcp6() -> Vec<Probe> {
    let segment = |bytes: Vec<u8>| ipv6(6, 64, PEER6, &checked(bytes, 16, 6, &US6, &PEER6));
    vec![
        ("syn over ipv6 to a closed port", vec![segment(tcp(CLOSED_PORT, 100, 0, 2, &[], &[]))]),
        ("ack over ipv6 to a closed port", vec![segment(tcp(CLOSED_PORT, 100, 200, 16, &[], &[]))]),
        (
            "syn over ipv6 with every option",
            vec![
                segment(tcp(OPEN_PORT, 100, 0, 2, &SYN_OPTIONS, &[])),
                segment(tcp(OPEN_PORT, 101, 0, 4, &[], &[])),
            ],
        ),
    ]
}
