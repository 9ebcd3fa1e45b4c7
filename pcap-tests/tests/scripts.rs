//! The folders of scripts, of scenarios and of goldens over our stack.

use std::path::Path;

use pcap_tests::check::{self, Verdict};
use pcap_tests::script::System;

/// Runs a folder that has `least` cases at the least: one that was not found must not pass.
fn all_pass(folder: &str, least: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let cases = check::find(&folder).expect("the folder");
    assert!(cases.len() >= least, "only {} in {}", cases.len(), folder.display());
    let mut told = Vec::new();
    let done = check::run(&cases, System::Ours, 2, &mut |_| ());
    for one in done {
        match one.verdict {
            Verdict::Passed => {}
            Verdict::Failed(why) | Verdict::Unreadable(why) => {
                told.push(format!("{}: {why}", one.case.full_name()));
            }
        }
    }
    assert!(told.is_empty(), "{} failed:\n{}", told.len(), told.join("\n"));
}

#[test]
fn every_script_passes_on_the_stack() {
    all_pass("scripts", 150);
}

#[test]
fn every_scenario_comes_as_it_says() {
    all_pass("scenarios", 30);
}

#[test]
fn every_golden_is_done_again() {
    all_pass("goldens", 250);
}
