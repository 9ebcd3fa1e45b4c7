//! Goldens: captures to which the stack is held. A manifest in their folder says of each whom the stack plays, what it shows and what
//! is compared; a golden passes where the stack does again what was recorded.

mod manifest;
mod update;

use std::fmt::Write;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::capture::Reader;
use crate::compare::{Aspect, Terms};
use crate::replay::{self, Outcome, ReplayError, Role, Settings};
use crate::script::System;

pub use update::update;

/// The name of a manifest.
pub const MANIFEST: &str = "goldens.toml";

/// Differences that are told of one golden; the others are counted.
const MAX_TOLD: usize = 20;

/// A capture, and whom the stack plays in it.
#[derive(Clone, Debug)]
pub struct Golden {
    /// The capture.
    pub file: PathBuf,
    /// What it shows, in words.
    pub shows: String,
    /// Who were recorded, in words: the caller and the called.
    pub recorded: [Option<String>; 2],
    /// Whom the stack plays.
    pub roles: Vec<Role>,
    /// What is compared.
    pub terms: Terms,
    /// Why something is not compared that is by default.
    pub why: Option<String>,
}

/// Whether a name is that of a capture: .pcap or .pcapng, also with .gz or .zst.
pub fn is_capture(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let plain = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(name);
    plain.ends_with(".pcap") || plain.ends_with(".pcapng")
}

impl Golden {
    /// Reads a manifest; the files are those of its folder. Errors: with the place in it, or which entry makes no sense.
    pub fn manifest(path: &Path) -> Result<Vec<Self>, String> {
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        manifest::parse(&text, path.parent().unwrap_or(Path::new("")))
    }

    /// Its file's name, and whom the stack plays in it.
    pub fn name(&self) -> String {
        let file = self.file.file_name().map(|name| name.to_string_lossy().into_owned());
        let roles: Vec<String> = self.roles.iter().map(Role::to_string).collect();
        format!("{} as {}", file.unwrap_or_default(), roles.join(", "))
    }

    /// Plays it over a kernel. Errors: the file cannot be read, or the kernel not be had.
    pub fn replay(&self, system: System) -> Result<Played, ReplayError> {
        self.replay_of(&Arc::from(fs::read(&self.file)?), system)
    }

    /// Plays a capture that stands for the file.
    fn replay_of(&self, file: &Arc<[u8]>, system: System) -> Result<Played, ReplayError> {
        let open = || Reader::new(Cursor::new(Arc::clone(file)));
        let terms = self.terms.clone();
        let settings = Settings { system, terms, ..Settings::of(&self.roles) };
        let mut frames = Vec::new();
        let mut sink = |time: Duration, is_ours: bool, bytes: &[u8]| {
            frames.push((time, is_ours, bytes.to_vec()));
            Ok(())
        };
        let outcome = replay::replay(&open, &settings, Some(&mut sink))?;
        Ok(Played { outcome, frames })
    }

    /// What the stack did otherwise, told; none: it passes. Errors: it cannot be played at all.
    pub fn complaint(&self, played: &Played) -> Result<Option<String>, String> {
        let outcome = &played.outcome;
        if outcome.flows == 0 && outcome.left_out.is_empty() {
            return Err("nobody whom the stack plays is in the capture".into());
        }
        let verdict = &outcome.verdict;
        let mut told: Vec<String> = Vec::new();
        // A flow that is not played is not held to.
        if self.terms.aspects.contains(&Aspect::Flows) {
            let left = outcome.left_out.iter();
            told.extend(left.map(|(flow, why)| format!("flow {flow} is not replayed: {why}")));
        }
        told.extend(verdict.differences.iter().map(ToString::to_string));
        told.extend(outcome.notes.iter().cloned());
        if told.is_empty() {
            return Ok(None);
        }
        let mut text = format!("it shows: {}", self.shows);
        if let [Some(caller), Some(called)] = &self.recorded {
            // Writing to a String cannot fail.
            let _ = write!(text, " ({caller} called {called})");
        }
        told.iter().take(MAX_TOLD).for_each(|line| {
            let _ = write!(text, "\n{line}");
        });
        if let Some(more @ 1..) = told.len().checked_sub(MAX_TOLD) {
            let _ = write!(text, "\nand {more} more");
        }
        Ok(Some(text))
    }
}

/// What a replay gave.
pub struct Played {
    /// What the comparison gave, and what was not played.
    pub outcome: Outcome,
    /// Every frame that was exchanged.
    pub frames: Vec<Exchanged>,
}

/// An Ethernet frame: when it came (since the epoch), whether the stack sent it, its bytes.
pub type Exchanged = (Duration, bool, Vec<u8>);

#[cfg(test)]
mod tests;
