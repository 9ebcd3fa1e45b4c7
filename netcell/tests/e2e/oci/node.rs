//! A node: containerd with its CRI plugin in a network namespace, asked as a kubelet asks (`cri.py` is the client), its pods, and what may
//! not be left of them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::containerd::{Containerd, Place};
use crate::harness::{Namespace, beside, run, sh, unique, wait_until};

/// Where Debian has the reference plugins.
const PLUGINS: &str = "/usr/lib/cni";

/// A node with a containerd, and a place outside of it.
pub struct Node {
    pub containerd: Containerd,
    /// Where the node itself is; it has 192.0.2.1 and 2001:db8::1 for others.
    pub inside: Namespace,
    /// Another machine, 192.0.2.2 and 2001:db8::2.
    pub outside: Namespace,
    cgroup: String,
}

fn config(place: Place<'_>) -> String {
    let folder = place("");
    let text = include_str!("cri.toml").replace("{0}", folder.trim_end_matches('/'));
    text.replace("{1}", &place("cni-bin"))
}

/// A network of the reference plugins, with netcell-cni as the last of them.
fn chained(place: Place<'_>) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "podnet",
        "plugins": [
            { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
              "ipam": { "type": "host-local", "dataDir": place("ipam"),
                        "ranges": [[{ "subnet": "10.88.0.0/24" }], [{ "subnet": "fd88::/64" }]],
                        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }] } },
            { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true },
            { "type": "netcell-cni", "handoffDir": place("handoff"),
              "capabilities": { "dns": true, "io.kubernetes.cri.pod-annotations": true } },
        ],
    })
}

impl Node {
    /// A node whose network the reference plugins make.
    pub fn new() -> Self {
        Self::with(&chained)
    }

