//! A copy of the workspace with every mutant in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{CHOICE, Mutant};

/// What chooses, at the end of the stack's crate.
const CHOOSER: &str = "
/// Whether this mutant is chosen.
pub fn is_mutant(number: usize) -> bool {
    static CHOICE: std::sync::LazyLock<usize> = std::sync::LazyLock::new(|| {
        std::env::var(\"CHOICE\").ok().and_then(|choice| choice.parse().ok()).unwrap_or(0)
    });
    *CHOICE == number
}
";

/// The profile of this test, which lies in its folder: what is built already serves the copy, too.
fn profile() -> String {
    let program = std::env::current_exe().expect("this program");
    let folder =
        program.ancestors().nth(2).and_then(Path::file_name).expect("the profile's folder");
    match folder.to_string_lossy() {
        debug if debug == "debug" => "dev".to_owned(),
        other => other.into_owned(),
    }
}

/// Builds the tests that run all folders over the stack with its mutants; answers where they are.
pub fn build(mutants: &[Mutant]) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants");
    let mut written = BTreeSet::new();
    copy_folder(root, &copy, mutants, &mut written);
    forget_others(&copy, &written);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
    let built = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--no-run", "--offline", "--package", "pcap-tests"])
        .args(["--profile", &profile()])
        .args(["--test", "scripts", "--message-format=json"])
        .current_dir(&copy)
        .env("CARGO_TARGET_DIR", target)
        .output()
        .expect("cargo");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stdout));
    let messages = String::from_utf8_lossy(&built.stdout);
    let mut programs = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    programs.next_back().expect("the test program")
}

/// Copies what changed, so that cargo builds no more than that.
fn copy_folder(from: &Path, to: &Path, mutants: &[Mutant], written: &mut BTreeSet<PathBuf>) {
    fs::create_dir_all(to).expect("a folder for the copy");
    for entry in fs::read_dir(from).expect("a folder of the workspace") {
        let entry = entry.expect("an entry");
        let (name, path) = (entry.file_name(), entry.path());
        let kind = entry.file_type().expect("a kind");
        if name == "target" || name.to_string_lossy().starts_with('.') {
            continue;
        }
        let copy = to.join(&name);
        written.insert(copy.clone());
        if kind.is_dir() {
            copy_folder(&path, &copy, mutants, written);
        } else if kind.is_file() {
            let mut bytes = fs::read(&path).expect("a file of the workspace");
            mutate(&path, &mut bytes, mutants);
            if fs::read(&copy).ok().as_ref() != Some(&bytes) {
                fs::write(&copy, &bytes).expect("room for the copy");
            }
        }
    }
}

/// Removes what a former copy had and this one has not.
fn forget_others(folder: &Path, written: &BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the copy") {
        let path = entry.expect("an entry").path();
        match (written.contains(&path), path.is_dir()) {
            (true, true) => forget_others(&path, written),
            (true, false) => {}
            (false, true) => fs::remove_dir_all(&path).expect("to forget a folder"),
            (false, false) => fs::remove_file(&path).expect("to forget a file"),
        }
    }
}

fn mutate(path: &Path, bytes: &mut Vec<u8>, mutants: &[Mutant]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let sources = root.join("netstack/src");
    if path == sources.join("lib.rs") {
        let text = std::str::from_utf8(bytes).expect("source text");
        let chooser = CHOOSER.replace("\"CHOICE\"", &format!("{CHOICE:?}"));
        // Attributes of a crate come after its documentation, and before all else.
        let at = text.find("\n\n").expect("documentation of the crate");
        let (about, rest) = text.split_at(at);
        *bytes = format!("{about}\n#![allow(unused_parens)]{rest}{chooser}").into_bytes();
    }
    if path == root.join("Cargo.toml") {
        // Packages of another version: what is built of them stands beside the real ones in the target folder, not in their place.
        let text = std::str::from_utf8(bytes).expect("text");
        let version = concat!("version = \"", env!("CARGO_PKG_VERSION"), "\"");
        assert_eq!(text.matches(version).count(), 1, "one version of the workspace");
        let other = concat!("version = \"", env!("CARGO_PKG_VERSION"), "-mutants\"");
        *bytes = text.replace(version, other).into_bytes();
    }
    let within = sources.join("transport");
    for (at, mutant) in mutants.iter().enumerate() {
        if path == within.join(&mutant.file) {
            let text = std::str::from_utf8(bytes).expect("source text");
            *bytes = mutated(text, at + 1, mutant).into_bytes();
        }
    }
}

/// The text with the expression replaced by a choice. It must stand there once, or the list is out of date.
fn mutated(text: &str, number: usize, mutant: &Mutant) -> String {
    let Mutant { name, after, right, wrong, .. } = mutant;
    let start = text.find(after.as_str()).unwrap_or_else(|| panic!("{name:?}: no {after:?}"));
    let start = start + after.len();
    let found = text[start..].find(right.as_str());
    let at = start + found.unwrap_or_else(|| panic!("{name:?}: no {right:?} there"));
    let (head, tail) = (&text[..at], &text[at + right.len()..]);
    assert!(
        !after.is_empty() || !tail.contains(right.as_str()),
        "{name:?}: {right:?} stands twice"
    );
    let right = right.trim_end();
    format!("{head}(if crate::is_mutant({number}) {{ {wrong} }} else {{ {right} }}) {tail}")
}
