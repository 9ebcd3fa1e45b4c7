//! What containerd runs for a moment: `start` makes sure that a shim serves and prints where, `delete` cleans up behind one that is gone.

use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::{Message, MessageField};

use crate::args::{Args, is_name};
use crate::bundle;
use crate::events::timestamp;
use crate::options::Options;
use crate::reaper::Reaper;
use crate::runtime::Runtime;

/// What a serving shim says first.
pub const READY: &[u8] = b"ready\n";
/// Where containerd's shims have their sockets.
const SOCKETS: &str = "/run/containerd/s";
/// The file in a bundle that says where its shim serves; containerd reads it when it is restarted.
const ADDRESS: &str = "address";
/// The status of what was killed.
const KILLED: u32 = 128 + 9;

fn bundle_of(args: &Args) -> Result<PathBuf> {
    args.bundle.clone().map_or_else(|| std::env::current_dir().context("the bundle is gone"), Ok)
}

/// Prints the address of the shim that serves this container.
pub fn start(args: &Args) -> Result<()> {
    let bundle = bundle_of(args)?;
    let sandbox = bundle::sandbox_of(&bundle)?.filter(|sandbox| *sandbox != args.id);
    let address = match sandbox {
        Some(sandbox) => served(&bundle, &sandbox)?,
        None => launch(args)?,
    };
    std::fs::write(bundle.join(ADDRESS), &address)?;
    print!("{address}");
    std::io::stdout().flush()?;
    Ok(())
}

/// The address of a pod's shim, whose bundle is beside ours.
fn served(bundle: &Path, sandbox: &str) -> Result<String> {
    if !is_name(sandbox) {
        bail!("the annotation names the sandbox {sandbox:?}");
    }
    let path = bundle.with_file_name(sandbox).join(ADDRESS);
    let told = || format!("the pod's sandbox {sandbox} is not served");
    let address = std::fs::read_to_string(&path).with_context(told)?;
    let socket = address.trim().strip_prefix("unix://").with_context(told)?;
    UnixStream::connect(socket).with_context(told)?;
    Ok(address.trim().to_owned())
}

/// Starts a serving process, in a process group of its own.
fn launch(args: &Args) -> Result<String> {
    std::fs::DirBuilder::new().recursive(true).mode(0o711).create(SOCKETS)?;
    let name: String = args.id.chars().take(40).collect();
    let socket = Path::new(SOCKETS).join(format!("netcell-{name}-{}", std::process::id()));
    // A process of this number has left it behind.
    let _ = std::fs::remove_file(&socket);
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["-namespace", &args.namespace, "-id", &args.id, "-address", &args.address]);
    command.arg("-socket").arg(&socket);
    if args.debug {
        command.arg("-debug");
    }
    let log = log().map_or_else(Stdio::null, Stdio::from);
    let mut child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("cannot start the serving process")?;
    let mut said = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        let mut word = [0; READY.len()];
        if stdout.read_exact(&mut word).is_ok() {
            said.extend(word);
        }
    }
    if said != READY {
        let status = child.wait()?;
        bail!("the serving process ended: {status}");
    }
    Ok(format!("unix://{}", socket.display()))
}

/// containerd's log, a FIFO in the bundle, where somebody reads it.
fn log() -> Option<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    let nonblocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
    std::fs::OpenOptions::new().write(true).custom_flags(nonblocking).open("log").ok()
}

/// Takes away what is left of a container whose shim is gone, and says how it ended.
pub fn delete(args: &Args) -> Result<()> {
    let bundle = bundle_of(args)?;
    let reaper = Reaper::start()?;
    let options = Options::kept(&bundle);
    let runtime = Runtime::new(&options, &args.namespace, args.debug, reaper);
    let deleted = runtime.call(&bundle, "delete").arg("--force").arg(&args.id).run();
    bundle::unmount_root(&bundle.join("rootfs"));
    let address = std::fs::read_to_string(bundle.join(ADDRESS)).unwrap_or_default();
    if let Some(socket) = address.trim().strip_prefix("unix://")
        && Path::new(socket).starts_with(SOCKETS)
        && UnixStream::connect(socket).is_err()
    {
        let _ = std::fs::remove_file(socket);
    }
    deleted?;
    let response = DeleteResponse {
        exit_status: KILLED,
        exited_at: MessageField::some(timestamp(SystemTime::now())),
        ..DeleteResponse::default()
    };
    std::io::stdout().write_all(&response.write_to_bytes()?)?;
    Ok(())
}
