//! Modes that make the interface: pods get what the reference plugins give them, and a failure leaves nothing.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::harness::{Call, List, Netns, Node, Pod, Process};

/// Addresses of both families, and default routes of both.
fn both_families(node: &Node) -> Value {
    let mut ipam = node.host_local(&["10.88.0.0/24", "fd88::/64"]);
    ipam["routes"] =
        json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "10.200.0.0/16", "gw": "10.88.0.9"}]);
    ipam
}

fn ours(node: &Node, mode: &str, fields: Value) -> Value {
    let mut ipam = both_families(node);
    if mode == "ptp" {
        // Nothing but the node is on the link.
        ipam["routes"] = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
    }
    let mut entry = node.ours(json!({"mode": mode, "ipam": ipam}));
    for (key, value) in fields.as_object().into_iter().flatten() {
        entry[key.as_str()] = value.clone();
    }
    entry
}

/// What a pod's eth0 has, without hardware addresses.
fn inside(pod: &Netns) -> String {
    pod.sh("ip -o addr show dev eth0 scope global | sed 's/.*inet/inet/; s/valid_lft.*//; s/nodad *//; s/noprefixroute *//; s/ *$//'; ip route; ip -6 route | grep -v fe80
            ip -o link show eth0 | grep -o 'mtu [0-9]*'")
}

/// A result without names and hardware addresses that differ by nature.
fn comparable(mut result: Value) -> Value {
    for interface in result["interfaces"].as_array_mut().into_iter().flatten() {
        interface["mac"] = json!("");
        if interface["name"] != "eth0" {
            interface["name"] = json!("");
        }
        if interface["sandbox"].is_string() {
            interface["sandbox"] = json!("");
        }
    }
    if let Some(fields) = result.as_object_mut() {
        fields.retain(|key, value| key != "dns" || *value != json!({}));
    }
    result
}

#[test]
fn a_pod_has_what_the_reference_plugin_gives_it() {
    for (mode, fields) in [
        ("bridge", json!({"isGateway": true, "hairpinMode": true, "mtu": 1400})),
        ("bridge", json!({})),
        ("bridge", json!({"isDefaultGateway": true})),
        ("ptp", json!({"mtu": 1300})),
    ] {
        let outcome = |entry: &dyn Fn(&Node) -> Value| {
            let node = Node::new();
            let pod = Pod::new();
            let mut entry = entry(&node);
            if mode == "bridge" {
                entry["bridge"] = json!("br0");
            }
            let list = List::new("1.0.0", vec![entry]);
            let result = list.add(&node, &pod);
            let seen = (inside(&pod.netns), comparable(result.clone()));
            list.check(&node, &pod, &result);
            list.del_twice(&node, &pod, &result);
            node.assert_clean(&["link br0"]);
            seen
        };
        let reference = outcome(&|node| {
            let mut entry = ours(node, mode, fields.clone());
            let fields = entry.as_object_mut().expect("an object");
            fields.retain(|key, _| key != "mode" && key != "handoffDir");
            entry["type"] = json!(mode);
            if mode == "bridge" && entry["isDefaultGateway"] == true {
                // The reference plugin would refuse default routes that IPAM gives as well.
                entry["ipam"]["routes"] = json!([{"dst": "10.200.0.0/16", "gw": "10.88.0.9"}]);
            }
            entry
        });
        let ours = outcome(&|node| {
            let mut entry = ours(node, mode, fields.clone());
            if entry["isDefaultGateway"] == true {
                entry["ipam"]["routes"] = json!([{"dst": "10.200.0.0/16", "gw": "10.88.0.9"}]);
            }
            entry
        });
        assert_eq!(ours.0, reference.0, "{mode} {fields}");
        assert_eq!(ours.1, reference.1, "{mode} {fields}");
    }
}

#[test]
fn pods_reach_each_other_the_node_and_by_masquerading_the_world() {
    for mode in ["bridge", "ptp"] {
        let (node, _outside) = Node::with_outside();
        let fields = match mode {
            "bridge" => json!({"isGateway": true, "ipMasq": true}),
            _ => json!({"ipMasq": true}),
        };
        let list = List::new("1.0.0", vec![ours(&node, mode, fields)]);
        let pods = [Pod::new(), Pod::new()];
        let results = [list.add(&node, &pods[0]), list.add(&node, &pods[1])];
        for ip in results[1]["ips"].as_array().expect("addresses") {
            let address =
                ip["address"].as_str().and_then(|a| a.split('/').next()).expect("an address");
            pods[0].netns.sh(&format!("ping -c1 -W5 -q {address}"));
        }
        pods[0].netns.sh("ping -c1 -W5 -q 10.88.0.1; ping -c1 -W5 -q fd88::1; ping -c1 -W5 -q 192.0.2.2; ping -c1 -W5 -q 2001:db8::2");
        for (pod, result) in pods.iter().zip(&results) {
            list.check(&node, pod, result);
            assert_eq!(node.handoff(pod)["mode"], "packet");
        }
        node.netns.sh("nft flush set inet netcell_cni away4");
        let config = list.config(0, &results[0]);
        let answer = node.call(&Call::new("netcell-cni", "CHECK", &pods[0], &config));
        assert_eq!(answer.error("CHECK without a rule"), 100);
        list.del_twice(&node, &pods[0], &results[0]);
        node.netns.sh("nft list table inet netcell_cni");
        list.del_twice(&node, &pods[1], &results[1]);
        node.assert_clean(&["link netcell0"]);
    }
}

#[test]
fn check_tells_what_is_gone_on_the_node() {
    for (mode, damage, told) in [
        ("bridge", "ip link set $(ip -br link | grep -o '^nch[^@]*') nomaster", "no port"),
        ("bridge", "ip link del netcell0", "bridge netcell0"),
        ("ptp", "ip route del 10.88.0.2", "node's route"),
        ("ptp", "ip link del $(ip -br link | grep -o '^nch[^@]*')", "eth0 is gone"),
        ("tap-bridge", "ip link set $(ip -br link | grep -o '^nct[^ ]*') nomaster", "no port"),
        ("tap-bridge", "ip link del $(ip -br link | grep -o '^nct[^ ]*')", "TAP device"),
    ] {
        let node = Node::new();
        let pod = Pod::new();
        let list = List::new("1.0.0", vec![ours(&node, mode, json!({}))]);
        let result = list.add(&node, &pod);
        list.check(&node, &pod, &result);
        node.netns.sh(damage);
        let answer = node.call(&Call::new("netcell-cni", "CHECK", &pod, &list.config(0, &result)));
        assert_eq!(answer.error(damage), 100, "{damage}");
        assert!(
            answer.json["msg"].as_str().is_some_and(|m| m.contains(told)),
            "{damage}: {}",
            answer.json
        );
        list.del_twice(&node, &pod, &result);
        node.assert_clean(&["link netcell0"]);
    }
}

#[test]
fn every_version_has_its_result_also_with_an_older_ipam() {
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let node = Node::new();
        let pod = Pod::new();
        let list = List::new(version, vec![ours(&node, "bridge", json!({}))]);
        let result = list.add(&node, &pod);
        assert_eq!(result["cniVersion"], version);
        assert_eq!(result["ips"][0].get("version").is_some(), version < "1.0.0");
        assert_eq!(result["interfaces"][2].get("mtu").is_some(), version == "1.1.0");
        if version >= "0.4.0" {
            list.check(&node, &pod, &result);
        }
        list.del_twice(&node, &pod, &result);
        node.assert_clean(&["link netcell0"]);
    }
}

