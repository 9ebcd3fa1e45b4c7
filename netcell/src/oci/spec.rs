//! A bundle's configuration: read, and checked for what makes no sense and for what this kernel cannot give.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{Hook, Linux, LinuxNamespaceType, Process, Spec};

/// The file's name in a bundle.
pub const CONFIG: &str = "config.json";
/// A configuration is no longer than this in bytes.
const CONFIG_MAX: u64 = 16 << 20;

/// Reads and checks a configuration. Errors name the field.
pub fn load(path: &Path) -> Result<Spec> {
    let told = || path.display().to_string();
    File::open(path).map_err(Into::into).and_then(read).with_context(told)
}

/// The same of an open file.
pub fn read(file: File) -> Result<Spec> {
    let spec: Spec = serde_json::from_slice(&read_bounded(file, CONFIG_MAX)?)?;
    check(&spec)?;
    Ok(spec)
}

/// All bytes of a file. Errors: there are more than `most`.
pub fn read_bounded(file: File, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= most, "longer than {most} bytes");
    Ok(bytes)
}

/// What says that a container is one of a pod, and which container is the pod's sandbox: those of containerd, and those of CRI-O.
const MEMBERSHIP: [(&str, &str); 2] = [
    ("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"),
    ("io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID"),
];

/// The name of the container whose sandbox this one joins; none for one that has its own. Errors: the name is missing.
pub fn sandbox(spec: &Spec) -> Result<Option<&str>> {
    let Some(annotations) = spec.annotations() else { return Ok(None) };
    let joins = |(kind, _): &&(&str, &str)| {
        annotations.get(*kind).is_some_and(|value| value == "container")
    };
    let Some((kind, id)) = MEMBERSHIP.iter().find(joins) else { return Ok(None) };
    let named = annotations.get(*id).filter(|id| !id.is_empty());
    let told = || format!("annotation {kind} is container, and {id} names no sandbox");
    named.map(|id| Some(id.as_str())).with_context(told)
}

/// The root directory of a bundle's container.
pub fn rootfs(spec: &Spec, bundle: &Path) -> Result<PathBuf> {
    let root = spec.root().as_ref().context("root is missing")?;
    let path = bundle.join(root.path());
    path.canonicalize().with_context(|| format!("root.path {}", path.display()))
}

fn check(spec: &Spec) -> Result<()> {
    check_version(spec.version())?;
    let root = spec.root().as_ref().context("root is missing")?;
    ensure!(!root.path().as_os_str().is_empty(), "root.path is empty");
    let process = spec.process().as_ref().context("process is missing")?;
    check_process(process).context("process")?;
    ensure!(spec.vm().is_none(), "vm: virtual machines are started by other runtimes");
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        let named = || format!("mounts[{index}]");
        check_absolute(mount.destination()).with_context(named)?;
        let mapped = mount.uid_mappings().is_some() || mount.gid_mappings().is_some();
        ensure!(!mapped, "{}: ids cannot be mapped", named());
    }
    let linux = spec.linux().as_ref().context("linux is missing")?;
    check_linux(linux, spec).context("linux")?;
    check_hooks(spec).context("hooks")
}

fn check_version(version: &str) -> Result<()> {
    let mut parts = version.split('.').map(|part| part.split(['-', '+']).next().unwrap_or(""));
    match parts.next().map(str::parse::<u32>) {
        Some(Ok(1)) => Ok(()),
        Some(Ok(_)) => bail!("ociVersion {version} is not served: only version 1 is"),
        _ => bail!("ociVersion {version:?} is no version"),
    }
}

fn check_absolute(path: &Path) -> Result<()> {
    ensure!(path.is_absolute(), "{} is not an absolute path", path.display());
    check_text(&path.to_string_lossy())
}

/// A zero byte would end a string that a program gets.
fn check_text(text: &str) -> Result<()> {
    ensure!(!text.contains('\0'), "{text:?} holds a zero byte");
    Ok(())
}

