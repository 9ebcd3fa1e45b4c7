//! The network over a TAP device: real servers and clients of the host on the other side, in a namespace of the test's own.

use crate::harness::{Namespace, Running, Scratch, finish, run, sh, succeeds, text, wait_until};

/// Runs a script in a sandbox of the namespace and expects success; gives its standard output.
fn inside(namespace: &Namespace, flags: &[&str], script: &str) -> String {
    succeeds(&mut namespace.netcell(flags, &["/bin/bash", "-c", script]))
}

/// A web server of the host that serves a folder on port 80, both families.
pub(crate) fn nginx(namespace: &mut Namespace, folder: &Scratch) {
    let configuration = format!(
        "daemon off; master_process off; error_log stderr; pid {0}/pid; events {{ worker_connections 2000; }} \
         http {{ access_log off; client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s; \
         server {{ listen 80; listen [::]:80; root {0}; }} }}",
        folder.path().display()
    );
    std::fs::write(folder.path().join("nginx.conf"), configuration).expect("the configuration");
    namespace.serve(&["nginx", "-c", &folder.file("nginx.conf")]);
    namespace.wait_for_listener(80);
}

/// A file of `mebibytes` that does not compress, and its SHA-256.
pub(crate) fn big_file(folder: &Scratch, name: &str, mebibytes: u32) -> String {
    let path = folder.file(name);
    sh(&format!(
        "openssl enc -aes-128-ctr -K 00112233445566778899aabbccddeeff -iv 0 -in /dev/zero 2>/dev/null | head -c {mebibytes}M > {path}; sha256sum < {path} | cut -d' ' -f1"
    ))
    .trim()
    .to_owned()
}

#[test]
fn curl_fetches_a_hundred_mebibytes_over_both_families() {
    let (mut namespace, folder) = (Namespace::new(), Scratch::new());
    let hash = big_file(&folder, "big", 100);
    nginx(&mut namespace, &folder);
    for url in ["http://10.9.0.1/big", "http://[fd09::1]/big"] {
        let out = inside(&namespace, &[], &format!("curl -gsS --fail {url} | sha256sum"));
        assert_eq!(out.split_whitespace().next(), Some(hash.as_str()), "{url}");
    }
}

#[test]
fn transfers_survive_loss_reordering_and_duplication() {
    let (mut namespace, folder) = (Namespace::new(), Scratch::new());
    let hash = big_file(&folder, "big", 20);
    nginx(&mut namespace, &folder);
    for url in ["http://10.9.0.1/big", "http://[fd09::1]/big"] {
        let flags = ["--fault", "loss=5%,reorder=5%,duplicate=5%,seed=7"];
        let out = inside(&namespace, &flags, &format!("curl -gsS --fail {url} | sha256sum"));
        assert_eq!(out.split_whitespace().next(), Some(hash.as_str()), "{url}");
    }
}

#[test]
fn uploads_survive_loss_reordering_and_duplication() {
    let (namespace, folder) = (Namespace::new(), Scratch::new());
    let hash = big_file(&folder, "big", 20);
    let volume = format!("{}:/srv:ro", folder.path().display());
    let flags = ["--fault", "loss=5%,reorder=5%,duplicate=5%,seed=8", "--volume", &volume];
    let server = namespace.netcell(
        &flags,
        &["/usr/bin/python3", "-m", "http.server", "-d", "/srv", "8000", "--bind", "::"],
    );
    let out = with_server(
        &namespace,
        server,
        "curl -gsS --fail http://10.9.0.2:8000/big | sha256sum; curl -gsS --fail http://[fd09::2]:8000/big | sha256sum",
    );
    let hashes: Vec<_> = out.lines().filter_map(|l| l.split_whitespace().next()).collect();
    assert_eq!(hashes, [hash.as_str(), hash.as_str()]);
}

