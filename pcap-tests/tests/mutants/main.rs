//! Faults put into the stack on purpose: the scripts of this project must catch each, and say which rule it breaks.
//!
//! All mutants are built into one copy of the workspace, and an environment variable chooses one: a build for each would take an hour.

mod workspace;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;
use serde::Deserialize;

/// What chooses the mutant of a run: its number, from 1 on; 0 is none.
pub const CHOICE: &str = "NETCELL_MUTANT";

/// A fault.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    name: String,
    file: String,
    #[serde(default)]
    after: String,
    right: String,
    wrong: String,
    rule: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    mutant: Vec<Mutant>,
}

/// What a run of all that `check` has said, and whether it failed.
struct Run {
    failed: bool,
    told: String,
}

/// What is run: scripts say most in the least time. A fault that they do not see is a script that is missing.
const FOLDER: &str = "every_script";

/// Runs the scripts with a mutant in place. A mutant that hangs is ended: virtual time takes seconds at most.
fn run(checks: &Path, number: usize) -> Run {
    let ended = Command::new("timeout")
        .args(["--signal=KILL", "300"])
        .arg(checks)
        .args([FOLDER, "--test-threads=1", "--nocapture"])
        .env(CHOICE, number.to_string())
        .stdin(Stdio::null())
        .output()
        .expect("the test program of the copy");
    let told = [ended.stdout, ended.stderr].concat();
    Run { failed: !ended.status.success(), told: String::from_utf8_lossy(&told).into_owned() }
}

#[test]
fn every_mutant_is_caught_and_its_rule_named() {
    let manifest: Manifest =
        toml::from_str(include_str!("mutants.toml")).expect("the list of mutants");
    let mutants = manifest.mutant;
    assert!(mutants.len() >= 20, "only {} mutants", mutants.len());
    let checks = workspace::build(&mutants);
    let sound = run(&checks, 0);
    assert!(!sound.failed, "without a mutant:\n{}", sound.told);
    let (next, survivors) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(mutant) = mutants.get(at) else { return };
                    if let Err(why) = judge(mutant, &run(&checks, at + 1)) {
                        survivors.lock().push(why);
                    }
                }
            });
        }
    });
    let survivors = survivors.into_inner();
    assert!(
        survivors.is_empty(),
        "{} of {} mutants live:\n{}",
        survivors.len(),
        mutants.len(),
        survivors.join("\n")
    );
}

/// Whether a mutant was caught by its rule; what was told instead.
fn judge(mutant: &Mutant, run: &Run) -> Result<(), String> {
    let why = match (run.failed, run.told.contains(&mutant.rule)) {
        (true, true) => return Ok(()),
        (true, false) => "caught, but not by its rule",
        (false, _) => "not caught",
    };
    Err(format!("{:?}: {why}\n{}", mutant.name, excerpt(&run.told)))
}

/// The lines that tell what failed, as far as anybody would read.
fn excerpt(told: &str) -> String {
    let lines = told.lines().filter(|line| line.contains("rule:") || line.contains(": line"));
    lines.take(12).collect::<Vec<_>>().join("\n")
}
