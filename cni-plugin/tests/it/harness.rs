//! A node (a network namespace in which plugins run) with pods, and lists of plugins run as libcni runs them.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Map, Value, json};

/// Where Debian has the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";
/// The executable under test.
const OURS: &str = env!("CARGO_BIN_EXE_netcell-cni");

static SERIAL: AtomicU32 = AtomicU32::new(0);

fn unique(prefix: &str) -> String {
    format!("{prefix}{}x{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed))
}

/// A shell command that must succeed; gives its output.
pub fn sh(script: &str) -> String {
    let output = Command::new("bash").args(["-ec", script]).output().expect("bash");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A network namespace that goes away.
pub struct Netns(String);

impl Netns {
    pub fn new() -> Self {
        let netns = Self(unique("ncni"));
        sh(&format!("ip netns add {0} && ip -n {0} link set lo up", netns.0));
        netns
    }

    /// Its path, as CNI_NETNS has it.
    pub fn path(&self) -> String {
        format!("/var/run/netns/{}", self.0)
    }

    /// A shell command in it.
    pub fn sh(&self, script: &str) -> String {
        let quoted = script.replace('\'', "'\\''");
        sh(&format!("nsenter --net={} bash -ec '{quoted}'", self.path()))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// A node: a namespace for what belongs to the host, and a folder for files.
pub struct Node {
    pub netns: Netns,
    scratch: PathBuf,
    /// What was there at the beginning.
    before: BTreeSet<String>,
}

impl Node {
    /// A fresh node, as `prepare` (a shell script run in it) leaves it.
    pub fn prepared(prepare: &str) -> Self {
        let netns = Netns::new();
        let scratch = std::env::temp_dir().join(unique("netcell-cni-"));
        std::fs::create_dir(&scratch).expect("a scratch folder");
        let mut node = Self { netns, scratch, before: BTreeSet::new() };
        node.netns.sh(prepare);
        node.before = node.inventory();
        node
    }

    pub fn new() -> Self {
        Self::prepared("true")
    }

    /// A node at 192.0.2.1 and 2001:db8::1, and a neighbour outside at 192.0.2.2 and 2001:db8::2 that knows no pod.
    pub fn with_outside() -> (Self, Netns) {
        let outside = Netns::new();
        let node = Self::prepared(&format!(
            "ip link add up0 type veth peer name up0 netns {} && ip link set up0 up
             ip addr add 192.0.2.1/24 dev up0 && ip addr add 2001:db8::1/64 dev up0 nodad",
            outside.0
        ));
        outside.sh("ip addr add 192.0.2.2/24 dev up0; ip addr add 2001:db8::2/64 dev up0 nodad; ip link set up0 up");
        (node, outside)
    }

    /// A file in the node's folder.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.scratch.join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// Where hand-off files are.
    pub fn handoff_dir(&self) -> PathBuf {
        self.scratch.join("handoff")
    }

    /// The hand-off file of a pod's eth0.
    pub fn handoff(&self, pod: &Pod) -> Value {
        let path = self.handoff_dir().join(&pod.id).join("eth0.json");
        let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        serde_json::from_slice(&text).expect("JSON")
    }

    /// IPAM by host-local, with its files in the node's folder.
    pub fn host_local(&self, ranges: &[&str]) -> Value {
        let ranges: Vec<_> = ranges.iter().map(|subnet| json!([{ "subnet": subnet }])).collect();
        let routes = json!([{ "dst": "0.0.0.0/0" }]);
        json!({ "type": "host-local", "ranges": ranges, "routes": routes, "dataDir": self.scratch.join("ipam") })
    }

    /// Our entry in a list of plugins, with further fields.
    pub fn ours(&self, fields: Value) -> Value {
        let mut entry = json!({ "type": "netcell-cni", "handoffDir": self.handoff_dir() });
        merge(&mut entry, fields);
        entry
    }

    /// Links, addresses, rules, filters and files. IPAM's lock and its note of the last address stay by design, bridges are looked for by name.
    fn inventory(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut add = |kind: &str, text: &str| {
            found.extend(text.lines().filter(|l| !l.is_empty()).map(|l| format!("{kind} {l}")));
        };
        add("link", &self.netns.sh("ip -br link | cut -d' ' -f1"));
        add(
            "nft",
            &self
                .netns
                .sh("nft list tables | grep -v -e 'ip nat' -e 'ip filter' -e 'ip6 ' || true"),
        );
        add("rule", &self.netns.sh("nft list ruleset | grep netcell || true"));
        let files = format!(
            "find {} -mindepth 1 -not -name lock -not -name .lock -not -name 'last_reserved_ip.*'",
            self.scratch.display()
        );
        add(
            "file",
            &sh(&format!(
                "{files} -not -type d; ls {} 2>/dev/null || true",
                self.handoff_dir().display()
            )),
        );
        found
    }

    /// Fails where anything is there that was not at the beginning, but for what is named: links that plugins share.
    pub fn assert_clean(&self, but: &[&str]) {
        let now = self.inventory();
        let left: Vec<_> = now.difference(&self.before).collect();
        let left: Vec<_> =
            left.into_iter().filter(|l| !but.contains(&l.split('@').next().unwrap_or(l))).collect();
        assert!(left.is_empty(), "left behind: {left:#?}");
    }

    /// Runs one plugin in the node.
    pub fn call(&self, call: &Call<'_>) -> Answer {
        let program = match call.plugin {
            "netcell-cni" => PathBuf::from(OURS),
            other => Path::new(REFERENCE).join(other),
        };
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.netns.path())).arg(program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.envs(call.env.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("nsenter");
        let mut stdin = child.stdin.take().expect("stdin");
        // A plugin may fail before it has read all.
        let _ = stdin.write_all(&call.stdin);
        drop(stdin);
        Answer::of(&child.wait_with_output().expect("an end"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

/// One call of a plugin.
pub struct Call<'a> {
    pub plugin: &'a str,
    pub env: Vec<(&'a str, String)>,
    pub stdin: Vec<u8>,
}

impl<'a> Call<'a> {
    /// A verb about a pod's eth0.
    pub fn new(plugin: &'a str, verb: &str, pod: &Pod, config: &Value) -> Self {
        let mut call = Self::of_network(plugin, verb, config);
        call.env.push(("CNI_CONTAINERID", pod.id.clone()));
        call.env.push(("CNI_NETNS", pod.netns.path()));
        call.env.push(("CNI_IFNAME", "eth0".into()));
        call.env.push((
            "CNI_ARGS",
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web".into(),
        ));
        call
    }

    /// A verb about no pod.
    pub fn of_network(plugin: &'a str, verb: &str, config: &Value) -> Self {
        let env = vec![("CNI_COMMAND", verb.into()), ("CNI_PATH", REFERENCE.into())];
        Self { plugin, env, stdin: config.to_string().into_bytes() }
    }

    /// The same with a variable of the environment changed; None takes it away.
    pub fn with(mut self, name: &'a str, value: Option<&str>) -> Self {
        self.env.retain(|(n, _)| *n != name);
        self.env.extend(value.map(|v| (name, v.to_owned())));
        self
    }
}

/// What a plugin answered.
#[derive(Debug)]
pub struct Answer {
    pub success: bool,
    /// Standard output as JSON; null where it is empty.
    pub json: Value,
    pub stderr: String,
}

impl Answer {
    fn of(output: &Output) -> Self {
        let json = match output.stdout.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
                panic!("no JSON ({e}): {}", String::from_utf8_lossy(&output.stdout))
            }),
        };
        assert!(output.status.code().is_some(), "ended by a signal: {output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { success: output.status.success(), json, stderr }
    }

    /// The result of a call that must succeed.
    pub fn expect(self, what: &str) -> Value {
        assert!(self.success, "{what}: {:#} {}", self.json, self.stderr);
        self.json
    }

    /// The code of a call that must fail, as the specification has errors.
    pub fn error(&self, what: &str) -> u64 {
        assert!(!self.success, "{what} succeeded: {:#}", self.json);
        assert!(
            self.json["msg"].as_str().is_some_and(|m| !m.is_empty()),
            "{what}: {:#}",
            self.json
        );
        assert!(self.json["cniVersion"].is_string(), "{what}: {:#}", self.json);
        self.json["code"].as_u64().unwrap_or_else(|| panic!("{what}: no code: {:#}", self.json))
    }
}

/// A process that ends with the test.
pub struct Process(std::process::Child);

impl Process {
    /// Starts a program in a namespace.
    pub fn start(netns: &Netns, program: &[&str]) -> Self {
        let child = Command::new("nsenter")
            .arg(format!("--net={}", netns.path()))
            .args(program)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nsenter");
        Self(child)
    }

    /// Starts a server and waits until somebody listens there on a TCP port.
    pub fn serve(netns: &Netns, program: &[&str], port: u16) -> Self {
        let server = Self::start(netns, program);
        let listens = format!(
            "for i in $(seq 600); do ss -Hltn 'sport = :{port}' | grep -q . && exit; sleep 0.05; done; exit 1"
        );
        netns.sh(&listens);
        server
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A pod: an id and a network namespace.
pub struct Pod {
    pub id: String,
    pub netns: Netns,
}

impl Pod {
    pub fn new() -> Self {
        Self { id: unique("pod-"), netns: Netns::new() }
    }
}

/// A configuration list, run as libcni does.
pub struct List {
    pub version: &'static str,
    pub plugins: Vec<Value>,
    /// By the name of the capability; each plugin is given those that it declares.
    pub runtime: Value,
}

impl List {
    pub fn new(version: &'static str, plugins: Vec<Value>) -> Self {
        Self { version, plugins, runtime: json!({}) }
    }

    /// A plugin's configuration, with the result before it.
    pub fn config(&self, index: usize, previous: &Value) -> Value {
        let mut config = self.plugins[index].clone();
        let capabilities = config["capabilities"].as_object().cloned().unwrap_or_default();
        let given: Map<_, _> = self
            .runtime
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| capabilities.get(*name) == Some(&json!(true)))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if let Some(config) = config.as_object_mut() {
            config.remove("capabilities");
        }
        if !given.is_empty() {
            config["runtimeConfig"] = Value::Object(given);
        }
        merge(&mut config, json!({ "cniVersion": self.version, "name": "podnet" }));
        if !previous.is_null() {
            config["prevResult"] = previous.clone();
        }
        config
    }

    fn plugin(&self, index: usize) -> &str {
        self.plugins[index]["type"].as_str().expect("a type")
    }

    /// ADD by all of them; the last result.
    pub fn add(&self, node: &Node, pod: &Pod) -> Value {
        let mut result = Value::Null;
        for index in 0..self.plugins.len() {
            let call = Call::new(self.plugin(index), "ADD", pod, &self.config(index, &result));
            result = node.call(&call).expect(&format!("ADD by {}", self.plugin(index)));
        }
        result
    }

    /// CHECK by all of them, with the result of ADD.
    pub fn check(&self, node: &Node, pod: &Pod, result: &Value) {
        // CHECK by portmap 1.1.1 looks for rules of a family that the pod does not have.
        for index in (0..self.plugins.len()).filter(|index| self.plugin(*index) != "portmap") {
            let call = Call::new(self.plugin(index), "CHECK", pod, &self.config(index, result));
            node.call(&call).expect(&format!("CHECK by {}", self.plugin(index)));
        }
    }

    /// DEL as containerd does it: all of them in reverse, and once more with neither namespace nor result.
    pub fn del_twice(&self, node: &Node, pod: &Pod, result: &Value) {
        for index in (0..self.plugins.len()).rev() {
            let call = Call::new(self.plugin(index), "DEL", pod, &self.config(index, result));
            node.call(&call).expect(&format!("DEL by {}", self.plugin(index)));
        }
        for index in (0..self.plugins.len()).rev() {
            let config = self.config(index, &Value::Null);
            let call =
                Call::new(self.plugin(index), "DEL", pod, &config).with("CNI_NETNS", Some(""));
            node.call(&call).expect(&format!("second DEL by {}", self.plugin(index)));
        }
    }
}

fn merge(into: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else { return };
    for (key, value) in fields {
        into[key.as_str()] = value;
    }
}
