//! `netcell list`: the sandboxes that run.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::Root;
use crate::control;

/// How the list is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// List the sandboxes that run.
#[derive(Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    root: Root,
    /// How to print them
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// Names alone, a line each
    #[arg(long, short)]
    quiet: bool,
}

/// Prints the list and gives the exit status.
pub fn run(args: &ListArgs) -> Result<u8> {
    let all = control::running(&args.root.path())?;
    let mut out = std::io::stdout().lock();
    if args.quiet {
        all.iter().try_for_each(|about| writeln!(out, "{}", about.id))?;
    } else if args.format == Format::Json {
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    } else {
        let width = all.iter().map(|about| about.id.len()).max().unwrap_or(0).max(12);
        writeln!(out, "{:width$}  {:>8}  {:>8}  PROGRAM", "ID", "PID", "RUNS")?;
        for about in all {
            let since = UNIX_EPOCH + Duration::from_secs(about.created);
            let runs = SystemTime::now().duration_since(since).unwrap_or_default();
            let command = about.command.join(" ");
            let (id, pid) = (about.id, about.pid);
            writeln!(out, "{id:width$}  {pid:>8}  {:>8}  {command}", told(runs))?;
        }
    }
    Ok(0)
}

/// A duration as `ps` would have it in eight characters.
fn told(time: Duration) -> String {
    let (minutes, seconds) = (time.as_secs() / 60, time.as_secs() % 60);
    match minutes {
        0..60 => format!("{minutes}m{seconds:02}s"),
        60..1440 => format!("{}h{:02}m", minutes / 60, minutes % 60),
        _ => format!("{}d{:02}h", minutes / 1440, minutes / 60 % 24),
    }
}
