//! `netcell list`: the sandboxes that run, and the containers.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;

use super::{Globals, ListFormat};
use crate::container::record::{Folder, Status};
use crate::control;

/// List the sandboxes that run, and the containers.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// How to print them
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    format: ListFormat,
    /// Names alone, a line each
    #[arg(long, short)]
    quiet: bool,
}

/// A line of the list.
struct Row {
    id: String,
    pid: i64,
    status: Status,
    created_s: u64,
    command: Vec<String>,
    json: serde_json::Value,
}

/// The sandboxes of `netcell run` and the containers, the oldest first.
fn rows(root: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for about in control::running(root)? {
        let mut json = serde_json::to_value(&about)?;
        json["status"] = Status::Running.word().into();
        rows.push(Row {
            id: about.id,
            pid: about.pid.into(),
            status: Status::Running,
            created_s: about.created,
            command: about.command,
            json,
        });
    }
    for folder in Folder::all(root)? {
        // One that is deleted right now is none.
        let Ok(record) = folder.read() else { continue };
        let json = record.told();
        rows.push(Row {
            pid: json["pid"].as_i64().unwrap_or(0),
            status: record.status(),
            created_s: record.created_s,
            command: record.command,
            id: record.id,
            json,
        });
    }
    rows.sort_by(|a, b| (a.created_s, &a.id).cmp(&(b.created_s, &b.id)));
    Ok(rows)
}

/// Prints the list and gives the exit status.
pub fn run(globals: &Globals, args: &ListArgs) -> Result<u8> {
    let all = rows(&globals.root())?;
    let mut out = std::io::stdout().lock();
    if args.quiet {
        all.iter().try_for_each(|row| writeln!(out, "{}", row.id))?;
    } else if args.format == ListFormat::Json {
        let all: Vec<_> = all.into_iter().map(|row| row.json).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    } else {
        let width = all.iter().map(|row| row.id.len()).max().unwrap_or(0).max(12);
        writeln!(out, "{:width$}  {:>8}  {:8}  {:>8}  PROGRAM", "ID", "PID", "STATUS", "AGE")?;
        for row in all {
            let since = UNIX_EPOCH.checked_add(Duration::from_secs(row.created_s));
            let age = SystemTime::now().duration_since(since.unwrap_or(UNIX_EPOCH));
            let (id, pid, status) = (row.id, row.pid, row.status.word());
            let (age, command) = (told(age.unwrap_or_default()), row.command.join(" "));
            writeln!(out, "{id:width$}  {pid:>8}  {status:8}  {age:>8}  {command}")?;
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
