//! containerd's CRI plugin makes pods on netcell, as a kubelet asks for it: a network by CNI, containers that share it, execution, logs,
//! figures, limits, ports of the node, and nothing left at the end.

use serde_json::json;

use super::node::{Node, Pod, Processes, Wish};
use crate::harness::wait_until;

#[test]
fn a_kubelet_has_its_pods_on_netcell() {
    let node = Node::new();
    let shared = node.containerd.place("shared");
    std::fs::create_dir(&shared).expect("a folder");
    let pod = Pod::new(&node, "web", Wish { ports: (8080, 18080), ..Wish::default() });
    let (address, other) = pod.addresses();
    assert!(address.starts_with("10.88.0.") && other.starts_with("fd88::"), "{address} {other}");

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
    let second = Pod::new(&node, "second", Wish { processes: Processes::Pod, ..Wish::default() });
    let caller = second.start("caller", "sleep 100000", &json!({}));
    assert_eq!(second.exec(&caller, &format!("wget -qO- http://{address}:8080/file")).0, "page\n");
    let (processes, _) = second.exec(&caller, "tr '\\0' ' ' < /proc/1/cmdline; hostname");
    assert_eq!(
        processes, "sleep 1000000 second\n",
        "the sandbox's own program is process 1 of the pod"
    );
    second.end();
    pod.end();
    node.assert_clean();
}

#[test]
fn memory_that_runs_out_in_a_pod_is_told() {
    let node = Node::new();
    node.limit_memory(128 << 20);
    let pod = Pod::new(&node, "eater", Wish::default());
    let eater = "dd if=/dev/zero of=/dev/null bs=400M count=1";
    let id = pod.start("eater", eater, &json!({}));
    let status = || node.call("ContainerStatus", json!({ "id": id }))["status"].clone();
    wait_until("the end", || status()["state"] == 2);
    wait_until("the reason", || status()["reason"] == "OOMKilled");
    assert_eq!(status()["exit_code"], 137);
    pod.end();
}
