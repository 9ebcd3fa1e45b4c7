//! containerd's CRI plugin makes pods on netcell, as a kubelet asks for it (`cri.py` is the client): a network by CNI, containers that share
//! it, execution, logs, figures, limits, ports of the node, and nothing left at the end.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::containerd::{Containerd, Place};
use crate::harness::{Namespace, beside, run, sh, unique, wait_until};

/// Where Debian has the reference plugins.
const PLUGINS: &str = "/usr/lib/cni";

/// A node with a containerd, and a place outside of it.
pub struct Node {
    containerd: Containerd,
    inside: Namespace,
    /// The network of the place outside.
    pub outside: Namespace,
    cgroup: String,
}

fn config(place: Place<'_>) -> String {
    let (conf, bin, shim) = (place("cni"), place("cni-bin"), place("shim.toml"));
    format!(
        r#"
        [plugins."io.containerd.grpc.v1.cri"]
        sandbox_image = "docker.io/library/box:latest"
        disable_apparmor = true
        disable_hugetlb_controller = true
        tolerate_missing_hugetlb_controller = true
        restrict_oom_score_adj = true
        stream_server_port = "0"
        [plugins."io.containerd.grpc.v1.cri".cni]
        conf_dir = {conf:?}
        bin_dir = {bin:?}
        [plugins."io.containerd.grpc.v1.cri".containerd]
        snapshotter = "native"
        default_runtime_name = "netcell"
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.netcell]
        runtime_type = "io.containerd.netcell.v1"
        pod_annotations = ["dev.netcell.*"]
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.netcell.options]
        ConfigPath = {shim:?}
        "#
    )
}

