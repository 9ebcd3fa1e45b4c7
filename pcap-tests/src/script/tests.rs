//! Scripts over our stack: what passes, and how a script that fails says why.

use super::ours::Ours;
use super::*;

fn played(text: &str) -> Result<(), Stop> {
    let script = Script::parse(text).unwrap_or_else(|error| panic!("{error}"));
    run(&script, &mut Ours::new(&script.settings), &mut |_| ())
}

fn failure(text: &str) -> Failure {
    match played(text) {
        Err(Stop::Failed(failure)) => *failure,
        other => panic!("{other:?}"),
    }
}

const OPEN: &str = "
0   socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0  bind(3, ..., ...) = 0
+0  listen(3, 1) = 0
+0  < S 0:0(0) win 65535 <mss 1000>
+0  > S. 0:0(0) ack 1 <...>
+.1 < . 1:1(0) ack 1 win 65535
+0  accept(3, ..., ...) = 4
";

fn opened(rest: &str) -> String {
    format!("{OPEN}{rest}")
}

#[test]
fn a_connection_passes() {
    played(&opened(
        "+0 write(4, ..., 2500) = 2500
         +0 > . 1:1001(1000) ack 1
         +0 > . 1001:2001(1000) ack 1
         +0 > P. 2001:2501(500) ack 1
         +.01 < . 1:1(0) ack 2501 win 65535
         +0 < P. 1:11(10) ack 2501 win 65535
         +0 > . 2501:2501(0) ack 11
         +0 read(4, ..., 100) = 10",
    ))
    .expect("the stack does so");
}

#[test]
fn a_line_stands_for_a_train_too() {
    played(&opened("+0 write(4, ..., 2500) = 2500\n+0 > P. 1:2501(2500) ack 1")).expect("it does");
    let wrong = failure(&opened("+0 write(4, ..., 2500) = 2500\n+0 > P. 1:2502(2501) ack 1"));
    assert!(wrong.came.contains("1:2501(2500)"), "{wrong}");
}

#[test]
fn what_differs_is_told_with_its_line_and_rule() {
    for (rest, line, what, expected, came) in [
        (
            "+0 write(4, ..., 10) = 10\n+0 > P. 1:11(10) ack 2",
            10,
            "the acknowledgment number",
            "> P. 1:11(10) ack 2",
            "> P. 1:11(10) ack 1",
        ),
        (
            "+0 write(4, ..., 10) = 10\n+.5 > P. 1:11(10) ack 1",
            10,
            "the time of",
            "0.600000",
            "0.100000",
        ),
        ("+0 > . 1:1(0) ack 1", 9, "a packet is missing", "> . 1:1(0) ack 1", "nothing until"),
        ("+0 write(4, ..., 10) = 9", 9, "what write returns", "9", "10"),
        ("+0 read(4, ..., 10) = 9", 9, "read", "a call that returns at once", "blocks"),
        ("+0...1 read(4, ..., 10) = 9", 9, "the time at which", "1.100000", "still blocks"),
        (
            "+0 fcntl(4, F_SETFL, O_RDWR|O_NONBLOCK) = 0\n+0 read(4, ..., 9) = 1",
            10,
            "what read returns",
            "1",
            "-1 EAGAIN",
        ),
    ] {
        let failure = failure(&opened(rest));
        assert_eq!(failure.line, line, "{failure}");
        assert!(failure.what.contains(what), "{failure}");
        assert!(failure.expected.contains(expected), "{failure}");
        assert!(failure.came.contains(came), "{failure}");
    }
}

#[test]
fn what_cannot_be_run_is_refused_with_its_line() {
    for (rest, why) in [
        ("+0 fork() = 5", "no system call of scripts"),
        ("+0 read(9, ..., 1) = 1", "9 is no socket"),
        ("+0 `rm -rf /tmp/x`", "nothing is run by a shell"),
        ("+0 `sysctl net.ipv4.tcp_nonsense=1`", "no setting of the stack"),
        ("+0 setsockopt(4, SOL_TCP, TCP_INFO, [1], 4) = 0", "TCP_INFO"),
        ("+0 close(4) = -1 EWHAT", "no error of Linux"),
        ("+0 recv(4, ..., 1, MSG_ERRQUEUE) = 1", "not understood"),
    ] {
        match played(&opened(rest)) {
            Err(Stop::Refused { line: 9, why: told }) => assert!(told.contains(why), "{told}"),
            other => panic!("{rest}: {other:?}"),
        }
    }
}

#[test]
fn watchers_see_packets_and_lines() {
    let script = Script::parse(OPEN).expect("a script");
    let (mut packets, mut lines) = (Vec::new(), Vec::new());
    run(&script, &mut Ours::new(&script.settings), &mut |note| match note {
        Note::Packet(at, way, bytes) => packets.push((at, way, bytes[0] >> 4)),
        Note::Line(_, line) => lines.push(line.to_owned()),
    })
    .expect("it passes");
    let second = Duration::from_millis(100);
    let expected =
        [(Duration::ZERO, Way::In, 4), (Duration::ZERO, Way::Out, 4), (second, Way::In, 4)];
    assert_eq!(packets, expected);
    assert!(lines.iter().any(|line| line.starts_with("> S. 0:0(0) ack 1")), "{lines:?}");
}

#[test]
fn a_script_gives_the_same_run_each_time() {
    let all = || {
        let script = Script::parse(OPEN).expect("a script");
        let mut bytes = Vec::new();
        let mut watch = |note: Note<'_>| {
            if let Note::Packet(_, _, packet) = note {
                bytes.push(packet.to_vec());
            }
        };
        run(&script, &mut Ours::new(&script.settings), &mut watch).expect("it passes");
        bytes
    };
    assert_eq!(all(), all());
}
