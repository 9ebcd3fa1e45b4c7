//! What `features` tells (features.md of the runtime specification): hooks, options, namespaces, capabilities.

use sentry::Capabilities;
use serde_json::{Value, json};

use super::VERSION;

/// The hooks that are run.
const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
/// Options of mounts that have an effect.
const MOUNT_OPTIONS: [&str; 27] = [
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "exec",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "norelatime",
    "nosuid",
    "private",
    "rbind",
    "relatime",
    "ro",
    "rprivate",
    "rro",
    "rslave",
    "runbindable",
    "rw",
    "slave",
    "strictatime",
    "suid",
    "unbindable",
    "async",
    "rrw",
];

/// The features, as JSON.
pub fn features() -> Value {
    let capabilities: Vec<String> =
        Capabilities::all().iter_names().map(|(name, _)| format!("CAP_{name}")).collect();
    let no = json!({ "enabled": false });
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": VERSION,
        "hooks": HOOKS,
        "mountOptions": MOUNT_OPTIONS,
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "uts"],
            "capabilities": capabilities,
            "cgroup": {
                "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": false,
            },
            "seccomp": {
                "enabled": true,
                "actions": [
                    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                    "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
                ],
                "operators": [
                    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                    "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE",
                ],
            },
            "apparmor": no, "selinux": no, "intelRdt": no,
            "mountExtensions": { "idmap": no },
        },
        "annotations": { "dev.netcell.version": env!("CARGO_PKG_VERSION") },
    })
}
