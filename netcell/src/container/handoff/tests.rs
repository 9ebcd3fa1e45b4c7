//! Hand-off files as the plugin writes them, and as nobody should.

use serde_json::{Value, json};

use super::*;

/// Of the thread that runs the test: it stays where it is.
const OWN: &str = "/proc/self/ns/net";

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("handoff-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    fn write(&self, container: &str, file: &str, content: &str) {
        fs::create_dir_all(self.0.join(container)).expect("a folder");
        fs::write(self.0.join(container).join(file), content).expect("a file");
    }

    fn find(&self) -> Result<Handed> {
        let own = Identity::of_path(OWN).expect("a namespace");
        in_folder(&self.0, own, &Node::own().expect("a namespace"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn file() -> Value {
    json!({
        "version": 1, "containerId": "c", "ifname": "eth0", "netns": OWN, "network": "podnet",
        "mode": "packet", "mac": "5e:f1:a1:98:5c:ce", "mtu": 1450,
        "addresses": [{ "address": "10.88.0.2/24" }, { "address": "fd88::2/64" }],
        "routes": [{ "dst": "0.0.0.0/0", "gw": "10.88.0.1", "table": 254, "scope": 0, "priority": 7 }],
        "neighbours": [],
        "dns": { "nameservers": ["10.96.0.10", "fd00::a"], "search": ["a.svc", "svc"], "options": ["ndots:5"] },
        "bandwidth": { "ingressRate": 8000, "ingressBurst": 80, "egressBurst": 9 },
        "new in a later minor release": [1, 2],
    })
}

#[test]
fn files_about_the_namespace_are_taken_and_no_others() {
    let folder = Folder::new("taken");
    folder.write("c", "eth0.json", &file().to_string());
    let mut second = file();
    second["ifname"] = json!("net1");
    second["dns"] = json!({});
    folder.write("c", "net1.json", &second.to_string());
    folder.write("c", "net1.123.writing", "half a fi");
    let mut other = file();
    other["netns"] = json!("/run/netns/gone");
    other["mtu"] = json!("of a format that is not ours");
    folder.write("other", "eth0.json", &other.to_string());
    folder.write("broken", "eth0.json", "{");
    fs::write(folder.0.join(".lock"), "").expect("a file");
    let handed = folder.find().expect("two files");
    let names: Vec<&str> = handed.attachments.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["eth0", "net1"]);
    let first = &handed.attachments[0];
    assert_eq!(first.addresses[0], ("10.88.0.2".parse().expect("an address"), 24));
    assert_eq!((first.mtu, first.mac.to_string().as_str()), (1450, "5e:f1:a1:98:5c:ce"));
    assert_eq!(first.routes[0].metric, Some(7));
    assert!(matches!(first.carrier, Carrier::Itself));
    let ingress = Some(Limit { rate_bps: 8000, burst_bits: 80 });
    assert_eq!(first.limits, Limits { ingress, egress: None });
    let resolv = "nameserver 10.96.0.10\nnameserver fd00::a\nsearch a.svc svc\noptions ndots:5\n";
    assert_eq!(handed.resolv_conf.as_deref(), Some(resolv));
}

#[test]
fn no_folder_is_nothing() {
    let folder = Folder::new("none");
    let missing = Folder(folder.0.join("missing"));
    assert!(missing.find().is_ok_and(|handed| handed.attachments.is_empty()));
}

#[test]
fn tap_devices_are_of_the_container_or_the_node() {
    let folder = Folder::new("tap");
    let find = |tap: Value| {
        let mut file = file();
        (file["mode"], file["tap"]) = (json!("tap"), tap);
        folder.write("c", "eth0.json", &file.to_string());
        folder.find().map(|handed| handed.attachments.into_iter().next().expect("one").carrier)
    };
    let beside = find(json!({ "name": "nct1", "netns": OWN })).expect("a device");
    assert!(matches!(beside, Carrier::Beside(name) if name == "nct1"));
    let elsewhere = find(json!({ "name": "nct1" })).expect("a device");
    assert!(matches!(elsewhere, Carrier::Elsewhere(name, _) if name == "nct1"));
    let told = format!("{:#}", find(json!({ "name": "nct1", "netns": "/etc" })).unwrap_err());
    assert!(told.contains("/etc is another namespace"), "{told}");
    assert!(find(json!({ "name": "../nct1" })).is_err());
    assert!(find(Value::Null).is_err());
}

#[test]
fn what_makes_no_sense_is_refused_with_the_file_and_the_field() {
    let folder = Folder::new("bad");
    let cases = [
        ("version", json!(2), "version 2 of the format is newer"),
        ("version", Value::Null, "invalid type: null"),
        ("mac", json!("5e:f1:a1:98:5c"), "mac: \"5e:f1:a1:98:5c\""),
        ("mac", json!("5e:f1:a1:98:5c:+e"), "mac"),
        ("mtu", json!(0), "mtu"),
        ("mtu", json!(-1), "`-1`"),
        ("ifname", json!("a/b"), "ifname"),
        ("mode", json!("carrier pigeon"), "carrier pigeon"),
        ("addresses", json!([{ "address": "10.0.0.1/33" }]), "10.0.0.1/33"),
        ("addresses", json!([{ "address": "10.0.0.1" }]), "10.0.0.1"),
        ("routes", json!([{ "dst": "x", "table": 254, "scope": 0 }]), "\"x\""),
        ("routes", json!([{ "dst": "10.0.0.0/8", "table": 254, "scope": 256 }]), "256"),
        ("dns", json!({ "nameservers": ["10.0.0.1\nnameserver 6.6.6.6"] }), "nameservers"),
        ("dns", json!({ "search": ["a b"] }), "search"),
        ("dns", json!({ "options": ["x\ny"] }), "options"),
        ("bandwidth", json!({ "egressRate": -1 }), "-1"),
        ("tap", json!({ "name": "nct1" }), "mode is packet"),
    ];
    for (field, value, expected) in cases {
        let mut file = file();
        file[field] = value;
        folder.write("c", "eth0.json", &file.to_string());
        let told = format!("{:#}", folder.find().map(|_| ()).unwrap_err());
        assert!(told.contains(expected) && told.contains("c/eth0.json"), "{field}: {told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    folder.write("c", "eth0.json", &format!("{}{}", file(), " ".repeat(FILE_MAX as usize)));
    assert!(format!("{:#}", folder.find().map(|_| ()).unwrap_err()).contains("longer than"));
}
