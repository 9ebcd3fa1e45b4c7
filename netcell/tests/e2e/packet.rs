//! `--net packet`: a sandbox in place of the host's stack in a network namespace as a pod has it, the host on the other side.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Output, Stdio};

use crate::harness::{
    NETCELL, Running, Scratch, finish, netcell, run, sh, succeeds, text, unique, wait_until,
};
use crate::network::big_file;

/// A namespace for the sandbox and one for the other side, removed at the end.
pub struct Pod {
    name: String,
}

impl Pod {
    /// Both, with loopback up; `script` makes the rest, with `$pod` and `$host` for their names.
    pub fn new(script: &str) -> Pod {
        let pod = Pod { name: unique("ncp") };
        sh(&format!(
            "ip netns add {0}-host; ip netns add {0}-pod; ip -n {0}-host link set lo up; ip -n {0}-pod link set lo up",
            pod.name
        ));
        pod.sh(script);
        pod
    }

    /// What the reference plugins of CNI make: a veth, an address of either family, default routes.
    pub fn usual() -> Pod {
        Pod::new(
            "ip -n $host link add v0 type veth peer name eth0 netns $pod
             ip -n $host addr add 10.20.0.1/24 dev v0; ip -n $host addr add fd20::1/64 dev v0 nodad; ip -n $host link set v0 up
             ip -n $pod addr add 10.20.0.2/24 dev eth0; ip -n $pod addr add fd20::2/64 dev eth0 nodad; ip -n $pod link set eth0 up
             ip -n $pod route add default via 10.20.0.1; ip -n $pod route add default via fd20::1",
        )
    }

    /// Runs a script of the test, which must succeed.
    pub fn sh(&self, script: &str) -> String {
        sh(&format!("pod={0}-pod host={0}-host\n{script}", self.name))
    }

    /// The file of the namespace of the sandbox.
    pub fn path(&self) -> String {
        format!("/run/netns/{}-pod", self.name)
    }

    /// A command on the other side.
    pub fn outside(&self, program: &[&str]) -> Command {
        self.within("host", program)
    }

    /// A command on the host's stack in the namespace of the sandbox.
    pub fn beside(&self, program: &[&str]) -> Command {
        self.within("pod", program)
    }

    fn within(&self, side: &str, program: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}-{side}", self.name)).args(program);
        command.current_dir("/tmp");
        command
    }

    /// `netcell run` on the namespace.
    pub fn netcell(&self, flags: &[&str], program: &[&str]) -> Command {
        let net = format!("packet:{}-pod", self.name);
        netcell(&[&["--net", &net], flags].concat(), program)
    }

    /// Runs a script in a sandbox and expects success; gives its standard output.
    pub fn inside(&self, flags: &[&str], script: &str) -> String {
        succeeds(&mut self.netcell(flags, &["/bin/bash", "-c", script]))
    }

    /// What a shell says on the host's stack in the namespace.
    pub fn told(&self, script: &str) -> String {
        succeeds(&mut self.beside(&["bash", "-ec", script]))
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        for side in ["host", "pod"] {
            let name = format!("{}-{side}", self.name);
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
    }
}

/// A shell in a sandbox that answers while the test changes the world outside.
pub struct Shell {
    child: Running,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    pub fn start(mut command: Command) -> Shell {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Running::new(command.spawn().expect("a sandbox"));
        let input = child.stdin.take().expect("stdin");
        let output = BufReader::new(child.stdout.take().expect("stdout"));
        Shell { child, input, output }
    }

    /// What a line prints.
    pub fn ask(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}\necho; echo ----").expect("the sandbox's shell");
        let mut told = String::new();
        loop {
            let mut line = String::new();
            let n = self.output.read_line(&mut line).expect("the sandbox's output");
            assert_ne!(n, 0, "the sandbox ended");
            if line == "----\n" {
                return told.trim().to_owned();
            }
            told += &line;
        }
    }

    /// Asks until the answer is the one that is wanted.
    pub fn until(&mut self, line: &str, wanted: impl Fn(&str) -> bool) {
        let mut last = String::new();
        wait_until(line, || {
            last = self.ask(line);
            wanted(&last) || {
                eprintln!("{line}: {last}");
                false
            }
        });
    }

    /// Ends it; gives what it said of itself.
    pub fn end(self) -> Output {
        let Shell { child, input, output } = self;
        drop((input, output));
        finish(child.release())
    }
}

