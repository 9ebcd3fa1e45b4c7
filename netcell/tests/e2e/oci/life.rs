//! A container from its making to its removal: states, signals, the network namespace, cgroups, hooks, what a killed runtime leaves.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::bundle::{Bundle, Runtime, name};
use crate::harness::{Namespace, sh, wait_until};

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn process_is_gone(pid: i64) -> bool {
    let stat = text(Path::new(&format!("/proc/{pid}/stat")));
    stat.is_empty() || stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}

/// Where a cgroup is in the hierarchy of memory, or of everything.
fn cgroup(path: &str) -> PathBuf {
    let first = Path::new("/sys/fs/cgroup/memory");
    let root = if first.exists() { first } else { Path::new("/sys/fs/cgroup") };
    root.join(path.trim_start_matches('/'))
}

#[test]
fn a_container_waits_for_its_start_runs_and_stops() {
    let runtime = Runtime::netcell();
    let (mut bundle, id) =
        (Bundle::of_script("trap 'exit 0' TERM; echo up; while :; do sleep 1; done"), name());
    let namespace = Namespace::new();
    let inode = |path: &str| std::fs::metadata(path).expect(path).ino();
    let path = format!("/run/netns/{}", namespace.name());
    bundle.config["linux"]["namespaces"][1]["path"] = json!(path);
    bundle.config["annotations"] = json!({ "a": "b" });
    let output = bundle.file("output");
    assert!(runtime.create(&bundle, &id, &output), "{}", runtime.last_error());
    let state = runtime.state(&id);
    assert_eq!(state["status"], "created");
    assert_eq!(state["annotations"]["a"], "b");
    assert_eq!(state["bundle"], json!(bundle.path()));
    let pid = state["pid"].as_i64().expect("a pid");
    assert_eq!(inode(&format!("/proc/{pid}/ns/net")), inode(&path));
    assert_eq!(text(&output), "", "it waits");
    // The name is taken.
    assert!(!runtime.create(&bundle, &id, &bundle.file("second")));
    assert!(runtime.last_error().contains("already exists"), "{}", runtime.last_error());
    // What the bundle says meanwhile changes nothing.
    std::fs::write(bundle.file("config.json"), "{}").expect("a file");
    runtime.must(&["start", &id]);
    wait_until("the program", || text(&output) == "up\n");
    assert_eq!(runtime.state(&id)["status"], "running");
    let list: Value = serde_json::from_str(&runtime.must(&["list", "-f", "json"])).expect("JSON");
    assert_eq!((&list[0]["id"], &list[0]["status"]), (&json!(id), &json!("running")));
    assert!(!runtime.run(&["start", &id]).status.success(), "twice");
    assert!(!runtime.run(&["delete", &id]).status.success(), "it runs");
    assert!(runtime.last_error().contains("not stopped"), "{}", runtime.last_error());
    runtime.must(&["kill", &id, "TERM"]);
    runtime.ended(&id);
    assert!(process_is_gone(pid));
    assert!(!runtime.run(&["kill", &id, "15"]).status.success(), "nobody is there");
    assert!(runtime.last_error().contains("container not running"), "{}", runtime.last_error());
    runtime.must(&["kill", "--all", &id, "9"]);
    runtime.must(&["delete", &id]);
    assert!(!runtime.run(&["state", &id]).status.success());
    runtime.must(&["delete", "--force", &id]);
    assert!(runtime.left().is_empty());
}

#[test]
fn a_container_has_the_network_of_its_namespace_as_it_is_at_the_start() {
    let runtime = Runtime::netcell();
    let (mut bundle, id) =
        (Bundle::of_script("ip -o addr; wget -qO- http://10.77.5.1:8080/file"), name());
    let (inside, mut outside) = (Namespace::new(), Namespace::new());
    let path = format!("/run/netns/{}", inside.name());
    bundle.config["linux"]["namespaces"][1]["path"] = json!(path);
    let output = bundle.file("output");
    assert!(runtime.create(&bundle, &id, &output), "{}", runtime.last_error());
    // Docker makes the network between the two.
    let (here, there) = (inside.name(), outside.name());
    sh(&format!(
        "ip -n {here} link add eth0 type veth peer name eth0 netns {there}
         ip -n {here} addr add 10.77.5.2/24 dev eth0; ip -n {here} link set eth0 up
         ip -n {there} addr add 10.77.5.1/24 dev eth0; ip -n {there} link set eth0 up"
    ));
    std::fs::write(bundle.file("file"), "over the wire\n").expect("a file");
    let folder = bundle.file("").to_string_lossy().into_owned();
    outside.serve(&["busybox", "httpd", "-f", "-p", "10.77.5.1:8080", "-h", &folder]);
    outside.wait_for_listener(8080);
    runtime.must(&["start", &id]);
    runtime.ended(&id);
    let shown = text(&output);
    assert!(shown.contains("inet 10.77.5.2/24") && shown.contains("over the wire\n"), "{shown}");
}

