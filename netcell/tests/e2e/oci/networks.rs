//! netcell-cni as the plugin that makes the network, under CRI: what a pod of two containers has in each of its modes, in both families.

use serde_json::{Value, json};

use super::containerd::Place;
use super::node::{Node, Pod, Wish};
use super::streams::Server;
use crate::harness::wait_until;

/// The list of a network that our plugin makes in this mode.
fn list(mode: &str, place: Place<'_>) -> Value {
    let mut plugin = json!({
        "type": "netcell-cni", "mode": mode, "ipMasq": true, "handoffDir": place("handoff"),
        "ipam": { "type": "host-local", "dataDir": place("ipam"),
                  "ranges": [[{ "subnet": "10.88.0.0/24" }], [{ "subnet": "fd88::/64" }]],
                  "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }] },
        "capabilities": {
            "portMappings": true, "dns": true, "io.kubernetes.cri.pod-annotations": true,
        },
    });
    if mode != "ptp" {
        plugin["isGateway"] = json!(true);
        plugin["hairpinMode"] = json!(true);
    }
    json!({ "cniVersion": "1.0.0", "name": "podnet", "plugins": [plugin] })
}

fn serves(mode: &str) {
    let mut node = Node::with(&|place| list(mode, place));
    for listen in ["TCP4-LISTEN:7000", "TCP6-LISTEN:7001,ipv6only"] {
        let listen = format!("{listen},fork,reuseaddr");
        // By no shell: to one an address of IPv6, in its brackets, is a pattern of files.
        node.outside.serve(&["socat", &listen, "EXEC:printenv SOCAT_PEERADDR"]);
    }
    node.outside.wait_for_listener(7000);
    node.outside.wait_for_listener(7001);
    let node = node;
    let pod = Pod::new(&node, "web", Wish { ports: (8080, 18080), ..Wish::default() });
    let server = "echo page > /tmp/file; exec httpd -f -p 8080 -h /tmp";
    pod.start("server", server, &json!({}));
    let client = pod.start("client", "exec sleep 100000", &json!({}));
    let second = Pod::new(&node, "second", Wish::default());
    let other = second.start("client", "exec sleep 100000", &json!({}));
    let (four, six) = pod.addresses();
    assert!(four.starts_with("10.88.0.") && six.starts_with("fd88::"), "{four} {six}");
    wait_until("the server", || {
        pod.exec(&client, "wget -qO- http://127.0.0.1:8080/file").0 == "page\n"
    });
    // The pod, by its addresses and by ports of the node: from itself, from another pod, from the node, from outside.
    let own = [format!("{four}:8080"), format!("[{six}]:8080")];
    let mapped = ["192.0.2.1:18080", "[2001:db8::1]:18080"].map(str::to_owned);
    let curl = |to: &str| format!("curl -sSgm 30 http://{to}/file 2>&1");
    let wget = |to: &str| format!("wget -qO- http://{to}/file 2>&1");
    for to in own.iter().chain(&mapped) {
        assert_eq!(pod.exec(&client, &wget(to)).0, "page\n", "{to} from itself");
        assert_eq!(second.exec(&other, &wget(to)).0, "page\n", "{to} from another pod");
        assert_eq!(node.within(&node.inside, &curl(to)), "page\n", "{to} from the node");
    }
    for to in &mapped {
        assert_eq!(node.within(&node.outside, &curl(to)), "page\n", "{to} from outside");
    }
    // What leaves the node has its address.
    for (to, from) in [("192.0.2.2 7000", "192.0.2.1"), ("2001:db8::2 7001", "2001:0db8")] {
        let (seen, _) = pod.exec(&client, &format!("nc -w 30 {to} < /dev/null 2>&1"));
        assert!(seen.contains(from), "{to} sees {seen:?}, not {from}");
    }
    // A client of the node's loopback inside, as port-forward is.
    let listed = json!([{ "name": "client", "id": client, "tty": false, "stdin": false }]);
    let kubelet = Server::new(&node, &json!({ "web": { "id": pod.id, "containers": listed } }));
    let (port, forwarding) = kubelet.forward("web", 8080);
    assert_eq!(node.within(&node.inside, &curl(&format!("127.0.0.1:{port}"))), "page\n");
    drop((forwarding, kubelet));
    second.end();
    pod.end();
    node.assert_clean();
}

#[test]
fn a_bridge_of_netcell_cni_serves_pods() {
    serves("bridge");
}

#[test]
fn a_route_of_netcell_cni_serves_pods() {
    serves("ptp");
}

#[test]
fn a_tap_device_of_netcell_cni_serves_pods() {
    serves("tap-bridge");
}
