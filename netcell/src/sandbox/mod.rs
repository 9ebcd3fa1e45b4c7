//! A sandbox in this process: from the command line's words to a booted kernel, the terminal, the signals, and the exit status.

pub(crate) mod backend;
mod image;
pub(crate) mod signals;
pub(crate) mod terminal;

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use sentry::{
    BootError, ContainerLimits, Credentials, Faults, Files, Home, HostTerminals, Level, Logger,
    MissingWorkdir, NamespaceNetwork, Network, Outcome, Process, Rules, SandboxConfig,
    SessionFiles, Stdio, TapNetwork, Volume, Writes,
};

use crate::cli::run::{LogLevel, Net, RunArgs};
use crate::cli::{EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND};
use crate::control;

/// The search path inside.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Mask of new files' permissions.
const UMASK: u32 = 0o022;
/// The network of `--net tap` where nothing else is said: address inside, gateway.
const DEFAULT_NETWORK: ([u8; 4], u8, [u8; 4]) = ([10, 77, 0, 2], 24, [10, 77, 0, 1]);

/// Runs a program in a sandbox and gives its exit status, or 126 or 127 with the reason on standard error.
pub fn run(root: &Path, args: RunArgs) -> Result<u8> {
    // The platform forks its zygote, which must happen before this process has threads.
    let platform = backend::start(args.platform, args.log_level)?;
    let signals = signals::Source::new().context("cannot receive signals")?;
    let mut folder = folder(root, &args)?;
    let about = about(&args);
    let raw = terminal::RawMode::enter();
    let (config, process) = configure(args, platform)?;
    let stdio = Stdio { descriptors: standard_streams(), terminals: HostTerminals::Connected };
    let sandbox = match sentry::boot(config, process, stdio) {
        Ok(sandbox) => sandbox,
        Err(error) => {
            drop(raw);
            let status = match &error {
                BootError::NotFound { .. } => EXIT_NOT_FOUND,
                BootError::NotExecutable { .. } => EXIT_NOT_EXECUTABLE,
                _ => return Err(error.into()),
            };
            eprintln!("netcell: {error}");
            return Ok(status);
        }
    };
    signals.forward_to(sandbox.remote(), None)?;
    let listener = folder.as_mut().and_then(control::Folder::take_listener);
    let control =
        listener.map(|listener| control::Server::start(listener, Arc::new(sandbox.remote())));
    let control = control.transpose()?;
    if let Some(folder) = &folder {
        folder.tell(&control::About { id: folder.id().to_owned(), ..about })?;
    }
    let outcome = sandbox.wait();
    if let Some(control) = control {
        control.end();
    }
    drop(folder);
    drop(raw);
    match outcome {
        Outcome::Failed(why) => bail!("the sandbox failed: {why}"),
        ended => Ok(ended.exit_status()),
    }
}

/// The folder by which others find this sandbox. Where there can be none, only a name that was asked for is missed.
fn folder(root: &Path, args: &RunArgs) -> Result<Option<control::Folder>> {
    match control::Folder::make(root, args.id.as_deref()) {
        Ok(folder) => Ok(Some(folder)),
        Err(error) if args.id.is_some() => Err(error),
        Err(error) => {
            if args.log_level >= LogLevel::Info {
                eprintln!("netcell: the sandbox will not be listed: {error:#}");
            }
            Ok(None)
        }
    }
}

/// What this sandbox is, for those who list it.
fn about(args: &RunArgs) -> control::About {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    control::About {
        id: String::new(),
        pid: std::process::id(),
        command: args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        created: since.as_secs(),
    }
}

fn configure(
    args: RunArgs,
    platform: Arc<dyn platform::Platform>,
) -> Result<(SandboxConfig, Process)> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let network = network(&args)?;
    let image = image::open(args.rootfs.as_deref())?;
    let mut volumes: Vec<Volume> = image.working_directory.into_iter().collect();
    for volume in &args.volume {
        let directory = open_directory(&volume.source)
            .with_context(|| format!("--volume {}", volume.source.display()))?;
        let writes = if volume.read_only { Writes::Refused } else { Writes::Kept };
        volumes.push(Volume {
            directory,
            target: volume.target.clone(),
            writes,
            view: sentry::View::everything(),
        });
    }
    let strace = match args.strace {
        None => None,
        Some(None) => Some(File::from(io::stderr().as_fd().try_clone_to_owned()?)),
        Some(Some(path)) => Some(
            File::create(&path)
                .with_context(|| format!("cannot write the trace to {}", path.display()))?,
        ),
    };
    let env = environment(&args.env, args.user.uid);
    let level = match args.log_level {
        LogLevel::Error => Level::Error,
        LogLevel::Warn => Level::Warn,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
    };
    let process = Process {
        argv: args.command.into_iter().map(OsStringExt::into_vec).collect(),
        env,
        home: Home::AsGiven,
        workdir: args.workdir.unwrap_or(image.workdir),
        missing_workdir: MissingWorkdir::Refused,
        credentials: Credentials::user(args.user.uid, args.user.gid, Arc::from([])),
        umask: UMASK,
        limits: Vec::new(),
    };
    let files = SessionFiles { image: image.image, volumes, name_servers: args.dns };
    let config = SandboxConfig {
        platform,
        files: Files::Session(files),
        network,
        hostname: args.hostname,
        domainname: None,
        seccomp: None,
        limits: ContainerLimits::default(),
        strace,
        log: Arc::new(Logger(level)),
        cpus,
    };
    Ok((config, process))
}