/// Starts a server in a sandbox, runs a script of the host's side in the namespace once port 8000 answers, ends the server.
fn with_server(namespace: &Namespace, mut server: std::process::Command, script: &str) -> String {
    use std::process::Stdio;
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = Running::new(server.spawn().expect("a sandbox"));
    wait_until("the sandbox's server", || {
        if let Ok(Some(status)) = child.try_wait() {
            panic!("the server ended with {status}");
        }
        let probe = "exec 3<>/dev/tcp/10.9.0.2/8000";
        namespace
            .command(&["timeout", "2", "bash", "-c", probe])
            .output()
            .is_ok_and(|o| o.status.success())
    });
    let output = run(&mut namespace.command(&["bash", "-ec", script]), b"");
    // SIGTERM goes to netcell, which passes it on.
    sh(&format!("kill -TERM {}", child.id()));
    let server = finish(child.release());
    assert!(output.status.success(), "{}\nthe server: {}", text(&output), text(&server));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_server_in_the_sandbox_serves_the_hosts_curl() {
    let (namespace, folder) = (Namespace::new(), Scratch::new());
    let hash = big_file(&folder, "big", 100);
    let volume = format!("{}:/srv:ro", folder.path().display());
    let server = namespace.netcell(
        &["--volume", &volume],
        &["/usr/bin/python3", "-m", "http.server", "-d", "/srv", "8000", "--bind", "::"],
    );
    let out = with_server(
        &namespace,
        server,
        "curl -gsS --fail http://10.9.0.2:8000/big | sha256sum; curl -gsS --fail http://[fd09::2]:8000/big | sha256sum",
    );
    let hashes: Vec<_> = out.lines().filter_map(|l| l.split_whitespace().next()).collect();
    assert_eq!(hashes, [hash.as_str(), hash.as_str()]);
}

#[test]
fn two_hundred_parallel_connections_out() {
    let (mut namespace, folder) = (Namespace::new(), Scratch::new());
    let hash = big_file(&folder, "small", 1);
    nginx(&mut namespace, &folder);
    let client = "
import asyncio, hashlib
async def fetch(i):
    r, w = await asyncio.open_connection('10.9.0.1' if i % 2 else 'fd09::1', 80)
    w.write(b'GET /small HTTP/1.0\\r\\n\\r\\n'); await w.drain()
    data = await r.read(); w.close()
    return hashlib.sha256(data.split(b'\\r\\n\\r\\n', 1)[1]).hexdigest()
async def main():
    found = await asyncio.gather(*(fetch(i) for i in range(200)))
    print(len(found), *set(found))
asyncio.run(main())";
    let output = run(&mut namespace.netcell(&[], &["/usr/bin/python3", "-c", client]), b"");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        format!("200 {hash}"),
        "{}",
        text(&output)
    );
}

#[test]
fn two_hundred_parallel_connections_in() {
    let namespace = Namespace::new();
    let server = "
import asyncio
async def echo(r, w):
    while data := await r.read(65536):
        w.write(data); await w.drain()
    w.close()
async def main():
    s = await asyncio.start_server(echo, '::', 8000, backlog=300)
    await s.serve_forever()
import socket
socket.has_dualstack_ipv6 = lambda: True
asyncio.run(main())";
    // One dual-stack socket: asyncio would make it v6 only.
    let server = server.replace(
        "s = await asyncio.start_server(echo, '::', 8000, backlog=300)",
        "s = await asyncio.start_server(echo, sock=socket.create_server(('::', 8000), family=socket.AF_INET6, backlog=300, dualstack_ipv6=True))",
    );
    let client = "
import asyncio
async def talk(i):
    r, w = await asyncio.open_connection('10.9.0.2' if i % 2 else 'fd09::2', 8000)
    data = bytes([i]) * 50000
    w.write(data); w.write_eof()
    back = await r.read()
    w.close()
    return back == data
async def main():
    print(sum(await asyncio.gather(*(talk(i) for i in range(200)))))
asyncio.run(main())";
    let server = namespace.netcell(&[], &["/usr/bin/python3", "-c", &server]);
    let out = with_server(&namespace, server, &format!("/usr/bin/python3 -c \"{client}\""));
    assert_eq!(out.trim(), "200");
}

