//! What the CNI plugin hands over reaches the container: resolvers, devices, and what is not so is refused by name.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::json;

use super::bundle::{Bundle, Runtime, name};
use crate::harness::{Scratch, beside, run, text, wait_until};
use crate::packet::Pod;

/// A node and a pod's namespace with an interface between them, and what is said about it.
struct Site {
    pod: Pod,
    files: Scratch,
    runtime: Runtime,
}

impl Site {
    /// With what a script makes between them.
    fn new(script: &str) -> Self {
        Self { pod: Pod::new(script), files: Scratch::new(), runtime: Runtime::netcell() }
    }

    /// With a veth, as a plugin before ours makes it.
    fn with_veth() -> Self {
        Self::new(
            "ip -n $host link add v0 type veth peer name eth0 netns $pod
             ip -n $host addr add 10.21.0.1/24 dev v0; ip -n $host link set v0 up
             ip -n $pod addr add 10.21.0.2/24 dev eth0; ip -n $pod link set eth0 up; ip -n $pod route add default via 10.21.0.1",
        )
    }

    /// Runs a verb of the plugin with more of a configuration.
    fn cni(&self, verb: &str, more: serde_json::Value) {
        let plugin = beside("netcell-cni", "netcell-cni");
        let mut config = json!({
            "cniVersion": "1.0.0", "name": "podnet", "type": "netcell-cni",
            "handoffDir": self.files.file("handoff"),
        });
        let more = more.as_object().expect("an object").clone();
        config.as_object_mut().expect("an object").extend(more);
        let mut command = self.pod.outside(&[&plugin.to_string_lossy()]);
        command.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", "pod").env("CNI_IFNAME", "eth0");
        command.env("CNI_NETNS", self.pod.path()).env("CNI_PATH", "/usr/lib/cni");
        let output = run(&mut command, config.to_string().as_bytes());
        assert!(output.status.success(), "{verb}: {}", text(&output));
    }

    /// The same as a link of a chain.
    fn chained(&self, verb: &str, more: serde_json::Value) {
        let mut config = json!({ "prevResult": { "cniVersion": "1.0.0" } });
        let more = more.as_object().expect("an object").clone();
        config.as_object_mut().expect("an object").extend(more);
        self.cni(verb, config);
    }

    fn handoff(&self) -> PathBuf {
        self.files.path().join("handoff/pod/eth0.json")
    }

