//! Boot: from a configuration to a running first program, and from its end to an exit status.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use netstack_host::capture::{self, Capture, CaptureError};
use sentry_abi::Errno;
use sentry_abi::signal::Signal;
use sentry_abi::termios::WinSize;
use sentry_fs::services::Services;
use sentry_fs::stdio::{self, HostWatcher};
use sentry_fs::tty::{self, Terminal, Terminals};
use sentry_kernel::cred::Credentials;
use sentry_kernel::error::Error;
use sentry_kernel::file::{FdTable, FileDescription, OnExec};
use sentry_kernel::kernel::{Kernel, KernelConfig};
use sentry_kernel::limits::Limits;
use sentry_kernel::log::{Level, Log};
use sentry_kernel::task::{InitArgs, ThreadGroup, WaitStatus};
use sentry_kernel::time::Clock;
use sentry_kernel::vfs::{FileType, OpenFlags, Timespec};
use sentry_net::netns::{CaptureStart, NetError, NetNamespace};
use sentry_syscalls::Syscalls;

use crate::config::{Network, Process, SandboxConfig, Stdio};
use crate::host::{HostRandom, Logger, trace_to};
use crate::registry::{self, Offer};
use crate::tree::Tree;
use crate::{network, vdso};

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

fn step(what: impl Into<String>) -> impl FnOnce(Error) -> BootError {
    let what = what.into();
    move |error| BootError::Step { what, errno: error.errno() }
}

/// A running sandbox.
pub struct Sandbox {
    kernel: Arc<Kernel>,
    init: Arc<ThreadGroup>,
    net: Arc<NetNamespace>,
    console: Option<Arc<Terminal>>,
    log: Arc<Logger>,
}

/// How a sandbox ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The first program exited with this status.
    Exited(u8),
    /// A signal of this number ended it.
    Signaled(u8),
    /// The kernel failed; the text says why.
    Failed(String),
}

/// Builds the sandbox and starts its first program.
pub fn boot(config: SandboxConfig) -> Result<Sandbox, BootError> {
    let (clock, vdso) = vdso::start(config.platform.memory())?;
    let clock: Arc<dyn Clock> = clock;
    let log = Arc::new(Logger(config.log_level));
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
        log: log.clone(),
        random: Arc::new(HostRandom),
        syscalls: Syscalls::new(config.strace.map(trace_to)),
        hostname: config.hostname.clone(),
        cpus: config.cpus,
    });
    let capture = match &config.network {
        Network::Tap(tap) => tap.capture.clone(),
        Network::Namespace(namespace) => namespace.capture.clone(),
        Network::Loopback => None,
    };
    let net = network::make(config.network, clock, log.clone())?;
    if let Some(path) = capture {
        let file = capture::create(&path).map_err(CaptureStart::from)?;
        net.capture((file, &path), &[], &kernel)?;
    }
    let offer = registry::register(&kernel, &services, &net);
    let tree =
        Tree::of_image(&services, config.image).map_err(step("build the root file system"))?;
    tree.mount_system(&kernel, &services, &offer)
        .map_err(step("mount /proc, /sys, /dev and /tmp"))?;
    write_names(&tree, &config.hostname, &config.name_servers)?;
    for volume in config.volumes {
        let what = format!("mount a volume at {}", volume.target.display());
        tree.mount_volume(&services, volume).map_err(step(what))?;
    }
    kernel.set_mounts(tree.mounts.clone());
    let (fds, console) = open_stdio(&tree, &offer, config.stdio)?;
    let init = start_program(&kernel, &tree, config.process, fds)?;
    if let Some(console) = &console {
        // A fresh session has no terminal, so this takes the console for it.
        kernel
            .pids()
            .set_terminal(init.pid(), console.clone())
            .map_err(step("set the controlling terminal"))?;
    }
    Ok(Sandbox { kernel, init, net, console, log })
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

