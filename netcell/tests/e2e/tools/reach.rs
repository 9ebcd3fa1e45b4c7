//! Tools that send: each in a sandbox and on the host's side of a pair of namespaces, towards the same peer.

use super::{Twin, same};
use crate::harness::{Namespace, run};

/// Runs a script towards 10.9.0.1 and fd09::1, where a web server and a resolver's port are; gives both outputs without times.
#[track_caller]
pub fn compare(servers: &[&str], script: &str) {
    let twin = Twin::new();
    let on_host = twin.with_servers(servers, script);
    let mut namespace = Namespace::new();
    for server in servers {
        namespace.serve(&["/bin/bash", "-c", server]);
    }
    let output = run(&mut namespace.netcell(&[], &["/bin/bash", "-c", script]), b"");
    let inside = super::text(&output);
    same(&without_times(&on_host), &without_times(&inside));
}

/// Numbers before units of time, and what follows from them.
fn without_times(text: &str) -> String {
    let mut out = String::new();
    for line in super::plain(text).lines() {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        for at in 0..words.len() {
            let unit = |word: &str| {
                matches!(
                    word.trim_end_matches([',', ')', ';', '.']),
                    "ms" | "msec" | "s" | "seconds"
                )
            };
            if at + 1 < words.len() && unit(&words[at + 1]) {
                words[at] = "T".into();
            }
            if let Some((name, _)) = words[at].clone().split_once("time=") {
                words[at] = format!("{name}time=T");
            }
            if words[at].ends_with("ms") && words[at].starts_with(|c: char| c.is_ascii_digit()) {
                words[at] = "T".into();
            }
        }
        if line.starts_with("rtt ") {
            words = vec!["rtt".into()];
        }
        out.push_str(&words.join(" "));
        out.push('\n');
    }
    out
}

#[test]
fn ping_over_both_families_and_with_a_size_that_does_not_fit() {
    compare(
        &[],
        "ping -n -c 2 -i 0.2 10.9.0.1; echo $?; ping -6 -n -c 2 -i 0.2 fd09::1; echo $?; ping -n -c 1 -M do -s 1472 10.9.0.1; echo $?
         ping -n -c 1 -M do -s 1473 -W 1 10.9.0.1; echo $?; ping -n -c 1 -s 4000 10.9.0.1; echo $?; ping -n -c 1 -W 1 -t 1 10.9.0.2; echo $?
         ping -n -c 1 nosuchhost.invalid 2>/dev/null; echo $?; ping -n -c 1 -W 1 -p ff -q 10.9.0.1; echo $?",
    );
}

#[test]
fn traceroute_ends_at_the_peer() {
    compare(
        &[],
        "traceroute -n -q 1 10.9.0.1; echo $?; traceroute -n -q 1 -I 10.9.0.1; echo $?
         traceroute -6 -n -q 1 fd09::1; echo $?",
    );
}

#[test]
fn traceroute_asks_by_tcp_and_with_sizes() {
    compare(
        &["exec socat TCP6-LISTEN:8080,fork,reuseaddr,ipv6only=0 SYSTEM:'cat'"],
        "until nc -z 10.9.0.1 8080; do sleep 0.05; done
         traceroute -n -q 1 -T -p 8080 10.9.0.1; echo $?; traceroute -n -q 1 -T -p 8081 10.9.0.1; echo $?; traceroute -6 -n -q 1 -T -p 8080 fd09::1; echo $?
         traceroute -n -q 1 -U 10.9.0.1; echo $?; traceroute -6 -n -q 1 -I fd09::1; echo $?; traceroute -n -q 1 --mtu 10.9.0.1; echo $?
         traceroute -n -q 1 -F 10.9.0.1 1500; echo $?; traceroute -n -q 1 -F 10.9.0.1 1501; echo $?",
    );
}

#[test]
fn tracepath_finds_the_mtu_and_counts_hops_both_ways() {
    compare(
        &[],
        "t() { echo \"== $*\"; \"$@\" 2>&1; echo \"status $?\"; }
         t tracepath -n 10.9.0.1; t tracepath -n -6 fd09::1; t tracepath -n 10.9.0.2; t tracepath -n -6 fd09::2; t tracepath -b -l 1400 -m 3 10.9.0.1
         t tracepath -n -6 -l 1400 fd09::1; t tracepath -n -l 65520 10.9.0.1; t tracepath -n -l 70000 10.9.0.1",
    );
}

#[test]
fn tracepath_finds_the_mtu_of_a_smaller_link() {
    compare(
        &[],
        "ip link set eth0 mtu 1300; tracepath -n 10.9.0.1; echo $?; tracepath -n -6 fd09::1; echo $?",
    );
}