/// What is compared between the namespace and the sandbox: names, numbers, addresses, MTUs, routes, rules.
const ASK: &str = "ip -o link show dev eth0 | sed -E 's/@[^:]*//; s/ (qdisc|state|mode|group|qlen|link-netns) [^ ]+//g; s/ qlen.*//; s/<[^>]*>//'; ip -o link show dev eth0 | grep -o 'link/ether [0-9a-f:]*'
    ip -o addr show dev eth0 | sed -E 's/ +/ /g; s/\\\\.*//'; ip route; ip -6 route; ip rule; ip -6 rule; ip neigh show nud permanent; sysctl -n net.ipv4.ip_local_port_range net.ipv4.conf.eth0.rp_filter";

#[test]
fn a_pod_is_inside_what_it_is_outside() {
    let pod = Pod::usual();
    pod.sh("ip -n $pod link set eth0 mtu 1400; ip -n $pod addr add 10.20.0.3/24 dev eth0; ip -n $pod addr add 192.0.2.7/32 dev eth0 label eth0:x
         ip -n $pod route add 198.51.100.0/24 via 10.20.0.9 mtu 1300 advmss 1200 src 10.20.0.3 metric 7; ip -n $pod route add blackhole 203.0.113.0/24
         ip -n $pod route add 198.18.0.0/15 nexthop via 10.20.0.8 weight 2 nexthop via 10.20.0.9; ip -n $pod route add default via 10.20.0.7 metric 50
         ip -n $pod route add 192.0.2.128/25 via 192.0.2.200 dev eth0 onlink table 77; ip -n $pod rule add from 192.0.2.7 lookup 77 priority 500
         ip -n $pod route add 2001:db8::/32 via fd20::9 metric 33; ip -n $pod route add unreachable 2001:db8:1::/48; ip -n $pod -6 rule add fwmark 5/7 lookup 78 priority 600
         ip -n $pod neigh add 10.20.0.9 lladdr 02:00:00:00:00:09 dev eth0; ip -n $pod neigh add fd20::9 lladdr 02:00:00:00:00:0a dev eth0
         ip netns exec $pod sysctl -qw net.ipv4.ip_local_port_range='20000 30000' net.ipv4.conf.eth0.rp_filter=1");
    // The link-local address comes when the carrier is told.
    wait_until("a link-local address", || {
        let told = pod.told("ip -6 addr show dev eth0 scope link");
        told.contains("fe80") && !told.contains("tentative")
    });
    let before = pod.told(ASK);
    assert_eq!(pod.inside(&[], ASK), before);
    assert_eq!(pod.told(ASK), before, "the namespace was changed");
}

#[test]
fn nginx_and_curl_and_ping_pass_a_veth_both_ways() {
    let (pod, folder) = (Pod::usual(), Scratch::new());
    let hash = big_file(&folder, "big", 30);
    let configuration = "daemon off; master_process off; error_log stderr; pid /tmp/pid; events {} \
         http { access_log off; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s; \
         server { listen 80; listen [::]:80; root /srv; } }";
    std::fs::write(folder.path().join("nginx.conf"), configuration).expect("the configuration");
    let volume = format!("{}:/srv:ro", folder.path().display());
    let mut command = pod.netcell(&["--volume", &volume], &["bash"]);
    command.stderr(Stdio::inherit());
    let mut shell = Shell::start(command);
    shell.ask("nginx -c /srv/nginx.conf >/dev/null 2>&1 </dev/null & true");
    shell.until("ss -Hltn 'sport = :80' | wc -l", |count| count == "2");
    for url in ["http://10.20.0.2/big", "http://[fd20::2]/big"] {
        let fetch = format!("curl -gsS --fail {url} | sha256sum | cut -d' ' -f1");
        let output = run(&mut pod.outside(&["bash", "-c", &fetch]), b"");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), hash, "{}", text(&output));
    }
    let ping =
        "ping -c 2 -i 0.2 10.20.0.2; ping -6 -c 2 -i 0.2 fd20::2; ping -c 1 -s 8000 10.20.0.2";
    let output = run(&mut pod.outside(&["bash", "-c", ping]), b"");
    assert_eq!(text(&output).matches(" 0% packet loss").count(), 3, "{}", text(&output));
    // The host's own stack in the namespace hears nothing but its loopback.
    assert!(pod.told("ping -c 1 -W 5 127.0.0.1").contains(" 0% packet loss"));
    let mut deaf = pod.beside(&["ping", "-c", "1", "-W", "1", "10.20.0.1"]);
    assert!(text(&run(&mut deaf, b"")).contains("100% packet loss"));

    // The other way, with a server of the host.
    let server = [
        "python3",
        "-m",
        "http.server",
        "-d",
        &folder.path().to_string_lossy(),
        "8000",
        "--bind",
        "::",
    ];
    let mut server = pod.outside(&server);
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Running::new(server.spawn().expect("a server"));
    wait_until("the host's server", || {
        let probe = ["bash", "-c", "ss -Hltn 'sport = :8000' | grep -q ."];
        pod.outside(&probe).status().is_ok_and(|status| status.success())
    });
    for url in ["http://10.20.0.1:8000/big", "http://[fd20::1]:8000/big"] {
        let told = shell.ask(&format!("curl -gsS --fail {url} | sha256sum | cut -d' ' -f1"));
        assert_eq!(told, hash, "{url}");
    }
    let told = shell.ask("ping -c 2 -i 0.2 10.20.0.1; ping -6 -c 2 -i 0.2 fd20::1 2>&1");
    assert_eq!(told.matches(" 0% packet loss").count(), 2, "{told}");
    shell.ask("kill %1");
    shell.end();
}

