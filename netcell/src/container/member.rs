//! The process that stands on the host for a container in the sandbox of its pod (ADR 12): it opens what the configuration names, hands it
//! to the sandbox, passes signals on, and ends with the container's status.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use platform::host::packets::{self, DESCRIPTORS_MAX};

use super::exec::{attend, describe, streams};
use super::handoff::Identity;
use super::record::{Folder, Record, Status};
use super::sandbox::{Told, introduce, join_network, run_create_hooks};
use super::sync::{Word, fail, say};
use super::{Runtime, pty};
use crate::control::{Connection, Joined, Request};
use crate::oci::{files, process, seccomp};
use crate::sandbox::signals;

/// Checks what can be told of a container that shall join a sandbox, and finds whose namespaces it shares.
pub(super) fn check(runtime: &Runtime, sandbox: &str, spec: &Spec) -> Result<Joined> {
    let told = || format!("the pod's sandbox {sandbox}");
    let record = Folder::open(&runtime.root, sandbox).and_then(|f| f.read()).with_context(told)?;
    ensure!(record.sandbox.is_none(), "{} is itself a container of another's", told());
    match record.status() {
        Status::Running | Status::Paused => {}
        status => bail!("{} is {}", told(), status.word()),
    }
    let linux = spec.linux().as_ref().context("linux is missing")?;
    let sysctls = linux.sysctl().as_ref().is_some_and(|all| !all.is_empty());
    ensure!(!sysctls, "linux.sysctl: settings are those of the pod's sandbox");
    let records = runtime.records()?;
    let mut joined = Joined::default();
    for namespace in linux.namespaces().iter().flatten() {
        let into = match namespace.typ() {
            LinuxNamespaceType::Pid => &mut joined.pids,
            LinuxNamespaceType::Ipc => &mut joined.ipc,
            LinuxNamespaceType::Uts => &mut joined.uts,
            _ => continue,
        };
        if let Some(path) = namespace.path() {
            let kind = namespace.typ();
            let told = || format!("linux.namespaces: {kind} {}", path.display());
            *into = Some(owner(&records, sandbox, (kind, path)).with_context(told)?);
        }
    }
    let named = spec.hostname().is_some() || spec.domainname().is_some();
    ensure!(
        !named || joined.uts.is_none(),
        "hostname, domainname: these are the joined uts namespace's"
    );
    Ok(joined)
}

/// The container of a pod whose process has this namespace, by /proc/PID/ns/KIND.
fn owner(
    records: &[Record],
    sandbox: &str,
    (kind, path): (LinuxNamespaceType, &Path),
) -> Result<String> {
    let is_it = |record: &&Record| {
        let pods = record.id == sandbox || record.sandbox.as_deref() == Some(sandbox);
        let process = record.process.filter(|process| pods && process.is_alive());
        process
            .is_some_and(|process| path == Path::new(&format!("/proc/{}/ns/{kind}", process.pid)))
    };
    let found = records.iter().find(is_it).map(|record| record.id.clone());
    found.context("no container of the pod has it (as /proc/PID/ns/…)")
}

/// Stands for the container, and gives its exit status.
pub(super) fn run(
    runtime: Runtime,
    told: &Told,
    maker: packets::Connection,
    (folder, spec): (Folder, Spec),
) -> Result<u8> {
    match make(&runtime, told, &maker, (&folder, &spec)) {
        Ok(Made { container, signals, terminal, left_out }) => {
            say(&maker, &Word::Made { left_out })?;
            drop(maker);
            attend(container, signals, terminal)
        }
        Err(error) => Ok(fail(&maker, &error)),
    }
}

/// A container in its sandbox that waits for its start.
struct Made {
    container: Connection,
    signals: signals::Source,
    terminal: Option<OwnedFd>,
    left_out: Vec<String>,
}

fn make(
    runtime: &Runtime,
    told: &Told,
    maker: &packets::Connection,
    (folder, spec): (&Folder, &Spec),
) -> Result<Made> {
    told.session.begin()?;
    let linux = spec.linux().as_ref().context("linux is missing")?;
    let sandbox = folder.read()?.sandbox.context("the record names no sandbox")?;
    let joined = check(runtime, &sandbox, spec)?;
    join_network(linux)?;
    let sandbox = Folder::open(&runtime.root, &sandbox)?;
    check_network(&sandbox)?;
    let record = introduce(folder, maker)?;
    let signals = signals::Source::new().context("cannot receive signals")?;
    // Errors of the configuration are told before anything is begun in the sandbox.
    let asked = spec.process().as_ref().context("process is missing")?;
    process::of_spec(asked).context("process")?;
    linux.seccomp().as_ref().map(seccomp::profile).transpose().context("linux.seccomp")?;
    let opened = files::open(spec, &record.bundle)?;
    let terminal = match &told.console_socket {
        Some(socket) => Some(pty::open(socket, asked)?),
        None => None,
    };
    let handed = files::hand_over(opened.files);
    let streams = streams(terminal.as_ref())?;
    let container = hand_over(&sandbox, spec, (told.id.clone(), joined), handed, &streams)?;
    run_create_hooks(spec, &record)?;
    Ok(Made { container, signals, terminal, left_out: opened.left_out })
}

/// This process is in the network namespace of the configuration, which has to be the sandbox's.
fn check_network(sandbox: &Folder) -> Result<()> {
    let process = sandbox.read()?.process.context("the pod's sandbox has no process")?;
    let theirs = Identity::of_path(&format!("/proc/{}/ns/net", process.pid));
    let same = theirs == Some(Identity::own()?);
    ensure!(same, "linux.namespaces: network is another one than the pod's sandbox has");
    Ok(())
}

/// Gives the sandbox what the container is made of; the connection is the container's from then on.
fn hand_over(
    sandbox: &Folder,
    spec: &Spec,
    (id, joined): (String, Joined),
    handed: files::HandedOver,
    streams: &[OwnedFd],
) -> Result<Connection> {
    let description = describe(spec)?;
    let connection = sandbox.connect()?;
    let count = handed.descriptors.len();
    let request = Request::Add { id, sources: handed.sources, descriptors: count, joined };
    let first: Vec<BorrowedFd<'_>> =
        [description.as_fd()].into_iter().chain(streams.iter().map(AsFd::as_fd)).collect();
    connection.send(&request, &first)?;
    for some in handed.descriptors.chunks(DESCRIPTORS_MAX) {
        let some: Vec<_> = some.iter().map(AsFd::as_fd).collect();
        connection.send(&Request::Descriptors, &some)?;
    }
    connection.started()?;
    Ok(connection)
}