    /// Makes a container of this script in the pod's namespace; gives its name.
    fn create(&self, bundle: &mut Bundle) -> String {
        let id = name();
        bundle.config["linux"]["namespaces"][1]["path"] = json!(self.pod.path());
        for set in ["bounding", "effective", "permitted"] {
            // For ping(8).
            let set = &mut bundle.config["process"]["capabilities"][set];
            set.as_array_mut().expect("an array").push(json!("CAP_NET_RAW"));
        }
        let to = std::fs::File::create(bundle.file("output")).expect("a file");
        let path = bundle.path();
        let words = ["create", "--bundle", &path.to_string_lossy(), &id];
        // The node's namespace is the one of whoever calls the runtime.
        let asked = self.runtime.command(&words);
        let words = std::iter::once(asked.get_program()).chain(asked.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = self.pod.outside(&words);
        command.env("NETCELL_HANDOFF_DIR", self.files.file("handoff")).stdin(Stdio::null());
        command.stdout(to.try_clone().expect("a file")).stderr(to);
        assert!(command.status().expect("a runtime").success(), "{}", self.runtime.last_error());
        id
    }

    /// Runs a script in the pod to its end; gives what it said.
    fn run(&self, script: &str) -> String {
        let mut bundle = Bundle::of_script(script);
        let id = self.create(&mut bundle);
        self.runtime.must(&["start", &id]);
        self.runtime.ended(&id);
        std::fs::read_to_string(bundle.file("output")).expect("a file")
    }

    /// Why a container does not start.
    fn refused(&self) -> String {
        let mut bundle = Bundle::of_script("echo started");
        let id = self.create(&mut bundle);
        assert!(!self.runtime.run(&["start", &id]).status.success());
        assert_eq!(std::fs::read_to_string(bundle.file("output")).expect("a file"), "");
        self.runtime.last_error()
    }
}

#[test]
fn what_was_handed_over_is_there_or_is_refused_by_name() {
    let site = Site::with_veth();
    let dns = json!({ "nameservers": ["10.96.0.10"], "search": ["a.svc", "svc"] });
    site.chained("ADD", json!({ "dns": dns }));
    let script = "cat /etc/resolv.conf; ping -c 1 -W 20 10.21.0.1 >/dev/null && echo reached";
    let expected = "nameserver 10.96.0.10\nsearch a.svc svc\nreached\n";
    assert_eq!(site.run(script), expected);
    // The bundle's own is before it, and what is newer than the file goes with a word.
    site.pod.sh("ip -n $pod link set eth0 mtu 1400; ip -n $pod addr add 10.21.0.7/24 dev eth0");
    let mut bundle = Bundle::of_script("cat /etc/resolv.conf; ip link show eth0");
    std::fs::write(bundle.file("resolv"), "nameserver 192.0.2.1\n").expect("a file");
    let given = bundle.file("resolv").to_string_lossy().into_owned();
    bundle.mount("/etc/resolv.conf", "bind", &given, &["rbind", "ro"]);
    let id = site.create(&mut bundle);
    site.runtime.must(&["start", &id]);
    site.runtime.ended(&id);
    let said = std::fs::read_to_string(bundle.file("output")).expect("a file");
    assert!(said.starts_with("nameserver 192.0.2.1\n") && said.contains("mtu 1400"), "{said}");
    let log = site.runtime.log_text();
    let file = site.handoff().display().to_string();
    assert!(
        log.contains(&format!("{file}: the MTU of eth0 is 1400 by now, and not 1500")),
        "{log}"
    );
    assert!(log.contains(&format!("{file}: eth0 has the address 10.21.0.7/24 by now")), "{log}");
    // What it promises and is not there.
    site.pod.sh("ip -n $pod addr del 10.21.0.2/24 dev eth0");
    assert!(
        site.refused().ends_with(&format!("{file}: eth0 has no address 10.21.0.2/24 (any more)"))
    );
    site.pod.sh("ip -n $pod addr add 10.21.0.2/24 dev eth0; ip -n $pod link set eth0 address 02:00:00:00:00:07");
    let told = site.refused();
    assert!(told.contains(&format!("{file}: eth0 has the address 02:00:00:00:00:07")), "{told}");
    std::fs::write(site.handoff(), format!("{{\"netns\": {:?}}}", site.pod.path()))
        .expect("a file");
    assert!(site.refused().contains(&format!("{file}: missing field `version`")));
    site.chained("DEL", json!({}));
    assert!(site.run("ip addr").contains("10.21.0.2/24"), "without a file there is nothing to say");
}

#[test]
fn frames_come_by_the_device_that_was_handed_over() {
    let site = Site::with_veth();
    site.chained("ADD", json!({ "mode": "tap" }));
    let script = "ip -o addr show dev eth0; ip -o link | grep -c nct
        ping -c 1 -W 20 10.21.0.1 >/dev/null && echo reached; nc -l -p 80 -e /bin/echo served";
    let mut bundle = Bundle::of_script(script);
    let id = site.create(&mut bundle);
    site.runtime.must(&["start", &id]);
    let ask = ["bash", "-c", "exec 3<>/dev/tcp/10.21.0.2/80; cat <&3"];
    wait_until("the server", || text(&run(&mut site.pod.outside(&ask), b"")).contains("served"));
    site.runtime.ended(&id);
    let said = std::fs::read_to_string(bundle.file("output")).expect("a file");
    assert!(said.contains("10.21.0.2/24") && said.contains("\n0\nreached\n"), "{said}");
    // The device stays for the next one.
    assert!(
        site.run("ping -c 1 -W 20 10.21.0.1 >/dev/null && echo reached").ends_with("reached\n")
    );
    site.pod.sh("ip -n $pod link del $(ip -n $pod -br link | grep -o 'nct[^ @]*')");
    let told = site.refused();
    assert!(told.contains("cannot find the network device nct"), "{told}");
    site.chained("DEL", json!({ "mode": "tap" }));
}

#[test]
fn an_interface_of_a_bridged_device_is_in_the_sandbox_alone() {
    let site = Site::new("");
    let config = json!({
        "mode": "tap-bridge", "isGateway": true,
        "ipam": {
            "type": "host-local", "dataDir": site.files.file("ipam"),
            "ranges": [[{ "subnet": "10.22.0.0/24" }], [{ "subnet": "fd22::/64" }]],
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
        },
    });
    site.cni("ADD", config.clone());
    let script = "ip -o addr show dev eth0 scope global; ip route; ip -6 route show default
        ping -c 1 -W 20 10.22.0.1 >/dev/null && echo reached; for n in 1 2 3 4 5; do ping -6 -c 1 -W 5 fd22::1 >/dev/null && echo both && break; done";
    let said = site.run(script);
    for expected in
        ["10.22.0.2/24", "fd22::2/64", "default via 10.22.0.1", "via fd22::1", "reached", "both"]
    {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    site.cni("DEL", config);
    assert!(!site.pod.sh("ip -n $host -br link").contains("nct"), "the device stayed");
}

/// Sixty frames of a thousand bytes within a second, of which ten are the burst, ten wait, and one more passes each second.
const FLOOD: &str = "ping -c 60 -i 0.01 -w 2 -s 958 10.21.0.1 >/dev/null";
/// As many frames of that size: the host's ping(8) slows down where no answers come.
const SENDS: &str = "import socket
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(60): sender.sendto(bytes(958), (\"10.21.0.1\", 9))";
const LIMITS: [u64; 2] = [8_000, 80_000];

#[test]
fn limits_lose_what_those_of_the_reference_plugin_lose() {
    let [rate, burst] = LIMITS;
    // A number of a line of /proc/net/dev.
    let dropped = |said: &str, column: usize| -> u64 {
        let line = said.lines().find(|line| line.trim_start().starts_with("eth0:"));
        let number = line.and_then(|line| line.split_whitespace().nth(column));
        number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{said}"))
    };
    let site = Site::with_veth();
    let limits = json!({ "bandwidth": { "egressRate": rate, "egressBurst": burst } });
    site.chained("ADD", json!({ "runtimeConfig": limits }));
    let out = dropped(&site.run(&format!("{FLOOD}; cat /proc/net/dev")), 12);
    site.chained("DEL", json!({}));
    // The same coming in, echoes of what nobody limits on its way out.
    let limits = json!({ "bandwidth": { "ingressRate": rate, "ingressBurst": burst } });
    site.chained("ADD", json!({ "runtimeConfig": limits }));
    let came = dropped(&site.run(&format!("{FLOOD}; cat /proc/net/dev")), 4);
    site.chained("DEL", json!({}));

    let plugin = json!({
        "cniVersion": "1.0.0", "name": "net", "type": "bandwidth",
        "runtimeConfig": { "bandwidth": {
            "ingressRate": rate, "ingressBurst": burst, "egressRate": rate, "egressBurst": burst,
        } },
        "prevResult": {
            "cniVersion": "1.0.0",
            "interfaces": [
                { "name": "v0" },
                { "name": "eth0", "sandbox": site.pod.path() },
            ],
            "ips": [{ "address": "10.21.0.2/24", "interface": 1 }],
        },
    });
    let mut command = site.pod.outside(&["/usr/lib/cni/bandwidth"]);
    command.env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", "limited").env("CNI_IFNAME", "eth0");
    command.env("CNI_NETNS", site.pod.path()).env("CNI_PATH", "/usr/lib/cni");
    let output = run(&mut command, plugin.to_string().as_bytes());
    assert!(output.status.success(), "{}", text(&output));
    let lost = site.pod.sh(&format!(
        "ip netns exec $pod python3 -c '{SENDS}'
         ip netns exec $host tc -s qdisc show | grep -A1 'tbf.*bwp' | grep -o 'dropped [0-9]*' | cut -d' ' -f2"
    ));
    let lost: u64 = lost.trim().parse().unwrap_or_else(|_| panic!("{lost}"));
    for ours in [out, came] {
        assert!(
            ours.abs_diff(lost) <= 5 && ours >= 30,
            "{out} out, {came} in, {lost} of the plugin"
        );
    }
}