#[test]
fn the_runtime_chooses_addresses_and_the_hardware_address() {
    for mode in ["bridge", "ptp", "tap-bridge"] {
        let node = Node::new();
        let pod = Pod::new();
        let mut entry = ours(&node, mode, json!({"capabilities": {"mac": true, "ips": true}}));
        entry["ipam"] = json!({"type": "static", "addresses": [{"address": "10.88.0.7/24", "gateway": "10.88.0.1"}]});
        let mut list = List::new("1.0.0", vec![entry]);
        list.runtime = json!({"mac": "02:00:00:00:00:42", "ips": ["10.88.0.42/24"]});
        if mode == "ptp" {
            // static gives no gateway with addresses of the runtime.
            list.runtime = json!({"mac": "02:00:00:00:00:42"});
        }
        let result = list.add(&node, &pod);
        let told = node.handoff(&pod);
        assert_eq!(told["mac"], "02:00:00:00:00:42", "{mode}");
        let wanted = if mode == "ptp" { "10.88.0.7/24" } else { "10.88.0.42/24" };
        assert_eq!(
            (&told["addresses"][0]["address"], &result["ips"][0]["address"]),
            (&json!(wanted), &json!(wanted))
        );
        list.check(&node, &pod, &result);
        list.del_twice(&node, &pod, &result);
        node.assert_clean(&["link netcell0"]);
    }
}

