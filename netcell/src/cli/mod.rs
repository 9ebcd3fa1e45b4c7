//! The command line: a file per command, and the mapping of failures to exit statuses.

mod capture;
mod create;
mod delete;
mod events;
mod exec;
mod install;
mod kill;
mod list;
mod manuals;
mod ps;
pub mod run;
mod spec;
pub mod trace;
mod update;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use sentry::Level;

use crate::container::Runtime;
use crate::control;
use crate::oci::features;
use crate::oci::journal::{Format, Journal};

/// Our own failure, as the container tools have it.
pub const EXIT_OURS: u8 = 125;
/// The program was found and cannot be executed.
pub const EXIT_NOT_EXECUTABLE: u8 = 126;
/// The program was not found.
pub const EXIT_NOT_FOUND: u8 = 127;
/// A command of the OCI runtime failed.
const EXIT_RUNTIME: u8 = 1;

/// What `--version` prints after the name.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\nspec: 1.2.0");

/// Runs unmodified Linux programs on a kernel and a TCP/IP stack of its own; an OCI runtime for podman, Docker and containerd.
#[derive(Parser, Debug)]
#[command(name = "netcell", version = VERSION, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// How lists are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// What every command is given.
#[derive(Args, Debug)]
pub struct Globals {
    /// Folder of sandboxes and containers [default: /run/netcell, without root $XDG_RUNTIME_DIR/netcell]
    #[arg(long, value_name = "DIR", global = true)]
    root: Option<PathBuf>,
    /// Append what the runtime has to say to this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// How lines of --log are written
    #[arg(long, value_name = "text|json", default_value = "text")]
    log_format: Format,
    /// Write to --log what a developer asks for, too
    #[arg(long)]
    debug: bool,
    /// Refused where it asks for them: cgroups of systemd are not supported
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    systemd_cgroup: Option<bool>,
    /// What callers say of their own rights; limits that the host refuses are told and passed over in any case
    #[arg(long, value_name = "true|false|auto")]
    rootless: Option<Rootless>,
}

/// `--rootless`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Rootless {
    True,
    False,
    Auto,
}

impl Globals {
    /// The folder of sandboxes and containers.
    pub fn root(&self) -> PathBuf {
        self.root.clone().unwrap_or_else(control::default_root)
    }

    /// What the commands of the OCI runtime work with.
    fn runtime(&self) -> Result<Runtime> {
        let level = if self.debug { Level::Debug } else { Level::Warn };
        let journal = Journal::open(self.log.as_deref(), self.log_format, level)?;
        Ok(Runtime { root: std::path::absolute(self.root())?, journal })
    }
}

#[derive(Subcommand, Debug)]
enum Command {
    Run(Box<run::RunArgs>),
    List(list::ListArgs),
    Capture(capture::CaptureArgs),
    Trace(trace::TraceArgs),
    Install(install::InstallArgs),
    Uninstall(install::UninstallArgs),
    Completion(manuals::CompletionArgs),
    #[command(flatten)]
    Oci(Oci),
}

/// The commands of the OCI runtime (runtime.md of its specification, and those of runc beyond it).
#[derive(Subcommand, Debug)]
enum Oci {
    Create(create::CreateArgs),
    /// Start the program of a container that was created
    Start(Id),
    /// Print the state of a container, as JSON
    State(Id),
    Kill(kill::KillArgs),
    Delete(delete::DeleteArgs),
    Exec(exec::ExecArgs),
    Ps(ps::PsArgs),
    /// Keep the programs of a container from running
    Pause(Id),
    /// Let the programs of a container go on
    Resume(Id),
    Update(update::UpdateArgs),
    Events(events::EventsArgs),
    Spec(spec::SpecArgs),
    /// Print what this runtime can do, as JSON
    Features,
    #[command(hide = true)]
    Sandbox(create::SandboxArgs),
    #[command(hide = true)]
    Attend(exec::AttendArgs),
}

/// A container's name.
#[derive(Args, Debug)]
struct Id {
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
}

/// Parses the process's arguments, runs the command and gives its exit status. Failures are one line on standard error.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let ours = error.use_stderr();
            // Nothing is left to do where even the message cannot be written.
            let _ = error.print();
            return ExitCode::from(if ours { EXIT_OURS } else { 0 });
        }
    };
    let globals = &cli.globals;
    let result = match cli.command {
        Command::Run(args) => match args.container() {
            Some(asked) => return oci(globals, |runtime| run::container(runtime, &asked)),
            None => run::run(globals, *args),
        },
        Command::List(args) => list::run(globals, &args),
        Command::Capture(args) => capture::run(globals, args),
        Command::Trace(args) => return trace::run(args),
        Command::Install(args) => install::install(&args),
        Command::Uninstall(args) => install::uninstall(&args),
        Command::Completion(args) => manuals::completion(&args),
        Command::Oci(command) => return oci(globals, |runtime| command.run(runtime)),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("netcell: {error:#}");
            ExitCode::from(EXIT_OURS)
        }
    }
}

/// Runs a command of the OCI runtime; its failure is told where its caller looks.
fn oci(globals: &Globals, command: impl FnOnce(Runtime) -> Result<u8>) -> ExitCode {
    let journal = globals.runtime().map(|runtime| runtime.journal);
    let done = globals.runtime().and_then(|runtime| {
        if globals.systemd_cgroup == Some(true) {
            bail!("--systemd-cgroup: not supported, set the caller's cgroup manager to cgroupfs");
        }
        command(runtime)
    });
    let Err(error) = done else { return ExitCode::from(done.unwrap_or_default()) };
    match journal {
        Ok(journal) => journal.fail(&format!("{error:#}")),
        Err(_) => eprintln!("netcell: {error:#}"),
    }
    ExitCode::from(EXIT_RUNTIME)
}

/// Prints JSON for programs and people.
fn print(value: &serde_json::Value) -> Result<u8> {
    use std::io::Write;
    writeln!(std::io::stdout().lock(), "{}", serde_json::to_string_pretty(value)?)?;
    Ok(0)
}

impl Oci {
    fn run(self, runtime: Runtime) -> Result<u8> {
        match self {
            Self::Create(args) => create::run(&runtime, args),
            Self::Start(Id { id }) => runtime.start(&id).map(|()| 0),
            Self::State(Id { id }) => print(&runtime.state(&id)?),
            Self::Kill(args) => kill::run(&runtime, &args),
            Self::Delete(args) => delete::run(&runtime, &args),
            Self::Exec(args) => exec::run(&runtime, args),
            Self::Ps(args) => ps::run(&runtime, &args),
            Self::Pause(Id { id }) => runtime.pause(&id).map(|()| 0),
            Self::Resume(Id { id }) => runtime.resume(&id).map(|()| 0),
            Self::Update(args) => update::run(&runtime, &args),
            Self::Events(args) => events::run(&runtime, &args),
            Self::Spec(args) => spec::run(&args),
            Self::Features => print(&features::features()),
            Self::Sandbox(args) => create::sandbox(runtime, args),
            Self::Attend(args) => exec::attend(&runtime, args),
        }
    }
}
