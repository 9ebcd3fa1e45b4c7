//! Last in a list of plugins: the result goes on, the runtime is told, nothing else changes, and nothing stays.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::harness::{Call, List, Netns, Node, Pod, sh};

const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

fn bridge(node: &Node) -> Value {
    json!({"type": "bridge", "bridge": "cni0", "isGateway": true,
           "ipam": node.host_local(&["10.88.0.0/24", "fd88::/64"])})
}

/// Links, addresses, routes and neighbours of a namespace, without what counts or ages.
fn picture(netns: &Netns) -> String {
    netns.sh("ip -o link; ip -o addr | sed 's/valid_lft.*//; s/tentative//'; ip route show table all; ip -6 route show table main; ip neigh show nud permanent; tc qdisc")
}

#[test]
fn after_bridge_the_runtime_is_told_what_the_namespace_has() {
    let node = Node::new();
    let pod = Pod::new();
    let mut list = List::new("1.0.0", vec![bridge(&node), node.ours(json!({
        "policy": "team/web", "capabilities": {"bandwidth": true, "dns": true, "io.kubernetes.cri.pod-annotations": true}}))]);
    list.runtime = json!({
        "bandwidth": {"IngressRate": 1000000, "IngressBurst": 80000, "EgressRate": 2000000, "EgressBurst": 90000},
        "dns": {"Servers": ["10.96.0.10"], "Searches": ["default.svc"], "Options": null},
        "portMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "TCP", "HostIP": ""}],
        "io.kubernetes.cri.pod-annotations": {"Some.Body/Else": "x"}});
    let of_bridge = {
        let call = Call::new("bridge", "ADD", &pod, &list.config(0, &Value::Null));
        node.call(&call).expect("bridge")
    };
    let before = (picture(&node.netns), picture(&pod.netns));
    let call = Call::new("netcell-cni", "ADD", &pod, &list.config(1, &of_bridge));
    let result = node.call(&call).expect("ADD");
    assert_eq!(result, of_bridge, "the result goes on unchanged");
    assert_eq!(
        (picture(&node.netns), picture(&pod.netns)),
        before,
        "a pod of runc has what it had"
    );

    let link: Value = serde_json::from_str(&pod.netns.sh("ip -j link show eth0")).expect("JSON");
    let told = node.handoff(&pod);
    let addresses =
        json!([{"address": result["ips"][0]["address"]}, {"address": result["ips"][1]["address"]}]);
    assert_eq!(told["addresses"], addresses);
    let default = json!({"dst": "0.0.0.0/0", "gw": "10.88.0.1", "table": 254, "scope": 0});
    assert_eq!(told["routes"][0], default, "{told:#}");
    assert_eq!((&told["mac"], &told["mtu"]), (&link[0]["address"], &json!(1500)));
    for (key, value) in [
        ("version", json!(1)),
        ("containerId", json!(pod.id)),
        ("ifname", json!("eth0")),
        ("netns", json!(pod.netns.path())),
        ("network", json!("podnet")),
        ("pod", json!("default/web")),
        ("mode", json!("packet")),
        ("policy", json!("team/web")),
        ("neighbours", json!([])),
        ("dns", json!({"nameservers": ["10.96.0.10"], "search": ["default.svc"]})),
        (
            "bandwidth",
            json!({"ingressRate": 1000000, "ingressBurst": 80000, "egressRate": 2000000, "egressBurst": 90000}),
        ),
    ] {
        assert_eq!(told[key], value, "{key}");
    }
    let folder = node.handoff_dir();
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
    };
    assert_eq!(mode(&folder.join(&pod.id).join("eth0.json")), 0o600);
    assert_eq!((mode(&folder), mode(&folder.join(&pod.id))), (0o700, 0o700));

    list.check(&node, &pod, &result);
    list.del_twice(&node, &pod, &result);
    node.assert_clean(&["link cni0"]);
}

#[test]
fn every_version_goes_through_a_list() {
    for version in VERSIONS.into_iter().filter(|v| *v != "1.1.0") {
        let node = Node::new();
        let pod = Pod::new();
        let list = List::new(version, vec![bridge(&node), node.ours(json!({}))]);
        let result = list.add(&node, &pod);
        assert_eq!(result["cniVersion"], version);
        if version >= "0.4.0" {
            list.check(&node, &pod, &result);
        }
        list.del_twice(&node, &pod, &result);
        node.assert_clean(&["link cni0"]);
    }
}

