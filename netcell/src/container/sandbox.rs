//! The process of a container's sandbox: it joins the network namespace, makes the sandbox, waits for `start`, and ends with the program.

use std::fs::File;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use anyhow::{Context, Result, anyhow, ensure};
use clap::ValueEnum;
use nix::sched::{CloneFlags, setns, unshare};
use oci_spec::runtime::{self, Linux, LinuxNamespaceType, Spec};
use platform::host::packets::Connection;
use sentry::{
    Attachment, Files, NamespaceNetwork, Network, Prepared, Process, Rules, SandboxConfig, Stdio,
};

use super::handoff::{self, Handed, Node};
use super::pod::Pod;
use super::record::{Folder, HostProcess, Record, Status};
use super::sync::{Word, fail, hear, say};
use super::waiting::{Shared, Sought};
use super::{Runtime, member, pty};
use crate::cli::run::{LogLevel, PlatformChoice};
use crate::control::{Server, listen};
use crate::oci::journal::Journal;
use crate::oci::{files, hooks, process, seccomp, spec};
use crate::sandbox::{backend, signals};

/// The annotation by which a container starts where rules of the host in its namespace will have no effect: `true`.
const IGNORE_RULES: &str = "dev.netcell.ignore-host-rules";
/// The annotation that names the platform, as `--platform` of `netcell run`.
const PLATFORM: &str = "dev.netcell.platform";

/// Whom programs ask for names.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What the process of a sandbox is told.
#[derive(Clone, Debug)]
pub struct Told {
    /// The container's name.
    pub id: String,
    /// The descriptor over which its maker talks to it.
    pub sync: RawFd,
    /// Who gets the master of its terminal.
    pub console_socket: Option<PathBuf>,
    /// Whose session it is in.
    pub session: Session,
}

/// The session of a container's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Its own, so that it outlives its maker's.
    Own,
    /// Its maker's, whose terminal is the program's.
    Makers,
}

impl Session {
    /// This process leads its session, where it has its own.
    pub(super) fn begin(self) -> Result<()> {
        if self == Session::Own {
            nix::unistd::setsid().context("cannot lead a session")?;
        }
        Ok(())
    }
}

/// Is the sandbox of a container, and gives its exit status.
pub fn run(runtime: Runtime, told: &Told) -> Result<u8> {
    let maker = Connection::inherited(told.sync).context("this command is netcell's own")?;
    let folder = Folder::open(&runtime.root, &told.id)?;
    let spec = spec::load(&folder.config())?;
    if folder.read()?.sandbox.is_some() {
        return member::run(runtime, told, maker, (folder, spec));
    }
    match make(runtime, told, &maker, (folder, spec)) {
        Ok(made) => {
            say(&maker, &Word::Made { left_out: made.left_out.clone() })?;
            drop(maker);
            made.live()
        }
        Err(error) => Ok(fail(&maker, &error)),
    }
}

/// A sandbox that waits for its start.
struct Made {
    spec: Spec,
    node: Node,
    journal: Arc<Journal>,
    prepared: Prepared,
    process: Process,
    stdio: Stdio,
    server: Server,
    starts: Receiver<Sought>,
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    signals: signals::Source,
    terminal: Option<OwnedFd>,
    left_out: Vec<String>,
}

fn make(
    runtime: Runtime,
    told: &Told,
    maker: &Connection,
    (folder, spec): (Folder, Spec),
) -> Result<Made> {
    told.session.begin()?;
    let linux = spec.linux().as_ref().context("linux is missing")?;
    let node = Node::own()?;
    join_network(linux)?;
    // Its stack would fall silent, and be the container's.
    ensure!(!node.is_own()?, "linux.namespaces: network is the node's own: {HOST_NETWORK}");
    let record = introduce(&folder, maker)?;
    let root = runtime.root.clone();
    // The platform forks its zygote, which must happen before this process has threads.
    let platform = backend::start(platform_choice(&spec)?, LogLevel::Warn)?;
    let signals = signals::Source::new().context("cannot receive signals")?;
    let asked = spec.process().as_ref().context("process is missing")?;
    let process = process::of_spec(asked).context("process")?;
    let seccomp = linux.seccomp().as_ref().map(seccomp::profile).transpose();
    let seccomp = seccomp.context("linux.seccomp")?;
    let opened = files::open(&spec, &record.bundle)?;
    let terminal = match &told.console_socket {
        Some(socket) => Some(pty::open(socket, asked)?),
        None => None,
    };
    let stdio = stdio(terminal.as_ref(), asked)?;
    let journal = Arc::new(runtime.journal);
    let prepared = sentry::prepare(SandboxConfig {
        platform,
        files: Files::Container(opened.files),
        network: Network::Loopback,
        hostname: spec.hostname().clone().unwrap_or_else(host_name),
        domainname: spec.domainname().clone(),
        seccomp,
        limits: process::limits(linux.resources().as_ref()),
        strace: None,
        log: journal.clone(),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
    })?;
    prepared.check(&process)?;
    set_all(&prepared, &spec)?;
    run_create_hooks(&spec, &record)?;
    let (shared, starts) = Shared::new(&folder);
    let pod = Pod::new(&root, &told.id, shared.clone());
    let server = Server::start(listen(folder.path())?, pod.clone())?;
    Ok(Made {
        spec,
        node,
        journal,
        prepared,
        process,
        stdio,
        server,
        starts,
        shared,
        pod,
        signals,
        terminal,
        left_out: opened.left_out,
    })
}

