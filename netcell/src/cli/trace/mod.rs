//! `netcell trace`: packet traces read, measured and compared. A file per verb.
//!
//! Its exit statuses are those of `diff`: 0 as it should be, 1 different, 2 unreadable.

mod check;
mod diff;
mod info;
mod on;
mod plot;
mod progress;
mod replay;
mod script;
mod sim;
mod tape;
mod terms;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use pcap_tests::capture::{ReadError, Reader};
use pcap_tests::compare::Verdict;
use pcap_tests::flows::{Kind, Summary};

/// Two traces are not alike.
const EXIT_DIFFERENT: u8 = 1;
/// Damaged records that are told one by one.
const MAX_TOLD: usize = 10;
/// What was asked for could not be read at all.
const EXIT_UNREADABLE: u8 = 2;

/// Read, measure and compare packet traces (pcap and pcapng, plain, gzip or zstd), and run scripts of packets.
#[derive(Args, Debug)]
pub struct TraceArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Info(info::InfoArgs),
    Diff(diff::DiffArgs),
    Replay(replay::ReplayArgs),
    Plot(plot::PlotArgs),
    Script(script::ScriptArgs),
    Sim(sim::SimArgs),
    Check(check::CheckArgs),
}

/// Runs the verb. Failures are one line on standard error.
pub fn run(args: TraceArgs) -> ExitCode {
    let result = match args.verb {
        Verb::Info(args) => info::run(&args),
        Verb::Diff(args) => diff::run(&args),
        Verb::Replay(args) => replay::run(&args),
        Verb::Plot(args) => plot::run(&args),
        Verb::Script(args) => script::run(&args),
        Verb::Sim(args) => sim::run(&args),
        Verb::Check(args) => check::run(&args),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("netcell: {error:#}");
            ExitCode::from(EXIT_UNREADABLE)
        }
    }
}

/// Nobody reads on: `netcell trace info ... | head`.
fn is_closed(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::BrokenPipe
}

/// Tells how the reading of a capture ended. One that ends early is used as far as it goes; one of which nothing could be read is an error.
fn told_end(
    file: &Path,
    reader: &Reader,
    summary: &Summary,
    end: Option<ReadError>,
) -> anyhow::Result<()> {
    let name = file.display();
    match end {
        Some(error) if summary.frames == 0 => return Err(error).context(name.to_string()),
        Some(error) => eprintln!("netcell: {name}: {}; what stands before it is used", told(error)),
        None => {}
    }
    for skipped in reader.skipped().iter().take(MAX_TOLD) {
        eprintln!("netcell: {name}: passed over after frame {}: {}", skipped.after, skipped.reason);
    }
    if reader.skipped_count() > MAX_TOLD as u64 {
        eprintln!("netcell: {name}: {} records were passed over in all", reader.skipped_count());
    }
    if let Some((frame, fault)) = summary.faults.first() {
        let count = summary.anomalies.count(Kind::Malformed);
        eprintln!(
            "netcell: {name}: {count} frames cannot be read; the first is frame {frame}: {fault}"
        );
    }
    Ok(())
}

/// An error with what caused it, in one line.
fn told(error: ReadError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

/// Prints what a comparison found and gives the exit status.
fn told_verdict(verdict: &Verdict, quiet: bool) -> anyhow::Result<u8> {
    let (flows, found) = (verdict.compared, verdict.differences.len() as u64 + verdict.untold);
    if !quiet {
        let mut out = std::io::stdout().lock();
        let told = verdict.differences.iter().try_for_each(|found| writeln!(out, "{found}"));
        let told = told.and_then(|()| match found {
            0 => writeln!(out, "alike: {flows} flows compared"),
            _ => writeln!(out, "{found} differences in {flows} flows compared"),
        });
        told.or_else(|error| if is_closed(&error) { Ok(()) } else { Err(error) })?;
    }
    Ok(if found == 0 { 0 } else { EXIT_DIFFERENT })
}