#[test]
fn after_ptp_macvlan_portmap_and_bandwidth() {
    let up0 = "ip link add up0 type veth peer name down0; ip link set up0 up; ip link set down0 up";
    for (first, prepare) in
        [("ptp", "true"), ("macvlan", up0), ("portmap", "true"), ("bandwidth", "true")]
    {
        let node = Node::prepared(prepare);
        let ipam = || node.host_local(&["10.89.0.0/24"]);
        let mut plugins = match first {
            "ptp" => vec![json!({"type": "ptp", "ipMasq": false, "ipam": ipam()})],
            "macvlan" => vec![json!({"type": "macvlan", "master": "up0", "ipam": ipam()})],
            "portmap" => vec![
                json!({"type": "bridge", "bridge": "cni0", "ipam": ipam()}),
                json!({"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}),
            ],
            _ => vec![
                bridge(&node),
                json!({"type": "bandwidth", "ingressRate": 8000000, "ingressBurst": 8000000,
                       "egressRate": 8000000, "egressBurst": 8000000}),
            ],
        };
        let pod = Pod::new();
        plugins.push(node.ours(json!({})));
        let mut list = List::new("1.0.0", plugins);
        list.runtime = json!({"portMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}]});
        let result = list.add(&node, &pod);
        assert_eq!(
            node.handoff(&pod)["addresses"][0]["address"],
            result["ips"][0]["address"],
            "{first}"
        );
        let shown = pod.netns.sh("ip -j route show");
        let routes: Value = serde_json::from_str(&shown).expect("JSON");
        let set =
            routes.as_array().expect("routes").iter().filter(|r| r["protocol"] != "kernel").count();
        let told = node.handoff(&pod)["routes"].as_array().map(Vec::len);
        assert_eq!(told, Some(set), "{first}: {shown}");
        list.check(&node, &pod, &result);
        list.del_twice(&node, &pod, &result);
        node.assert_clean(&["link cni0"]);
    }
}

/// As Cilium and AWS have them: an address of /32 without an interface index, a gateway off the link, permanent neighbours.
#[test]
fn the_namespace_is_the_truth_where_the_result_says_little() {
    let node = Node::new();
    let pod = Pod::new();
    sh(&format!(
        "ip -n {0} link add eth0 type veth peer name far0 && ip -n {0} link set eth0 mtu 1400",
        pod.netns.path().rsplit('/').next().unwrap_or_default()
    ));
    pod.netns.sh("ip addr add 10.0.0.5/32 dev eth0; ip link set eth0 up; ip link set far0 up
        ip addr add 10.7.0.1/24 dev eth0 noprefixroute
        ip route add default via 169.254.1.1 dev eth0 onlink mtu 1300 metric 7
        ip route add 10.9.0.0/16 dev eth0 scope link table 100 src 10.0.0.5
        ip neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent
        ip -6 addr add fd07::5/128 dev eth0 nodad; ip -6 route add default via fe80::1 dev eth0 metric 9");
    let list = List::new("1.0.0", vec![node.ours(json!({}))]);
    let result = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": pod.netns.path()}],
                        "ips": [{"address": "10.0.0.5/32", "gateway": "169.254.1.1", "interface": null}], "dns": {}});
    let config = list.config(0, &result);
    let passed = node.call(&Call::new("netcell-cni", "ADD", &pod, &config)).expect("ADD");
    assert_eq!(passed, result);
    let told = node.handoff(&pod);
    assert_eq!(
        told["addresses"],
        json!([{"address": "10.0.0.5/32"}, {"address": "10.7.0.1/24", "noPrefixRoute": true}, {"address": "fd07::5/128"}])
    );
    assert_eq!(told["neighbours"], json!([{"address": "169.254.1.1", "mac": "ee:ee:ee:ee:ee:ee"}]));
    assert_eq!(told["mtu"], 1400);
    let routes = told["routes"].as_array().expect("routes");
    for route in [
        json!({"dst": "0.0.0.0/0", "gw": "169.254.1.1", "onlink": true, "table": 254, "priority": 7, "scope": 0, "mtu": 1300}),
        json!({"dst": "10.9.0.0/16", "src": "10.0.0.5", "table": 100, "scope": 253}),
        json!({"dst": "::/0", "gw": "fe80::1", "table": 254, "priority": 9, "scope": 0}),
    ] {
        assert!(routes.contains(&route), "{route} in {told:#}");
    }
    node.call(&Call::new("netcell-cni", "CHECK", &pod, &config)).expect("CHECK");
    list.del_twice(&node, &pod, &result);
    node.assert_clean(&[]);
}

#[test]
fn check_tells_what_is_gone() {
    let node = Node::new();
    let pod = Pod::new();
    let list = List::new("1.0.0", vec![bridge(&node), node.ours(json!({}))]);
    let result = list.add(&node, &pod);
    let config = list.config(1, &result);
    let check = || node.call(&Call::new("netcell-cni", "CHECK", &pod, &config));
    check().expect("CHECK");
    let says = |what: &str| {
        let answer = check();
        assert_eq!(answer.error(what), 100, "{what}");
        assert!(
            answer.json["msg"].as_str().is_some_and(|m| m.contains(what)),
            "{what}: {}",
            answer.json
        );
    };
    pod.netns.sh("ip route del default");
    says("route to 0.0.0.0/0");
    pod.netns.sh("ip route add default via 10.88.0.1");
    check().expect("CHECK with the route back");
    let address = result["ips"][0]["address"].as_str().expect("an address");
    pod.netns.sh(&format!("ip addr del {address} dev eth0"));
    says(address);
    pod.netns.sh(&format!("ip addr add {address} dev eth0; ip route add default via 10.88.0.1"));
    check().expect("CHECK with the address back");
    let file = node.handoff_dir().join(&pod.id).join("eth0.json");
    let text = std::fs::read_to_string(&file).expect("a file");
    std::fs::write(&file, "{").expect("damage");
    says("damaged");
    std::fs::write(&file, text.replace("\"packet\"", "\"other\"")).expect("damage");
    says("\"mode\"");
    std::fs::remove_file(&file).expect("removed");
    says("hand-off file");
    std::fs::write(&file, text).expect("back");
    pod.netns.sh(
        "ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:77; ip link set eth0 up",
    );
    says("MAC");
    pod.netns.sh("ip link del eth0");
    says("interface eth0");
    list.del_twice(&node, &pod, &result);
    node.assert_clean(&["link cni0"]);
}

#[test]
fn gc_removes_what_the_runtime_does_not_know() {
    let node = Node::new();
    let (stays, goes, other) = (Pod::new(), Pod::new(), Pod::new());
    let list = List::new("1.1.0", vec![node.ours(json!({}))]);
    for pod in [&stays, &goes, &other] {
        pod.netns.sh("ip link add eth0 type veth peer name far0");
        let mut config = list.config(0, &json!({"cniVersion": "1.1.0"}));
        if std::ptr::eq(pod, &other) {
            config["name"] = json!("other");
        }
        node.call(&Call::new("netcell-cni", "ADD", pod, &config)).expect("ADD");
    }
    let there = |pod: &Pod| node.handoff_dir().join(&pod.id).exists();
    let gc = |valid: Option<Value>| {
        let mut config = list.config(0, &Value::Null);
        if let Some(valid) = valid {
            config["cni.dev/valid-attachments"] = valid;
        }
        node.call(&Call::of_network("netcell-cni", "GC", &config))
    };
    assert_eq!(gc(None).error("GC without a list"), 7);
    assert!(there(&stays) && there(&goes) && there(&other));
    let listed = |pod: &Pod, ifname: &str| json!({"containerID": pod.id, "ifname": ifname});
    gc(Some(json!([listed(&stays, "eth0"), listed(&goes, "eth1")]))).expect("GC");
    assert!(there(&stays) && !there(&goes) && there(&other));
    gc(Some(Value::Null)).expect("GC of all");
    assert!(!there(&stays) && there(&other), "another network is not ours to clean");
}

#[test]
fn status_says_what_is_missing() {
    let node = Node::new();
    let list = List::new("1.1.0", vec![node.ours(json!({}))]);
    let mut config = list.config(0, &Value::Null);
    node.call(&Call::of_network("netcell-cni", "STATUS", &config)).expect("STATUS");
    config["handoffDir"] = json!("/proc/none");
    let answer = node.call(&Call::of_network("netcell-cni", "STATUS", &config));
    assert_eq!(answer.error("STATUS"), 50);
    assert!(
        answer.json["msg"].as_str().is_some_and(|m| m.contains("/proc/none")),
        "{}",
        answer.json
    );
}
