//! Configurations and names that make no sense: each is refused with a line that callers can show, and nothing is left behind.

use serde_json::{Value, json};

use super::bundle::{Bundle, Runtime, name};

#[test]
fn what_makes_no_sense_is_refused_and_leaves_nothing() {
    let cases: &[(&str, Value, &str)] = &[
        ("root", json!({ "path": "nowhere" }), "No such file"),
        ("root", json!({ "path": "config.json" }), "not a directory"),
        ("root", Value::Null, "root is missing"),
        ("process", json!({ "args": ["sh"], "cwd": "/", "user": { "uid": "x" } }), "invalid type"),
        ("mounts", json!([{ "destination": "x", "type": "proc" }]), "not an absolute path"),
        (
            "mounts",
            json!([{ "destination": "/x", "type": "bind", "source": "/none" }]),
            "mounts[0] /x: source /none: No such file",
        ),
        ("mounts", json!([{ "destination": "/bin/sh", "type": "proc" }]), "mount /bin/sh"),
        ("mounts", json!([{ "destination": "/x", "type": "ext4" }]), "ext4 is not supported"),
        ("linux", json!({ "namespaces": [] }), "cannot be shared"),
        ("linux", json!({}), "cannot be shared"),
        ("annotations", json!({ "dev.netcell.platform": "x" }), "there is no platform \"x\""),
        ("linux/sysctl", json!({ "net.none": "1" }), "linux.sysctl: cannot set net.none"),
        ("linux/seccomp", json!({ "defaultAction": "SCMP_ACT_NOTIFY" }), "linux.seccomp"),
        ("linux/cgroupsPath", json!("a:b:c"), "cgroup manager to cgroupfs"),
        ("linux/cgroupsPath", json!("/../../x"), "leads elsewhere"),
        ("linux/cgroupsPath", json!("/"), "the root cannot be a container's"),
    ];
    let runtime = Runtime::netcell();
    for (field, value, expected) in cases {
        let (mut bundle, id) = (Bundle::of_script("exit 0"), name());
        match field.split_once('/') {
            Some((above, field)) => bundle.config[above][field] = value.clone(),
            None => bundle.config[field] = value.clone(),
        }
        assert!(!runtime.create(&bundle, &id, &bundle.file("output")), "{field} {value}");
        let told = runtime.last_error();
        assert!(told.contains(expected), "{field} {value}: {told:?}");
        assert!(runtime.left().is_empty(), "{field} {value}: {:?}", runtime.left());
    }
}

#[test]
fn a_program_that_cannot_be_started_is_told_at_create() {
    let runtime = Runtime::netcell();
    for (program, expected) in
        [("/none", "/none: No such file or directory"), ("none", "none: No such file or directory")]
    {
        let (mut bundle, id) = (Bundle::of_script(""), name());
        bundle.config["process"]["args"] = json!([program]);
        assert!(!runtime.create(&bundle, &id, &bundle.file("output")));
        assert!(runtime.last_error().contains(expected), "{}", runtime.last_error());
        assert!(runtime.left().is_empty());
    }
}

#[test]
fn hostile_names_are_refused() {
    let runtime = Runtime::netcell();
    let bundle = Bundle::of_script("exit 0");
    let path = bundle.path().to_string_lossy().into_owned();
    for id in ["../x", "a/b", "..", ".", "-x", "a\nb", "", "ä", &"x".repeat(2000)] {
        let output = runtime.run(&["create", "--bundle", &path, "--", id]);
        assert!(!output.status.success(), "{id:?}");
        for command in ["state", "start", "kill", "delete"] {
            assert!(!runtime.run(&[command, "--", id]).status.success(), "{command} {id:?}");
        }
        assert!(!runtime.run(&["delete", "--force", "--", id]).status.success(), "{id:?}");
    }
    assert!(runtime.left().is_empty(), "{:?}", runtime.left());
}

#[test]
fn a_bundle_that_is_no_bundle_is_named() {
    let runtime = Runtime::netcell();
    for (bundle, expected) in [("/none", "--bundle /none"), ("/etc", "/etc/config.json")] {
        assert!(!runtime.run(&["create", "--bundle", bundle, "x"]).status.success());
        assert!(runtime.last_error().contains(expected), "{}", runtime.last_error());
    }
    let bundle = Bundle::of_script("exit 0");
    bundle.path();
    std::fs::write(bundle.file("config.json"), "{ \"ociVersion\": ").expect("a file");
    let path = bundle.file("").to_string_lossy().into_owned();
    assert!(!runtime.run(&["create", "--bundle", &path, "x"]).status.success());
    assert!(runtime.last_error().contains("EOF while parsing"), "{}", runtime.last_error());
}
