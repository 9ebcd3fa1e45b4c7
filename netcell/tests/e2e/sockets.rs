//! What programs see of message, raw and packet sockets is what they see on Linux: the same program, line by line, on the host in a
//! network namespace of its own and in a sandbox, each with nothing but its loopback interface.

use crate::harness::{Namespace, netcell, run, sh};

const PYTHON: &str = "/usr/bin/python3";
const PRELUDE: &str = include_str!("linux_files/prelude.py");

/// Output lines of a program that must succeed.
fn lines(output: &std::process::Output, side: &str) -> Vec<String> {
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{side}: {:?}\n{text}\n{errors}", output.status);
    text.lines().map(str::to_owned).collect()
}

/// Every line must be the same, but for those that begin with an exception's label, which must differ.
fn same(program: &str, exceptions: &[(&str, &str)]) {
    let source = format!("{PRELUDE}{program}");
    let program = [PYTHON, "-c", &source];
    let namespace = Namespace::new();
    let expected = lines(&run(&mut namespace.command(&program), b""), "host");
    let given = lines(&run(&mut netcell(&["--workdir", "/tmp"], &program), b""), "sandbox");
    let excepted = |line: &str| exceptions.iter().any(|(label, _)| line.starts_with(label));
    let mut differences = Vec::new();
    for at in 0..expected.len().max(given.len()) {
        let (want, got) = (expected.get(at), given.get(at));
        let label = want.or(got).map_or("", |line| line.as_str());
        if (want == got) == excepted(label) {
            differences.push(format!("Linux:   {want:?}\nsandbox: {got:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// A test for each program, with exceptions and their reasons.
macro_rules! conformance {
    ($($test:ident: $file:literal $(, except $label:literal because $reason:literal)*;)*) => {$(
        #[test]
        fn $test() {
            same(include_str!(concat!("sockets/", $file)), &[$(($label, $reason)),*]);
        }
    )*};
}

conformance! {
    packet_sockets: "packet.py";
    streams_receive: "tcp_receive.py";
    tcp_info_of_a_quiet_exchange: "tcp_info.py";
    error_queues: "errqueue.py";
    sends_without_a_copy: "zerocopy.py";
    times_of_messages: "timestamps.py";
    control_messages: "ancillary.py";
    multicast_groups: "multicast.py";
    raw_sockets: "raw.py";
    signals_of_readiness_and_urgent_data: "signals.py";
    looks_at_local_sockets_from_an_offset: "peek_offset.py";
    groups_of_a_port: "reuseport.py";
    udp_sockets: "udp.py",
        except "4 default 100" because "UDP_ENCAP is not offered: there is no IPsec to hand packets to",
        except "6 default 100" because "as above";
}

#[test]
fn tcpdump_sees_what_passes() {
    let _ = sh("command -v tcpdump");
    let script = "tcpdump -i lo -n -c 4 -U -w /tmp/seen udp or icmp 2>/tmp/told & pid=$!
        until grep -q listening /tmp/told; do :; done
        python3 -c 'import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); [s.sendto(b\"tick\", (\"127.0.0.1\", 9)) for _ in range(2)]'
        wait $pid
        tcpdump -n -r /tmp/seen -t 2>/dev/null | sed 's/127.0.0.1.[0-9]* >/127.0.0.1.X >/'";
    let seen = crate::harness::inside(&["--workdir", "/tmp"], script);
    let datagram = "IP 127.0.0.1.X > 127.0.0.1.9: UDP, length 4";
    let refusal = "IP 127.0.0.1 > 127.0.0.1: ICMP 127.0.0.1 udp port 9 unreachable, length 40";
    assert_eq!(seen.lines().collect::<Vec<_>>(), [datagram, refusal, datagram, refusal]);
}
