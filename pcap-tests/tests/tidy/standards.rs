//! `docs/compat/rfc.md`: each row has a level of support, what it needs beside it, and tests that exist.

use super::{report, root};

const PAGE: &str = "docs/compat/rfc.md";

fn breaches_of(line: &str) -> Vec<String> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [number, _, support, note, tests] = cells[..] else {
        return vec![format!("{PAGE}: not five cells: {line}")];
    };
    let mut breaches = Vec::new();
    match (support, note) {
        ("full" | "open", _) => {}
        ("partial" | "refused", "") => {
            breaches
                .push(format!("{PAGE}: RFC {number} is {support}: say what is missing, or why"));
        }
        ("partial" | "refused", _) => {}
        _ => breaches.push(format!("{PAGE}: RFC {number}: no level of support: {support}")),
    }
    if tests.is_empty() && support != "open" {
        breaches.push(format!("{PAGE}: RFC {number}: name the test that shows it"));
    }
    for test in tests.split(',').map(|test| test.trim().trim_matches('`')).filter(|t| !t.is_empty())
    {
        let Some((file, function)) = test.split_once("::") else {
            breaches.push(format!("{PAGE}: RFC {number}: not FILE::FUNCTION: {test}"));
            continue;
        };
        let text = std::fs::read_to_string(root().join(file)).unwrap_or_default();
        if !text.contains(&format!("fn {function}(")) {
            breaches.push(format!("{PAGE}: RFC {number}: no such test: {test}"));
        }
    }
    breaches
}

#[test]
fn every_standard_names_tests_that_exist() {
    let page = std::fs::read_to_string(root().join(PAGE)).expect("the page");
    let rows = page.lines().filter(|line| {
        line.starts_with("| ") && !line.starts_with("| RFC |") && !line.starts_with("|---")
    });
    report("standards", rows.flat_map(breaches_of).collect());
}