fn network(args: &RunArgs) -> Result<Network> {
    let of_tap = [(!args.ip.is_empty(), "--ip"), (!args.gateway.is_empty(), "--gateway")];
    let of_any = [(args.capture.is_some(), "--capture"), (args.fault.is_some(), "--fault")];
    let given = |flags: &[(bool, &'static str)]| {
        flags.iter().find(|(given, _)| *given).map(|(_, flag)| *flag)
    };
    if args.ignore_host_rules && !matches!(args.net, Net::Packet(_)) {
        bail!("--ignore-host-rules needs --net packet");
    }
    match &args.net {
        Net::None => match given(&of_tap).or(given(&of_any)) {
            Some(flag) => bail!("{flag} needs a network: add --net tap"),
            None => Ok(Network::Loopback),
        },
        Net::Tap(device) => Ok(Network::Tap(tap_network(args, device.clone()))),
        Net::Packet(path) => match given(&of_tap) {
            Some(flag) => {
                bail!("{flag} has no place with --net packet: the namespace has addresses")
            }
            None => namespace_network(args, path.as_deref()).map(Network::Namespace),
        },
    }
}

fn faults(args: &RunArgs) -> Option<Faults> {
    args.fault.map(|fault| Faults {
        loss_ppm: fault.loss_ppm,
        reorder_ppm: fault.reorder_ppm,
        duplicate_ppm: fault.duplicate_ppm,
        corrupt_ppm: fault.corrupt_ppm,
        seed: fault.seed,
    })
}

fn tap_network(args: &RunArgs, device: Option<String>) -> TapNetwork {
    let mut addresses: Vec<(IpAddr, u8)> =
        args.ip.iter().map(|cidr| (cidr.address, cidr.prefix)).collect();
    let mut gateways = args.gateway.clone();
    if addresses.is_empty() && gateways.is_empty() {
        let (address, prefix, gateway) = DEFAULT_NETWORK;
        addresses.push((address.into(), prefix));
        gateways.push(gateway.into());
    }
    TapNetwork { device, addresses, gateways, capture: args.capture.clone(), faults: faults(args) }
}

fn namespace_network(args: &RunArgs, path: Option<&Path>) -> Result<NamespaceNetwork> {
    let open = |path: &Path| -> Result<OwnedFd> {
        let file = File::open(path)
            .with_context(|| format!("cannot open the network namespace {}", path.display()))?;
        Ok(file.into())
    };
    Ok(NamespaceNetwork {
        namespace: path.map(open).transpose()?,
        rules: if args.ignore_host_rules { Rules::Ignore } else { Rules::Refuse },
        capture: args.capture.clone(),
        faults: faults(args),
        attachments: Vec::new(),
    })
}

/// A clean environment: the search path, a home, the terminal's type, and what was asked for.
fn environment(asked: &[crate::cli::run::EnvVar], uid: u32) -> Vec<Vec<u8>> {
    let home = if uid == 0 { "/root" } else { "/" };
    let mut env = vec![PATH.as_bytes().to_vec(), format!("HOME={home}").into_bytes()];
    if let Some(term) = std::env::var_os("TERM") {
        env.push([b"TERM=", term.as_bytes()].concat());
    }
    for var in asked {
        let name = format!("{}=", var.name).into_bytes();
        env.retain(|old| !old.starts_with(&name));
        match &var.value {
            Some(value) => env.push([&name, value.as_bytes()].concat()),
            None => env.extend(
                std::env::var_os(&var.name).map(|value| [&name, value.as_bytes()].concat()),
            ),
        }
    }
    env
}

/// This process's descriptors 0, 1 and 2; one that is closed here is closed there.
pub(crate) fn standard_streams() -> [Option<OwnedFd>; 3] {
    let duplicate =
        |fd: std::os::fd::BorrowedFd<'_>| -> Option<OwnedFd> { fd.try_clone_to_owned().ok() };
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    [duplicate(input.as_fd()), duplicate(output.as_fd()), duplicate(error.as_fd())]
}

/// A directory of the host. Errors name it.
fn open_directory(path: &Path) -> Result<OwnedFd> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    if !file.metadata()?.is_dir() {
        bail!("{} is not a directory", path.display());
    }
    Ok(file.into())
}

/// The current directory, or `/` where it has no name any more.
fn current_directory() -> PathBuf {
    std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))
}
