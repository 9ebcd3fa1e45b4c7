//! What the parser reads, and where it says that something is wrong.

use super::*;
use crate::script::syntax::{About, Body, EcnMark, IpVersion, Packet, TcpOption};

fn event(line: &str) -> Event {
    let script = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    script.events.into_iter().next().expect("an event")
}

fn packet(line: &str) -> Packet {
    match event(line).action {
        Action::Inbound(packet) | Action::Outbound(packet) => packet,
        other => panic!("{other:?}"),
    }
}

fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

#[test]
fn times_have_all_forms() {
    let when = |base, from, until: Option<u64>, end: Option<u64>| When {
        base,
        from: micros(from),
        until: until.map(micros),
        end: end.map(micros),
    };
    for (line, expected) in [
        ("0 close(3) = 0", when(Base::Start, 0, None, None)),
        ("+.1 close(3) = 0", when(Base::Before, 100_000, None, None)),
        ("* > . 1:1(0) ack 1", when(Base::Any, 0, None, None)),
        ("0.1~0.25 > . 1:1(0) ack 1", when(Base::Start, 100_000, Some(250_000), None)),
        ("+0~+0.1 > . 1:1(0) ack 1", when(Base::Before, 0, Some(100_000), None)),
        ("0.1...0.2 accept(3, ..., ...) = 4", when(Base::Start, 100_000, None, Some(200_000))),
        ("+0...0.2 accept(3, ..., ...) = 4", when(Base::Before, 0, None, Some(200_000))),
    ] {
        assert_eq!(event(line).when, expected, "{line}");
    }
}

#[test]
fn calls_have_all_arguments() {
    let Action::Call(call) = event(
        "+0 sendmsg(4, {msg_name(...)=..., msg_iov(2)=[{..., 10}, {\"a\\n\", 2}], msg_flags=0}, MSG_MORE|MSG_DONTWAIT) = -1 EAGAIN (Resource, it's unavailable)",
    )
    .action
    else {
        panic!("no call")
    };
    assert_eq!((call.name.as_str(), call.errno.as_deref()), ("sendmsg", Some("EAGAIN")));
    assert_eq!(call.result, Some(Expr::Number(-1)));
    let piece =
        |bytes, len| Expr::Struct(vec![(String::new(), bytes), (String::new(), Expr::Number(len))]);
    let pieces = vec![piece(Expr::Ellipsis, 10), piece(Expr::Text(b"a\n".to_vec()), 2)];
    let message = vec![
        ("msg_name".to_owned(), Expr::Ellipsis),
        ("msg_iov".to_owned(), Expr::List(pieces)),
        ("msg_flags".to_owned(), Expr::Number(0)),
    ];
    let flags = Expr::Names(vec!["MSG_MORE".into(), "MSG_DONTWAIT".into()]);
    assert_eq!(call.arguments, [Expr::Number(4), Expr::Struct(message), flags]);
}

#[test]
fn a_star_is_a_time_or_a_product() {
    let script = parse("0 close(2*3) = 0\n* > . 1:1(0) ack 1").expect("a script");
    let Action::Call(call) = &script.events[0].action else { panic!("no call") };
    assert_eq!(
        (&call.arguments[..], script.events[1].when.base),
        (&[Expr::Number(6)][..], Base::Any)
    );
}

#[test]
fn packets_are_shown_as_they_are_written() {
    for line in [
        "S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>",
        "[ECT0] P. 1:1001(1000) ack 1 win 257",
        "SEW 0:0(0) win 5",
        "[CE,ttl 3] . 1:1(0) ack 1 win 7 urg 4 <nop,nop,sack 1:1001 2001:3001>",
        "- 0:0(0) win 1",
        "S. 0:0(0) ack 1 <...>",
        "1234 > 80 R 1:1(0)",
        "S 0:4(4) <FO 0a0b0c0d,FOEXP,eol>",
        "S 0:0(0) <FO TFO_COOKIE>",
        "udp (100)",
        "5 > 6 udp (0)",
        "icmp unreachable frag_needed mtu 1400 [1:1001(1000)]",
        "icmp unreachable port_unreachable [udp (8)]",
        "icmp time_exceeded ttl [1:1(0)]",
    ] {
        assert_eq!(packet(&format!("0 > {line}")).to_string(), line);
    }
}

