//! The compatibility page of system calls, made from the table: `docs/compat/syscalls.md`.

use std::fmt::Write;

use crate::table::{FAMILIES, Support};

/// The page as Markdown.
pub fn page() -> String {
    let rows = || FAMILIES.iter().flat_map(|(_, rows)| rows.iter());
    let count = |support| rows().filter(|r| r.support == support).count();
    let mut page = String::from("# System calls\n\n");
    let _ = writeln!(
        page,
        "Generated from the table in `sentry/syscalls`; change it there, then run \
         `UPDATE=1 cargo test -p sentry-syscalls docs`.\n\n\
         {} calls: {} full, {} partial, {} refused with the error that Linux would give. \
         Every other number answers ENOSYS, is counted, and is named once in the log.",
        rows().count(),
        count(Support::Full),
        count(Support::Partial),
        count(Support::Refused),
    );
    for (family, rows) in FAMILIES.iter().filter(|(_, rows)| !rows.is_empty()) {
        let _ = writeln!(
            page,
            "\n## {family}\n\n| call | number | support | note |\n|---|---|---|---|"
        );
        let mut rows: Vec<_> = rows.iter().collect();
        rows.sort_by_key(|row| row.number);
        for row in rows {
            let support = match row.support {
                Support::Full => "full",
                Support::Partial => "partial",
                Support::Refused => "refused",
            };
            let note = row.note.replace('|', "\\|");
            let _ = writeln!(page, "| `{}` | {} | {support} | {note} |", row.name, row.number);
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_not_stale() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/compat/syscalls.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/compat"))
                .unwrap();
            std::fs::write(path, page()).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(found == page(), "stale: run UPDATE=1 cargo test -p sentry-syscalls docs");
    }
}