#[test]
fn ping_both_ways() {
    let namespace = Namespace::new();
    let out = inside(
        &namespace,
        &[],
        "ping -c 3 -i 0.2 10.9.0.1 && ping -6 -c 3 -i 0.2 fd09::1 && ping -c 1 127.0.0.1 && ping -R -c 1 10.9.0.1 2>&1",
    );
    assert_eq!(out.matches("0% packet loss").count(), 4, "{out}");
    // The route that the request and its answer recorded; no option of ping's is refused.
    assert!(out.contains("RR: \t10.9.0.2\n\t10.9.0.1\n\t10.9.0.1\n\t10.9.0.2\n"), "{out}");
    assert!(!out.contains("WARNING"), "{out}");
    let server = namespace.netcell(&[], &["/usr/bin/python3", "-m", "http.server", "8000"]);
    let out = with_server(
        &namespace,
        server,
        "ping -c 3 -i 0.2 10.9.0.2; ping -6 -c 3 -i 0.2 fd09::2; ping -c 1 -s 8000 10.9.0.2; ping -6 -c 1 -s 8000 fd09::2",
    );
    assert_eq!(out.matches(" 0% packet loss").count(), 4, "{out}");
}

#[test]
fn interfaces_and_connections_are_told() {
    let namespace = Namespace::new();
    let client = "
import socket
print(socket.if_nametoindex('eth0'), socket.if_indextoname(1), socket.getaddrinfo('fe80::1%eth0', 1)[0][4][3])
server = socket.create_server(('10.9.0.2', 4660))
peer = socket.create_connection(('10.9.0.2', 4660)); other = server.accept()
lines = [line.split()[1:4] for line in open('/proc/net/tcp')]
print(['0200090A:1234', '00000000:0000', '0A'] in lines, sum(line[2] == '01' for line in lines))
print(any(line.startswith('Tcp:') for line in open('/proc/net/snmp')), 'eth0' in open('/proc/net/dev').read())
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(0, 10, 2); s.setsockopt(0, 11, 1)
try: s.sendto(bytes(1473), ('10.9.0.1', 9))
except OSError as e: print(e.errno)
data, control, flags, peer = s.recvmsg(100, 100, socket.MSG_ERRQUEUE)
import struct
print(len(data), peer, control[0][:2], struct.unpack('=IBBBBII', control[0][2][:16]), any(control[0][2][16:]))";
    let output = run(&mut namespace.netcell(&[], &["/usr/bin/python3", "-c", client]), b"");
    let expected = "2 lo 2\nTrue 2\nTrue True\n90\n0 ('10.9.0.1', 0) (0, 11) (90, 1, 0, 0, 0, 1500, 0) False\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{}", text(&output));
    let out = inside(
        &namespace,
        &[],
        "ip -br addr show eth0 | cut -c1-20; ip route show default; ping -c 1 -M do -s 1473 10.9.0.1 2>&1 | grep local; ping -6 -c 1 ff02::1%eth0 | grep -c 'from fe80'",
    );
    assert!(out.starts_with("eth0"), "{out}");
    assert!(out.contains("default via 10.9.0.1 dev eth0"), "{out}");
    assert!(out.contains("message too long, mtu=1500"), "{out}");
}

#[test]
fn names_are_resolved_over_udp() {
    let mut namespace = Namespace::new();
    namespace.serve(&[
        "dnsmasq",
        "--keep-in-foreground",
        "--no-resolv",
        "--no-hosts",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--address=/server.test/10.9.0.1",
        "--address=/server.test/fd09::1",
        "--port=53",
        "--user=root",
    ]);
    wait_until("dnsmasq", || {
        namespace
            .command(&["sh", "-c", "ss -Hlun 'sport = :53' | grep -q ."])
            .status()
            .is_ok_and(|s| s.success())
    });
    let out = inside(
        &namespace,
        &[],
        "getent ahostsv4 server.test | head -1 | cut -d' ' -f1; getent ahostsv6 server.test | head -1 | cut -d' ' -f1; dig +short server.test; getent hosts nothing.invalid || echo none",
    );
    assert_eq!(out, "10.9.0.1\nfd09::1\n10.9.0.1\nnone\n");
}

#[test]
fn udp_reaches_a_server_in_the_sandbox() {
    let namespace = Namespace::new();
    let server = "
import socket, threading, http.server
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(('::', 9000))
threading.Thread(target=http.server.HTTPServer(('', 8000), http.server.BaseHTTPRequestHandler).serve_forever, daemon=True).start()
while True:
    data, peer = s.recvfrom(65536)
    s.sendto(data[::-1], peer)";
    let client = "
import socket
for family, to in ((socket.AF_INET, '10.9.0.2'), (socket.AF_INET6, 'fd09::2')):
    s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(20)
    for n in (1, 1000, 1472, 9000, 60000):
        data = bytes(i % 251 for i in range(n))
        s.sendto(data, (to, 9000))
        print(n, s.recv(65536) == data[::-1])";
    let server = namespace.netcell(&[], &["/usr/bin/python3", "-c", server]);
    let out = with_server(&namespace, server, &format!("/usr/bin/python3 -c \"{client}\""));
    assert_eq!(out.matches("True").count(), 10, "{out}");
}