fn conflist(place: Place<'_>) -> Value {
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
    pub fn new() -> Self {
        let (inside, outside) = (Namespace::new(), Namespace::new());
        let (here, there) = (inside.name(), outside.name());
        sh(&format!(
            "ip -n {here} link add up0 type veth peer name up0 netns {there}
             ip -n {here} addr add 192.0.2.1/24 dev up0; ip -n {here} link set up0 up
             ip -n {there} addr add 192.0.2.2/24 dev up0; ip -n {there} link set up0 up"
        ));
        let plugin = beside("netcell-cni", "netcell-cni");
        let files = |place: Place<'_>| {
            let (conf, bin) = (place("cni"), PathBuf::from(place("cni-bin")));
            std::fs::create_dir(&conf).expect("a folder");
            let list = Path::new(&conf).join("10-podnet.conflist");
            std::fs::write(list, conflist(place).to_string()).expect("a file");
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

    /// A file of the node.
    pub fn place(&self, name: &str) -> PathBuf {
        self.containerd.place(name)
    }

    fn asked(&self, method: &str, request: &Value) -> Result<Value, String> {
        let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/oci/cri.py");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(client).arg(self.containerd.place("socket")).arg(method);
        let output = run(command.arg(request.to_string()), b"");
        match output.status.success() {
            true => Ok(serde_json::from_slice(&output.stdout).expect("JSON")),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    fn call(&self, method: &str, request: Value) -> Value {
        let answer = self.asked(method, &request);
        answer.unwrap_or_else(|error| {
            let log = std::fs::read_to_string(self.containerd.place("log")).unwrap_or_default();
            panic!("{error}\n{log}")
        })
    }

    fn within(&self, namespace: &Namespace, script: &str) -> String {
        let output = run(&mut namespace.command(&["sh", "-c", script]), b"");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn files(&self, name: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.containerd.place(name)).into_iter().flatten();
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// What is left of pods on this node and on the machine.
    pub fn leftovers(&self) -> Vec<String> {
        let storage = self.containerd.place("");
        let storage = storage.to_string_lossy();
        let mut left = self.files("netcell/k8s.io");
        left.extend(self.files("handoff"));
        let mounts = std::fs::read_to_string("/proc/mounts").expect("mounts");
        left.extend(mounts.lines().filter(|line| line.contains(&*storage)).map(str::to_owned));
        let processes =
            sh(&format!("pgrep -af '{}/(netcell|state)' || true", storage.trim_end_matches('/')));
        left.extend(processes.lines().filter(|line| !line.contains("pgrep")).map(str::to_owned));
        let links = self.within(&self.inside, "ip -br link | grep veth");
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
    id: String,
}

/// NamespaceMode of CRI for processes.
#[derive(Clone, Copy)]
pub enum Processes {
    Pod = 0,
    Container = 1,
}

impl<'a> Pod<'a> {
    /// One of whose ports, the first, the node leads a port of its own to.
    pub fn new(
        node: &'a Node,
        name: &str,
        (port, host_port): (u16, u16),
        processes: Processes,
    ) -> Self {
        let logs = node.containerd.place("logs").join(name);
        std::fs::create_dir_all(&logs).expect("a folder");
        let config = json!({
            "metadata": { "name": name, "uid": name, "namespace": "default" }, "hostname": name,
            "log_directory": logs, "dns_config": { "servers": ["192.0.2.53"], "searches": ["cluster.test"] },
            // Which nobody knows here yet, and says so.
            "annotations": { "dev.netcell.net.policy": "web" },
            "port_mappings": [{ "container_port": port, "host_port": host_port }],
            "linux": {
                "cgroup_parent": node.cgroup,
                "security_context": { "namespace_options": { "pid": processes as i32 } },
            },
        });
        let request = json!({ "config": config, "runtime_handler": "netcell" });
        let id = node.call("RunPodSandbox", request)["id"].as_str().expect("an id").to_owned();
        Self { node, config, id }
    }

    /// Its address of IPv4.
    pub fn address(&self) -> String {
        let status = self.node.call("PodSandboxStatus", json!({ "id": self.id }));
        status["status"]["network"]["ip"].as_str().expect("an address").to_owned()
    }

    /// Creates a container and starts it.
    pub fn start(&self, name: &str, script: &str, changes: &Value) -> String {
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
        let request = json!({ "pod": self.id, "config": config, "sandbox_config": self.config });
        let id =
            self.node.call("CreateContainer", request)["id"].as_str().expect("an id").to_owned();
        self.node.call("StartContainer", json!({ "id": id }));
        id
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

    /// What a container has said.
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

#[test]
fn a_kubelet_has_its_pods_on_netcell() {
    let node = Node::new();
    let shared = node.containerd.place("shared");
    std::fs::create_dir(&shared).expect("a folder");
    let pod = Pod::new(&node, "web", (8080, 18080), Processes::Container);
    let status = node.call("PodSandboxStatus", json!({ "id": pod.id }));
    let network = &status["status"]["network"];
    let address = network["ip"].as_str().expect("an address").to_owned();
    let other = network["additional_ips"][0]["ip"].as_str().expect("the other family").to_owned();
    assert!(address.starts_with("10.88.0.") && other.starts_with("fd88::"), "{status}");

    // What the plugin handed over was read: its policy is warned of.
    let log = format!("state/io.containerd.runtime.v2.task/k8s.io/{}/log.json", pod.id);
    let log = std::fs::read_to_string(node.containerd.place(&log)).expect("the runtime's log");
    assert!(log.contains("the policy web is not known here"), "{log}");

    let volume = json!({ "mounts": [{ "container_path": "/shared", "host_path": shared }] });
    let mut limited = volume.clone();
    limited["linux"] =
        json!({ "resources": { "memory_limit_in_bytes": 64 << 20, "cpu_shares": 512 } });
    let server = "echo serving; echo page > /tmp/file; exec httpd -f -p 8080 -h /tmp";
    let web = pod.start("server", server, &volume);
    let client =
        pod.start("client", "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done", &limited);
    wait_until("the server", || {
        pod.exec(&client, "wget -qO- http://127.0.0.1:8080/file").0 == "page\n"
    });
    // What is each one's own, and what is not.
    assert_eq!(
        pod.exec(&client, "hostname; ls /tmp; cat /proc/1/comm; exit 9"),
        ("web\nsh\n".into(), 9)
    );
    assert_eq!(pod.exec(&web, "cat /proc/1/comm").0, "httpd\n");
    let (names, _) = pod.exec(&client, "cat /etc/resolv.conf /etc/hosts");
    assert!(names.contains("192.0.2.53") && names.contains("cluster.test"), "{names}");
    assert_eq!(pod.exec(&web, "echo through a volume > /shared/x").1, 0);
    assert_eq!(pod.exec(&client, "cat /shared/x").0, "through a volume\n");
    // From the node, from outside by a port of the node, both families.
    let page = |namespace, to: &str| {
        node.within(namespace, &format!("curl -sSgm 60 http://{to}/file 2>&1"))
    };
    assert_eq!(page(&node.inside, &format!("{address}:8080")), "page\n");
    assert_eq!(page(&node.inside, &format!("[{other}]:8080")), "page\n");
    assert_eq!(page(&node.outside, "192.0.2.1:18080"), "page\n");
    // Logs, figures, limits.
    wait_until("the log", || pod.log("server").contains(" stdout F serving"));
    let stats = node.call("ContainerStats", json!({ "id": client }));
    let used = |part: &str, what: &str| stats["stats"][part][what]["value"].as_i64().unwrap_or(0);
    assert!(
        used("cpu", "usage_core_nano_seconds") > 0 && used("memory", "working_set_bytes") > 0,
        "{stats}"
    );
    let memory = || pod.exec(&client, "grep MemTotal /proc/meminfo | tr -dc 0-9").0;
    assert_eq!(memory(), "65536");
    node.call(
        "UpdateContainerResources",
        json!({ "id": client, "linux": { "memory_limit_in_bytes": 128 << 20 } }),
    );
    assert_eq!(memory(), "131072");
    // One ends, the others live; a second pod is another world.
    node.call("StopContainer", json!({ "id": client, "timeout": 60 }));
    let ended = node.call("ContainerStatus", json!({ "id": client }));
    assert_eq!((&ended["status"]["state"], &ended["status"]["exit_code"]), (&json!(2), &json!(7)));
    node.call("RemoveContainer", json!({ "id": client }));
    assert_eq!(pod.exec(&web, "wget -qO- http://127.0.0.1:8080/file").0, "page\n");
    let second = Pod::new(&node, "second", (8080, 18081), Processes::Pod);
    let caller = second.start("caller", "sleep 100000", &json!({}));
    assert_eq!(second.exec(&caller, &format!("wget -qO- http://{address}:8080/file")).0, "page\n");
    let (processes, _) = second.exec(&caller, "tr '\\0' ' ' < /proc/1/cmdline; hostname");
    assert_eq!(
        processes, "sleep 1000000 second\n",
        "the sandbox's own program is process 1 of the pod"
    );
    second.end();
    pod.end();
    // A shim that has answered may still be about to end.
    wait_until("everything to be gone", || node.leftovers().is_empty());
}
