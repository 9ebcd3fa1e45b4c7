//! Tidy: the house rules as a test. Every rule lists all its breaches at once, with the file, the line and what to do.

mod edges;
mod sources;
mod standards;

use std::path::{Path, PathBuf};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Fails with all breaches of one rule.
pub(crate) fn report(rule: &str, breaches: Vec<String>) {
    assert!(
        breaches.is_empty(),
        "{rule}: {} breaches\n  {}",
        breaches.len(),
        breaches.join("\n  ")
    );
}