#[test]
fn refused_and_unreachable_are_told_promptly() {
    let namespace = Namespace::new();
    let client = "
import socket, time, errno
for family, to in ((2, '10.9.0.1'), (10, 'fd09::1'), (2, '10.9.0.77'), (10, 'fd09::77'), (2, '127.0.0.1'), (10, '::1')):
    s = socket.socket(family); start = time.monotonic()
    try: s.connect((to, 9))
    except OSError as e: print(to, errno.errorcode[e.errno], time.monotonic() - start < 20)
for family, to in ((2, '10.9.0.1'), (10, 'fd09::1')):
    s = socket.socket(family, socket.SOCK_DGRAM); s.connect((to, 9)); s.settimeout(20); s.send(b'x')
    try: s.recv(1)
    except OSError as e: print(to, 'udp', errno.errorcode[e.errno])";
    let output = run(&mut namespace.netcell(&[], &["/usr/bin/python3", "-c", client]), b"");
    let expected = "10.9.0.1 ECONNREFUSED True\nfd09::1 ECONNREFUSED True\n10.9.0.77 EHOSTUNREACH True\nfd09::77 EHOSTUNREACH True\n\
        127.0.0.1 ECONNREFUSED True\n::1 ECONNREFUSED True\n10.9.0.1 udp ECONNREFUSED\nfd09::1 udp ECONNREFUSED\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{}", text(&output));
}

#[test]
fn iperf3_runs_both_directions() {
    let mut namespace = Namespace::new();
    namespace.serve(&["iperf3", "-s"]);
    namespace.wait_for_listener(5201);
    // A server of iperf3 stops counting when the client says that it is done, whatever is still under way: on Linux too the
    // sum of what it received may fall short of what was sent, but not where it is the client that receives.
    let judge = "import json
ends = [json.load(open(f))['end'] for f in 'abc']
for end in ends: print(end['sum_sent']['bytes'] >= 50_000_000, end['sum_received']['bytes'] > 0)
print(ends[1]['sum_received']['bytes'] >= 50_000_000)";
    let out = inside(
        &namespace,
        &[],
        &format!(
            "iperf3 -c 10.9.0.1 -n 50M -J >a && iperf3 -R -c 10.9.0.1 -n 50M -J >b && iperf3 -6 -c fd09::1 -n 50M -P 4 -J >c && \
             /usr/bin/python3 -c \"{judge}\""
        ),
    );
    assert_eq!(out, "True True\nTrue True\nTrue True\nTrue\n");
}

/// Takes connections on port 47000 and writes the length of what each brought as a line of a file, once it ended.
pub(crate) fn counting_server(namespace: &mut Namespace, folder: &Scratch) -> String {
    let file = folder.file("lengths");
    let count = format!("SYSTEM:wc -c >>{file}");
    namespace.serve(&["socat", "-u", "TCP6-LISTEN:47000,fork,ipv6only=0", &count]);
    namespace.wait_for_listener(47000);
    file
}

#[test]
fn what_a_program_has_sent_arrives_though_it_ended() {
    let (mut namespace, folder) = (Namespace::new(), Scratch::new());
    let lengths = counting_server(&mut namespace, &folder);
    for seed in 1..=4 {
        let fault = format!("loss=5%,seed={seed}");
        let script = "head -c 3000000 /dev/zero >/dev/tcp/10.9.0.1/47000";
        inside(&namespace, &["--fault", &fault], script);
    }
    let told = || std::fs::read_to_string(&lengths).unwrap_or_default();
    wait_until("the ends of four connections", || told().lines().count() == 4);
    assert_eq!(told(), "3000000\n".repeat(4));
}

#[test]
fn the_device_and_the_processes_are_gone_afterwards() {
    let namespace = Namespace::new();
    inside(&namespace, &[], "true");
    let links = run(&mut namespace.command(&["ip", "-o", "link"]), b"");
    assert!(!String::from_utf8_lossy(&links.stdout).contains("nc0"), "{}", text(&links));
}
