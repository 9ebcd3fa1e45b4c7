//! What a manifest says: an entry for each capture and each side of it that the stack plays.

use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::{Golden, is_capture};
use crate::compare::{Aspect, Terms};
use crate::scenario::units::Span;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    golden: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    file: PathBuf,
    #[serde(rename = "as")]
    roles: Vec<String>,
    shows: String,
    caller: Option<String>,
    called: Option<String>,
    #[serde(default)]
    strict: Vec<String>,
    #[serde(default)]
    ignore: Vec<String>,
    why: Option<String>,
    tolerance: Option<Span>,
}

/// Reads a manifest of a folder. Errors: with line and column, or what is wrong with which entry.
pub fn parse(text: &str, folder: &Path) -> Result<Vec<Golden>, String> {
    let manifest: Manifest = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut goldens: Vec<Golden> = Vec::with_capacity(manifest.golden.len());
    for entry in manifest.golden {
        let file = entry.file.display().to_string();
        let golden = golden(entry, folder).map_err(|why| format!("{file}: {why}"))?;
        let again = |g: &Golden| g.file == golden.file && g.roles == golden.roles;
        if goldens.iter().any(again) {
            return Err(format!("{file}: two entries play the same side of it"));
        }
        goldens.push(golden);
    }
    Ok(goldens)
}

fn golden(entry: Entry, folder: &Path) -> Result<Golden, String> {
    let inside = entry.file.components().all(|part| matches!(part, Component::Normal(_)));
    if !inside || !is_capture(&entry.file) {
        return Err("no capture (.pcap, .pcapng, also with .gz or .zst) of this folder".into());
    }
    if entry.shows.trim().is_empty() {
        return Err("`shows` says nothing".into());
    }
    let roles = entry.roles.iter().map(|role| role.parse()).collect::<Result<Vec<_>, String>>()?;
    if roles.is_empty() {
        return Err("`as` names nobody".into());
    }
    if !entry.ignore.is_empty() && entry.why.is_none() {
        return Err("`ignore` wants a reason: `why`".into());
    }
    let mut aspects = Aspect::DEFAULT.to_vec();
    for name in &entry.strict {
        aspects.push(name.parse()?);
    }
    for name in &entry.ignore {
        let ignored: Aspect = name.parse()?;
        if !aspects.contains(&ignored) {
            return Err(format!("`ignore` names {name}, which would not be compared"));
        }
        aspects.retain(|aspect| *aspect != ignored);
    }
    let mut terms = Terms { aspects, ..Terms::default() };
    if let Some(Span(tolerance)) = entry.tolerance {
        terms.tolerance = tolerance;
    }
    Ok(Golden {
        file: folder.join(entry.file),
        shows: entry.shows,
        recorded: [entry.caller, entry.called],
        roles,
        terms,
        why: entry.why,
    })
}
