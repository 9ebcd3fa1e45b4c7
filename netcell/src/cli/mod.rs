//! The command line: a file per command, and the mapping of failures to exit statuses.

mod capture;
mod install;
mod list;
pub mod run;
pub mod trace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::control;

/// Our own failure, as the container tools have it.
pub const EXIT_OURS: u8 = 125;
/// The program was found and cannot be executed.
pub const EXIT_NOT_EXECUTABLE: u8 = 126;
/// The program was not found.
pub const EXIT_NOT_FOUND: u8 = 127;

/// Runs unmodified Linux programs on a kernel and a TCP/IP stack of its own.
#[derive(Parser, Debug)]
#[command(name = "netcell", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Where running sandboxes are known.
#[derive(Args, Debug)]
pub struct Root {
    /// Folder of the running sandboxes [default: /run/netcell, without root $XDG_RUNTIME_DIR/netcell]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

impl Root {
    /// The folder.
    pub fn path(&self) -> PathBuf {
        self.root.clone().unwrap_or_else(control::default_root)
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
    let result = match cli.command {
        Command::Run(args) => run::run(*args),
        Command::List(args) => list::run(&args),
        Command::Capture(args) => capture::run(args),
        Command::Trace(args) => return trace::run(args),
        Command::Install(args) => install::install(&args),
        Command::Uninstall(args) => install::uninstall(&args),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("netcell: {error:#}");
            ExitCode::from(EXIT_OURS)
        }
    }
}