/// An IPAM plugin by a shell script; its folder comes first in CNI_PATH.
fn scripted_ipam(node: &Node, script: &str) -> String {
    let path = node.file("scripted", &format!("#!/bin/bash\n{script}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    path.parent().expect("a folder").to_string_lossy().into_owned()
}

#[test]
fn a_failing_add_leaves_nothing() {
    let gives = |ips: &str| {
        format!(
            "[ $CNI_COMMAND = ADD ] && echo '{{\"cniVersion\": \"1.0.0\", \"ips\": {ips}}}'; touch ${{0%/*}}/$CNI_COMMAND; exit 0"
        )
    };
    let address = "[{\"address\": \"10.1.0.2/24\", \"gateway\": \"10.1.0.1\"}]";
    let scripts = [
        ("exit 3".to_owned(), "failed"),
        ("echo nonsense".to_owned(), "JSON"),
        (
            "echo '{\"code\": 77, \"msg\": \"no more\", \"details\": \"d\"}'; exit 1".to_owned(),
            "no more",
        ),
        ("echo '{\"code\": 0, \"msg\": \"zero\"}'; exit 1".to_owned(), "zero"),
        (gives("[]"), "no address"),
        (gives("[{\"address\": \"10.1.0.0.2/24\"}]"), "result"),
        (gives("[{\"address\": \"10.1.0.2/24\", \"interface\": 4}]"), "not listed"),
        (
            gives(&format!(
                "{address}, \"routes\": [{{\"dst\": \"10.2.0.0/16\", \"gw\": \"10.9.9.9\"}}]"
            )),
            "route to 10.2.0.0/16",
        ),
    ];
    for mode in ["bridge", "ptp", "tap-bridge"] {
        for (script, told) in &scripts {
            if mode == "tap-bridge" && script.contains("10.9.9.9") {
                // The route is for the pod's stack to refuse.
                continue;
            }
            let node = Node::new();
            let pod = Pod::new();
            let folder = scripted_ipam(&node, script);
            let list =
                List::new("1.0.0", vec![ours(&node, mode, json!({"ipam": {"type": "scripted"}}))]);
            let call = Call::new("netcell-cni", "ADD", &pod, &list.config(0, &Value::Null));
            let answer = node.call(&call.with("CNI_PATH", Some(&folder)));
            let code = answer.error(script);
            assert!(
                answer.json["msg"].as_str().is_some_and(|m| m.contains(told)),
                "{mode} {script}: {}",
                answer.json
            );
            assert_eq!(code == 77, script.contains("77"), "the plugin's own code is passed on");
            assert_eq!(pod.netns.sh("ip -br link").matches("eth0").count(), 0);
            let gave_back = std::path::Path::new(&folder).join("DEL").exists();
            assert_eq!(
                gave_back,
                script.contains("10.9.9.9"),
                "addresses that were taken go back: {script}"
            );
            for file in ["scripted", "DEL", "ADD"] {
                let _ = std::fs::remove_file(std::path::Path::new(&folder).join(file));
            }
            node.assert_clean(&[]);
        }
    }
}

#[test]
fn what_was_there_before_a_failing_add_stays() {
    let node = Node::new();
    let (pod, other) = (Pod::new(), Pod::new());
    let list = List::new("1.0.0", vec![ours(&node, "bridge", json!({"isGateway": true}))]);
    let result = list.add(&node, &pod);
    let config = list.config(0, &Value::Null);
    let again = node.call(&Call::new("netcell-cni", "ADD", &pod, &config));
    assert_eq!(again.error("ADD twice"), 7);
    list.check(&node, &pod, &result);
    other.netns.sh("ip link add eth0 type veth peer name theirs");
    assert_eq!(
        node.call(&Call::new("netcell-cni", "ADD", &other, &config)).error("eth0 is there"),
        7
    );
    other.netns.sh("ip link show eth0");
    list.check(&node, &pod, &result);
    let answer = node
        .call(&Call::new("netcell-cni", "ADD", &other, &config).with("CNI_PATH", Some("/none")));
    assert_eq!(answer.error("no IPAM"), 7);
    list.del_twice(&node, &pod, &result);
    node.assert_clean(&["link netcell0"]);
    // A link of our name that somebody else made is not ours to remove.
    let node = Node::new();
    node.netns.sh("ip link add netcell0 type veth peer name theirs");
    let answer = node.call(&Call::new("netcell-cni", "ADD", &pod, &list.config(0, &Value::Null)));
    assert_eq!(answer.error("no bridge"), 7);
    node.netns.sh("ip link show netcell0");
}

#[test]
fn many_pods_at_once_share_bridge_and_rules() {
    let node = Node::new();
    let list =
        List::new("1.0.0", vec![ours(&node, "bridge", json!({"isGateway": true, "ipMasq": true}))]);
    let pods: Vec<_> = (0..6).map(|_| Pod::new()).collect();
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = pods.iter().map(|pod| scope.spawn(|| list.add(&node, pod))).collect();
        threads.into_iter().map(|t| t.join().expect("ADD")).collect()
    });
    std::thread::scope(|scope| {
        for (pod, result) in pods.iter().zip(&results) {
            scope.spawn(|| {
                list.check(&node, pod, result);
                list.del_twice(&node, pod, result);
            });
        }
    });
    node.assert_clean(&["link netcell0"]);
}

