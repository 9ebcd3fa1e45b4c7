//! `netcell trace diff`: in what two captures differ.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use pcap_tests::capture::Reader;
use pcap_tests::compare;
use pcap_tests::flows::Summary;

use super::terms::TermArgs;

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
    #[command(flatten)]
    terms: TermArgs,
}

pub fn run(args: &DiffArgs) -> Result<u8> {
    let [one, other] = [&args.a, &args.b].map(|file| summed_up(file));
    let verdict = compare::compare(&one?, &other?, &args.terms.terms());
    super::told_verdict(&verdict, args.terms.quiet)
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
