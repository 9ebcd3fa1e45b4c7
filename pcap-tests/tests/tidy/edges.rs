//! Who may import whom: between packages (from cargo metadata) and between the layers of netstack (from its imports).

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

use crate::{report, root, sources};

/// Each package and what it may import of ours. Anything not listed is forbidden.
const ALLOWED: &[(&str, &[&str])] = &[
    ("netstack", &[]),
    ("sentry-abi", &[]),
    ("netstack-host", &["netstack"]),
    ("platform", &["sentry-abi"]),
    ("sentry-kernel", &["sentry-abi", "platform"]),
    ("sentry-fs", &["sentry-kernel", "sentry-abi", "platform"]),
    ("sentry-net", &["sentry-kernel", "sentry-abi", "platform", "netstack", "netstack-host"]),
    ("sentry-syscalls", &["sentry-kernel", "sentry-abi"]),
    (
        "sentry",
        &[
            "sentry-abi",
            "sentry-kernel",
            "sentry-fs",
            "sentry-net",
            "sentry-syscalls",
            "platform",
            "netstack",
            "netstack-host",
        ],
    ),
    ("netcell", &["sentry", "sentry-abi", "platform", "netstack", "netstack-host", "pcap-tests"]),
    ("netcell-cni", &[]),
    ("netcell-shim", &[]),
    ("pcap-tests", &["netstack", "netstack-host"]),
];

/// Tests of a room may use more than the room itself: the doubles of the room below.
const ALLOWED_IN_TESTS: &[(&str, &[&str])] = &[("sentry-syscalls", &["platform"])];

/// What each layer of netstack must not import.
const NETSTACK_FORBIDDEN: &[(&str, &[&str])] = &[
    ("wire", &["buffer", "link", "ip", "transport", "socket", "stack", "filter", "sim"]),
    ("buffer", &["link", "ip", "transport", "socket", "stack", "filter", "sim"]),
    ("link", &["ip", "transport", "stack", "sim"]),
    ("ip", &["transport", "stack", "sim"]),
    ("transport", &["stack", "sim"]),
    ("socket", &["sim"]),
    ("stack", &["sim"]),
];

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata of the workspace")
}

#[test]
fn packages_import_only_what_the_house_allows() {
    let metadata = metadata();
    let ours: Vec<_> = metadata.packages.iter().map(|p| p.name.to_string()).collect();
    let mut breaches = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let Some((_, allowed)) = ALLOWED.iter().find(|(n, _)| *n == name) else {
            breaches.push(format!("{name} is not in the list of packages: add it with its edges"));
            continue;
        };
        let in_tests = ALLOWED_IN_TESTS.iter().find(|(n, _)| *n == name).map_or(&[][..], |x| x.1);
        for dependency in package.dependencies.iter().filter(|d| ours.contains(&d.name)) {
            let test_only = dependency.kind == DependencyKind::Development;
            let target = dependency.name.as_str();
            let fine = allowed.contains(&target) || (test_only && in_tests.contains(&target));
            if !fine {
                breaches.push(format!("{name} imports {target}"));
            }
        }
    }
    report("edges between packages", breaches);
}

#[test]
fn every_package_is_on_the_workspace_lints_and_versions() {
    let mut breaches = Vec::new();
    for package in &metadata().packages {
        let manifest = std::fs::read_to_string(&package.manifest_path).expect("a manifest");
        if !manifest.contains("[lints]\nworkspace = true") {
            breaches.push(format!("{}: no `[lints] workspace = true`", package.name));
        }
        let mut in_dependencies = false;
        for line in manifest.lines() {
            if line.starts_with('[') {
                in_dependencies = line.contains("dependencies");
            } else if in_dependencies && line.contains('=') && !line.contains("workspace") {
                breaches.push(format!("{}: a version outside the root: {line}", package.name));
            }
        }
    }
    report("manifests", breaches);
}

#[test]
fn netstack_layers_import_only_downwards() {
    let mut breaches = Vec::new();
    for file in sources::rust_files("netstack/src") {
        let Some(layer) = file.path.split('/').nth(2).map(|l| l.trim_end_matches(".rs")) else {
            continue;
        };
        let Some((_, forbidden)) = NETSTACK_FORBIDDEN.iter().find(|(l, _)| *l == layer) else {
            continue;
        };
        for (number, line) in file.code_lines() {
            for target in *forbidden {
                let path = format!("crate::{target}");
                let hit = line.find(&path).is_some_and(|at| {
                    !line[at + path.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
                });
                if hit {
                    breaches.push(format!("{}:{number}: {layer} imports {target}", file.path));
                }
            }
        }
    }
    report("layers of netstack", breaches);
}

#[test]
fn netstack_knows_no_clock_thread_or_operating_system() {
    const FORBIDDEN: &[&str] = &[
        "std::time",
        "std::thread",
        "std::fs",
        "std::env",
        "std::process",
        "std::os",
        "std::io",
        "std::net::Tcp",
        "std::net::Udp",
        "nix::",
        "libc::",
        "getrandom",
    ];
    let mut breaches = Vec::new();
    for file in sources::rust_files("netstack/src") {
        for (number, line) in file.code_lines() {
            for what in FORBIDDEN.iter().filter(|what| line.contains(**what)) {
                breaches.push(format!("{}:{number}: {what}", file.path));
            }
        }
    }
    report("netstack is given its time, randomness and frames", breaches);
}