#[test]
fn mtr_reports_its_only_hop() {
    // Without the times, and the heading with the date and the name of the machine.
    compare(
        &[],
        "for how in '' -T -u; do mtr -n -r -c 1 -G 1 $how 10.9.0.1 | tail -n +3 | awk '{print $1, $2, $3, $4}'; mtr -n -r -c 1 -G 1 $how fd09::1 | tail -n +3 | awk '{print $1, $2, $3, $4}'; done",
    );
}

#[test]
fn ping_with_options_of_the_header_and_sources() {
    compare(
        &[],
        "ping -n -c 1 -R 10.9.0.1; echo $?; ping -n -c 1 -R 127.0.0.1; echo $?
         ping -n -c 1 -T tsonly 10.9.0.1 | sed 's/[0-9][0-9]* absolute/N absolute/; s/-*[0-9]*$/N/'; ping -n -c 1 -T tsandaddr 10.9.0.1 | sed 's/[0-9][0-9]* absolute/N absolute/; s/-*[0-9]*$/N/'
         ping -n -c 1 -T tsprespec 10.9.0.1 10.9.0.2 10.9.0.1 | sed 's/[0-9][0-9]* absolute/N absolute/; s/-*[0-9]*$/N/'
         ping -n -c 1 -Q 0x10 10.9.0.1; echo $?; ping -n -c 1 -I eth0 10.9.0.1; echo $?; ping -n -c 1 -I 10.9.0.2 10.9.0.1; echo $?
         ping -n -c 1 -I 1.2.3.4 10.9.0.1 2>&1; echo $?; ping -n -c 1 -I nope 10.9.0.1 2>&1; echo $?; ping -n -c 1 -m 5 10.9.0.1; echo $?
         ping -n -c 1 -W 1 10.9.0.255 2>&1; echo $?; ping -n -c 1 -b -W 1 10.9.0.255 2>&1; echo $?; ping -n -c 1 -M want -s 3000 10.9.0.1; ping -n -c 1 -M dont -s 3000 10.9.0.1
         ping -6 -n -c 1 -M do -s 1452 fd09::1; ping -6 -n -c 1 -M do -s 1453 -W 1 fd09::1 2>&1; echo $?",
    );
}

#[test]
fn arping_finds_who_has_an_address() {
    compare(
        &[],
        "t() { echo \"== $*\"; \"$@\" 2>&1; echo \"status $?\"; }
         t arping -c 2 10.9.0.1; t arping -c 1 -w 1 10.9.0.77; t arping -D -c 1 -w 1 -I eth0 10.9.0.1; t arping -D -c 1 -w 1 -I eth0 10.9.0.66
         t arping -U -c 1 -I eth0 10.9.0.2; t arping -c 1 -I lo 127.0.0.1; t arping -b -c 2 -I eth0 10.9.0.1",
    );
}

#[test]
fn tcpdump_writes_what_it_can_read() {
    compare(
        &[],
        "cd /tmp; tcpdump -ni eth0 -c 4 -w cap.pcap icmp 2> heard & until grep -q listening heard 2>/dev/null; do sleep 0.05; done
         ping -n -c 2 -i 0.2 10.9.0.1 > /dev/null; wait
         tcpdump -tnr cap.pcap 2>&1 | sed 's/id [0-9]*,/id N,/'; tcpdump -tnvr cap.pcap 'icmp[0] = 8' 2>&1 | sed 's/id [0-9]*,/id N,/g'; tcpdump -er cap.pcap -tn -c 1 2>&1 | sed 's/id [0-9]*,/id N,/'; rm -f cap.pcap heard",
    );
}

