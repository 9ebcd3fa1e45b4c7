//! The loopback of a pod's namespace leads inside, as who dials it there expects (`kubectl port-forward`), and Docker's resolver is
//! reached from inside.

use std::process::Stdio;

use crate::harness::{Running, run, text, wait_until};
use crate::packet::{Pod, Shell};

/// Dials a port of the namespace's loopback on the host's stack and tells what came of it.
const DIAL: &str = "import socket, hashlib, sys
for address in ('127.0.0.1', '::1'):
    try:
        peer = socket.create_connection((address, int(sys.argv[1])))
        data = bytes(range(251)) * 12345
        import threading
        sender = threading.Thread(target=lambda: (peer.sendall(data), peer.shutdown(socket.SHUT_WR)))
        sender.start()
        back = b''.join(iter(lambda: peer.recv(65536), b''))
        sender.join()
        print('served' if back == data + b'end' else len(back))
    except OSError as error:
        print(type(error).__name__)
";

/// Serves a port: what comes is sent back, and `end` after the peer's end.
const SERVE: &str = "import socket, sys, threading
def serve(peer):
    data = b''.join(iter(lambda: peer.recv(65536), b''))
    peer.sendall(data + b'end')
    peer.close()
address, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ':' in address else socket.AF_INET
server = socket.create_server((address, port), family=family, dualstack_ipv6=address == '::')
while True:
    threading.Thread(target=serve, args=(server.accept()[0],)).start()
";

fn dial(pod: &Pod, port: &str) -> String {
    let output = run(&mut pod.beside(&["python3", "-c", DIAL, port]), b"");
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8_lossy(&output.stdout).replace('\n', " ").trim().to_owned()
}

#[test]
fn who_dials_the_namespaces_loopback_reaches_programs_inside() {
    let pod = Pod::usual();
    let mut shell = Shell::start(pod.netcell(&["--env", &format!("SERVE={SERVE}")], &["bash"]));
    let (refused, both) = ("ConnectionRefusedError", "served served");
    assert_eq!(dial(&pod, "7000"), format!("{refused} {refused}"));
    let cases = [
        ("::", "7000", both.to_owned()),
        ("0.0.0.0", "7001", format!("served {refused}")),
        ("127.0.0.1", "7002", format!("served {refused}")),
        ("::1", "7003", format!("{refused} served")),
        ("10.20.0.2", "7004", format!("{refused} {refused}")),
    ];
    for (address, port, _) in &cases {
        shell.ask(&format!("python3 -c \"$SERVE\" {address} {port} & true"));
        shell.until(&format!("ss -Hltn sport = :{port} | wc -l"), |count| count != "0");
    }
    for (address, port, expected) in &cases {
        // The port outside follows the one inside.
        let last = || dial(&pod, port);
        wait_until(&format!("{address}:{port}"), || last() == *expected);
    }
    // Nothing but what listens is open on the host's loopback.
    let open = pod.told("export LC_ALL=C; ss -Hltn | awk '{print $4}' | sort | tr '\\n' ' '");
    assert_eq!(open, "127.0.0.1:7000 127.0.0.1:7001 127.0.0.1:7002 [::1]:7000 [::1]:7003 ");
    shell.ask("kill %1");
    wait_until("the port to be closed", || dial(&pod, "7000") == format!("{refused} {refused}"));
    assert_eq!(dial(&pod, "7001"), format!("served {refused}"));
    shell.ask("kill $(jobs -p)");
    shell.end();
    assert_eq!(pod.told("ss -Hltn | wc -l"), "0\n");
}

