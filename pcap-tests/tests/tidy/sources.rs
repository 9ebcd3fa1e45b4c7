//! Rules about source files: the first line, sizes of files and functions, where unsafe may stand, what no file may say.

use std::path::Path;

use crate::{report, root};

/// Longest file, in lines without its tests.
const FILE_LINES: usize = 1000;
/// Longest function, in lines.
const FUNCTION_LINES: usize = 70;
/// The rooms that may hold unsafe code.
const UNSAFE_ROOMS: &[&str] = &["platform/", "netstack/host/"];

/// A Rust source of the workspace.
pub(crate) struct Source {
    /// Path from the root of the workspace.
    pub(crate) path: String,
    text: String,
}

impl Source {
    /// Lines before the unit tests, with their numbers from 1, without comment lines.
    pub(crate) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .take_while(|(_, line)| *line != "#[cfg(test)]")
            .map(|(i, line)| (i + 1, line))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    fn is_test(&self) -> bool {
        let path = &self.path;
        path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/benches/")
    }
}

/// The Rust sources below a folder of the workspace, in order.
pub(crate) fn rust_files(below: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join(below), &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if name != "target" && name != ".git" {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).expect("a readable source");
            let path =
                path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
            found.push(Source { path, text });
        }
    }
}

#[test]
fn every_file_opens_with_what_it_holds() {
    let breaches = rust_files("")
        .iter()
        .filter(|f| !f.text.starts_with("//! "))
        .map(|f| format!("{}: line 1 is not `//! …`", f.path))
        .collect();
    report("first lines", breaches);
}

#[test]
fn files_fit_in_a_head() {
    let mut breaches = Vec::new();
    for file in rust_files("").iter().filter(|f| !f.is_test()) {
        let lines = file.text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        if lines > FILE_LINES {
            breaches
                .push(format!("{}: {lines} lines without tests (at most {FILE_LINES})", file.path));
        }
    }
    report("sizes of files", breaches);
}

/// The functions of a formatted file: name, first line, number of lines, and whether a `// tidy: table` stands above.
fn functions(text: &str) -> Vec<(String, usize, usize, bool)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let Some(name) = function_name(trimmed) else { continue };
        if trimmed.ends_with('}') || trimmed.ends_with(';') {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        let semicolon_first =
            |l: &&str| l.trim_end().ends_with(';') && l.len() - l.trim_start().len() == indent;
        let Some(len) = lines[start..].iter().position(|l| *l == close || semicolon_first(l))
        else {
            continue;
        };
        let exempt = (start.saturating_sub(6)..start)
            .rev()
            .map(|i| lines[i].trim_start())
            .take_while(|l| l.starts_with("//") || l.starts_with("#["))
            .any(|l| l.starts_with("// tidy: table"));
        found.push((name, start + 1, len + 1, exempt));
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    for word in words.by_ref() {
        match word {
            "fn" => break,
            "pub" | "const" | "unsafe" | "extern" | "async" | "\"C\"" => {}
            _ if word.starts_with("pub(") => {}
            _ => return None,
        }
    }
    let name = words.next()?;
    Some(name.split(['(', '<']).next().unwrap_or(name).to_owned())
}

#[test]
fn functions_fit_on_a_screen() {
    let mut breaches = Vec::new();
    for file in rust_files("").iter().filter(|f| !f.is_test()) {
        for (name, line, lines, exempt) in functions(&file.text) {
            if lines > FUNCTION_LINES && !exempt {
                breaches.push(format!(
                    "{}:{line}: {name} has {lines} lines (at most {FUNCTION_LINES})",
                    file.path
                ));
            }
        }
    }
    report("sizes of functions", breaches);
}

#[test]
fn unsafe_stays_in_its_rooms() {
    let mut breaches = Vec::new();
    for file in rust_files("") {
        if UNSAFE_ROOMS.iter().any(|room| file.path.starts_with(room)) {
            continue;
        }
        let is_root = file.path.ends_with("src/lib.rs") || file.path.ends_with("src/main.rs");
        if is_root && !file.text.contains("#![forbid(unsafe_code)]") {
            breaches.push(format!("{}: no `#![forbid(unsafe_code)]`", file.path));
        }
        for (number, line) in file.code_lines() {
            if line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "unsafe")
                && !line.contains('"')
            {
                breaches.push(format!(
                    "{}:{number}: unsafe outside platform and netstack-host",
                    file.path
                ));
            }
        }
    }
    report("unsafe", breaches);
}

#[test]
fn unsafe_modules_are_told_in_the_security_page() {
    let page = std::fs::read_to_string(root().join("docs/security.md")).unwrap_or_default();
    let mut breaches = Vec::new();
    for room in UNSAFE_ROOMS {
        for file in rust_files(room).iter().filter(|f| !f.is_test()) {
            let uses =
                file.code_lines().any(|(_, l)| l.contains("unsafe {") || l.contains("unsafe impl"));
            if uses && !page.contains(&file.path) {
                breaches.push(format!(
                    "{}: holds unsafe code and docs/security.md does not name it",
                    file.path
                ));
            }
        }
    }
    report("docs/security.md", breaches);
}

#[test]
fn names_follow_the_house() {
    let mut breaches = Vec::new();
    for file in rust_files("").iter().filter(|f| !f.is_test()) {
        for (number, line) in file.code_lines() {
            if line.contains("pub fn get_") && !line.contains("pub fn get_mut(") {
                breaches.push(format!("{}:{number}: a `get_` prefix", file.path));
            }
        }
    }
    report("names", breaches);
}

#[test]
fn the_function_measure_sees_long_functions() {
    let body = "    x();\n".repeat(80);
    let text = format!(
        "pub(crate) fn long<T>(\n    a: T,\n) {{\n{body}}}\n// tidy: table\nfn table() {{\n{body}}}\nfn s() {{\n}}\n"
    );
    let found = functions(&text);
    let named: Vec<_> = found.iter().map(|f| (f.0.as_str(), f.2 > FUNCTION_LINES, f.3)).collect();
    assert_eq!(named, [("long", true, false), ("table", true, true), ("s", false, false)]);
}
