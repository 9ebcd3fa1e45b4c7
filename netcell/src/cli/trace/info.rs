//! `netcell trace info`: hosts, flows and anomalies of a capture.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use pcap_tests::flows::{Detail, Summary};
use pcap_tests::report::{self, Limits};

use super::progress;

/// Tell what a capture holds: hosts, flows, and what to look at, with frame numbers.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  netcell trace info broken.pcapng            hosts, flows, anomalies
  netcell trace info --flow 3 broken.pcapng   all that is known of the third flow
  netcell trace info --json *.pcap.gz | jq .flows

Columns with a slash tell both directions: of the side that began, and of the other.
A damaged record is passed over and told. The exit status is 2 where nothing could be read.")]
pub struct InfoArgs {
    /// pcap or pcapng, also compressed with gzip or zstd
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// All that is known of one flow, by its number
    #[arg(long, value_name = "N")]
    flow: Option<u64>,
    /// A line of JSON for each file
    #[arg(long, conflicts_with = "flow")]
    json: bool,
    /// Show so many hosts, those with the most bytes
    #[arg(long, value_name = "N", default_value_t = 10)]
    hosts: usize,
    /// Show so many flows, those with the most bytes
    #[arg(long, value_name = "N", default_value_t = 50)]
    flows: usize,
}

pub fn run(args: &InfoArgs) -> Result<u8> {
    let mut status = 0;
    for file in &args.files {
        if let Err(error) = one(file, args) {
            if error.downcast_ref::<std::io::Error>().is_some_and(super::is_closed) {
                return Ok(status);
            }
            eprintln!("netcell: {error:#}");
            status = super::EXIT_UNREADABLE;
        }
    }
    Ok(status)
}

fn one(file: &Path, args: &InfoArgs) -> Result<()> {
    let name = file.display().to_string();
    let mut reader = progress::open(file).with_context(|| name.clone())?;
    let mut summary = match args.flow {
        Some(number) => Summary::watching(number, Detail::Sums),
        None => Summary::new(args.flows),
    };
    let end = summary.read(&mut reader);
    match end {
        Some(error) if summary.frames == 0 => return Err(error).context(name),
        Some(error) => {
            eprintln!("netcell: {name}: {}; what stands before it follows", super::told(error))
        }
        None => {}
    }
    let limits = Limits { hosts: args.hosts, flows: args.flows };
    let mut out = std::io::stdout().lock();
    match args.flow {
        Some(number) => match summary.flows().into_iter().find(|flow| flow.number == number) {
            Some(flow) => write!(out, "{}", report::flow(flow))?,
            None => bail!("{name}: no flow {number}; there are {}", summary.flow_count()),
        },
        None if args.json => {
            writeln!(out, "{}", report::json(&name, &summary, &reader, limits))?;
        }
        None => write!(out, "{}", report::text(&name, &summary, &reader, limits))?,
    }
    Ok(())
}
