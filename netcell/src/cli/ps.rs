//! `netcell ps`: the processes of a container.

use std::io::Write;

use anyhow::Result;
use clap::Args;

use super::ListFormat;
use crate::container::Runtime;

/// List the processes of a container.
#[derive(Args, Debug)]
pub struct PsArgs {
    /// How to print them; in JSON they are the numbers of the host's processes that stand for the container
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    format: ListFormat,
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
    /// Said by callers for ps(1); the columns are always the same
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    options: Vec<String>,
}

/// Prints them, and gives the exit status.
pub fn run(runtime: &Runtime, args: &PsArgs) -> Result<u8> {
    let mut out = std::io::stdout().lock();
    if args.format == ListFormat::Json {
        // Callers look these up in the host's /proc, where what runs inside has no processes of its own.
        let pid = runtime.state(&args.id)?["pid"].as_i64().filter(|pid| *pid > 0);
        writeln!(out, "{}", serde_json::to_string(&Vec::from_iter(pid))?)?;
        return Ok(0);
    }
    writeln!(out, "{:>6} {:>6} {:>6} {:>8} COMMAND", "UID", "PID", "PPID", "TIME")?;
    for process in runtime.processes(&args.id)? {
        let seconds = process.cpu_ns / 1_000_000_000;
        let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let (uid, pid, ppid, command) = (process.uid, process.pid, process.ppid, process.command);
        writeln!(out, "{uid:>6} {pid:>6} {ppid:>6} {time:>8} {command}")?;
    }
    Ok(0)
}
