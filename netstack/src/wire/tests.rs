//! What is emitted parses back to the same value, and no bytes make a parser panic.

use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use proptest::prelude::*;

use super::arp::{Arp, Operation};
use super::ethernet::{Ethernet, MacAddr};
use super::icmp::Icmp;
use super::ipv4::{Ipv4, Malformed};
use super::ipv6::{FragmentHeader, Ipv6, OptionLimits, OptionsHeader, judge_options};
use super::ndp::{
    NeighbourAdvert, NeighbourSolicit, Preference, Prefix, RouteInformation, RouterAdvert,
};
use super::udp::Udp;

fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(MacAddr)
}

fn v4() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from_bits)
}

fn v6() -> impl Strategy<Value = Ipv6Addr> {
    any::<u128>().prop_map(Ipv6Addr::from_bits)
}

fn unicast_v6() -> impl Strategy<Value = Ipv6Addr> {
    v6().prop_filter("a target is unicast", |address| !address.is_multicast())
}

proptest! {
    #[test]
    fn ethernet_parses_what_it_emits(dst in mac(), src in mac(), ethertype: u16) {
        let header = Ethernet { dst, src, ethertype };
        let mut bytes = [0; 14];
        header.emit(&mut bytes);
        prop_assert_eq!(Ethernet::parse(&bytes), header);
    }

    #[test]
    fn arp_parses_what_it_emits(sender in (mac(), v4()), target in (mac(), v4()), reply: bool) {
        let operation = if reply { Operation::Reply } else { Operation::Request };
        let arp = Arp { operation, sender, target };
        prop_assert_eq!(Arp::parse(&arp.emit()), Some(arp));
    }

    #[test]
    fn ipv4_parses_what_it_emits(tos: u8, payload in 0u16..65_000, ident: u16, df: bool, mf: bool, offset in 0u16..8192, ttl: u8, protocol: u8, src in v4(), dst in v4()) {
        let header = Ipv4 {
            header_len: 20, tos, total_len: payload + 20, ident, dont_fragment: df, more_fragments: mf,
            fragment_offset: offset << 3, ttl, protocol, src, dst,
        };
        let mut bytes = [0; 20];
        header.emit(&mut bytes);
        prop_assert_eq!(Ipv4::parse(&bytes, usize::from(payload) + 20), Ok(header));
        prop_assert_eq!(Ipv4::parse(&bytes, usize::from(payload) + 19), Err(Malformed::Truncated));
        bytes[1] ^= 1;
        prop_assert_eq!(Ipv4::parse(&bytes, usize::from(payload) + 20), Err(Malformed::Checksum));
    }

    #[test]
    fn ipv6_parses_what_it_emits(traffic_class: u8, flow_label in 0u32..0x10_0000, payload_len: u16, next_header: u8, hop_limit: u8, src in v6(), dst in v6()) {
        let header = Ipv6 { traffic_class, flow_label, payload_len, next_header, hop_limit, src, dst };
        let mut bytes = [0; 40];
        header.emit(&mut bytes);
        prop_assert_eq!(Ipv6::parse(&bytes), Some(header));
    }

    #[test]
    fn fragment_headers_parse_what_they_emit(next_header: u8, offset in 0u16..8192, more: bool, ident: u32) {
        let header = FragmentHeader { next_header, offset: offset << 3, more, ident };
        let mut bytes = [0; 8];
        header.emit(&mut bytes);
        prop_assert_eq!(FragmentHeader::parse(&bytes), header);
    }

    #[test]
    fn udp_and_icmp_parse_what_they_emit(src_port: u16, dst_port: u16, len: u16, checksum: u16, kind: u8, code: u8, rest: [u8; 4]) {
        let mut bytes = [0; 8];
        let udp = Udp { src_port, dst_port, len, checksum };
        udp.emit(&mut bytes);
        prop_assert_eq!(Udp::parse(&bytes), udp);
        let icmp = Icmp { kind, code, checksum, rest };
        icmp.emit(&mut bytes);
        prop_assert_eq!(Icmp::parse(&bytes), icmp);
    }

    #[test]
    fn neighbour_messages_parse_what_they_emit(target in unicast_v6(), link in proptest::option::of(mac()), router: bool, solicited: bool, override_cached: bool) {
        let solicit = NeighbourSolicit { target, source: link, nonce: link.map(|mac| mac.0) };
        prop_assert_eq!(NeighbourSolicit::parse(&solicit.body()), Some(solicit));
        let advert = NeighbourAdvert { router, solicited, override_cached, target, link_address: link };
        prop_assert_eq!(NeighbourAdvert::parse(advert.rest(), &advert.body()), Some(advert));
    }

    #[test]
    fn router_advertisements_parse_what_they_emit(hop_limit: u8, lifetime: u16, source in proptest::option::of(mac()), mtu in proptest::option::of(any::<u32>()), prefix in v6(), len in 0u8..=128, on_link: bool, autonomous: bool, valid: u32, preferred: u32) {
        let prefix = Prefix {
            prefix, len, on_link, autonomous,
            valid: Duration::from_secs(valid.into()), preferred: Duration::from_secs(preferred.into()),
        };
        let advert = RouterAdvert { hop_limit, lifetime: Duration::from_secs(lifetime.into()), source, mtu, prefixes: vec![prefix], preference: Preference::High, reachable: Duration::from_millis(valid.into()), retrans: Duration::from_millis(preferred.into()), routes: vec![RouteInformation { prefix: prefix.prefix, len, preference: Some(Preference::Low), lifetime: Duration::from_secs(lifetime.into()) }] };
        prop_assert_eq!(RouterAdvert::parse(advert.rest(), &advert.body()), Some(advert));
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), rest: [u8; 4]) {
        let _ = Arp::parse(&bytes);
        let _ = Ipv4::parse(&bytes, bytes.len());
        let _ = bytes.first_chunk().map(Ipv6::parse);
        let limits = OptionLimits { number: 8, length: i32::MAX };
        let _ = judge_options(&bytes, OptionsHeader::Destination, limits);
        let _ = judge_options(&bytes, OptionsHeader::HopByHop { payload_len: 9 }, limits);
        let _ = super::ndp::Redirect::parse(&bytes);
        let _ = super::ipv4_options::Options::check(&bytes);
        let _ = NeighbourSolicit::parse(&bytes);
        let _ = NeighbourAdvert::parse(rest, &bytes);
        let _ = RouterAdvert::parse(rest, &bytes);
        let _ = super::group::Query::parse_igmp(&bytes);
        let _ = super::group::Query::parse_mld(&bytes);
        let _ = super::group::parse_report(&bytes, true);
    }
}
