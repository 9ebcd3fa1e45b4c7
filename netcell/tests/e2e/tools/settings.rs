//! The files of /proc/sys/net and /proc/net against those of a fresh network namespace of Linux: names, values, and what a write gets.

use std::collections::{BTreeMap, BTreeSet};

use super::on_loopback;

const PAGE: &str = include_str!("../../../../docs/compat/sysctl.md");

/// `PATH VALUE` of every file below /proc/sys/net/{core,ipv4,ipv6}; values on one line, an error by its name.
const LIST: &str = r#"
import errno, os
os.chdir('/proc/sys/net')
for top in ('core', 'ipv4', 'ipv6'):
    for folder, _, files in os.walk(top):
        for name in files:
            path = folder + '/' + name
            try: value = ' '.join(open(path).read().split())
            except OSError as e: value = errno.errorcode[e.errno]
            print(path, value)
"#;

/// What is written to every file that both have: a number out of every range, no number, and its own value.
const WRITE: &str = r#"
import errno, os, sys
os.chdir('/proc/sys/net')
def write(path, text):
    try:
        with open(path, 'w') as f: f.write(text)
        return 'taken'
    except OSError as e: return errno.errorcode[e.errno]
for path in sys.argv[1].split():
    try: own = open(path).read()
    except OSError: own = '0'
    print(path, write(path, '99999999999999999999999'), write(path, 'x'), write(path, own))
"#;

/// Values that are the machine's, not the kernel's: limits made of its memory, random numbers, what a distribution sets.
const OF_THE_MACHINE: &[&str] = &[
    "ipv4/tcp_mem",
    "ipv4/udp_mem",
    "ipv4/tcp_max_orphans",
    "ipv4/tcp_max_tw_buckets",
    "ipv4/tcp_max_syn_backlog",
    "ipv4/tcp_rmem",
    "ipv4/tcp_wmem",
    "ipv4/tcp_fastopen_key",
    // 2 on Linux: any number but 0 is on.
    "ipv4/tcp_frto",
    // In ticks of the kernel's clock (CONFIG_HZ).
    "ipv6/neigh/lo/retrans_time",
    "ipv4/ping_group_range",
    "ipv4/tcp_available_congestion_control",
    "ipv4/tcp_allowed_congestion_control",
    "ipv4/tcp_congestion_control",
    "core/rmem_default",
    "core/wmem_default",
    "core/rmem_max",
    "core/wmem_max",
    "ipv6/conf/lo/stable_secret",
    "ipv6/conf/default/stable_secret",
    "ipv6/conf/all/stable_secret",
];

fn listed(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let (path, value) = line.split_once(' ').unwrap_or((line, ""));
        (path.to_owned(), value.to_owned())
    };
    text.lines().map(pair).collect()
}

/// Whether a path fits a pattern in which `*` stands for any text.
fn fits(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((before, after)) => path.strip_prefix(before).is_some_and(|rest| {
            let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            ends.clone().any(|at| fits(after, &rest[at..]))
        }),
    }
}

/// The patterns of a part of the page.
fn patterns(part: &str) -> Vec<String> {
    let rows = part.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|line| line.split(" | ").next());
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    names.map(str::to_owned).collect()
}

/// Files that Linux shows in its first namespace alone.
fn of_first_namespace(path: &str) -> bool {
    let names = ["tcp_max_orphans", "tcp_mem", "udp_mem", "mld_max_msf", "mld_qrv"];
    path.contains("/neigh/default/") || names.iter().any(|name| path.ends_with(name))
}

#[test]
fn settings_have_linux_names_and_values_or_a_reason() {
    let script = format!("/usr/bin/python3 -c \"{LIST}\"");
    let (on_host, inside) = on_loopback(&script);
    let (on_host, inside) = (listed(&on_host), listed(&inside));
    assert!(on_host.len() > 300 && inside.len() > 150, "{} {}", on_host.len(), inside.len());
    let (_, absent) = PAGE.split_once("## Absent").expect("the page has the part");
    let absent = patterns(absent);
    let unexplained: BTreeSet<_> = on_host
        .keys()
        .filter(|path| !inside.contains_key(*path))
        .filter(|path| !absent.iter().any(|pattern| fits(pattern, path)))
        .collect();
    assert!(unexplained.is_empty(), "absent without a reason: {unexplained:?}");
    let invented: BTreeSet<_> = inside
        .keys()
        .filter(|path| !on_host.contains_key(*path) && !of_first_namespace(path))
        .collect();
    assert!(invented.is_empty(), "Linux has no such files: {invented:?}");
    let other: Vec<_> = inside
        .iter()
        .filter(|(path, _)| !OF_THE_MACHINE.contains(&path.as_str()))
        .filter_map(|(path, value)| {
            let linux = on_host.get(path)?;
            (linux != value).then(|| format!("{path}: Linux {linux}, sandbox {value}"))
        })
        .collect();
    assert!(other.is_empty(), "{}", other.join("\n"));
}

#[test]
fn writes_of_settings_get_what_linux_gives() {
    let script = format!("/usr/bin/python3 -c \"{LIST}\"");
    let (on_host, inside) = on_loopback(&script);
    let (on_host, inside) = (listed(&on_host), listed(&inside));
    // Of "all", of forwarding and of what ends IPv6 a write changes other files; TCP's rows are bounded by their own notes.
    let skipped = |path: &str| {
        ["forwarding", "ip_forward", "disable_ipv6", "tcp_", "mem", "stable_secret"]
            .iter()
            .any(|part| path.contains(part))
    };
    let both = inside.keys().filter(|path| on_host.contains_key(*path) && !skipped(path));
    let paths: Vec<&str> = both.map(String::as_str).collect();
    let script = format!("/usr/bin/python3 -c \"{WRITE}\" '{}'", paths.join(" "));
    let (on_host, inside) = on_loopback(&script);
    let (on_host, inside) = (listed(&on_host), listed(&inside));
    assert!(on_host.len() > 150, "{}", on_host.len());
    let other: Vec<_> = on_host
        .iter()
        .filter(|(path, answers)| inside.get(*path) != Some(answers))
        .map(|(path, answers)| format!("{path}: Linux {answers}, sandbox {:?}", inside.get(path)))
        .collect();
    assert!(other.is_empty(), "{}", other.join("\n"));
}