#[test]
fn two_sandboxes_face_each_other_over_one_veth() {
    let pod = Pod::usual();
    let other = |program: &[&str]| {
        let net = format!("packet:{}-host", pod.name);
        netcell(&["--net", &net], program)
    };
    // A megabyte both ways: trains of segments that nobody cuts, and sums that nobody filled in.
    let script = "import socket, hashlib
server = socket.create_server(('::', 7000), family=socket.AF_INET6, dualstack_ipv6=True)
print('ready', flush=True)
for _ in range(2):
    peer, _ = server.accept()
    data = b''
    while len(data) < 1 << 20:
        data += peer.recv(65536)
    peer.sendall(hashlib.sha256(data).hexdigest().encode() + data)
    peer.close()";
    let mut server = other(&["python3", "-c", script]);
    server.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut server = Running::new(server.spawn().expect("a sandbox"));
    let mut line = String::new();
    let stdout = server.stdout.take().expect("stdout");
    BufReader::new(stdout).read_line(&mut line).expect("the server");
    assert_eq!(line, "ready\n");
    for address in ["10.20.0.1", "fd20::1"] {
        let client = format!(
            "import socket, hashlib, os
data = os.urandom(1 << 20)
peer = socket.create_connection(('{address}', 7000))
peer.sendall(data)
back = b''.join(iter(lambda: peer.recv(65536), b''))
assert back == hashlib.sha256(data).hexdigest().encode() + data
print('the same')"
        );
        assert_eq!(pod.inside(&[], &format!("python3 -c \"{client}\"")), "the same\n");
    }
    assert!(finish(server.release()).status.success());
}

