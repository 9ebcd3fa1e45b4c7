//! `netcell kill`: a signal for a container's programs.

use anyhow::Result;
use clap::Args;

use crate::container::Runtime;
use crate::container::lifecycle::{Scope, signal_number};

/// Send a signal to the first program of a container, or to all.
#[derive(Args, Debug)]
pub struct KillArgs {
    /// To every program of the container
    #[arg(long, short)]
    all: bool,
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
    /// The signal: its number or its name
    #[arg(value_name = "SIGNAL", default_value = "TERM")]
    signal: String,
}

/// Signals, and gives the exit status.
pub fn run(runtime: &Runtime, args: &KillArgs) -> Result<u8> {
    let scope = if args.all { Scope::All } else { Scope::Init };
    runtime.kill(&args.id, signal_number(&args.signal)?, scope)?;
    Ok(0)
}
