//! The compatibility page of socket options, made from the tables: `docs/compat/sockopt.md`.

use std::fmt::Write;

use super::row::{Row, Support};
use super::{ip, ipv6, raw, socket, tcp, udp};

/// All tables, in the order of the page.
pub const LEVELS: &[(&str, &[Row])] = &[
    ("SOL_SOCKET", socket::ROWS),
    ("IPPROTO_TCP", tcp::ROWS),
    ("IPPROTO_IP", ip::ROWS),
    ("IPPROTO_IPV6", ipv6::ROWS),
    ("IPPROTO_UDP", udp::ROWS),
    ("SOL_RAW", raw::ROWS),
    ("IPPROTO_ICMPV6", raw::ICMPV6_ROWS),
];

/// The page as Markdown.
pub fn page() -> String {
    let rows = || LEVELS.iter().flat_map(|(_, rows)| rows.iter());
    let count = |support| rows().filter(|row| row.support == support).count();
    let mut page = String::from("# Socket options\n\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        page,
        "Generated from the tables in `sentry/net/src/sockopt`; change them there, then run \
         `UPDATE=1 cargo test -p sentry-net docs`.\n\n\
         {} options: {} full, {} partial, {} refused with an error that Linux gives where its build, its hardware or the caller's rights lack them. \
         Every other number answers ENOPROTOOPT, is counted, and is named once in the log.",
        rows().count(),
        count(Support::Full),
        count(Support::Partial),
        count(Support::Refused),
    );
    for (level, rows) in LEVELS {
        let _ = writeln!(
            page,
            "\n## {level}\n\n| option | number | value | support | note |\n|---|---|---|---|---|"
        );
        for row in *rows {
            let support = match row.support {
                Support::Full => "full",
                Support::Partial => "partial",
                Support::Refused => "refused",
            };
            let note = row.note.replace('|', "\\|");
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {support} | {note} |",
                row.name, row.number, row.layout
            );
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_gaps_have_a_note() {
        for (level, rows) in LEVELS {
            assert!(rows.is_sorted_by(|a, b| a.number < b.number), "{level} is not sorted");
            for row in *rows {
                assert!(row.support == Support::Full || !row.note.is_empty(), "{}", row.name);
            }
        }
    }

    #[test]
    fn the_page_is_not_stale() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/compat/sockopt.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(found == page(), "stale: run UPDATE=1 cargo test -p sentry-net docs");
    }
}
