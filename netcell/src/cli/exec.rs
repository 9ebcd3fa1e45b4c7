//! `netcell exec`: a further program in a container; and the process that stands for it on the host.

use std::fs::File;
use std::os::fd::RawFd;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use oci_spec::runtime::Process;

use crate::container::Runtime;
use crate::container::exec::{self, Attend, Attendance, Changes, Exec, Paused};

/// Start a further program in a container.
#[derive(Args, Debug)]
pub struct ExecArgs {
    /// File with the process object of the runtime specification
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["cwd", "env", "user", "additional_gids", "cap", "no_new_privs", "command"])]
    process: Option<PathBuf>,
    /// Do not wait for the program's end
    #[arg(long, short)]
    detach: bool,
    /// Give the program a terminal
    #[arg(long, short)]
    tty: bool,
    /// Where to write the number of the process that stands for the program
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Socket that gets the master of the program's terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Working directory inside
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Set an environment variable; may be repeated
    #[arg(long, short, value_name = "K=V")]
    env: Vec<String>,
    /// User and group of the program
    #[arg(long, short, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Supplementary group; may be repeated
    #[arg(long, short = 'g', value_name = "GID")]
    additional_gids: Vec<u32>,
    /// Capability beyond the container's own; may be repeated
    #[arg(long, short, value_name = "CAP_NAME")]
    cap: Vec<String>,
    /// The program gains no privileges by what it executes
    #[arg(long)]
    no_new_privs: bool,
    /// Refused for more than 0: descriptors beyond the standard streams are not passed on
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Start it in a container that is paused, too: it is held with the others
    #[arg(long)]
    ignore_paused: bool,
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
    /// Program and its arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "PROGRAM",
        required_unless_present = "process"
    )]
    command: Vec<String>,
}

/// Starts the program, and gives its exit status.
pub fn run(runtime: &Runtime, args: ExecArgs) -> Result<u8> {
    ensure!(
        args.preserve_fds == 0,
        "--preserve-fds {}: only the standard streams are passed on",
        args.preserve_fds
    );
    let process = process(runtime, &args)?;
    runtime.exec(&Exec {
        id: args.id,
        process,
        attendance: if args.detach { Attendance::Detach } else { Attendance::Stay },
        pid_file: args.pid_file,
        console_socket: args.console_socket,
        paused: if args.ignore_paused { Paused::Held } else { Paused::Refused },
    })
}

fn process(runtime: &Runtime, args: &ExecArgs) -> Result<Process> {
    let Some(path) = &args.process else {
        let user = args.user.as_deref().map(user).transpose()?;
        let changes = Changes {
            args: args.command.clone(),
            env: args.env.clone(),
            cwd: args.cwd.clone(),
            user,
            groups: args.additional_gids.clone(),
            capabilities: args.cap.clone(),
            terminal: args.tty,
            no_new_privileges: args.no_new_privs,
        };
        return runtime.changed_process(&args.id, &changes);
    };
    let told = || format!("--process {}", path.display());
    let mut process: Process =
        serde_json::from_reader(File::open(path).with_context(told)?).with_context(told)?;
    if args.tty {
        process.set_terminal(Some(true));
    }
    Ok(process)
}

fn user(text: &str) -> Result<(u32, Option<u32>)> {
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (text, None),
    };
    let number = |text: &str| text.parse().with_context(|| format!("--user: {text} is no id"));
    Ok((number(uid)?, gid.map(number).transpose()?))
}

/// The process that stands for a program; netcell exec starts it.
#[derive(Args, Debug)]
pub struct AttendArgs {
    /// Descriptor of the way to its maker
    #[arg(long, value_name = "N")]
    sync: RawFd,
    /// Socket that gets the master of the program's terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
}

/// Stands for the program, and gives its exit status.
pub fn attend(runtime: &Runtime, args: AttendArgs) -> Result<u8> {
    let AttendArgs { sync, console_socket, id } = args;
    exec::stand_in(runtime, &Attend { id, sync, console_socket })
}