    /// A node with this list of plugins.
    pub fn with(network: &dyn Fn(Place<'_>) -> Value) -> Self {
        let (inside, outside) = (Namespace::new(), Namespace::new());
        let (here, there) = (inside.name(), outside.name());
        sh(&format!(
            "ip -n {here} link add up0 type veth peer name up0 netns {there}
             ip -n {here} addr add 192.0.2.1/24 dev up0; ip -n {here} link set up0 up
             ip -n {there} addr add 192.0.2.2/24 dev up0; ip -n {there} link set up0 up
             ip -n {here} addr add 2001:db8::1/64 dev up0 nodad
             ip -n {there} addr add 2001:db8::2/64 dev up0 nodad"
        ));
        let plugin = beside("netcell-cni", "netcell-cni");
        let files = |place: Place<'_>| {
            let (conf, bin) = (place("cni"), PathBuf::from(place("cni-bin")));
            std::fs::create_dir(&conf).expect("a folder");
            let list = Path::new(&conf).join("10-podnet.conflist");
            std::fs::write(list, network(place).to_string()).expect("a file");
            std::fs::create_dir(&bin).expect("a folder");
            for reference in ["bridge", "host-local", "portmap", "loopback"] {
                let from = Path::new(PLUGINS).join(reference);
                std::os::unix::fs::symlink(from, bin.join(reference)).expect("a link");
            }
            std::os::unix::fs::symlink(&plugin, bin.join("netcell-cni")).expect("a link");
            config(place)
        };
        // With the host's cgroups, which ip netns exec would hide.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{here}")).arg("containerd");
        let containerd = Containerd::started(command, "k8s.io", &files);
        let node = Self { containerd, inside, outside, cgroup: format!("/{}", unique("nccri")) };
        wait_until("the node's network", || {
            let status = node.call("Status", json!({}));
            let conditions = status["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.len() == 2 && conditions.iter().all(|one| one["status"] == 1)
        });
        node
    }

    /// A call of CRI. Errors: what the runtime said.
    pub fn asked(&self, method: &str, request: &Value) -> Result<Value, String> {
        let mut answers = self.asked_all(method, std::slice::from_ref(request))?;
        answers.pop().ok_or_else(|| "no answer".into())
    }

    /// Calls of CRI at the same time, and their answers in the same order. Errors: what the runtime said.
    pub fn asked_all(&self, method: &str, requests: &[Value]) -> Result<Vec<Value>, String> {
        let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/oci/cri.py");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(client).arg(self.containerd.place("socket")).arg(method);
        let output = run(command.args(requests.iter().map(Value::to_string)), b"");
        let answers = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.success() {
            true => {
                Ok(answers.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect())
            }
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// A call of CRI that must succeed.
    pub fn call(&self, method: &str, request: Value) -> Value {
        self.call_all(method, &[request]).pop().expect("an answer")
    }

    /// Calls of CRI at the same time, all of which must succeed.
    pub fn call_all(&self, method: &str, requests: &[Value]) -> Vec<Value> {
        self.asked_all(method, requests).unwrap_or_else(|error| {
            let log = std::fs::read_to_string(self.containerd.place("log")).unwrap_or_default();
            panic!("{error}\n{log}")
        })
    }

    /// Limits the memory of all its pods together, as a kubelet does for one.
    pub fn limit_memory(&self, bytes: u64) {
        let old = Path::new("/sys/fs/cgroup/memory");
        let (folder, file) = match old.exists() {
            true => (old, "memory.limit_in_bytes"),
            false => (Path::new("/sys/fs/cgroup"), "memory.max"),
        };
        let group = folder.join(self.cgroup.trim_start_matches('/'));
        std::fs::create_dir_all(&group).expect("a cgroup");
        std::fs::write(group.join(file), bytes.to_string()).expect("a limit");
    }

    /// What a shell script prints in a network namespace.
    pub fn within(&self, namespace: &Namespace, script: &str) -> String {
        let output = run(&mut namespace.command(&["sh", "-c", script]), b"");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn files(&self, name: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.containerd.place(name)).into_iter().flatten();
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Waits until nothing is left of pods; panics with what stays.
    pub fn assert_clean(&self) {
        let start = Instant::now();
        loop {
            let left = self.leftovers();
            if left.is_empty() {
                return;
            }
            // A shim that has answered may still be about to end.
            assert!(start.elapsed() < Duration::from_secs(60), "it stays: {left:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What is left of pods on this node and on the machine.
    fn leftovers(&self) -> Vec<String> {
        let storage = self.containerd.place("");
        let storage = storage.to_string_lossy();
        let mut left = self.files("netcell/k8s.io");
        // The plugin's lock stays.
        left.extend(self.files("handoff").into_iter().filter(|name| name != ".lock"));
        let tasks = "state/io.containerd.runtime.v2.task/k8s.io";
        left.extend(self.files(tasks).into_iter().map(|id| format!("{tasks}/{id}")));
        let addresses = self.files("ipam/podnet");
        left.extend(addresses.into_iter().filter(|name| name.parse::<std::net::IpAddr>().is_ok()));
        let mounts = std::fs::read_to_string("/proc/mounts").expect("mounts");
        left.extend(mounts.lines().filter(|line| line.contains(&*storage)).map(str::to_owned));
        let processes = sh(&format!(
            "pgrep -af '(shim.*{0}|{0}/(netcell|state))' || true",
            storage.trim_end_matches('/')
        ));
        left.extend(processes.lines().filter(|line| !line.contains("pgrep")).map(str::to_owned));
        let links = self.within(&self.inside, "ip -br link | grep -E 'veth|nch|nct'");
        left.extend(links.lines().map(str::to_owned));
        let rules = self.within(
            &self.inside,
            // The chains of portmap itself stay.
            "nft list ruleset | grep dport; nft list tables | grep -i netcell",
        );
        left.extend(rules.lines().map(str::to_owned));
        let groups = sh(&format!(
            "find /sys/fs/cgroup -maxdepth 4 -path '*{}/*' -type d || true",
            self.cgroup
        ));
        left.extend(groups.lines().map(str::to_owned));
        left
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = Command::new("sh")
            .args([
                "-c",
                &format!(
                    "find /sys/fs/cgroup -depth -type d -path '*{}*' -exec rmdir {{}} +",
                    self.cgroup
                ),
            ])
            .stderr(std::process::Stdio::null())
            .status();
    }
}

/// A pod on a node.
pub struct Pod<'a> {
    node: &'a Node,
    config: Value,
    pub id: String,
}

/// What a pod is asked to be.
#[derive(Clone, Copy)]
pub struct Wish {
    /// The handler of its runtime.
    pub runtime: &'static str,
    /// A port of it, and the node's that leads there; none where they are 0.
    pub ports: (u16, u16),
    pub processes: Processes,
}

impl Default for Wish {
    fn default() -> Self {
        Self { runtime: "netcell", ports: (0, 0), processes: Processes::Container }
    }
}

/// NamespaceMode of CRI for processes.
#[derive(Clone, Copy)]
pub enum Processes {
    Pod = 0,
    Container = 1,
}

impl<'a> Pod<'a> {
    /// Runs its sandbox.
    pub fn new(node: &'a Node, name: &str, wish: Wish) -> Self {
        Self::many(node, &[name.to_owned()], wish).pop().expect("a pod")
    }

    /// Runs sandboxes at the same time.
    pub fn many(node: &'a Node, names: &[String], wish: Wish) -> Vec<Self> {
        let configs: Vec<Value> = names.iter().map(|name| Self::config(node, name, wish)).collect();
        let request = |config| json!({ "config": config, "runtime_handler": wish.runtime });
        let requests: Vec<Value> = configs.iter().map(request).collect();
        let answers = node.call_all("RunPodSandbox", &requests);
        let pod = |(config, answer): (Value, &Value)| {
            let id = answer["id"].as_str().expect("an id").to_owned();
            Self { node, config, id }
        };
        configs.into_iter().zip(&answers).map(pod).collect()
    }

    fn config(node: &Node, name: &str, wish: Wish) -> Value {
        let logs = node.containerd.place("logs").join(name);
        std::fs::create_dir_all(&logs).expect("a folder");
        let (port, host_port) = wish.ports;
        let mut ports = vec![];
        if host_port != 0 {
            ports.push(json!({ "container_port": port, "host_port": host_port }));
        }
        json!({
            "metadata": { "name": name, "uid": name, "namespace": "default" }, "hostname": name,
            "log_directory": logs, "dns_config": { "servers": ["192.0.2.53"], "searches": ["cluster.test"] },
            // Which nobody knows here yet, and says so.
            "annotations": { "dev.netcell.net.policy": "web" },
            "port_mappings": ports,
            "linux": {
                "cgroup_parent": node.cgroup,
                "security_context": { "namespace_options": { "pid": wish.processes as i32 } },
            },
        })
    }

    /// Creates a container and starts it; gives its id.
    pub fn start(&self, name: &str, script: &str, changes: &Value) -> String {
        let created = self.node.call("CreateContainer", self.container(name, script, changes));
        let id = created["id"].as_str().expect("an id").to_owned();
        self.node.call("StartContainer", json!({ "id": id }));
        id
    }

    /// The request for a container of it.
    pub fn container(&self, name: &str, script: &str, changes: &Value) -> Value {
        let mut config = json!({
            "metadata": { "name": name }, "image": { "image": "docker.io/library/box:latest" },
            "command": ["sh", "-c", script], "log_path": format!("{name}.log"),
            "linux": { "security_context": {
                "namespace_options": self.config["linux"]["security_context"]["namespace_options"],
            } },
        });
        for (key, value) in changes.as_object().into_iter().flatten() {
            match (value.as_object(), config[key].as_object_mut()) {
                (Some(more), Some(known)) => known.extend(more.clone()),
                _ => config[key] = value.clone(),
            }
        }
        json!({ "pod": self.id, "config": config, "sandbox_config": self.config })
    }

    /// The addresses of its two families.
    pub fn addresses(&self) -> (String, String) {
        let status = self.node.call("PodSandboxStatus", json!({ "id": self.id }));
        let network = &status["status"]["network"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&network["ip"]), text(&network["additional_ips"][0]["ip"]))
    }

    /// Runs a script in a container; gives its output and status.
    pub fn exec(&self, id: &str, script: &str) -> (String, i64) {
        let answer = self
            .node
            .call("ExecSync", json!({ "id": id, "cmd": ["sh", "-c", script], "timeout": 300 }));
        let output = answer["stdout"].as_str().unwrap_or_default().to_owned();
        (output, answer["exit_code"].as_i64().unwrap_or(0))
    }

    /// Whether a container has not ended.
    pub fn is_running(&self, id: &str) -> bool {
        self.node.call("ContainerStatus", json!({ "id": id }))["status"]["state"] == 1
    }

    /// The log of a container.
    pub fn log(&self, name: &str) -> String {
        let path = Path::new(self.config["log_directory"].as_str().expect("a path"))
            .join(format!("{name}.log"));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// Stops it and removes it.
    pub fn end(self) {
        self.node.call("StopPodSandbox", json!({ "id": self.id }));
        self.node.call("RemovePodSandbox", json!({ "id": self.id }));
    }
}

impl Drop for Pod<'_> {
    /// A test that fails leaves no namespace behind.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for method in ["StopPodSandbox", "RemovePodSandbox"] {
                let _ = self.node.asked(method, &json!({ "id": self.id }));
            }
        }
    }
}
