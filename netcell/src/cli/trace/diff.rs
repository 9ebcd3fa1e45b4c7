//! `netcell trace diff`: in what two captures differ.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use pcap_tests::compare;

use super::progress;
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
    let files = [&args.a, &args.b];
    let open = |file: &PathBuf| progress::open(file).with_context(|| file.display().to_string());
    let mut readers = [open(&args.a)?, open(&args.b)?];
    let (verdict, summaries, ends) = compare::files(&mut readers, &args.terms.terms());
    for (((file, reader), summary), end) in files.iter().zip(&readers).zip(&summaries).zip(ends) {
        super::told_end(file, reader, summary, end)?;
    }
    super::told_verdict(&verdict, args.terms.quiet)
}
