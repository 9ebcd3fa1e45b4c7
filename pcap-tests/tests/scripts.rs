//! The folder of scripts over our stack.

use std::path::Path;

use pcap_tests::check::{self, Verdict};
use pcap_tests::script::System;

/// How many there are at the least: a folder that was not found must not pass.
const LEAST: usize = 140;

#[test]
fn every_script_passes_on_the_stack() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let files = check::find(&folder).expect("the folder of scripts");
    assert!(files.len() >= LEAST, "only {} scripts", files.len());
    let mut told = Vec::new();
    let done = check::run(&files, System::Ours, 2, &mut |_| ());
    for one in done {
        match one.verdict {
            Verdict::Passed => {}
            Verdict::Failed(why) | Verdict::Unreadable(why) => {
                told.push(format!("{}: {why}", one.path.display()));
            }
        }
    }
    assert!(told.is_empty(), "{} failed:\n{}", told.len(), told.join("\n"));
}