/// Checks a process, also one of `exec`.
pub fn check_process(process: &Process) -> Result<()> {
    let args = process.args().as_deref().unwrap_or_default();
    ensure!(args.first().is_some_and(|program| !program.is_empty()), "args name no program");
    args.iter().try_for_each(|word| check_text(word)).context("args")?;
    for variable in process.env().iter().flatten() {
        check_text(variable).context("env")?;
        let named = variable.split_once('=').is_some_and(|(name, _)| !name.is_empty());
        ensure!(named, "env: {variable:?} is not NAME=VALUE");
    }
    check_absolute(process.cwd()).context("cwd")?;
    let user = process.user();
    let groups = user.additional_gids().iter().flatten().copied();
    for id in [user.uid(), user.gid()].into_iter().chain(groups) {
        ensure!(id != u32::MAX, "user: {id} is nobody's id");
    }
    ensure!(user.umask().is_none_or(|umask| umask <= 0o777), "user: umask is more than 0777");
    let mut seen = Vec::new();
    for limit in process.rlimits().iter().flatten() {
        ensure!(!seen.contains(&limit.typ()), "rlimits: {:?} stands twice", limit.typ());
        seen.push(limit.typ());
        let (soft, hard) = (limit.soft(), limit.hard());
        ensure!(soft <= hard, "rlimits: {:?}: soft {soft} exceeds hard {hard}", limit.typ());
    }
    let score = process.oom_score_adj().unwrap_or(0);
    ensure!((-1000..=1000).contains(&score), "oomScoreAdj {score} is not -1000 to 1000");
    Ok(())
}

fn check_linux(linux: &Linux, spec: &Spec) -> Result<()> {
    let mapped = |ids: &Option<Vec<_>>| ids.as_ref().is_some_and(|ids| !ids.is_empty());
    let user_namespace = mapped(linux.uid_mappings()) || mapped(linux.gid_mappings());
    ensure!(!user_namespace, "uidMappings, gidMappings: there are no user namespaces here");
    ensure!(linux.time_offsets().is_none(), "timeOffsets: there are no time namespaces here");
    ensure!(linux.intel_rdt().is_none(), "intelRdt is not supported");
    ensure!(linux.personality().is_none(), "personality is not supported");
    ensure!(linux.net_devices().is_none(), "netDevices is not supported");
    ensure!(linux.memory_policy().is_none(), "memoryPolicy is not supported");
    check_namespaces(linux, spec).context("namespaces")?;
    if let Some(propagation) = linux.rootfs_propagation().as_deref() {
        let known = ["", "private", "rprivate", "slave", "rslave"];
        ensure!(
            known.contains(&propagation),
            "rootfsPropagation {propagation}: no mount of a container reaches the host"
        );
    }
    for device in linux.devices().iter().flatten() {
        check_absolute(device.path()).context("devices")?;
    }
    let paths = [linux.masked_paths(), linux.readonly_paths()];
    for path in paths.into_iter().flatten().flatten() {
        check_absolute(Path::new(path)).context("maskedPaths, readonlyPaths")?;
    }
    Ok(())
}

fn check_namespaces(linux: &Linux, spec: &Spec) -> Result<()> {
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let sandbox = sandbox(spec)?;
    let mut seen = Vec::new();
    for namespace in namespaces {
        let kind = namespace.typ();
        ensure!(!seen.contains(&kind), "{kind} stands twice");
        seen.push(kind);
        let joins = namespace.path().is_some();
        match kind {
            LinuxNamespaceType::Network => {
                namespace.path().as_deref().map_or(Ok(()), check_absolute).context("network")?;
            }
            LinuxNamespaceType::User => bail!("user: there are no user namespaces here"),
            LinuxNamespaceType::Time => bail!("time: there are no time namespaces here"),
            // What it separates is not shown in a container at all.
            LinuxNamespaceType::Cgroup => {}
            _ if joins && sandbox.is_none() => {
                bail!("{kind}: only the containers of a pod can share it")
            }
            _ => {}
        }
    }
    for (kind, whose) in [
        (LinuxNamespaceType::Mount, "mounts"),
        (LinuxNamespaceType::Pid, "processes"),
        (LinuxNamespaceType::Ipc, "shared memory"),
        (LinuxNamespaceType::Network, "network"),
    ] {
        ensure!(seen.contains(&kind), "{kind} is missing: the host's {whose} cannot be shared");
    }
    let named = spec.hostname().is_some() || spec.domainname().is_some();
    let own = seen.contains(&LinuxNamespaceType::Uts);
    ensure!(own || !named, "hostname, domainname: these need a uts namespace");
    Ok(())
}