/// Opens descriptors 0, 1 and 2: the console for those that are a terminal, the host's file for others.
fn open_stdio(
    tree: &Tree,
    offer: &Offer,
    stdio: Stdio,
) -> Result<(Arc<FdTable>, Option<Arc<Terminal>>), BootError> {
    let table = FdTable::new();
    let watcher = HostWatcher::start()?;
    let mut console = None;
    let mut streams: Vec<(std::os::fd::OwnedFd, Arc<FileDescription>)> = Vec::new();
    for (number, descriptor) in (0i32..).zip(stdio.descriptors) {
        let Some(descriptor) = descriptor else { continue };
        let file = if platform::host::terminal::is_terminal(descriptor.as_fd()) {
            let (terminal, file) = match &console {
                Some((terminal, file)) => (Arc::clone(terminal), Arc::clone(file)),
                None => open_console(tree, &offer.terminals, &descriptor)?,
            };
            if number == 0 {
                tty::console::pump_input(terminal.clone(), descriptor)?;
            }
            console = Some((terminal, file.clone()));
            file
        } else {
            // `> file 2>&1` is one open file with one position, inside as outside.
            let same = streams
                .iter()
                .find(|(other, _)| stdio::share_position(other.as_fd(), descriptor.as_fd()));
            let file = match same {
                Some((_, file)) => Arc::clone(file),
                None => stdio::open_stream(&watcher, descriptor.as_fd())
                    .map_err(step(format!("pass descriptor {number} on")))?,
            };
            streams.push((descriptor, file.clone()));
            file
        };
        table
            .install_at(number, file, OnExec::Keep, 3)
            .map_err(step("install the standard streams"))?;
    }
    Ok((table, console.map(|(terminal, _)| terminal)))
}

type Console = (Arc<Terminal>, Arc<FileDescription>);

fn open_console(
    tree: &Tree,
    terminals: &Arc<Terminals>,
    host: &std::os::fd::OwnedFd,
) -> Result<Console, BootError> {
    let failed = || step("open the console");
    let output = host.try_clone()?;
    let terminal =
        terminals.make_console(Arc::new(tty::console::HostOutput(output))).map_err(failed())?;
    if let Ok(size) = platform::host::terminal::window_size(host.as_fd()) {
        terminal.set_window(win_size(size));
    }
    let path = tree.find(format!("/dev/pts/{}", terminal.index()).as_bytes()).map_err(failed())?;
    let end = tty::ProgramEnd::open(&terminal).map_err(failed())?;
    Ok((terminal, FileDescription::new(end, Some(path), OpenFlags::RDWR)))
}

fn win_size(size: platform::host::terminal::WindowSize) -> WinSize {
    WinSize {
        rows: size.rows,
        columns: size.columns,
        x_pixels: size.width_px,
        y_pixels: size.height_px,
    }
}

fn start_program(
    kernel: &Arc<Kernel>,
    tree: &Tree,
    process: Process,
    fds: Arc<FdTable>,
) -> Result<Arc<ThreadGroup>, BootError> {
    let fs = tree.context();
    let workdir = process.workdir.as_os_str().as_bytes();
    let what = format!("change to the working directory {}", process.workdir.display());
    let cwd = tree.find(workdir).map_err(step(what.clone()))?;
    if cwd.file_type() != FileType::Directory {
        return Err(BootError::Step { what, errno: Errno::ENOTDIR });
    }
    fs.set_cwd(cwd);
    let name = process.argv.first().cloned().unwrap_or_default();
    let program = String::from_utf8_lossy(&name).into_owned();
    let path = find_program(tree, &name, &process.env)
        .ok_or(BootError::NotFound { program: program.clone() })?;
    let args = InitArgs {
        path,
        argv: process.argv,
        envp: process.env,
        fds,
        fs,
        credentials: Credentials::user(process.uid, process.gid, Arc::from([])),
        limits: Limits::default(),
    };
    kernel.spawn_init(args).map_err(|error| match error.errno() {
        Errno::ENOENT => BootError::NotFound { program },
        Errno::ENOEXEC => BootError::NotExecutable {
            program,
            reason: "not a program for this machine (x86-64 Linux)",
        },
        Errno::ELIBBAD => {
            BootError::NotExecutable { program, reason: "its interpreter is damaged" }
        }
        Errno::EISDIR => BootError::NotExecutable { program, reason: "Is a directory" },
        Errno::EACCES => BootError::NotExecutable { program, reason: "Permission denied" },
        errno => BootError::Step { what: format!("start {program}"), errno },
    })
}

