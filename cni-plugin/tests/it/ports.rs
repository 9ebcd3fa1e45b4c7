//! Ports of the node that lead to pods.

use serde_json::{Value, json};

use crate::harness::{Call, List, Node, Pod, Process};

/// A bridge with both families; what the pod's server says is its own end's port.
fn list(node: &Node) -> List {
    let mut ipam = node.host_local(&["10.88.0.0/24", "fd88::/64"]);
    ipam["routes"] = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
    List::new("1.0.0", vec![node.ours(json!({"mode": "bridge", "isGateway": true, "hairpinMode": true, "ipam": ipam, "capabilities": {"portMappings": true}}))])
}

fn serve(pod: &Pod) -> Process {
    let program = ["socat", "TCP6-LISTEN:80,fork,reuseaddr,ipv6only=0", "SYSTEM:echo served"];
    Process::serve(&pod.netns, &program, 80)
}

const ASK: &str = "socat -T5 - TCP:";

#[test]
fn a_port_leads_to_the_pod_from_everywhere() {
    let (node, outside) = Node::with_outside();
    let mut list = list(&node);
    list.runtime = json!({"portMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""},
        {"HostPort": 8081, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "192.0.2.1"}]});
    let (pod, neighbour) = (Pod::new(), Pod::new());
    let result = list.add(&node, &pod);
    let plain = List { runtime: json!({}), plugins: list.plugins.clone(), version: list.version };
    let of_neighbour = plain.add(&node, &neighbour);
    let server = serve(&pod);
    for (who, netns) in [
        ("outside", &outside),
        ("the node", &node.netns),
        ("a pod of the same bridge", &neighbour.netns),
        ("the pod itself", &pod.netns),
    ] {
        for target in ["192.0.2.1:8080", "[2001:db8::1]:8080", "192.0.2.1:8081"] {
            assert_eq!(
                netns.sh(&format!("{ASK}{target} </dev/null")),
                "served\n",
                "{who} at {target}"
            );
        }
    }
    for target in ["127.0.0.1:8080", "10.88.0.1:8081"] {
        let refused = node.netns.sh(&format!("{ASK}{target} </dev/null 2>&1 || true"));
        assert!(refused.contains("refused"), "{target} is not mapped: {refused}");
    }
    list.check(&node, &pod, &result);
    list.del_twice(&node, &pod, &result);
    let refused = outside.sh(&format!("{ASK}192.0.2.1:8080 </dev/null 2>&1 || true"));
    assert!(refused.contains("refused"), "{refused}");
    drop(server);
    plain.del_twice(&node, &neighbour, &of_neighbour);
    node.assert_clean(&["link netcell0"]);
}

#[test]
fn a_port_belongs_to_one_pod() {
    let node = Node::new();
    let (first, second) = (Pod::new(), Pod::new());
    let mut list = list(&node);
    list.runtime =
        json!({"portMappings": [{"hostPort": 53, "containerPort": 53, "protocol": "udp"}]});
    let result = list.add(&node, &first);
    let config = list.config(0, &Value::Null);
    let answer = node.call(&Call::new("netcell-cni", "ADD", &second, &config));
    assert_eq!(answer.error("a port twice"), 101);
    assert!(answer.json["msg"].as_str().is_some_and(|m| m.contains("53")), "{}", answer.json);
    list.check(&node, &first, &result);
    list.del_twice(&node, &first, &result);
    let result = list.add(&node, &second);
    list.del_twice(&node, &second, &result);
    node.assert_clean(&["link netcell0"]);
}

#[test]
fn impossible_ports_are_refused() {
    let node = Node::new();
    let pod = Pod::new();
    for (port, code) in [
        (json!({"hostPort": 0, "containerPort": 80}), 2),
        (json!({"hostPort": 80, "containerPort": 0}), 2),
        (json!({"hostPort": 80, "containerPort": 80, "hostIP": "127.0.0.1"}), 2),
        (json!({"hostPort": 65536, "containerPort": 80}), 7),
        (json!({"hostPort": -1, "containerPort": 80}), 7),
        (json!({"hostPort": 80, "containerPort": 80, "protocol": "icmp"}), 7),
        (json!({"hostPort": 80, "containerPort": 80, "hostIP": "here; flush ruleset"}), 7),
        (json!({"hostPort": 80}), 7),
        (json!("80:80"), 7),
    ] {
        let mut list = list(&node);
        list.runtime = json!({"portMappings": [port]});
        let answer =
            node.call(&Call::new("netcell-cni", "ADD", &pod, &list.config(0, &Value::Null)));
        assert_eq!(answer.error("ports"), code, "{port}: {}", answer.json);
    }
    node.assert_clean(&[]);
}
