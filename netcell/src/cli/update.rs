//! `netcell update`: other limits for a container that runs.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use oci_spec::runtime::LinuxResources;

use crate::container::Runtime;

/// Change the limits of a container.
#[derive(Args, Debug)]
pub struct UpdateArgs {
    /// File with the linux.resources object of the runtime specification; - is standard input
    #[arg(long, short, value_name = "FILE")]
    resources: PathBuf,
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
}

/// Changes them, and gives the exit status.
pub fn run(runtime: &Runtime, args: &UpdateArgs) -> Result<u8> {
    let told = || format!("--resources {}", args.resources.display());
    let resources: LinuxResources = match args.resources.as_os_str() == "-" {
        true => serde_json::from_reader(std::io::stdin().lock()).with_context(told)?,
        false => serde_json::from_reader(File::open(&args.resources).with_context(told)?)
            .with_context(told)?,
    };
    runtime.update(&args.id, &resources)?;
    Ok(0)
}