#[test]
fn an_address_without_a_subnet_has_its_gateway_on_the_link() {
    // As Calico and Cilium make it: nobody has 169.254.1.1, whose link-layer address is told by hand.
    let pod = Pod::new(
        "ip -n $host link add v0 address ee:ee:ee:ee:ee:ee type veth peer name eth0 netns $pod; ip -n $host link set v0 up
         ip -n $host addr add 10.99.0.1/32 dev lo; ip -n $host addr add fd99::1/128 dev lo
         ip -n $host route add 10.30.0.5/32 dev v0; ip -n $host route add fd30::5/128 dev v0
         ip -n $pod addr add 10.30.0.5/32 dev eth0; ip -n $pod addr add fd30::5/128 dev eth0 nodad; ip -n $pod link set eth0 up
         ip -n $pod route add 169.254.1.1 dev eth0 scope link; ip -n $pod route add default via 169.254.1.1 dev eth0
         ip -n $pod neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent
         ip -n $pod route add default via fe80::1 dev eth0; ip -n $pod neigh add fe80::1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent",
    );
    let out = pod.inside(&[], "ping -c 1 -W 20 10.99.0.1; ping -6 -c 1 -W 20 fd99::1 2>&1; ip route get 10.99.0.1 | head -1");
    assert_eq!(out.matches(" 0% packet loss").count(), 2, "{out}");
    assert!(out.contains("10.99.0.1 via 169.254.1.1 dev eth0 src 10.30.0.5"), "{out}");
}

#[test]
fn two_interfaces_are_two_and_the_lower_metric_wins() {
    let pod = Pod::new(
        "for n in 0 1; do ip -n $host link add v$n type veth peer name net$n netns $pod; ip -n $host addr add 10.4$n.0.1/24 dev v$n; ip -n $host link set v$n up
             ip -n $pod addr add 10.4$n.0.2/24 dev net$n; ip -n $pod link set net$n up; done
         ip -n $host addr add 10.99.0.1/32 dev lo; ip -n $pod route add default via 10.40.0.1 metric 200; ip -n $pod route add default via 10.41.0.1 metric 100",
    );
    let script = "ping -c 1 -W 20 10.40.0.1; ping -c 1 -W 20 10.41.0.1; ping -c 1 -W 20 10.99.0.1; ping -c 1 -W 20 -I net0 10.99.0.1; ip route get 10.99.0.1 | head -1";
    let out = pod.inside(&[], script);
    assert_eq!(out.matches(" 0% packet loss").count(), 4, "{out}");
    assert!(out.contains("10.99.0.1 via 10.41.0.1 dev net1 src 10.41.0.2"), "{out}");
}

#[test]
fn what_changes_outside_changes_inside() {
    let pod = Pod::usual();
    let mut shell = Shell::start(pod.netcell(&[], &["bash"]));
    // What a program inside has made stays, whatever changes around it.
    shell.ask("ip addr add 10.50.0.1/24 dev eth0; ip route add 203.0.113.0/24 via 10.20.0.5");
    pod.sh("ip -n $pod addr add 10.20.0.4/24 dev eth0; ip -n $pod route add 198.51.100.0/24 via 10.20.0.9");
    shell.until("ip addr; ip route", |told| {
        told.contains("10.20.0.4/24") && told.contains("198.51.100.0/24")
    });
    pod.sh("ip -n $pod addr del 10.20.0.4/24 dev eth0; ip -n $pod route del 198.51.100.0/24; ip -n $pod link set eth0 mtu 1280
            ip -n $pod neigh add 10.20.0.9 lladdr 02:00:00:00:00:09 dev eth0; ip -n $pod rule add from 10.20.0.2 lookup 77 priority 9");
    shell.until("ip addr; ip route; ip neigh; ip rule", |told| {
        !told.contains("10.20.0.4/24")
            && !told.contains("198.51.100.0/24")
            && told.contains("mtu 1280")
            && told.contains("10.20.0.9 dev eth0 lladdr 02:00:00:00:00:09 PERMANENT")
            && told.contains("from 10.20.0.2 lookup 77")
    });
    pod.sh("ip netns exec $pod sysctl -qw net.ipv4.conf.default.rp_filter=2
            ip -n $host link add v1 type veth peer name eth1 netns $pod; ip -n $host addr add 10.21.0.1/24 dev v1; ip -n $host link set v1 up
            ip -n $pod addr add 10.21.0.2/24 dev eth1; ip -n $pod link set eth1 up");
    shell.until("ping -c 1 -W 1 10.21.0.1", |told| told.contains(" 0% packet loss"));
    let ask = "ip -o link show eth1 | cut -d: -f1; sysctl -n net.ipv4.conf.eth1.rp_filter";
    assert_eq!(shell.ask(ask), pod.told(ask).trim());
    pod.sh("ip -n $pod link set eth0 down");
    shell.until("ip -br link show eth0", |told| told.contains("DOWN"));
    pod.sh("ip -n $pod link set eth0 up; ip -n $pod route add default via 10.20.0.1");
    shell.until("ping -c 1 -W 1 10.20.0.1; ip route", |told| {
        told.contains(" 0% packet loss") && told.contains("default via 10.20.0.1")
    });
    pod.sh("ip -n $pod link del eth1");
    shell.until("ip -br link", |told| !told.contains("eth1"));
    let told = shell.ask("ip addr");
    assert!(told.contains("10.50.0.1/24"), "{told}");
    let output = shell.end();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output));
}

