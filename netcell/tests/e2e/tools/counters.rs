//! `nstat`, `netstat -s` and `ss -s`: what a program that speaks over loopback leaves in the counters.

use super::{on_loopback, same};

/// Echoes, datagrams, refusals, fragments, groups and streams of both families.
const TRAFFIC: &str = r#"
import socket, subprocess
def run(*command): subprocess.run(command, stdout=subprocess.DEVNULL)
run('ping', '-n', '-c', '2', '-i', '0.2', '127.0.0.1'); run('ping', '-n', '-6', '-c', '2', '-i', '0.2', '::1')
run('ping', '-n', '-c', '1', '-s', '65000', '127.0.0.1')
for family, own in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1')):
    taker = socket.socket(family, socket.SOCK_DGRAM); taker.bind((own, 7010))
    giver = socket.socket(family, socket.SOCK_DGRAM); giver.sendto(b'x' * 100, (own, 7010)); taker.recv(200); giver.sendto(b'y', (own, 7011))
    level, option = (socket.IPPROTO_IP, socket.IP_TOS) if family == socket.AF_INET else (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)
    for tos in (1, 2, 3):
        giver = socket.socket(family, socket.SOCK_DGRAM); giver.setsockopt(level, option, tos); giver.sendto(b'z' * tos, (own, 7010)); taker.recv(9)
    listener = socket.socket(family); listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); listener.bind((own, 7001)); listener.listen()
    client = socket.socket(family); client.connect((own, 7001)); server, _ = listener.accept()
    client.send(b'hello'); server.recv(9); server.send(b'world'); client.recv(9)
    try: refused = socket.socket(family); refused.connect((own, 7003))
    except OSError as e: print(e, flush=True)
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); raw.sendto(bytes([13, 0, 0, 0] + [0] * 16), ('127.0.0.1', 0)); raw.close()
group = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
group.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton('127.0.0.1')); group.sendto(b'hi', ('224.0.0.1', 7020))
"#;

/// Counters that are not kept here: they say how a kernel goes about its work, or would cost every segment one more; and of MPTCP.
const OF_THE_MAKING: &[&str] =
    &["TCPHPAcks", "TCPPureAcks", "TCPHPHits", "TCPDelivered", "TCPOrigDataSent", "MPTcp"];

#[test]
fn counters_say_of_the_same_traffic_what_linux_counts() {
    let script = format!(
        "cat > /tmp/traffic.$$.py <<'END'\n{TRAFFIC}\nimport time\nsubprocess.run(['nstat', '-az']); subprocess.run('ip -s link show lo; netstat -s | head -12; nstat -az -j TcpActiveOpens UdpInDatagrams', shell=True)\nEND\n\
         /usr/bin/python3 /tmp/traffic.$$.py; rm -f /tmp/traffic.$$.py"
    );
    let (on_host, inside) = on_loopback(&script);
    let kept = |text: &str| {
        let lines =
            text.lines().filter(|line| !OF_THE_MAKING.iter().any(|word| line.contains(word)));
        lines
            .map(|line| format!("{}\n", line.split_whitespace().collect::<Vec<_>>().join(" ")))
            .collect::<String>()
    };
    assert!(on_host.lines().count() > 250, "{on_host}");
    same(&kept(&on_host), &kept(&inside));
}
