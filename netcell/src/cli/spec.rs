//! `netcell spec`: a configuration to begin with.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::oci::spec::CONFIG;
use crate::oci::template::template;

/// Write a config.json to begin with.
#[derive(Args, Debug)]
pub struct SpecArgs {
    /// Folder for it
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
}

/// Writes it, and gives the exit status. A file that is there stays.
pub fn run(args: &SpecArgs) -> Result<u8> {
    let path = args.bundle.join(CONFIG);
    let told = || path.display().to_string();
    let mut file = File::create_new(&path).with_context(told)?;
    writeln!(file, "{}", serde_json::to_string_pretty(&template())?).with_context(told)?;
    Ok(0)
}