#[test]
fn rules_that_would_be_lost_are_refused_with_their_names() {
    let pod = Pod::usual();
    let refused = |name: &str| {
        let output = run(&mut pod.netcell(&[], &["/bin/true"]), b"");
        let told = text(&output);
        assert_eq!(output.status.code(), Some(125), "{told}");
        assert!(told.contains(name) && told.contains("--ignore-host-rules"), "{told}");
        assert_eq!(pod.inside(&["--ignore-host-rules"], "echo served"), "served\n");
    };
    pod.told(
        "nft add table ip nat; nft 'add chain ip nat out { type nat hook output priority 0; }'",
    );
    assert_eq!(pod.inside(&[], "echo served"), "served\n", "a table without a rule does nothing");
    pod.told("nft add rule ip nat out tcp dport 80 redirect to :8080");
    refused("table ip nat of nftables");
    pod.told("nft flush ruleset; nft add table inet f; nft 'add chain inet f in { type filter hook input priority 0; policy drop; }'");
    refused("table inet f of nftables");
    pod.told("nft flush ruleset; iptables-legacy -t nat -A OUTPUT -p tcp --dport 80 -j REDIRECT --to-ports 8080");
    refused("table nat of iptables (legacy)");
    pod.told("iptables-legacy -t nat -F; tc qdisc add dev eth0 clsact; tc filter add dev eth0 ingress protocol ip u32 match u32 0 0 action mirred egress redirect dev eth0");
    refused("tc filters at the ingress of eth0");
    pod.told("tc qdisc del dev eth0 clsact");
    assert_eq!(pod.inside(&[], "echo served"), "served\n");
}

#[test]
fn a_namespace_is_given_back_however_the_sandbox_ends_and_served_once_at_a_time() {
    let pod = Pod::usual();
    let before = pod.told("ip -d link show eth0; ip addr | grep inet; ip route; nft list ruleset");
    let mut shell = Shell::start(pod.netcell(&[], &["bash"]));
    assert_eq!(shell.ask("echo ready"), "ready");
    let table = pod.told("nft list tables");
    assert_eq!(table, "table netdev netcell\n");
    let second = run(&mut pod.netcell(&[], &["/bin/true"]), b"");
    assert_eq!(second.status.code(), Some(125));
    assert!(
        text(&second).contains("another sandbox serves this network namespace"),
        "{}",
        text(&second)
    );
    sh(&format!("kill -KILL {}", shell.child.id()));
    shell.end();
    wait_until("the namespace as it was", || {
        pod.told("ip -d link show eth0; ip addr | grep inet; ip route; nft list ruleset") == before
    });
    assert!(pod.told("ping -c 1 -W 20 10.20.0.1").contains(" 0% packet loss"));
}

