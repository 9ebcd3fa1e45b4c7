//! Boot: from a configuration to a sandbox that waits for its first program, and from that program's end to an exit status.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use netstack_host::capture;
use sentry_abi::Errno;
use sentry_fs::proc::ProcFs;
use sentry_fs::services::Services;
use sentry_fs::stdio::HostWatcher;
use sentry_kernel::cred::Credentials;
use sentry_kernel::error::Error;
use sentry_kernel::file::WriteAt;
use sentry_kernel::io::SliceSource;
use sentry_kernel::kernel::{Kernel, KernelConfig};
use sentry_kernel::log::Level;
use sentry_kernel::task::{Container, WaitStatus};
use sentry_kernel::time::Clock;
use sentry_kernel::vfs::{FileSystem, OpenFlags, Timespec};
use sentry_net::netns::{CaptureStart, NetError};
use sentry_syscalls::Syscalls;

use crate::config::{
    Files, Names, NamespaceNetwork, Network, Process, SandboxConfig, SessionFiles, Stdio,
};
use crate::host::{HostRandom, trace_to};
use crate::member::{Member, Place};
use crate::registry::{self, Offer};
use crate::remote::{Remote, Running};
use crate::tree::Tree;
use crate::world::{Namespaces, World};
use crate::{container, network, vdso};