fn check_hooks(spec: &Spec) -> Result<()> {
    let Some(hooks) = spec.hooks() else { return Ok(()) };
    let all = [
        hooks.prestart(),
        hooks.create_runtime(),
        hooks.create_container(),
        hooks.start_container(),
        hooks.poststart(),
        hooks.poststop(),
    ];
    all.into_iter().flatten().flatten().try_for_each(check_hook)
}

fn check_hook(hook: &Hook) -> Result<()> {
    check_absolute(hook.path())?;
    ensure!(hook.timeout().is_none_or(|seconds| seconds > 0), "timeout must be more than 0");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn plain() -> Value {
        json!({
            "ociVersion": "1.0.2", "root": { "path": "rootfs" }, "hostname": "box",
            "process": { "args": ["true"], "cwd": "/", "user": { "uid": 0, "gid": 0 } },
            "linux": { "namespaces": [
                { "type": "mount" }, { "type": "pid" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "network", "path": "/run/netns/x" },
            ] },
        })
    }

    fn verdict(spec: &Value) -> String {
        match serde_json::from_value::<Spec>(spec.clone()) {
            Err(error) => error.to_string(),
            Ok(spec) => check(&spec).err().map_or(String::new(), |error| format!("{error:#}")),
        }
    }

    #[test]
    fn a_plain_configuration_is_good_and_unknown_fields_are_ignored() {
        let mut spec = plain();
        spec["something"] = json!({ "new": [1, 2] });
        assert_eq!(verdict(&spec), "");
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let cases: &[(&str, Value, &str)] = &[
            ("/ociVersion", json!("2.0.0"), "ociVersion 2.0.0 is not served"),
            ("/ociVersion", json!("x"), "is no version"),
            ("/root", Value::Null, "root is missing"),
            ("/root/path", json!(""), "root.path is empty"),
            ("/process", Value::Null, "process is missing"),
            ("/process/args", json!([]), "args name no program"),
            ("/process/args", json!(["a\u{0}b"]), "zero byte"),
            ("/process/args", json!("sh"), "invalid type"),
            ("/process/cwd", json!("tmp"), "tmp is not an absolute path"),
            ("/process/user/uid", json!(-1), "invalid value"),
            ("/process/user/uid", json!(u32::MAX), "is nobody's id"),
            ("/process/env", json!(["NOTHING"]), "is not NAME=VALUE"),
            (
                "/process/rlimits",
                json!([{ "type": "RLIMIT_NOFILE", "soft": 2, "hard": 1 }]),
                "soft 2 exceeds hard 1",
            ),
            ("/process/oomScoreAdj", json!(1001), "is not -1000 to 1000"),
            ("/mounts", json!([{ "destination": "x" }]), "mounts[0]: x is not an absolute path"),
            ("/linux/namespaces/1", json!({ "type": "mount" }), "stands twice"),
            ("/linux/namespaces/1", json!({ "type": "user" }), "no user namespaces"),
            (
                "/linux/namespaces/1",
                json!({ "type": "pid", "path": "/p" }),
                "only the containers of a pod",
            ),
            ("/linux/namespaces/1", json!({ "type": "cgroup" }), "processes cannot be shared"),
            ("/linux/namespaces/3", json!({ "type": "cgroup" }), "need a uts namespace"),
            ("/linux/namespaces/4", json!({ "type": "cgroup" }), "network cannot be shared"),
            (
                "/linux/uidMappings",
                json!([{ "containerID": 0, "hostID": 1, "size": 1 }]),
                "no user namespaces",
            ),
            ("/hooks", json!({ "poststop": [{ "path": "x" }] }), "x is not an absolute path"),
            ("/hooks", json!({ "prestart": [{ "path": "/x", "timeout": 0 }] }), "more than 0"),
        ];
        for (place, value, expected) in cases {
            let mut spec = plain();
            let (above, name) = place.rsplit_once('/').expect("a place");
            match spec.pointer_mut(above).expect("what is above") {
                Value::Array(all) => {
                    all[name.parse::<usize>().expect("an index")] = value.clone();
                }
                other => other[name] = value.clone(),
            }
            let told = verdict(&spec);
            assert!(told.contains(expected), "{place} {value}: {told:?}");
        }
    }
}