#[test]
fn the_network_of_the_machine_itself_is_not_taken() {
    // A machine of its own as far as one can see: its first process is in this network.
    let script = format!("{NETCELL} run --net packet -- /bin/true");
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "--pid",
        "--fork",
        "--mount-proc",
        "bash",
        "-c",
        &format!("{script}; exit $?"),
    ]);
    let output = run(&mut command, b"");
    assert_eq!(output.status.code(), Some(125), "{}", text(&output));
    assert!(text(&output).contains("the machine itself"), "{}", text(&output));
    let output = run(&mut netcell(&["--net", "packet:no-such-netns"], &["/bin/true"]), b"");
    assert!(text(&output).contains("/run/netns/no-such-netns"), "{}", text(&output));
    let output = run(&mut netcell(&["--net", "packet:/etc/passwd"], &["/bin/true"]), b"");
    assert!(text(&output).contains("cannot enter the network namespace"), "{}", text(&output));
    let output = run(&mut netcell(&["--net", "packet", "--ip", "10.0.0.1/8"], &["/bin/true"]), b"");
    assert!(text(&output).contains("--ip has no place with --net packet"), "{}", text(&output));
}

#[test]
fn captures_and_faults_work_on_a_veth() {
    let (pod, folder) = (Pod::usual(), Scratch::new());
    let file = folder.file("t.pcapng");
    let flags = ["--capture", &file, "--fault", "loss=20%,seed=3"];
    let out = pod.inside(&flags, "ping -c 20 -i 0.05 -W 1 10.20.0.1 | grep received");
    let received: u32 = out.split_whitespace().nth(3).and_then(|n| n.parse().ok()).unwrap_or(0);
    assert!((1..20).contains(&received), "{out}");
    let told = sh(&format!("tshark -r {file} -Y icmp.type==0 2>/dev/null | wc -l"));
    assert_eq!(told.trim(), received.to_string());
}

#[test]
fn the_reference_plugins_find_what_they_made_while_a_sandbox_serves_it() {
    let (pod, folder) = (Pod::new(""), Scratch::new());
    let network = format!(
        r#"{{"cniVersion": "0.4.0", "name": "net", "type": "bridge", "bridge": "br0", "isDefaultGateway": true, "mtu": 1450, "ipam": {{"type": "host-local", "dataDir": "{}",
            "ranges": [[{{"subnet": "10.60.0.0/24"}}], [{{"subnet": "fd60::/64"}}]], "routes": [{{"dst": "198.51.100.0/24", "gw": "10.60.0.1"}}]}}}}"#,
        folder.file("ipam")
    );
    let result = folder.file("result");
    let call = |command: &str, network: &str| {
        std::fs::write(folder.path().join("network"), network).expect("the configuration");
        let environment = format!(
            "CNI_COMMAND={command} CNI_CONTAINERID={0} CNI_NETNS=/run/netns/{0}-pod CNI_IFNAME=eth0 CNI_PATH=/usr/lib/cni",
            pod.name
        );
        pod.sh(&format!(
            "nsenter --net=/run/netns/$host env {environment} /usr/lib/cni/bridge <{} >{result} || {{ cat {result} >&2; false; }}; cat {result}",
            folder.file("network")
        ))
    };
    let added = call("ADD", &network);
    let mut shell = Shell::start(pod.netcell(&[], &["bash"]));
    let told = shell.ask("ip -o addr show dev eth0; ip route; ip -6 route; ip -o link show eth0");
    for expected in [
        "10.60.0.2/24",
        "fd60::2/64",
        "198.51.100.0/24 via 10.60.0.1",
        "default via fd60::1",
        "mtu 1450",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    for gateway in ["10.60.0.1", "fd60::1"] {
        let ping = format!("ping -c 1 -W 1 {gateway} 2>&1");
        shell.until(&ping, |told| told.contains(" 0% packet loss"));
    }
    let (open, rest) = network.split_at(1);
    call("CHECK", &format!("{open}\"prevResult\": {added}, {rest}"));
    call("DEL", &network);
    shell.until("ip -br link", |told| !told.contains("eth0"));
    let output = shell.end();
    let told = text(&output);
    assert!(output.status.success() && !told.contains("namespace"), "{told}");
}
