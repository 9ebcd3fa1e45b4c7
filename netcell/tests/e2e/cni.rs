//! A pod by the CNI plugin, and a sandbox in it: served through a port of the node, and CHECK is content while it runs.

use std::process::{Command, Stdio};

use crate::harness::{Running, Scratch, beside, netcell, run, sh, unique, wait_until};

/// Namespaces of a node, of its pod and of the world outside, removed at the end.
struct Site {
    name: String,
    files: Scratch,
}

impl Site {
    fn new() -> Self {
        let site = Self { name: unique("ncs"), files: Scratch::new() };
        sh(&format!(
            "for side in node pod out; do ip netns add {0}-$side; ip -n {0}-$side link set lo up; done
             ip -n {0}-node link add up0 type veth peer name up0 netns {0}-out
             ip -n {0}-node addr add 192.0.2.1/24 dev up0; ip -n {0}-node link set up0 up
             ip -n {0}-out addr add 192.0.2.2/24 dev up0; ip -n {0}-out link set up0 up",
            site.name
        ));
        site
    }

    fn within(&self, side: &str, program: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}-{side}", self.name)).args(program);
        command
    }

    /// The configuration, with a result where there is one.
    fn config(&self, result: &str) -> String {
        let previous =
            if result.is_empty() { String::new() } else { format!("\"prevResult\": {result},") };
        format!(
            r#"{{"cniVersion": "1.0.0", "name": "podnet", "type": "netcell-cni", "mode": "bridge", "isGateway": true,
                "handoffDir": "{0}", {previous}
                "runtimeConfig": {{"portMappings": [{{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}}]}},
                "ipam": {{"type": "host-local", "dataDir": "{1}", "ranges": [[{{"subnet": "10.88.0.0/24"}}], [{{"subnet": "fd88::/64"}}]],
                         "routes": [{{"dst": "0.0.0.0/0"}}, {{"dst": "::/0"}}]}}}}"#,
            self.files.file("handoff"),
            self.files.file("ipam")
        )
    }

    /// Runs a verb on the node, which must succeed; gives its answer.
    fn cni(&self, verb: &str, result: &str) -> String {
        let plugin = beside("netcell-cni", "netcell-cni");
        let mut command = self.within("node", &[&plugin.to_string_lossy()]);
        command.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", "pod").env("CNI_IFNAME", "eth0");
        command
            .env("CNI_NETNS", format!("/run/netns/{}-pod", self.name))
            .env("CNI_PATH", "/usr/lib/cni");
        let output = run(&mut command, self.config(result).as_bytes());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{verb}: {said}");
        said
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for side in ["node", "pod", "out"] {
            let name = format!("{}-{side}", self.name);
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
    }
}

#[test]
fn a_sandbox_serves_a_port_of_the_node_and_check_is_content() {
    let site = Site::new();
    let result = site.cni("ADD", "");
    let net = format!("packet:{}-pod", site.name);
    let script = "ip -o addr show dev eth0 scope global; exec socat TCP-LISTEN:80,fork,reuseaddr SYSTEM:'uname -n'";
    let child = netcell(&["--net", &net, "--hostname", "inside"], &["/bin/bash", "-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("netcell");
    let sandbox = Running::new(child);
    let ask = |side: &str, to: &str| {
        let output = run(&mut site.within(side, &["socat", "-T5", "-", &format!("TCP:{to}")]), b"");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    wait_until("the server in the sandbox", || ask("node", "10.88.0.2:80") == "inside\n");
    assert_eq!(ask("out", "192.0.2.1:8080"), "inside\n", "a port of the node");
    assert_eq!(ask("node", "192.0.2.1:8080"), "inside\n", "from the node itself");
    site.cni("CHECK", &result);
    drop(sandbox);
    site.cni("CHECK", &result);
    site.cni("DEL", &result);
    site.cni("DEL", "");
    let left = site.within("node", &["ip", "-br", "link"]).output().expect("ip").stdout;
    assert!(!String::from_utf8_lossy(&left).contains("nch"), "a link stayed");
}
