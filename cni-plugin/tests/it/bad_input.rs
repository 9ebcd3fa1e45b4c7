//! Bad input: each gets the error that the specification has for it, and nothing is left behind.

use serde_json::{Value, json};

use crate::harness::{Call, List, Node, Pod};

fn config(node: &Node) -> Value {
    List::new("1.0.0", vec![node.ours(json!({}))]).config(0, &json!({"cniVersion": "1.0.0"}))
}

#[test]
fn version_tells_what_is_supported() {
    let node = Node::new();
    let supported = json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    for (input, version) in [
        ("{\"cniVersion\": \"0.4.0\"}", "0.4.0"),
        ("{\"cniVersion\": \"9.0.0\"}", "1.1.0"),
        ("{}", "1.1.0"),
        ("", "1.1.0"),
    ] {
        let mut call = Call::of_network("netcell-cni", "VERSION", &Value::Null);
        call.stdin = input.into();
        let answer = node.call(&call).expect("VERSION");
        assert_eq!(answer, json!({"cniVersion": version, "supportedVersions": supported}));
    }
}

#[test]
fn variables_of_the_environment_are_checked_and_named() {
    let node = Node::new();
    let pod = Pod::new();
    let long = "a".repeat(129);
    for (verb, name, value) in [
        ("ADD", "CNI_COMMAND", None),
        ("ADD", "CNI_COMMAND", Some("add")),
        ("ADD", "CNI_COMMAND", Some("UPDATE")),
        ("ADD", "CNI_CONTAINERID", None),
        ("DEL", "CNI_CONTAINERID", Some("")),
        ("CHECK", "CNI_CONTAINERID", Some("../../etc")),
        ("DEL", "CNI_CONTAINERID", Some("..")),
        ("DEL", "CNI_CONTAINERID", Some("a/../b")),
        ("ADD", "CNI_CONTAINERID", Some(&long)),
        ("ADD", "CNI_IFNAME", None),
        ("DEL", "CNI_IFNAME", Some("../eth0")),
        ("DEL", "CNI_IFNAME", Some(".")),
        ("ADD", "CNI_IFNAME", Some("a-name-of-16-let")),
        ("ADD", "CNI_IFNAME", Some("eth 0")),
        ("ADD", "CNI_NETNS", None),
        ("CHECK", "CNI_NETNS", Some("")),
        ("ADD", "CNI_NETNS", Some("/var/run/netns/gone")),
        ("ADD", "CNI_NETNS", Some("/etc/passwd")),
        ("ADD", "CNI_NETNS", Some("/proc/self/ns/mnt")),
        ("ADD", "CNI_ARGS", Some("A=1;B")),
    ] {
        let call = Call::new("netcell-cni", verb, &pod, &config(&node)).with(name, value);
        let answer = node.call(&call);
        let what = format!("{verb} {name}={value:?}");
        assert_eq!(answer.error(&what), 4, "{what}: {}", answer.json);
        assert!(
            answer.json["msg"].as_str().is_some_and(|m| m.contains(name)),
            "{what}: {}",
            answer.json
        );
    }
    let own = node.netns.path();
    let call = Call::new("netcell-cni", "ADD", &pod, &config(&node)).with("CNI_NETNS", Some(&own));
    assert_eq!(node.call(&call).error("ADD into the node's own namespace"), 8);
    node.assert_clean(&[]);
}

#[test]
fn inputs_that_are_no_configuration() {
    let node = Node::new();
    let pod = Pod::new();
    let padded = format!(
        "{{\"cniVersion\": \"1.0.0\", \"name\": \"n\", \"x\": \"{}\"}}",
        "x".repeat(1 << 20)
    );
    for (input, code) in [
        ("", 6),
        ("not json", 6),
        ("[]", 6),
        ("{\"cniVersion\": 1}", 6),
        (padded.as_str(), 6),
        ("{}", 1),
        ("{\"cniVersion\": \"0.2.0\", \"name\": \"n\"}", 1),
        ("{\"cniVersion\": \"2.0.0\", \"name\": \"n\"}", 1),
        ("{\"cniVersion\": \"1.0.0\"}", 7),
        ("{\"cniVersion\": \"1.0.0\", \"name\": \"n\"}", 7),
        ("{\"cniVersion\": \"1.0.0\", \"name\": \"n\", \"prevResult\": null}", 7),
        ("{\"cniVersion\": \"1.0.0\", \"name\": \"n\", \"prevResult\": 7}", 7),
        ("{\"cniVersion\": \"1.0.0\", \"name\": \"n\", \"prevResult\": {}, \"mode\": \"\"}", 7),
        ("{\"cniVersion\": \"1.0.0\", \"name\": \"n\", \"prevResult\": {}, \"typo\": 1}", 2),
    ] {
        let mut call = Call::new("netcell-cni", "ADD", &pod, &Value::Null);
        call.stdin = input.into();
        let shown = &input[..input.len().min(60)];
        assert_eq!(node.call(&call).error(shown), code, "{shown}");
    }
    node.assert_clean(&[]);
}

#[test]
fn verbs_that_a_version_does_not_have() {
    let node = Node::new();
    let pod = Pod::new();
    for (verb, version) in [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")] {
        let config =
            List { version, ..List::new("", vec![node.ours(json!({}))]) }.config(0, &json!({}));
        let answer = node.call(&Call::new("netcell-cni", verb, &pod, &config));
        assert_eq!(
            (answer.error(verb), &answer.json["cniVersion"]),
            (1, &json!(version)),
            "{verb}"
        );
    }
}

#[test]
fn without_the_interface_that_a_plugin_before_should_have_made() {
    let node = Node::new();
    let pod = Pod::new();
    let answer = node.call(&Call::new("netcell-cni", "ADD", &pod, &config(&node)));
    assert_eq!(answer.error("ADD"), 7);
    assert!(answer.json["msg"].as_str().is_some_and(|m| m.contains("eth0")), "{}", answer.json);
    node.assert_clean(&[]);
}

#[test]
fn del_takes_whatever_became_of_configuration_and_namespace() {
    let node = Node::new();
    let pod = Pod::new();
    pod.netns.sh("ip link add eth0 type veth peer name far0");
    let good = config(&node);
    node.call(&Call::new("netcell-cni", "ADD", &pod, &good)).expect("ADD");
    let mut bad = good;
    (bad["typo"], bad["mode"], bad["prevResult"]) = (json!(1), json!("other"), json!("x"));
    for netns in [Some("/etc/passwd"), Some("/var/run/netns/gone"), None] {
        let call = Call::new("netcell-cni", "DEL", &pod, &bad).with("CNI_NETNS", netns);
        node.call(&call.with("CNI_ARGS", Some("broken"))).expect("DEL");
        node.assert_clean(&[]);
    }
}
