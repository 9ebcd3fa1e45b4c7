//! The `process` object as a program of the sandbox.

use std::sync::Arc;

use anyhow::{Context, Result};
use oci_spec::runtime::{self, LinuxMemory, LinuxPids, LinuxResources};
use sentry::{
    Capabilities, ContainerLimits, Credentials, Home, HostTerminals, MissingWorkdir, Process,
};
use sentry_abi::resource::{Resource, Rlimit};

use super::spec::check_process;

/// Mask of new files' permissions where none is given.
const UMASK: u32 = 0o022;

/// The program of a checked or unchecked `process` object. Errors name the field.
pub fn of_spec(process: &runtime::Process) -> Result<Process> {
    check_process(process)?;
    let words = |words: &Option<Vec<String>>| -> Vec<Vec<u8>> {
        words.iter().flatten().map(|word| word.clone().into_bytes()).collect()
    };
    let limits = process.rlimits().iter().flatten().map(limit).collect::<Result<_>>()?;
    Ok(Process {
        argv: words(process.args()),
        env: words(process.env()),
        home: Home::OfUser,
        workdir: process.cwd().clone(),
        missing_workdir: MissingWorkdir::Made,
        credentials: credentials(process)?,
        umask: process.user().umask().unwrap_or(UMASK),
        limits,
    })
}

/// Which of a program's standard streams are its terminal.
pub fn terminals(process: &runtime::Process) -> HostTerminals {
    match process.terminal() {
        Some(true) => HostTerminals::Connected,
        _ => HostTerminals::Streams,
    }
}

/// How many tasks a container may have: `resources.pids`, where 0 and less are no limit.
pub fn tasks_max(resources: &LinuxResources) -> Option<u64> {
    let limit = resources.pids().as_ref().map(LinuxPids::limit)?;
    u64::try_from(limit).ok().filter(|limit| *limit > 0)
}

/// How much memory a container may have, in bytes: `resources.memory.limit`, where 0 and less are no limit.
pub fn memory_max(resources: &LinuxResources) -> Option<u64> {
    let limit = resources.memory().as_ref().and_then(LinuxMemory::limit)?;
    u64::try_from(limit).ok().filter(|limit| *limit > 0)
}

/// What a container's kernel is told of its limits.
pub fn limits(resources: Option<&LinuxResources>) -> ContainerLimits {
    ContainerLimits {
        tasks_max: resources.and_then(tasks_max),
        memory_max: resources.and_then(memory_max),
    }
}

fn credentials(process: &runtime::Process) -> Result<Credentials> {
    let user = process.user();
    let groups: Arc<[u32]> = user.additional_gids().iter().flatten().copied().collect();
    let all = process.capabilities().as_ref();
    let set = |set: fn(&runtime::LinuxCapabilities) -> &Option<runtime::Capabilities>| {
        let names = all.and_then(|all| set(all).as_ref()).into_iter().flatten();
        names.map(|name| capability(*name)).collect::<Result<Capabilities>>()
    };
    let bounding = set(runtime::LinuxCapabilities::bounding)?;
    let permitted = set(runtime::LinuxCapabilities::permitted)?;
    let inheritable = set(runtime::LinuxCapabilities::inheritable)?;
    Ok(Credentials {
        permitted,
        effective: set(runtime::LinuxCapabilities::effective)? & permitted,
        inheritable,
        bounding,
        // capabilities(7): never more than is both permitted and inheritable.
        ambient: set(runtime::LinuxCapabilities::ambient)? & permitted & inheritable,
        no_new_privs: process.no_new_privileges().unwrap_or(false),
        ..Credentials::user(user.uid(), user.gid(), groups)
    })
}

fn capability(name: runtime::Capability) -> Result<Capabilities> {
    let name = name.to_string();
    Capabilities::from_name(&name).with_context(|| format!("capabilities: there is no CAP_{name}"))
}

fn limit(limit: &runtime::PosixRlimit) -> Result<(Resource, Rlimit)> {
    // The specification lists them in the order of Linux's numbers.
    let resource = Resource::from_number(limit.typ() as u32);
    let resource = resource.with_context(|| format!("rlimits: there is no {}", limit.typ()))?;
    Ok((resource, Rlimit { cur: limit.soft(), max: limit.hard() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn identity_and_limits_are_those_of_the_configuration() {
        let process = serde_json::from_value(json!({
            "args": ["id"], "cwd": "/", "noNewPrivileges": true,
            "user": { "uid": 7, "gid": 8, "additionalGids": [9], "umask": 63 },
            "capabilities": {
                "bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_KILL"],
                "effective": ["CAP_KILL", "CAP_CHOWN"], "ambient": ["CAP_KILL"],
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 10, "hard": 20 }],
        }));
        let program = of_spec(&process.expect("a process")).expect("a program");
        let who = &program.credentials;
        assert_eq!((who.uid, who.fsgid, &*who.groups), (7, 8, &[9][..]));
        assert_eq!(who.bounding, Capabilities::CHOWN | Capabilities::KILL);
        assert_eq!(who.effective, Capabilities::KILL);
        assert_eq!(who.ambient, Capabilities::empty(), "KILL is not inheritable");
        assert!(who.no_new_privs);
        assert_eq!(program.umask, 0o77);
        assert_eq!(program.limits, [(Resource::Nofile, Rlimit { cur: 10, max: 20 })]);
    }

    #[test]
    fn every_limit_of_the_specification_is_the_one_of_its_name() {
        for resource in Resource::ALL {
            let name = format!("RLIMIT_{}", format!("{resource:?}").to_uppercase());
            let value = json!({ "type": name, "soft": 1, "hard": 1 });
            let asked = serde_json::from_value(value).expect("a limit");
            assert_eq!(limit(&asked).expect("a limit").0, resource, "{name}");
        }
    }
}