#[test]
fn gc_removes_links_addresses_and_rules_also_without_the_file() {
    let node = Node::new();
    let pods = [Pod::new(), Pod::new(), Pod::new()];
    let list =
        List::new("1.1.0", vec![ours(&node, "bridge", json!({"isGateway": true, "ipMasq": true}))]);
    let results: Vec<_> = pods.iter().map(|pod| list.add(&node, pod)).collect();
    std::fs::remove_dir_all(node.handoff_dir().join(&pods[1].id)).expect("a folder");
    let mut config = list.config(0, &Value::Null);
    config["cni.dev/valid-attachments"] = json!([{"containerID": pods[2].id, "ifname": "eth0"}]);
    let mut other = config.clone();
    other["name"] = json!("other");
    node.call(&Call::of_network("netcell-cni", "GC", &other)).expect("GC of another network");
    pods[0].netns.sh("ip link show eth0");
    node.call(&Call::of_network("netcell-cni", "GC", &config)).expect("GC");
    for pod in &pods[..2] {
        assert!(!pod.netns.sh("ip -br link").contains("eth0"));
    }
    list.check(&node, &pods[2], &results[2]);
    list.del_twice(&node, &pods[2], &results[2]);
    node.assert_clean(&["link netcell0"]);
}

#[test]
fn status_names_the_missing_ipam() {
    let node = Node::new();
    let list = List::new("1.1.0", vec![ours(&node, "tap-bridge", json!({"ipMasq": true}))]);
    let config = list.config(0, &Value::Null);
    node.call(&Call::of_network("netcell-cni", "STATUS", &config)).expect("STATUS");
    let call = Call::of_network("netcell-cni", "STATUS", &config).with("CNI_PATH", Some("/none"));
    let answer = node.call(&call);
    assert_eq!(answer.error("STATUS"), 50);
    assert!(
        answer.json["msg"].as_str().is_some_and(|m| m.contains("host-local")),
        "{}",
        answer.json
    );
}

/// dhcp asks over the pod's interface, which must be up by then; its daemon keeps the lease.
#[test]
fn addresses_by_dhcp() {
    let node = Node::prepared(
        "ip link add netcell0 type bridge; ip link set netcell0 up; ip addr add 10.88.0.1/24 dev netcell0",
    );
    let socket = node.file("dhcp.sock", "");
    std::fs::remove_file(&socket).expect("a name");
    let socket = socket.to_string_lossy().into_owned();
    let _daemon =
        Process::start(&node.netns, &["/usr/lib/cni/dhcp", "daemon", "-socketpath", &socket]);
    let leases = node.file("leases", "");
    let leases = format!("--dhcp-leasefile={}", leases.display());
    let _server = Process::start(
        &node.netns,
        &[
            "dnsmasq",
            "-d",
            "-C",
            "/dev/null",
            "-i",
            "netcell0",
            "--port=0",
            "--pid-file=",
            "--dhcp-range=10.88.0.50,10.88.0.50,1h",
            "--dhcp-option=option:router,10.88.0.1",
            "--no-ping",
            &leases,
        ],
    );
    node.netns.sh(&format!("for i in $(seq 600); do [ -S {socket} ] && ss -Hlun 'sport = :67' | grep -q . && exit; sleep 0.05; done; exit 1"));
    let pod = Pod::new();
    let ipam = json!({"type": "dhcp", "daemonSocketPath": socket});
    let list = List::new("1.0.0", vec![ours(&node, "bridge", json!({"ipam": ipam}))]);
    let result = list.add(&node, &pod);
    assert_eq!(result["ips"][0]["address"], "10.88.0.50/24");
    assert_eq!(node.handoff(&pod)["routes"][0]["gw"], "10.88.0.1");
    pod.netns.sh("ping -c1 -W5 -q 10.88.0.1");
    list.check(&node, &pod, &result);
    list.del_twice(&node, &pod, &result);
    assert!(!pod.netns.sh("ip -br link").contains("eth0"));
}