#[test]
fn a_container_that_never_starts_is_removed() {
    let runtime = Runtime::netcell();
    let (bundle, id) = (Bundle::of_script("echo never"), name());
    assert!(runtime.create(&bundle, &id, &bundle.file("output")));
    let pid = runtime.state(&id)["pid"].as_i64().expect("a pid");
    runtime.must(&["delete", &id]);
    assert!(process_is_gone(pid));
    assert!(runtime.create(&bundle, &id, &bundle.file("output")));
    runtime.must(&["kill", &id, "TERM"]);
    runtime.ended(&id);
    assert_eq!(text(&bundle.file("output")), "");
}

#[test]
fn hooks_run_at_their_points_with_the_state() {
    let runtime = Runtime::netcell();
    let (mut bundle, id) = (Bundle::of_script("exit 0"), name());
    let log = bundle.file("log");
    let points =
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    for point in points {
        // The shell's own way to take a field out of one line of JSON.
        let script = format!(
            "read -r s || :; s=${{s#*\\\"status\\\":\\\"}}; echo {point} ${{s%%\\\"*}} >> {}",
            log.display()
        );
        bundle.config["hooks"][point] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 60 }]);
    }
    assert!(runtime.create(&bundle, &id, &bundle.file("output")), "{}", runtime.last_error());
    let expected = "prestart creating\ncreateRuntime creating\ncreateContainer creating\n";
    assert_eq!(text(&log), expected);
    runtime.must(&["start", &id]);
    runtime.ended(&id);
    runtime.must(&["delete", &id]);
    let expected =
        format!("{expected}startContainer created\npoststart running\npoststop stopped\n");
    assert_eq!(text(&log), expected);
}

#[test]
fn a_hook_that_fails_leaves_no_container() {
    let runtime = Runtime::netcell();
    for point in ["createRuntime", "createContainer"] {
        let (mut bundle, id) = (Bundle::of_script("exit 0"), name());
        bundle.config["hooks"][point] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 4"] }]);
        assert!(!runtime.create(&bundle, &id, &bundle.file("output")));
        let told = runtime.last_error();
        assert!(told.contains(point) && told.contains("exit status: 4: why"), "{told}");
        assert!(runtime.left().is_empty(), "{:?}", runtime.left());
    }
}

#[test]
fn what_a_killed_runtime_leaves_is_removed_by_force() {
    let runtime = Runtime::netcell();
    for point in ["prestart", "createContainer"] {
        let (mut bundle, id) = (Bundle::of_script("exit 0"), name());
        let group = format!("/{}", name());
        bundle.config["linux"]["cgroupsPath"] = json!(group);
        // The parent of the first is the runtime, that of the second the sandbox.
        bundle.config["hooks"][point] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"] }]);
        assert!(!runtime.create(&bundle, &id, &bundle.file("output")));
        runtime.must(&["delete", "--force", &id]);
        assert!(runtime.left().is_empty(), "{:?}", runtime.left());
        assert!(!cgroup(&group).exists(), "{point}: the cgroup is left");
        let left = sh(&format!("pgrep -f 'sandbox --sync.* {id}$' || :"));
        assert_eq!(left, "", "{point}: processes are left");
    }
}

#[test]
fn a_cgroup_holds_the_sandbox_and_its_limits() {
    let runtime = Runtime::netcell();
    let (mut bundle, id) = (Bundle::of_script("echo up; sleep 1000"), name());
    let group = format!("/{}", name());
    bundle.config["linux"]["cgroupsPath"] = json!(group);
    bundle.config["linux"]["resources"] =
        json!({ "memory": { "limit": 256 << 20 }, "cpu": { "shares": 512 } });
    let output = bundle.file("output");
    assert!(runtime.create(&bundle, &id, &output), "{}", runtime.last_error());
    let pid = runtime.state(&id)["pid"].as_i64().expect("a pid");
    let place = cgroup(&group);
    let members = text(&place.join("cgroup.procs"));
    assert!(members.lines().any(|line| line == pid.to_string()), "{members}");
    runtime.must(&["start", &id]);
    wait_until("the program", || text(&output) == "up\n");
    let events = runtime.must(&["events", "--stats", &id]);
    let events: Value = serde_json::from_str(&events).expect("JSON");
    assert_eq!(events["data"]["memory"]["usage"]["limit"], 256 << 20, "{events}");
    assert!(events["data"]["cpu"]["usage"]["total"].as_u64() > Some(0), "{events}");
    // Whoever is in it would end with the other container.
    let mut other = Bundle::of_script("exit 0");
    other.config["linux"]["cgroupsPath"] = json!(group);
    assert!(!runtime.create(&other, &name(), &other.file("output")));
    assert!(runtime.last_error().contains("processes are in it"), "{}", runtime.last_error());
    assert!(!process_is_gone(pid));
    let resources = bundle.file("resources.json");
    let new = json!({ "memory": { "limit": 300 << 20 } });
    std::fs::write(&resources, new.to_string()).expect("a file");
    runtime.must(&["update", "--resources", &resources.to_string_lossy(), &id]);
    let events = runtime.must(&["events", "--stats", &id]);
    let events: Value = serde_json::from_str(&events).expect("JSON");
    assert_eq!(events["data"]["memory"]["usage"]["limit"], 300 << 20, "{events}");
    runtime.must(&["delete", "--force", &id]);
    assert!(!place.exists(), "the cgroup is left");
}