/// The path of a program: itself with a slash in it, else the first match in PATH, as execvp(3) has it.
fn find_program(tree: &Tree, name: &[u8], env: &[Vec<u8>]) -> Option<Vec<u8>> {
    if name.is_empty() || name.contains(&b'/') {
        return (!name.is_empty()).then(|| name.to_vec());
    }
    let path = env.iter().find_map(|v| v.strip_prefix(b"PATH=")).unwrap_or(b"/usr/bin:/bin");
    let candidates = path
        .split(|b| *b == b':')
        .map(|dir| [if dir.is_empty() { b"." } else { dir }, b"/", name].concat());
    let is_file =
        |path: &Vec<u8>| tree.find(path).is_ok_and(|found| found.file_type() == FileType::Regular);
    candidates.into_iter().find(is_file)
}

impl Sandbox {
    /// Waits for the end of the first program, ends the others, and completes the capture.
    pub fn wait(self) -> Outcome {
        let ended = self.kernel.wait_until_ended();
        self.kernel.pids().kill_all();
        self.net.drain(DRAIN_PATIENCE);
        if let Err(error) = self.net.stop() {
            self.log.write(Level::Error, format_args!("{error}"));
        }
        for (group, name, value) in self.net.stack().stats().iter().filter(|row| row.2 > 0) {
            self.log.write(Level::Debug, format_args!("counter {group} {name} {value}"));
        }
        match (ended.status, ended.failure) {
            (Some(WaitStatus::Exited(code)), _) => Outcome::Exited(code),
            (Some(WaitStatus::Signaled(signal)), _) => Outcome::Signaled(signal.number() as u8),
            (_, failure) => Outcome::Failed(
                failure.unwrap_or_else(|| "the first program ended without a status".into()),
            ),
        }
    }

    /// A handle for whoever passes the host's signals on.
    pub fn remote(&self) -> Remote {
        Remote {
            kernel: self.kernel.clone(),
            init: self.init.clone(),
            console: self.console.clone(),
            net: self.net.clone(),
        }
    }
}

/// What the outside can do to a running sandbox.
#[derive(Clone)]
pub struct Remote {
    kernel: Arc<Kernel>,
    init: Arc<ThreadGroup>,
    console: Option<Arc<Terminal>>,
    net: Arc<NetNamespace>,
}

/// A capture that was begun while the sandbox runs. It ends with this, or with the sandbox.
pub struct RunningCapture {
    net: Arc<NetNamespace>,
    capture: Arc<Capture>,
}

impl RunningCapture {
    /// Frames seen, and frames of those that were lost because the reader was too slow.
    pub fn counts(&self) -> (u64, u64) {
        self.capture.counts()
    }

    /// Whether no more frames come: the sandbox has ended, or the reader has gone.
    pub fn is_over(&self) -> bool {
        self.capture.is_over()
    }

    /// Ends it. Errors: what went wrong while it was written.
    pub fn finish(&self) -> Result<(), CaptureError> {
        self.net.end_capture(&self.capture)
    }
}

impl Drop for RunningCapture {
    fn drop(&mut self) {
        // Whoever wants to know of errors has called it before.
        let _ = self.finish();
    }
}

impl Remote {
    /// Sends a signal to the first program. Numbers that are no signal do nothing.
    pub fn signal(&self, number: i32) {
        use sentry_abi::signal::{SI_KERNEL, SigInfo};
        if let Ok(signal) = Signal::new(number) {
            // A full queue keeps the fact that the signal came.
            let _ = self.init.send_signal(signal, SigInfo::new(signal, SI_KERNEL));
        }
    }

    /// The host's window has another size.
    pub fn resize(&self, size: platform::host::terminal::WindowSize) {
        if let Some(console) = &self.console {
            console.set_window(win_size(size));
        }
    }

    /// Begins to write what passes the interfaces of these names (without names: all but loopback) onto a file or pipe that is
    /// called `name`; after `limit` frames it is over.
    pub fn capture(
        &self,
        (file, name): (OwnedFd, &Path),
        nics: &[String],
        limit: Option<u64>,
    ) -> Result<RunningCapture, CaptureStart> {
        let capture = self.net.capture((file.into(), name), nics, &self.kernel)?;
        capture.stop_after(limit);
        Ok(RunningCapture { net: self.net.clone(), capture })
    }

    /// Ends the sandbox at once.
    pub fn kill(&self) {
        self.kernel.pids().kill_all();
    }
}
