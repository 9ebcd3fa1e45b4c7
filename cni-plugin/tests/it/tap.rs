//! TAP devices: frames that a program writes to one arrive where the pod's would, and answers come back.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Call, List, Netns, Node, Pod};

/// Opens a TAP device as a runtime does, asks for an address by ARP and prints the hardware address of the answer.
const ASK_ARP: &str = r#"
import fcntl, os, select, socket, struct, sys
name, mac, own, target = sys.argv[1], bytes.fromhex(sys.argv[2].replace(":", "")), sys.argv[3], sys.argv[4]
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, 0x400454ca, struct.pack("16sH22x", name.encode(), 0x1002))
arp = struct.pack("!HHBBH", 1, 0x800, 6, 4, 1) + mac + socket.inet_aton(own) + bytes(6) + socket.inet_aton(target)
for attempt in range(100):
    os.write(tap, b"\xff" * 6 + mac + b"\x08\x06" + arp)
    while select.select([tap], [], [], 0.1)[0]:
        frame = os.read(tap, 2000)
        if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\x00\x02" and frame[28:32] == socket.inet_aton(target):
            print(frame[22:28].hex(":"))
            sys.exit()
sys.exit("no answer")
"#;

fn ask_arp(netns: &Netns, arguments: [&str; 4]) -> String {
    let mut child = Command::new("nsenter")
        .arg(format!("--net={}", netns.path()))
        .args(["python3", "-"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3");
    child.stdin.take().expect("stdin").write_all(ASK_ARP.as_bytes()).expect("the script");
    let output = child.wait_with_output().expect("an end");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn mac_of(netns: &Netns, link: &str) -> String {
    netns
        .sh(&format!("ip -br link show {link}"))
        .split_whitespace()
        .nth(2)
        .expect("a MAC")
        .to_owned()
}

fn text<'a>(value: &'a Value, what: &str) -> &'a str {
    value.as_str().unwrap_or_else(|| panic!("{what} is {value}"))
}

#[test]
fn beside_the_interface_of_another_plugin() {
    let node = Node::new();
    let pod = Pod::new();
    let bridge = json!({"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": node.host_local(&["10.88.0.0/24"])});
    let capability = json!({"io.kubernetes.cri.pod-annotations": true});
    let mut list = List::new("1.0.0", vec![bridge, node.ours(json!({"capabilities": capability}))]);
    list.runtime = json!({"io.kubernetes.cri.pod-annotations": {"dev.netcell.net.mode": "tap"}});
    let result = list.add(&node, &pod);
    let told = node.handoff(&pod);
    assert_eq!((&told["mode"], &told["tap"]["netns"]), (&json!("tap"), &json!(pod.netns.path())));
    let tap = text(&told["tap"]["name"], "tap");
    let seen = "nstat -asz ArpInAll >/dev/null 2>&1; cat /sys/class/net/eth0/statistics/rx_packets 2>/dev/null || true";
    let _ = pod.netns.sh(seen);
    let arguments = [tap, text(&told["mac"], "mac"), "10.88.0.2", "10.88.0.1"];
    assert_eq!(ask_arp(&pod.netns, arguments), mac_of(&node.netns, "cni0"));
    // The host's stack in the pod's namespace has its address, as CHECK wants it, and sees no frame of it any more.
    node.netns.sh("! ping -c1 -W1 -q 10.88.0.2");
    list.check(&node, &pod, &result);
    let config = list.config(1, &result);
    for damage in ["tc qdisc del dev eth0 ingress", &format!("ip link del {tap}")] {
        pod.netns.sh(damage);
        let answer = node.call(&Call::new("netcell-cni", "CHECK", &pod, &config));
        assert_eq!(answer.error(damage), 100);
    }
    list.del_twice(&node, &pod, &result);
    node.assert_clean(&["link cni0"]);
}

#[test]
fn del_gives_the_interface_back_to_the_host() {
    let node = Node::new();
    let pod = Pod::new();
    pod.netns
        .sh("ip link add eth0 type veth peer name far0; ip link set eth0 up; ip link set far0 up");
    let before = pod.netns.sh("ip -o link; tc qdisc; tc filter show dev eth0 ingress");
    let list = List::new("1.1.0", vec![node.ours(json!({"mode": "tap"}))]);
    let previous = json!({"cniVersion": "1.1.0"});
    let config = list.config(0, &previous);
    let added = node.call(&Call::new("netcell-cni", "ADD", &pod, &config)).expect("ADD");
    assert_eq!(added, previous);
    assert_eq!(node.call(&Call::new("netcell-cni", "ADD", &pod, &config)).error("ADD twice"), 7);
    node.call(&Call::new("netcell-cni", "CHECK", &pod, &config)).expect("CHECK after a second ADD");
    list.del_twice(&node, &pod, &previous);
    assert_eq!(pod.netns.sh("ip -o link; tc qdisc; tc filter show dev eth0 ingress"), before);
    // Somebody else's qdisc is in the way: nothing of ours stays, and all of theirs.
    pod.netns.sh("tc qdisc add dev eth0 ingress");
    let before = pod.netns.sh("ip -o link; tc qdisc");
    let answer = node.call(&Call::new("netcell-cni", "ADD", &pod, &config));
    assert_eq!(answer.error("a qdisc in the way"), 101);
    assert_eq!(pod.netns.sh("ip -o link; tc qdisc"), before);
    node.assert_clean(&[]);
    let mut gc = list.config(0, &Value::Null);
    pod.netns.sh("tc qdisc del dev eth0 ingress");
    node.call(&Call::new("netcell-cni", "ADD", &pod, &config)).expect("ADD");
    gc["cni.dev/valid-attachments"] = json!([]);
    node.call(&Call::of_network("netcell-cni", "GC", &gc)).expect("GC");
    assert!(!pod.netns.sh("ip -o link; tc qdisc").contains("nct"));
    node.assert_clean(&[]);
}

#[test]
fn as_a_port_of_a_bridge() {
    let node = Node::new();
    let pod = Pod::new();
    let entry = node.ours(json!({"mode": "tap-bridge", "isGateway": true, "mtu": 1400, "ipam": node.host_local(&["10.88.0.0/24"])}));
    let list = List::new("1.1.0", vec![entry]);
    let result = list.add(&node, &pod);
    let told = node.handoff(&pod);
    assert_eq!(
        (&told["mode"], &told["mtu"], &told["tap"]["netns"]),
        (&json!("tap"), &json!(1400), &Value::Null)
    );
    assert_eq!(told["addresses"], json!([{"address": "10.88.0.2/24"}]));
    assert_eq!(
        told["routes"],
        json!([{"dst": "0.0.0.0/0", "gw": "10.88.0.1", "table": 254, "scope": 0}])
    );
    let (mac, container) = (&told["mac"], &result["interfaces"][2]);
    assert_eq!(
        (&container["name"], &container["mac"], &container["sandbox"]),
        (&json!("eth0"), mac, &json!(pod.netns.path()))
    );
    let arguments = [text(&told["tap"]["name"], "tap"), text(mac, "mac"), "10.88.0.2", "10.88.0.1"];
    assert_eq!(ask_arp(&node.netns, arguments), mac_of(&node.netns, "netcell0"));
    list.check(&node, &pod, &result);
    list.del_twice(&node, &pod, &result);
    node.assert_clean(&["link netcell0"]);
}

#[test]
fn a_main_plugin_with_a_tap_beside() {
    let node = Node::new();
    let pod = Pod::new();
    let capability = json!({"io.kubernetes.cri.pod-annotations": true});
    let entry = node.ours(json!({"mode": "ptp", "ipam": node.host_local(&["10.88.0.0/24"]), "capabilities": capability}));
    let mut list = List::new("1.0.0", vec![entry]);
    list.runtime = json!({"io.kubernetes.cri.pod-annotations": {"dev.netcell.net.mode": "tap"}});
    let result = list.add(&node, &pod);
    let told = node.handoff(&pod);
    let arguments =
        [text(&told["tap"]["name"], "tap"), text(&told["mac"], "mac"), "10.88.0.2", "10.88.0.1"];
    let host = result["interfaces"][0]["name"].as_str().expect("the host's end");
    assert_eq!(ask_arp(&pod.netns, arguments), mac_of(&node.netns, host));
    list.check(&node, &pod, &result);
    list.del_twice(&node, &pod, &result);
    node.assert_clean(&[]);
}