/// How long a sandbox whose programs are gone stays for peers that take nothing of what these have sent.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// Why a sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The program was not found: exit status 127.
    #[error("{program}: No such file or directory")]
    NotFound {
        /// As it was given.
        program: String,
    },
    /// The program cannot be executed: exit status 126.
    #[error("{program}: {reason}")]
    NotExecutable {
        /// As it was given.
        program: String,
        /// Why.
        reason: &'static str,
    },
    /// The network.
    #[error(transparent)]
    Network(#[from] NetError),
    /// The capture.
    #[error(transparent)]
    Capture(#[from] CaptureStart),
    /// The TAP device.
    #[error(transparent)]
    Tap(#[from] netstack_host::tap::TapError),
    /// An address that makes no sense here.
    #[error("{0}")]
    Addresses(String),
    /// What was handed over about an interface is not so.
    #[error("{0}: {1}")]
    Handoff(String, String),
    /// A step of building the sandbox.
    #[error("cannot {what}: {errno}")]
    Step {
        /// What was tried.
        what: String,
        /// Why it failed.
        errno: Errno,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

pub(crate) fn step(what: impl Into<String>) -> impl FnOnce(Error) -> BootError {
    let what = what.into();
    move |error| BootError::Step { what, errno: error.errno() }
}

/// A sandbox whose first program has not started.
pub struct Prepared {
    first: Arc<Member>,
    /// For settings, whether or not programs see it.
    proc: Arc<dyn FileSystem>,
}

/// A running sandbox.
pub struct Sandbox {
    first: Arc<Member>,
    init: Arc<Running>,
}

/// How a sandbox, or a program that was added to it, ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The program exited with this status.
    Exited(u8),
    /// A signal of this number ended it.
    Signaled(u8),
    /// The kernel failed; the text says why.
    Failed(String),
}

/// Builds the sandbox and starts its first program.
pub fn boot(config: SandboxConfig, process: Process, stdio: Stdio) -> Result<Sandbox, BootError> {
    prepare(config)?.start(process, stdio)
}

/// Builds the sandbox.
pub fn prepare(config: SandboxConfig) -> Result<Prepared, BootError> {
    let (clock, vdso) = vdso::start(config.platform.memory())?;
    let clock: Arc<dyn Clock> = clock;
    let wall = clock.clone();
    let services = Services::new(
        config.platform.memory().clone(),
        Arc::new(move || {
            let ns = wall.realtime_ns();
            Timespec {
                sec: ns.div_euclid(1_000_000_000),
                nsec: ns.rem_euclid(1_000_000_000) as u32,
            }
        }),
    );
    let kernel = Kernel::new(KernelConfig {
        vdso: Some(vdso),
        platform: config.platform,
        clock: clock.clone(),
        log: config.log.clone(),
        random: Arc::new(HostRandom),
        cpus: config.cpus,
    });
    let capture = match &config.network {
        Network::Tap(tap) => tap.capture.clone(),
        Network::Namespace(namespace) => namespace.capture.clone(),
        Network::Loopback => None,
    };
    let net = network::make(config.network, clock, config.log)?;
    if let Some(path) = capture {
        let file = capture::create(&path).map_err(CaptureStart::from)?;
        net.capture((file, &path), &[], &kernel)?;
    }
    let world = Arc::new(World {
        net_files: registry::network(&kernel, &net),
        watcher: HostWatcher::start()?,
        syscalls: Syscalls::new(config.strace.map(trace_to)),
        made: AtomicU32::new(0),
        kernel,
        net,
        services,
    });
    let names = Names::Own { hostname: config.hostname, domainname: config.domainname };
    let own = Namespaces { pids: None, segments: None, names };
    let first =
        world.member(own, config.seccomp, config.limits, |container, offer| {
            match config.files {
                Files::Session(files) => session(container, &world.services, offer, files),
                Files::Container(files) => {
                    container::tree(container, &world.services, offer, files)
                }
            }
        })?;
    let proc = ProcFs::new(&world.services, &first.container, &world.net_files);
    Ok(Prepared { first: Arc::new(first), proc })
}

fn session(
    container: &Arc<Container>,
    services: &Services,
    offer: &Offer,
    files: SessionFiles,
) -> Result<Tree, BootError> {
    let tree = Tree::of_image(services, files.image).map_err(step("build the root file system"))?;
    tree.mount_system(container, services, offer)
        .map_err(step("mount /proc, /sys, /dev and /tmp"))?;
    let hostname = String::from_utf8_lossy(&container.uts().hostname()).into_owned();
    write_names(&tree, &hostname, &files.name_servers)?;
    for volume in files.volumes {
        let what = format!("mount a volume at {}", volume.target.display());
        tree.mount_volume(services, volume).map_err(step(what))?;
    }
    Ok(tree)
}

/// /etc/hostname, /etc/hosts, /etc/resolv.conf: what the sandbox is called and whom it asks for names.
fn write_names(tree: &Tree, hostname: &str, name_servers: &[IpAddr]) -> Result<(), BootError> {
    let hosts = format!(
        "127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback {hostname}\n"
    );
    let resolv: String =
        name_servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    let mut files = vec![("/etc/hostname", format!("{hostname}\n")), ("/etc/hosts", hosts)];
    if !name_servers.is_empty() {
        files.push(("/etc/resolv.conf", resolv));
    }
    for (path, content) in files {
        tree.write_file(path, content.as_bytes()).map_err(step(format!("write {path}")))?;
    }
    Ok(())
}

impl Prepared {
    /// Whether a program could be started, as far as can be told before: its working directory and its file are there.
    pub fn check(&self, process: &Process) -> Result<(), BootError> {
        self.first.check(process)
    }

    /// Takes the interfaces of a network namespace of the host as they are now; before there was loopback alone.
    pub fn take_network(&self, network: NamespaceNetwork) -> Result<(), BootError> {
        let World { net, kernel, .. } = &*self.first.world;
        network::mirror(net, network, kernel.log().clone())
    }

    /// Covers a file with one in memory that has this content; it is made where it is missing. For one container's root, before
    /// its program runs.
    pub fn cover(&self, path: &str, content: &str) -> Result<(), BootError> {
        let covered = self.first.tree.cover(&self.first.world.services, path, content.as_bytes());
        covered.map_err(step(format!("write {path}")))
    }

    /// Changes a setting of /proc/sys, such as `net.ipv4.ip_forward`.
    pub fn set(&self, name: &str, value: &str) -> Result<(), BootError> {
        let write = || -> Result<(), Error> {
            let mut at = self.proc.root().lookup(b"sys")?;
            for part in name.split(['.', '/']) {
                at = at.lookup(part.as_bytes())?;
            }
            let open = at.open(OpenFlags::WRONLY, &Credentials::root())?;
            open.write(WriteAt::Offset(0), &mut SliceSource::new(value.as_bytes()))?;
            Ok(())
        };
        write().map_err(step(format!("set {name} to {value:?}")))
    }

    /// Starts the first program.
    pub fn start(self, process: Process, stdio: Stdio) -> Result<Sandbox, BootError> {
        let init = Arc::new(self.first.start(process, stdio, Place::First)?);
        Ok(Sandbox { first: self.first, init })
    }
}

impl Sandbox {
    /// Waits for the end of the first program, ends the others, and completes the capture.
    pub fn wait(self) -> Outcome {
        let World { kernel, net, .. } = &*self.first.world;
        let ended = kernel.wait_until_ended();
        kernel.kill_all();
        net.drain(DRAIN_PATIENCE);
        if let Err(error) = net.stop() {
            kernel.log().write(Level::Error, format_args!("{error}"));
        }
        for (group, name, value) in net.stack().stats().iter().filter(|row| row.2 > 0) {
            kernel.log().write(Level::Debug, format_args!("counter {group} {name} {value}"));
        }
        match (ended.status, ended.failure) {
            (Some(status), _) => Outcome::of(status),
            (None, failure) => Outcome::Failed(
                failure.unwrap_or_else(|| "the first program ended without a status".into()),
            ),
        }
    }

    /// A handle for those who deal with it from outside.
    pub fn remote(&self) -> Remote {
        Remote::new(self.first.clone(), self.init.clone())
    }
}

impl Outcome {
    pub(crate) fn of(status: WaitStatus) -> Self {
        match status {
            WaitStatus::Exited(code) => Self::Exited(code),
            WaitStatus::Signaled(signal) => Self::Signaled(signal.number() as u8),
            WaitStatus::Stopped(_) | WaitStatus::Continued => {
                Self::Failed("the program ended without a status".into())
            }
        }
    }

    /// The exit status that tells of it: the program's own, 128 and more where a signal ended it, 125 for a failure of the kernel's.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Exited(code) => *code,
            Self::Signaled(signal) => 128u8.saturating_add(*signal),
            Self::Failed(_) => 125,
        }
    }
}
