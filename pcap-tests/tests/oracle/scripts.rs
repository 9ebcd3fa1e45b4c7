//! The folder of scripts over the host's Linux: what a script says is what Linux does.

use std::path::{Path, PathBuf};

use pcap_tests::check::{self, Verdict};
use pcap_tests::script::System;

/// Scripts that run at the same time: they mostly wait.
const JOBS: usize = 3;
/// A machine that does other things, too, may be late once, and again.
const TRIES: usize = 4;

#[test]
fn every_script_passes_on_linux() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut files = check::find(&folder).expect("the folder of scripts");
    assert!(!files.is_empty(), "no scripts in {}", folder.display());
    let mut told = Vec::new();
    for _ in 0..TRIES {
        told.clear();
        let mut again: Vec<PathBuf> = Vec::new();
        for one in check::run(&files, System::Linux, JOBS, &mut |_| ()) {
            match one.verdict {
                Verdict::Passed => {}
                Verdict::Failed(why) | Verdict::Unreadable(why) => {
                    told.push(format!("{}: {why}", one.path.display()));
                    again.push(one.path);
                }
            }
        }
        files = again;
        if files.is_empty() {
            return;
        }
    }
    panic!("{} failed {TRIES} times:\n{}", told.len(), told.join("\n"));
}
