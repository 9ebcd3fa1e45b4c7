//! `netcell events`: what a container uses, now or again and again.

use std::io::Write;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::container::Runtime;

/// Print what a container uses, an object a line.
#[derive(Args, Debug)]
pub struct EventsArgs {
    /// Once, instead of until the container ends
    #[arg(long)]
    stats: bool,
    /// Time between two lines, such as 5s
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    interval: String,
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
}

/// Prints it, and gives the exit status.
pub fn run(runtime: &Runtime, args: &EventsArgs) -> Result<u8> {
    let told = || format!("--interval {}", args.interval);
    let interval = humantime::parse_duration(&args.interval).with_context(told)?;
    let mut stats = runtime.stats(&args.id)?;
    loop {
        writeln!(std::io::stdout().lock(), "{}", serde_json::to_string(&stats)?)?;
        if args.stats {
            return Ok(0);
        }
        thread::sleep(interval.max(Duration::from_millis(10)));
        // Its end is the end of its events.
        stats = match runtime.stats(&args.id) {
            Ok(stats) => stats,
            Err(_) => return Ok(0),
        };
    }
}