fn annotation<'a>(spec: &'a Spec, name: &str) -> Option<&'a str> {
    spec.annotations().as_ref().and_then(|all| all.get(name)).map(String::as_str)
}

fn platform_choice(spec: &Spec) -> Result<PlatformChoice> {
    let Some(name) = annotation(spec, PLATFORM) else { return Ok(PlatformChoice::default()) };
    PlatformChoice::from_str(name, false)
        .map_err(|_| anyhow!("annotation {PLATFORM}: there is no platform {name:?}"))
}

/// Why `--network host`, `hostNetwork: true` are refused.
const HOST_NETWORK: &str = "a sandbox has a stack of its own and cannot share the host's";

/// The pid that callers get lives in the container's network namespace.
pub(super) fn join_network(linux: &Linux) -> Result<()> {
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let network = namespaces.iter().find(|n| n.typ() == LinuxNamespaceType::Network);
    let network =
        network.with_context(|| format!("linux.namespaces: network is missing: {HOST_NETWORK}"))?;
    match network.path() {
        Some(path) => {
            let told = || format!("linux.namespaces: network {}", path.display());
            let file = File::open(path).with_context(told)?;
            setns(file, CloneFlags::CLONE_NEWNET).with_context(told)
        }
        None => unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace"),
    }
}

/// Enters this process in the container's record, and waits for its maker's word to go on.
pub(super) fn introduce(folder: &Folder, maker: &Connection) -> Result<Record> {
    let own = HostProcess::of(std::process::id() as i32)?;
    let record = folder.change(|record| record.process = Some(own))?;
    say(maker, &Word::Joined)?;
    let word = hear(maker)?;
    ensure!(word == Word::Go, "the maker says what makes no sense: {word:?}");
    Ok(record)
}

/// The hooks between the making of a container's world and its start.
pub(super) fn run_create_hooks(spec: &Spec, record: &Record) -> Result<()> {
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.create_container().as_ref());
    hooks::run("createContainer", hooks, &record.state(Status::Creating).to_string())
}

pub(super) fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The terminal that was made, or this process's streams, which may be one.
fn stdio(terminal: Option<&OwnedFd>, asked: &runtime::Process) -> Result<Stdio> {
    let terminals = process::terminals(asked);
    let Some(terminal) = terminal else {
        return Ok(Stdio { descriptors: crate::sandbox::standard_streams(), terminals });
    };
    let copy = || terminal.try_clone().map(Some);
    Ok(Stdio { descriptors: [copy()?, copy()?, copy()?], terminals })
}

impl Made {
    /// Waits for the start, and for the program's end.
    fn live(self) -> Result<u8> {
        let Self { prepared, process, stdio, server, shared, pod, spec, starts, .. } = self;
        let begun = shared.begin(starts, &spec, || {
            // Callers make the network between create and start at the latest.
            take_network(&prepared, &spec, handoff::find(&self.node)?, &self.journal)?;
            // Again: with the network came its settings.
            set_all(&prepared, &spec)?;
            let sandbox = prepared.start(process, stdio)?;
            let remote = sandbox.remote();
            self.signals.forward_to(sandbox.remote(), self.terminal)?;
            Ok((sandbox, remote))
        });
        let status = begun.map_or_else(|status| status, |sandbox| sandbox.wait().exit_status());
        pod.end();
        server.end();
        Ok(status)
    }
}

/// Takes the network as it is by now, with what was handed over about it.
fn take_network(prepared: &Prepared, spec: &Spec, handed: Handed, journal: &Journal) -> Result<()> {
    handed.without_effect.iter().for_each(|line| journal.warn(line));
    prepared.take_network(network(spec, handed.attachments))?;
    let Some(text) = handed.resolv_conf.filter(|_| !gives_resolvers(spec)) else { return Ok(()) };
    // A root that is read-only and has no such file shall start all the same.
    if let Err(error) = prepared.cover(RESOLV_CONF, &text) {
        journal.warn(&format!("the network's resolvers are unknown inside: {error}"));
    }
    Ok(())
}

/// Whether the configuration says itself whom programs ask for names.
fn gives_resolvers(spec: &Spec) -> bool {
    let given = |path: &Path| path == Path::new(RESOLV_CONF) || path == Path::new("/etc");
    spec.mounts().iter().flatten().any(|mount| given(mount.destination()))
}

/// The namespace that this process is in, with all that is in it by now.
fn network(spec: &Spec, attachments: Vec<Attachment>) -> NamespaceNetwork {
    let rules = match annotation(spec, IGNORE_RULES) {
        Some("true") => Rules::Ignore,
        _ => Rules::Refuse,
    };
    NamespaceNetwork { rules, attachments, ..NamespaceNetwork::default() }
}

/// linux.sysctl
fn set_all(prepared: &Prepared, spec: &Spec) -> Result<()> {
    let settings = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
    for (name, value) in settings.into_iter().flatten() {
        prepared.set(name, value).context("linux.sysctl")?;
    }
    Ok(())
}
