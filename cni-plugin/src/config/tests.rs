//! Configurations as callers write them, and what is refused.

use serde_json::json;

use super::*;

fn input(value: &Value) -> Input {
    Input::parse(value.to_string().as_bytes()).expect("an input")
}

fn chained(runtime: Value) -> Result<RuntimeConfig, CniError> {
    input(&json!({"cniVersion": "1.0.0", "name": "n", "runtimeConfig": runtime})).runtime()
}

#[test]
fn keys_in_the_callers_case_and_nulls_are_taken() {
    let config = json!({"cniVersion": "1.0.0", "name": "n", "mode": "bridge", "policy": null, "ipam": {"type": "static"}, "runtimeConfig": {
        "portMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "TCP", "HostIP": ""},
                         {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "192.0.2.1"},
                         {"HostPort": 1, "ContainerPort": 2, "Protocol": null, "HostIP": "0.0.0.0"}, null],
        "dns": {"Servers": ["192.0.2.53"], "Searches": null, "Options": null},
        "bandwidth": {"IngressRate": 1000, "EgressRate": 2000, "EgressBurst": 7},
        "mac": null, "ips": null,
        "io.kubernetes.cri.pod-annotations": {"dev.netcell.net.mode": "tap", "Other.Case": "X"}}});
    let input = input(&config);
    let (settings, runtime) =
        (input.settings().expect("settings"), input.runtime().expect("runtime"));
    let ports = &runtime.port_mappings;
    assert_eq!((ports[0].host_port, ports[0].container_port, ports[0].host_ip), (8080, 80, None));
    assert_eq!((ports[1].protocol, ports[1].host_ip), (Protocol::Udp, "192.0.2.1".parse().ok()));
    assert_eq!((ports[2].protocol, ports[2].host_ip, ports.len()), (Protocol::Tcp, None, 3));
    let limits =
        Bandwidth { ingress_rate: 1000, ingress_burst: 0, egress_rate: 2000, egress_burst: 7 };
    assert_eq!(runtime.bandwidth, Some(limits));
    assert_eq!(runtime.dns.as_ref().map(|d| d.as_result().nameservers.len()), Some(1));
    assert!(runtime.wants_tap(&settings) && runtime.policy(&settings).is_none());
    assert_eq!(runtime.annotations["Other.Case"], "X");
}

#[test]
fn a_null_runtime_config_is_none() {
    assert!(chained(Value::Null).is_ok_and(|r| r.bandwidth.is_none()));
}

#[test]
fn unknown_fields_are_told_with_key_and_value() {
    let config = input(&json!({"cniVersion": "1.0.0", "name": "n", "ipmasq": true}));
    let error = config.settings().expect_err("an unknown field");
    assert_eq!(error.code, Code::UnsupportedField);
    assert!(error.msg.contains("\"ipmasq\": true"), "{error}");
    let error = chained(json!({"infinibandGUID": "x"})).expect_err("an unknown capability");
    assert_eq!(error.code, Code::UnsupportedField);
}

#[test]
fn capabilities_of_a_main_plugin_are_refused_in_a_chain() {
    for runtime in
        [json!({"mac": "02:00:00:00:00:01"}), json!({"portMappings": []}), json!({"ips": []})]
    {
        assert!(chained(runtime.clone()).is_err(), "{runtime}");
    }
}

#[test]
fn fields_of_another_mode_are_refused() {
    for config in [
        json!({"cniVersion": "1.0.0", "name": "n", "bridge": "b"}),
        json!({"cniVersion": "1.0.0", "name": "n", "mode": "tap", "ipam": {"type": "host-local"}}),
        json!({"cniVersion": "1.0.0", "name": "n", "mode": "ptp", "hairpinMode": true}),
        json!({"cniVersion": "1.0.0", "name": "n", "mode": "bridge", "ipam": {"type": "../x"}}),
        json!({"cniVersion": "1.0.0", "name": "n", "handoffDir": "relative"}),
        json!({"cniVersion": "1.0.0", "name": "n", "policy": "a b"}),
        json!({"cniVersion": "1.0.0", "name": "n", "mode": "other"}),
    ] {
        let refused = input(&config).settings().expect_err("a misplaced field");
        assert_eq!(refused.code, Code::InvalidConfig, "{config}: {refused}");
    }
}

#[test]
fn annotations_are_checked() {
    let annotated =
        |k: &str, v: &str| chained(json!({"io.kubernetes.cri.pod-annotations": {k: v}}));
    assert!(annotated("dev.netcell.net.mode", "bridge").is_err());
    assert!(annotated("dev.netcell.net.policy", "").is_err());
    assert!(annotated("dev.netcell.net.policy", "team/web").is_ok());
}

#[test]
fn what_is_to_be_removed_is_found_in_a_configuration_with_errors() {
    let config = input(
        &json!({"cniVersion": "1.0.0", "name": "n", "handoffDir": "/x", "mode": "other", "mtu": "big",
        "unknown": 1, "ipam": {"type": "host-local"}, "runtimeConfig": {"ips": 3}}),
    );
    let (settings, runtime) = config.lenient();
    assert_eq!(settings.handoff_dir(), PathBuf::from("/x"));
    assert_eq!((settings.mode, settings.mtu), (Mode::Packet, None));
    assert!(settings.ipam.is_some() && runtime.ips.is_empty());
}

#[test]
fn inputs_that_are_none_have_the_code_of_their_kind() {
    let code = |text: &str| Input::parse(text.as_bytes()).err().map(|e| e.code);
    for text in ["", "{", "[]", "null", "\"x\"", "\u{0}", "{\"cniVersion\": 1, \"name\": \"n\"}"] {
        assert_eq!(code(text), Some(Code::Decode), "{text:?}");
    }
    for version in ["", "0.1.0", "0.2.0", "1.2.0", "1.0", "v1.0.0"] {
        let text = format!("{{\"cniVersion\": \"{version}\", \"name\": \"n\"}}");
        assert_eq!(code(&text), Some(Code::IncompatibleVersion), "{text:?}");
    }
    assert_eq!(code("{\"name\": \"n\"}"), Some(Code::IncompatibleVersion));
    for name in ["null", "7", "\"\"", "\"-x\"", "\"a/b\""] {
        let text = format!("{{\"cniVersion\": \"1.0.0\", \"name\": {name}}}");
        assert_eq!(code(&text), Some(Code::InvalidConfig), "{text:?}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(code(&deep), Some(Code::Decode));
}
