//! `netcell create`: a container that waits for its start; and the process of its sandbox.

use std::os::fd::RawFd;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use crate::container::Runtime;
use crate::container::create::{self, Create};
use crate::container::sandbox::{self, Session, Told};

/// Make a container from its bundle, ready for netcell start.
#[derive(Args, Debug)]
pub struct CreateArgs {
    /// Folder with config.json and the root directory that it names
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Where to write the number of the container's process
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Socket that gets the master of the container's terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Said by callers of their own roots; there is no pivot_root of the host's here in any case
    #[arg(long)]
    no_pivot: bool,
    /// Said by callers of keyrings; there are none here in any case
    #[arg(long)]
    no_new_keyring: bool,
    /// Refused for more than 0: descriptors beyond the standard streams are not passed on
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
}

/// Creates, and gives the exit status.
pub fn run(runtime: &Runtime, args: CreateArgs) -> Result<u8> {
    let CreateArgs { bundle, pid_file, console_socket, id, .. } = args;
    ensure!(
        args.preserve_fds == 0,
        "--preserve-fds {}: only the standard streams are passed on",
        args.preserve_fds
    );
    create::create(
        runtime,
        &Create { id, bundle, pid_file, console_socket, session: Session::Own },
    )?;
    Ok(0)
}

/// The process of a container's sandbox; netcell create starts it.
#[derive(Args, Debug)]
pub struct SandboxArgs {
    /// Descriptor of the way to its maker
    #[arg(long, value_name = "N")]
    sync: RawFd,
    /// Socket that gets the master of the container's terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Stay in the session of the maker
    #[arg(long)]
    attached: bool,
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
}

/// Is the sandbox, and gives its program's exit status.
pub fn sandbox(runtime: Runtime, args: SandboxArgs) -> Result<u8> {
    let SandboxArgs { sync, console_socket, attached, id } = args;
    let session = if attached { Session::Makers } else { Session::Own };
    sandbox::run(runtime, &Told { id, sync, console_socket, session })
}
