//! `netcell delete`: what is left of a container goes away.

use anyhow::Result;
use clap::Args;

use crate::container::Runtime;
use crate::container::lifecycle::Force;

/// Remove a container that has ended.
#[derive(Args, Debug)]
pub struct DeleteArgs {
    /// End it where it runs; one that is not there is no failure
    #[arg(long, short)]
    force: bool,
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
}

/// Deletes, and gives the exit status.
pub fn run(runtime: &Runtime, args: &DeleteArgs) -> Result<u8> {
    let force = if args.force { Force::Given } else { Force::Absent };
    runtime.delete(&args.id, force)?;
    Ok(0)
}
