//! `netcell trace diff`: in what two captures differ.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use pcap_tests::capture::Reader;
use pcap_tests::compare::{self, Aspect, Terms};
use pcap_tests::flows::Summary;

/// Compare two captures by what they mean.
#[derive(Args, Debug)]
#[command(after_help = "\
Compared: flows, opening, options, stream, ending, retransmissions, zero-window, icmp.
With --strict also: segments, acks, window, timing; each by its name, or all.
Initial sequence numbers, ephemeral ports, timestamps and identifications never matter.

Examples:
  netcell trace diff golden.pcapng new.pcapng
  netcell trace diff --ignore retransmissions linux.pcap ours.pcap
  netcell trace diff --strict acks,timing --tolerance 10 a.pcap b.pcap

The exit status is 0 where they are alike, 1 where they differ, 2 where one cannot be read.")]
pub struct DiffArgs {
    /// The one
    a: PathBuf,
    /// The other
    b: PathBuf,
    /// Do not compare these
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    ignore: Vec<Aspect>,
    /// Compare these, too
    #[arg(long, value_name = "NAME|all", value_delimiter = ',', value_parser = strict)]
    strict: Vec<Strict>,
    /// Times may differ by so many milliseconds (of the aspect timing)
    #[arg(long, value_name = "MS", default_value_t = 4)]
    tolerance: u64,
    /// Print nothing: the exit status tells
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug)]
enum Strict {
    All,
    One(Aspect),
}

fn strict(name: &str) -> Result<Strict, String> {
    match name {
        "all" => Ok(Strict::All),
        name => name.parse().map(Strict::One),
    }
}

impl DiffArgs {
    fn terms(&self) -> Terms {
        let mut aspects = Aspect::DEFAULT.to_vec();
        for strict in &self.strict {
            match strict {
                Strict::All => aspects.extend(Aspect::ALL),
                Strict::One(aspect) => aspects.push(*aspect),
            }
        }
        aspects.retain(|aspect| !self.ignore.contains(aspect));
        Terms { aspects, tolerance: Duration::from_millis(self.tolerance) }
    }
}

pub fn run(args: &DiffArgs) -> Result<u8> {
    let [one, other] = [&args.a, &args.b].map(|file| summed_up(file));
    let verdict = compare::compare(&one?, &other?, &args.terms());
    if !args.quiet {
        let mut out = std::io::stdout().lock();
        let told = verdict.differences.iter().try_for_each(|found| writeln!(out, "{found}"));
        let told = told.and_then(|()| {
            let (flows, found) = (verdict.compared, verdict.differences.len());
            match found {
                0 => writeln!(out, "alike: {flows} flows compared"),
                _ => writeln!(out, "{found} differences in {flows} flows compared"),
            }
        });
        told.or_else(|error| if super::is_closed(&error) { Ok(()) } else { Err(error) })?;
    }
    Ok(if verdict.differences.is_empty() { 0 } else { super::EXIT_DIFFERENT })
}

/// A capture that ends early is compared as far as it goes, and told.
fn summed_up(file: &Path) -> Result<Summary> {
    let name = || file.display().to_string();
    let mut reader = Reader::open(file).with_context(name)?;
    let mut summary = Summary::recording();
    match summary.read(&mut reader) {
        Some(error) if summary.frames == 0 => return Err(error).with_context(name),
        Some(error) => eprintln!(
            "netcell: {}: {}; what stands before it is compared",
            name(),
            super::told(error)
        ),
        None => {}
    }
    if reader.skipped_count() > 0 {
        eprintln!("netcell: {}: {} records were passed over", name(), reader.skipped_count());
    }
    Ok(summary)
}