#[test]
fn resets_pass_the_loopback_both_ways() {
    let pod = Pod::usual();
    let serve = "import socket, struct
server = socket.create_server(('127.0.0.1', 7000))
print('ready', flush=True)
peer = server.accept()[0]
peer.recv(1)
peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
peer.close()
peer = server.accept()[0]
try:
    peer.sendall(b'x')
    while peer.recv(1): pass
    print('an end', flush=True)
except ConnectionResetError:
    print('a reset', flush=True)";
    let dial = "import socket, struct
peer = socket.create_connection(('127.0.0.1', 7000))
peer.sendall(b'x')
try:
    print('an end', peer.recv(1))
except ConnectionResetError:
    print('a reset')
peer = socket.create_connection(('127.0.0.1', 7000))
peer.recv(1)
peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
peer.close()";
    let mut server = pod.netcell(&[], &["python3", "-c", serve]);
    server.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let server = Running::new(server.spawn().expect("a sandbox"));
    wait_until("the port", || pod.told("ss -Hltn | wc -l") == "1\n");
    let output = run(&mut pod.beside(&["python3", "-c", dial]), b"");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a reset\n", "{}", text(&output));
    let output = crate::harness::finish(server.release());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ready\na reset\n");
}

/// The rules that Docker makes in a container's namespace.
const RULES: &str = "iptables -t nat -N DOCKER_OUTPUT; iptables -t nat -N DOCKER_POSTROUTING
iptables -t nat -A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT
iptables -t nat -A POSTROUTING -d 127.0.0.11/32 -j DOCKER_POSTROUTING
iptables -t nat -A DOCKER_OUTPUT -d 127.0.0.11/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination 127.0.0.11:43121
iptables -t nat -A DOCKER_OUTPUT -d 127.0.0.11/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.11:43122
iptables -t nat -A DOCKER_POSTROUTING -s 127.0.0.11/32 -p tcp -m tcp --sport 43121 -j SNAT --to-source :53
iptables -t nat -A DOCKER_POSTROUTING -s 127.0.0.11/32 -p udp -m udp --sport 43122 -j SNAT --to-source :53";

/// A resolver as Docker's, which sends back what it is asked.
const ANSWER: &str = "import socket, threading
streams = socket.create_server(('127.0.0.11', 43121))
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind(('127.0.0.11', 43122))
print('ready', flush=True)
def stream():
    while True:
        peer = streams.accept()[0]
        peer.sendall(b'tcp ' + peer.recv(1000))
        peer.close()
threading.Thread(target=stream, daemon=True).start()
while True:
    data, peer = datagrams.recvfrom(70000)
    datagrams.sendto(b'udp ' + data, peer)";

#[test]
fn dockers_resolver_is_reached_from_inside_and_its_rules_are_no_foreign_ones() {
    let pod = Pod::usual();
    pod.told(RULES);
    let mut resolver = pod.beside(&["python3", "-c", ANSWER]);
    resolver.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    let _resolver = Running::new(resolver.spawn().expect("a resolver"));
    wait_until("the resolver", || pod.told("ss -Huln sport = :43122 | wc -l") == "1\n");
    // A hundred ask at a time, of which the first have given way to the last; answers come to who asked.
    let ask = "import socket
sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(100)]
for n, one in enumerate(sockets):
    one.connect(('127.0.0.11', 53))
    one.send(b'%d' % n)
    assert one.recv(100) == b'udp %d' % n
sockets[0].send(b'x' * 20000)
assert sockets[0].recv(30000) == b'udp ' + b'x' * 20000
stream = socket.create_connection(('127.0.0.11', 53))
stream.sendall(b'question')
print(b''.join(iter(lambda: stream.recv(100), b'')).decode())
try:
    socket.create_connection(('127.0.0.11', 54))
except ConnectionRefusedError:
    print('refused')";
    let out = pod.inside(&["--env", &format!("ASK={ask}")], "python3 -c \"$ASK\"");
    assert_eq!(out, "tcp question\nrefused\n");
    // Without them there is nobody at that address, and others are told of as ever.
    pod.told(
        "iptables -t nat -A OUTPUT -d 127.0.0.12/32 -p tcp -j DNAT --to-destination 127.0.0.1",
    );
    let told = text(&run(&mut pod.netcell(&[], &["/bin/true"]), b""));
    assert!(told.contains("table ip nat of nftables"), "{told}");
    pod.told("nft flush ruleset");
    let out = pod.inside(&[], "(exec 3<>/dev/tcp/127.0.0.11/53) 2>/dev/null || echo nobody");
    assert_eq!(out, "nobody\n");
}
