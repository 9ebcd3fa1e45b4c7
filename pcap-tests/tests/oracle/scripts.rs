//! The folder of scripts over the host's Linux: what a script says is what Linux does.

use std::path::Path;

use pcap_tests::check::{self, Case, Verdict};
use pcap_tests::script::System;

/// Scripts that run at the same time: they mostly wait.
const JOBS: usize = 3;
/// A machine that does other things, too, may be late once, and again.
const TRIES: usize = 4;

#[test]
fn every_script_passes_on_linux() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut cases = check::find(&folder).expect("the folder of scripts");
    assert!(!cases.is_empty(), "no scripts in {}", folder.display());
    let mut told = Vec::new();
    for _ in 0..TRIES {
        told.clear();
        let mut again: Vec<Case> = Vec::new();
        for one in check::run(&cases, System::Linux, JOBS, &mut |_| ()) {
            match one.verdict {
                Verdict::Passed => {}
                Verdict::Failed(why) | Verdict::Unreadable(why) => {
                    told.push(format!("{}: {why}", one.case.full_name()));
                    again.push(one.case);
                }
            }
        }
        cases = again;
        if cases.is_empty() {
            return;
        }
    }
    panic!("{} failed {TRIES} times:\n{}", told.len(), told.join("\n"));
}
