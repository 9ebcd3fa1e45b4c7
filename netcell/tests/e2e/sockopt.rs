//! The option tables against Linux: one program asks and sets every option of every kind of internet socket in every state, on the
//! host and in a sandbox, and the answers are compared line by line. What differs is listed with its reason. `UPDATE=1` takes the
//! reasons out of the list that explain nothing any more; new ones are written by hand.

use std::collections::BTreeMap;

use crate::harness::{Namespace, netcell, run};

const PROGRAM: &str = include_str!("sockopt/table.py");
/// `KIND STATE OPTION CASE: REASON` a line; each word may have `*` for any text and `|` between alternatives.
const DIFFERENCES: &str = include_str!("sockopt/differences.txt");
/// Fewer answers than this mean that the program did not do its work.
const ANSWERS_AT_LEAST: usize = 80_000;

fn fits_one(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Whether the words of a line fit those of a pattern.
fn fits(pattern: &str, line: &str) -> bool {
    let (patterns, words) = (pattern.split(' '), line.split(' '));
    patterns.clone().count() == words.clone().count()
        && patterns.zip(words).all(|(any, word)| any.split('|').any(|one| fits_one(one, word)))
}

/// The answers by what was asked.
fn answers(output: &std::process::Output) -> BTreeMap<String, String> {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {errors}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let pair = |line: &str| line.split_once(": ").map(|(a, b)| (a.to_owned(), b.to_owned()));
    text.lines().filter_map(pair).collect()
}

/// Writes the list anew, with the rules that were met.
fn keep(rules: &[(&str, &str)], met: &[usize]) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/sockopt/differences.txt");
    let comments = DIFFERENCES.lines().filter(|line| line.starts_with('#')).map(str::to_owned);
    let kept = rules.iter().zip(met).filter(|(_, met)| **met > 0);
    let lines = kept.map(|((rule, reason), _)| format!("{rule}: {reason}"));
    let text: Vec<String> = comments.chain(lines).collect();
    std::fs::write(path, text.join("\n") + "\n").expect("the list");
}

#[test]
fn every_socket_option_answers_as_on_linux_but_for_the_listed_differences() {
    let namespace = Namespace::new();
    let program = ["/usr/bin/python3", "-c", PROGRAM];
    let linux = answers(&run(&mut namespace.command(&program), b""));
    let ours = answers(&run(&mut netcell(&[], &program), b""));
    assert!(linux.len() >= ANSWERS_AT_LEAST, "only {} answers", linux.len());
    let rules = DIFFERENCES.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rules: Vec<(&str, &str)> =
        rules.map(|line| line.split_once(": ").expect("a reason")).collect();
    let mut met = vec![0; rules.len()];
    let mut unlisted = Vec::new();
    for (asked, told) in &linux {
        let here = ours.get(asked).map_or("nothing", String::as_str);
        if here == told {
            continue;
        }
        let mut listed = false;
        for (rule, met) in rules.iter().zip(&mut met) {
            if fits(rule.0, asked) {
                *met += 1;
                listed = true;
            }
        }
        if !listed {
            unlisted.push(format!("{asked}: Linux {told}, here {here}"));
        }
    }
    assert_eq!(linux.len(), ours.len(), "one of them was asked more");
    if std::env::var_os("UPDATE").is_some() {
        keep(&rules, &met);
    }
    let idle = rules.iter().zip(&met).filter(|(_, met)| **met == 0);
    let idle: Vec<&str> = idle.map(|(rule, _)| rule.0).collect();
    assert!(idle.is_empty(), "listed differences that do not occur: {idle:#?}");
    let shown: Vec<_> = unlisted.iter().take(60).collect();
    assert!(unlisted.is_empty(), "{} unlisted differences: {shown:#?}", unlisted.len());
}

#[test]
fn patterns_of_differences_fit_whole_words() {
    assert!(fits("tcp* * SO_MARK i0|i1", "tcp4 fresh SO_MARK i1"));
    assert!(fits("* fresh IP_*_SOURCE *", "udp4 fresh IP_BLOCK_SOURCE get4"));
    assert!(!fits("tcp* * SO_MARK i0", "tcp4 fresh SO_MARK i01"));
    assert!(!fits("udp* * SO_MARK i0", "tcp4 fresh SO_MARK i0"));
    assert!(!fits("* SO_MARK", "tcp4 fresh SO_MARK"));
}
