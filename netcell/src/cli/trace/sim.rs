//! `netcell trace sim`: stacks, links and flows in virtual time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use pcap_tests::scenario::{Outcome, Plan};

use super::EXIT_DIFFERENT;
use super::tape::Tape;

/// Play a scenario: hosts, links with faults, flows, and what is expected of them, in virtual time.
///
/// Every host is a stack of its own. One seed gives one run, bit by bit, on every machine.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  netcell trace sim satellite.toml
  netcell trace sim satellite.toml --runs 100          seeds 1 to 100: is it luck?
  netcell trace sim satellite.toml --seed 17 --write out && netcell trace plot out/dish-ground.pcapng -o out.svg

A scenario:
  title = \"An upload over a satellite\"
  [[link]]
  between = [\"dish\", \"ground\"]
  rate = \"20Mbit\"
  delay = \"270ms\"
  loss = \"0.1%\"
  [[flow]]
  from = \"dish\"
  to = \"ground\"
  bytes = \"20MB\"
  congestion = \"bbr\"
  expect = { goodput = \">= 10Mbit\", timeouts = \"= 0\" }

docs/traces.md tells all keys. The exit status is 0 where all came as expected, 1 where it did not, 2 where the scenario is none.")]
pub struct SimArgs {
    /// What to play (TOML)
    file: PathBuf,
    /// The seed; by default the scenario's own
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds, one after the other
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// Keep what passed each link as a capture in this folder
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// Print only what did not come as expected
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: &SimArgs) -> Result<u8> {
    let name = args.file.display().to_string();
    let text = fs::read_to_string(&args.file).with_context(|| name.clone())?;
    let plan = Plan::parse(&text).with_context(|| name.clone())?;
    let first = args.seed.unwrap_or(plan.seed);
    let mut failed = Vec::new();
    for seed in (0..args.runs).map(|n| first.wrapping_add(n)) {
        let outcome = play(&plan, seed, args.write.as_deref()).with_context(|| name.clone())?;
        if !args.quiet && args.runs == 1 {
            println!("{}\n\n{}\n", plan.title, outcome.table());
        }
        for complaint in outcome.complaints() {
            println!("{name}: seed {seed}: {complaint}");
        }
        if !outcome.passed() {
            failed.push(seed);
        }
    }
    let passed = args.runs - failed.len() as u64;
    if let Some(seed) = failed.first() {
        println!("again: netcell trace sim {name} --seed {seed} --write DIR");
    }
    if args.runs > 1 {
        println!("{passed} seeds passed, {} failed", failed.len());
    }
    Ok(if failed.is_empty() { 0 } else { EXIT_DIFFERENT })
}

/// Plays a seed; captures go into a folder.
fn play(plan: &Plan, seed: u64, folder: Option<&Path>) -> Result<Outcome> {
    let Some(folder) = folder else { return Ok(plan.play(seed, None)?) };
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let file = |link: String| folder.join(format!("{}.pcapng", link.replace(['/', '\0'], "_")));
    let paths: Vec<PathBuf> = plan.link_names().map(file).collect();
    let links = plan.link_names().zip(&paths);
    let tapes = links.map(|(link, path)| Tape::create_link(path, &link));
    let mut tapes = tapes.collect::<Result<Vec<Tape<'_>>>>()?;
    let mut failure = None;
    let mut tell = |link: usize, time: Duration, bytes: &[u8]| {
        if let Some(Err(error)) = tapes.get_mut(link).map(|tape| tape.add(time, true, bytes)) {
            failure.get_or_insert(error);
        }
    };
    let outcome = plan.play(seed, Some(&mut tell))?;
    failure.map_or(Ok(()), Err).with_context(|| folder.display().to_string())?;
    tapes.into_iter().try_for_each(Tape::finish)?;
    Ok(outcome)
}
