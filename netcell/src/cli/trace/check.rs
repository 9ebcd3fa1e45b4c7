//! `netcell trace check`: a folder as a test run.

use std::io::{IsTerminal, Write};
use std::num::NonZero;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use pcap_tests::check::{self, Done, Verdict};

use super::EXIT_DIFFERENT;
use super::on::On;

/// Run all scripts, scenarios and goldens of a folder as a test: in parallel, with a summary, and a report for CI.
///
/// A golden is a capture that the folder's goldens.toml names: the stack plays one side of it, and passes where it does what was recorded.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  netcell trace check tests/network
  netcell trace check tests/network --junit report.xml
  netcell trace check --on linux tests/network     is it so on Linux? (root, real time)
  netcell trace check --update tests/network       goldens that differ are shown, then rewritten

The last line is `N passed, N failed`, and with --update how many captures were rewritten. The exit status is 0 where all passed,
1 where one failed (or was rewritten), 2 where there is nothing to run.")]
pub struct CheckArgs {
    /// A folder, or single files
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Whose kernel is tested
    #[arg(long, value_enum, default_value_t)]
    on: On,
    /// How many run at the same time; by default as many as there are cores
    #[arg(long, short, value_name = "N")]
    jobs: Option<NonZero<usize>>,
    /// Write the outcome as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Rewrite the captures of goldens that fail with what the stack and the recorded other side exchange now
    #[arg(long, conflicts_with = "on")]
    update: bool,
    /// Tell those that passed, too
    #[arg(long, short)]
    verbose: bool,
}

pub fn run(args: &CheckArgs) -> Result<u8> {
    let mut cases = Vec::new();
    for path in &args.paths {
        cases.extend(check::find(path).with_context(|| path.display().to_string())?);
    }
    if cases.is_empty() {
        bail!("nothing to run: no {}", check::KINDS);
    }
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let jobs = args.jobs.map_or(cores, NonZero::get);
    let mut progress =
        Progress { total: cases.len(), ended: 0, shown: std::io::stderr().is_terminal() };
    let done = check::run(&cases, args.on.into(), jobs, &mut |one| {
        progress.clear();
        tell(one, args.verbose);
        progress.step();
    });
    progress.clear();
    if let Some(path) = &args.junit {
        let xml = check::junit("netcell trace check", &done);
        std::fs::write(path, xml).with_context(|| path.display().to_string())?;
    }
    let passed = done.iter().filter(|one| one.verdict == Verdict::Passed).count();
    let rewritten =
        if args.update { format!(", {} rewritten", update(&done)) } else { String::new() };
    println!("{passed} passed, {} failed{rewritten}", done.len() - passed);
    Ok(if passed == done.len() { 0 } else { EXIT_DIFFERENT })
}

/// Rewrites what failed, and tells it; gives how many captures were rewritten.
fn update(done: &[Done]) -> usize {
    let mut rewritten = 0;
    for (path, outcome) in check::update(done) {
        let path = path.display();
        match outcome {
            Ok(true) => {
                println!("{path}: rewritten");
                rewritten += 1;
            }
            Ok(false) => {}
            Err(why) => println!("{path}: not rewritten: {why}"),
        }
    }
    rewritten
}

fn tell(one: &Done, verbose: bool) {
    let name = one.case.full_name();
    match &one.verdict {
        Verdict::Passed if verbose => println!("{name}: passed"),
        Verdict::Passed => {}
        Verdict::Failed(why) => println!("{name}: failed\n{why}"),
        Verdict::Unreadable(why) => println!("{name}: cannot be run: {why}"),
    }
}

/// How many cases have ended, on a terminal only.
struct Progress {
    total: usize,
    ended: usize,
    shown: bool,
}

impl Progress {
    fn step(&mut self) {
        self.ended += 1;
        if self.shown {
            // A terminal that is gone shows nothing.
            let _ = write!(std::io::stderr(), "\r{} of {}", self.ended, self.total);
        }
    }

    fn clear(&self) {
        if self.shown && self.ended > 0 {
            let _ = write!(std::io::stderr(), "\r{:40}\r", "");
        }
    }
}
