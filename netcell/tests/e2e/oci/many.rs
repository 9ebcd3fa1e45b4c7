//! Many pods at the same time, through CRI: all are ready, and nothing is left of them.

use serde_json::{Value, json};

use super::node::{Node, Pod, Wish};
use crate::harness::wait_until;

/// How many of them.
const PODS: usize = 50;

#[test]
fn fifty_pods_at_a_time_are_ready_and_leave_nothing() {
    let node = Node::new();
    let names: Vec<String> = (0..PODS).map(|number| format!("pod-{number}")).collect();
    let pods = Pod::many(&node, &names, Wish::default());
    let script = "hostname > /tmp/name; echo ready; exec httpd -f -p 8080 -h /tmp";
    let requests: Vec<Value> =
        pods.iter().map(|pod| pod.container("server", script, &json!({}))).collect();
    let containers = node.call_all("CreateContainer", &requests);
    node.call_all("StartContainer", &containers);
    for pod in &pods {
        wait_until("the log", || pod.log("server").contains(" stdout F ready"));
    }
    let ids: Vec<Value> = pods.iter().map(|pod| json!({ "id": pod.id })).collect();
    let told = node.call_all("PodSandboxStatus", &ids);
    let addresses = told.iter().map(|told| told["status"]["network"]["ip"].as_str());
    let addresses: Vec<&str> = addresses.map(|address| address.expect("an address")).collect();
    // Each is its own, and serves.
    for (name, address) in names.iter().zip(&addresses) {
        let page = || {
            let ask = format!("curl -sSm 60 http://{address}:8080/name 2>&1");
            node.within(&node.inside, &ask)
        };
        wait_until("the server", || !page().starts_with("curl: (7)"));
        assert_eq!(page(), format!("{name}\n"));
    }
    node.call_all("StopPodSandbox", &ids);
    node.call_all("RemovePodSandbox", &ids);
    node.assert_clean();
    drop(pods);
}
