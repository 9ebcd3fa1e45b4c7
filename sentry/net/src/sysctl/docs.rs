//! The compatibility page of settings, made from the tables: `docs/compat/sysctl.md`.

use std::fmt::Write;

use super::TABLES;
use super::absent::ABSENT;
use super::row::Value;
use crate::sockopt::row::Support;

/// The page as Markdown.
pub fn page() -> String {
    let mut rows: Vec<_> = TABLES.iter().flat_map(|rows| rows.iter()).collect();
    rows.sort_by_key(|row| row.path);
    let count = |support| rows.iter().filter(|row| row.support == support).count();
    let mut page = String::from("# Settings of the network\n\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        page,
        "Generated from the tables in `sentry/net/src/sysctl`; change them there, then run \
         `UPDATE=1 cargo test -p sentry-net docs`.\n\n\
         Files below `/proc/sys/net`: {} full, {} partial. `*` stands for an interface, `default` and, under `conf`, `all`. \
         What Linux has and the stack has not is absent, for the reasons below.\n\n\
         | file | value | support | note |\n|---|---|---|---|",
        count(Support::Full),
        count(Support::Partial),
    );
    for row in rows {
        let value = match &row.value {
            Value::Number { min, max, .. } => format!("{min} to {max}"),
            Value::Numbers { bounds: (min, max), .. } => format!("numbers, {min} to {max}"),
            Value::Text { set: Some(_), .. } => "text".to_owned(),
            Value::Text { set: None, .. } => "text, read only".to_owned(),
            Value::Flush(_) => "written only".to_owned(),
        };
        let support = match row.support {
            Support::Full => "full",
            Support::Partial => "partial",
            Support::Refused => "refused",
        };
        let _ = writeln!(page, "| `{}` | {value} | {support} | {} |", row.path, row.note);
    }
    page.push_str("\n## Absent\n\n`*` stands for any text; what has a row above is there.\n\n| files | why |\n|---|---|\n");
    for (patterns, reason) in ABSENT {
        let names: Vec<String> = patterns.iter().map(|pattern| format!("`{pattern}`")).collect();
        let _ = writeln!(page, "| {} | {reason} |", names.join(", "));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_there_once_and_gaps_have_a_note() {
        let mut seen = std::collections::BTreeSet::new();
        for row in TABLES.iter().flat_map(|rows| rows.iter()) {
            assert!(seen.insert(row.path), "{} is there twice", row.path);
            assert!(row.support == Support::Full || !row.note.is_empty(), "{}", row.path);
        }
    }

    #[test]
    fn the_page_is_not_stale() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/compat/sysctl.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(found == page(), "stale: run UPDATE=1 cargo test -p sentry-net docs");
    }
}