#[test]
fn the_family_tells_the_icmp_error() {
    let text = "--ip_version=ipv6\n0 < icmp packet_too_big mtu 1280 [1:2(1)]";
    let script = parse(text).expect("a script");
    assert_eq!((script.settings.version, script.settings.local.is_ipv6()), (IpVersion::V6, true));
    let Action::Inbound(Packet { body: Body::Icmp(icmp), .. }) = &script.events[0].action else {
        panic!("no ICMP")
    };
    assert_eq!((icmp.kind, icmp.mtu, icmp.about), ((2, 0), Some(1280), About::Tcp(1, 1)));
    assert!(parse("0 < icmp packet_too_big [1:2(1)]").is_err());
}

#[test]
fn settings_stand_at_the_head() {
    let text = "// what\n--mtu=1280\n--tolerance_usecs=10 --local_ip=10.0.0.1\n--tcp_ts_tick_usecs=1000\n`sysctl a=b`\n0 < [ce] udp (1)";
    let script = parse(text).expect("a script");
    assert_eq!((script.settings.mtu, script.settings.tolerance), (1280, micros(10)));
    assert_eq!(script.settings.local.to_string(), "10.0.0.1");
    assert_eq!(script.settings.tick, Some(micros(1000)));
    assert!(matches!(script.events[0].action, Action::Shell(_)));
    assert_eq!(script.events[1].line, 6);
    assert_eq!(packet("0 < [ce] udp (1)").mark, Some(EcnMark::Ce));
}

#[test]
fn options_without_a_list_are_none() {
    let options = |line: &str| match packet(line).body {
        Body::Tcp(tcp) => tcp.options,
        other => panic!("{other:?}"),
    };
    assert_eq!(options("0 > . 1:1(0) ack 1"), Some(vec![]));
    assert_eq!(options("0 > . 1:1(0) ack 1 <...>"), None);
    assert_eq!(options("0 > . 1:1(0) ack 1 <nop>"), Some(vec![TcpOption::Nop]));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let mut misplaced = Vec::new();
    for (text, line, column, what) in [
        ("", 1, 1, "nothing happens"),
        ("0 close(3)\n+0 < S 0:1(2)", 2, 13, "from 0 to 1 are not 2 bytes"),
        ("0 > S 0:0(0) <mss>", 1, 18, "expected a segment size"),
        ("0 > X 0:0(0)", 1, 5, "are no flags"),
        ("0 > S 0:0(0) <foo 1>", 1, 15, "an option of TCP: mss"),
        ("0 bind(3, ...", 1, 14, "found the end of the script"),
        ("0 bind 3", 1, 8, "\"(\" after the name"),
        ("x close(3)", 1, 1, "a time in seconds"),
        ("0.2~+0.1 > . 1:1(0)", 1, 6, "count from the same time"),
        ("0.2~0.1 > . 1:1(0)", 1, 9, "ends before it begins"),
        ("* close(3)", 1, 1, "only what the kernel sends"),
        ("0...1 < . 1:1(0)", 1, 1, "only a system call"),
        ("--speed=10\n0 close(3)", 1, 1, "not an option of scripts"),
        ("--mtu=9\n0 close(3)", 1, 1, "from 68 to 65535"),
        ("--local_ip=::1\n0 close(3)", 1, 1, "not of the script's"),
        ("0 < . 1:1(0) win 65536", 1, 18, "65536 is not a window"),
        ("0 < S 1:1(0) ack 1", 1, 19, "has the flag"),
        ("0 < . 1:1(0) <FO 123>", 1, 21, "two hexadecimal digits"),
        ("0 < icmp nonsense [1:1(0)]", 1, 10, "no ICMP error"),
        ("99999999 close(3)", 1, 1, "no time in seconds"),
        ("0 < . 1:70001(70000)", 1, 20, "more than a packet has"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.what.contains(what), "{text:?}: {error}");
        if (error.line, error.column) != (line, column) {
            misplaced.push(format!("{text:?}: {error}"));
        }
    }
    assert!(misplaced.is_empty(), "{misplaced:#?}");
    let deep = format!("0 x({}", "[".repeat(500));
    assert!(parse(&deep).expect_err("too deep").what.contains("within each other"));
}