#[test]
fn socat_joins_addresses_of_many_kinds() {
    compare(
        &[
            "exec socat TCP6-LISTEN:8080,fork,reuseaddr,ipv6only=0 SYSTEM:'cat'",
            "exec socat UDP6-RECVFROM:8081,fork,ipv6only=0 SYSTEM:'cat'",
        ],
        "until nc -z 10.9.0.1 8080; do sleep 0.05; done
         t() { echo \"== $*\"; timeout 20 \"$@\" 2>&1 | sed 's,^[0-9/]* [0-9:]* socat.[0-9]*. ,,; s,0x[0-9a-f]*,P,'; }
         echo x | t socat - UDP4-SENDTO:10.9.0.255:8081; echo x | t socat -u - UDP4-SENDTO:10.9.0.255:8081,broadcast
         echo x | t socat -u - UDP4-DATAGRAM:224.0.0.5:8081,ip-multicast-ttl=3,ip-multicast-if=10.9.0.2
         echo x | t socat - TCP4:10.9.0.1:8080,bind=10.9.0.2:7777,reuseaddr; echo x | t socat - TCP4:10.9.0.1:8080,bind=10.9.0.3
         echo x | t socat - TCP4:10.9.0.1:8080,so-bindtodevice=eth0; echo x | t socat - TCP4:10.9.0.1:8080,mss=500,nodelay,keepalive,linger=1
         echo x | t socat - TCP4:10.9.0.1:8080,sndbuf=10000,rcvbuf=10000,ttl=3,tos=16; echo x | t socat - TCP4:10.9.0.1:8089; echo x | t socat - UDP4:10.9.0.1:8089
         (socat -u TCP4-LISTEN:9001,reuseaddr - & until ss -Hltn 'sport = :9001' | grep -q .; do sleep 0.05; done; echo hello | socat -u - TCP4:127.0.0.1:9001; wait)
         (socat ABSTRACT-LISTEN:s9 SYSTEM:'tr a-z A-Z' & until ss -Hlx | grep -q @s9; do sleep 0.05; done; echo hello | socat -t 9 - ABSTRACT-CONNECT:s9; wait)",
    );
}

#[test]
fn nmap_finds_open_and_closed_ports() {
    compare(
        &["exec socat TCP-LISTEN:8080,fork,reuseaddr SYSTEM:'cat'"],
        "until nc -z 10.9.0.1 8080; do sleep 0.05; done
         nmap -n -Pn -sT -p 8080,8081 10.9.0.1 | grep -v 'Starting\\|Nmap done\\|latency\\|Host is up'; echo $?",
    );
}

#[test]
fn nc_and_socat_carry_bytes_over_tcp_and_udp() {
    compare(
        &[
            "exec socat TCP6-LISTEN:8080,fork,reuseaddr,ipv6only=0 SYSTEM:'cat'",
            "exec socat UDP6-RECVFROM:8081,fork,ipv6only=0 SYSTEM:'cat'",
        ],
        "until nc -z 10.9.0.1 8080; do sleep 0.05; done
         echo one | nc -N 10.9.0.1 8080; echo two | nc -N fd09::1 8080; echo three | socat - TCP:10.9.0.1:8080; echo four | socat -t 5 - UDP:10.9.0.1:8081,shut-none & w=$!
         wait $w; nc -zv 10.9.0.1 8082 2>&1; echo $?; seq 100000 | socat - TCP6:[fd09::1]:8080 | sha256sum",
    );
}

#[test]
fn dig_asks_a_server_over_udp_and_tcp() {
    compare(
        &["exec dnsmasq -k -C /dev/null --no-resolv --no-hosts --address=/example.test/10.1.2.3 --pid-file --user=root"],
        "until dig +tries=1 +time=1 @10.9.0.1 example.test >/dev/null; do sleep 0.05; done
         dig +short @10.9.0.1 example.test; dig +short +tcp @10.9.0.1 example.test; dig +short @fd09::1 example.test AAAA; dig +noall +answer @10.9.0.1 example.test",
    );
}

#[test]
fn iperf3_sends_datagrams_without_loss() {
    // How many arrive is of the machine; that the test ends well and tells of its datagrams is compared.
    compare(
        &["exec iperf3 -s"],
        "until nc -z 10.9.0.1 5201; do sleep 0.05; done
         for n in 1 2 3 4 5; do iperf3 -c 10.9.0.1 -u -b 1M -t 1 -J > /tmp/iperf.json && break; sleep 0.3; done
         python3 -c 'import json; r = json.load(open(\"/tmp/iperf.json\")); print(r[\"end\"][\"sum\"][\"packets\"] > 50, r[\"end\"][\"sum\"][\"lost_packets\"], r.get(\"error\"))'; rm -f /tmp/iperf.json",
    );
}

#[test]
fn connections_obey_what_ip_route_says_of_congestion_control_and_window() {
    let program = r#"
import socket
for kind in (socket.AF_INET, socket.AF_INET6):
    s = socket.socket(kind); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b'cubic')
    s.connect(('10.9.0.1' if kind == socket.AF_INET else 'fd09::1', 8080))
    print(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b'\0'), s.getsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1); print(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b'\0'), s.getsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP))
"#;
    let script = format!(
        "t() {{ echo \"== $*\"; \"$@\" 2>&1; echo \"status $?\"; }}
         until nc -z 10.9.0.1 8080; do sleep 0.05; done
         t ip route add 10.9.0.1/32 dev eth0 congctl reno window 5000; t ip -6 route add fd09::1/128 dev eth0 congctl reno window 5000 metric 5
         t ip route show 10.9.0.1; t ip -6 route show fd09::1; t ip route add 10.1.0.0/16 dev eth0 congctl nosuch; t ip -j route show 10.9.0.1
         python3 -c '{}'",
        program.replace('\'', "\"")
    );
    compare(&["exec socat TCP6-LISTEN:8080,fork,reuseaddr,ipv6only=0 SYSTEM:'cat'"], &script);
}
