//! Captures of public projects: every frame is read or refused with a reason that is counted, and every side that can be played is played.
//!
//! They are no part of this repository: `NETCELL_TRACES` names their folder, by default `../shared/traces` beside it. Where that is
//! set they must be there, as a CI should have it; elsewhere their absence is told. `UPDATE=1` writes the page anew; `-- --nocapture` shows what was replayed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use pcap_tests::capture::{ReadError, Reader};
use pcap_tests::flows::{Protocol, Summary};
use pcap_tests::packet::Packet;
use pcap_tests::replay::{self, Role, Settings};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/traces-corpus.md");
const HEAD: &str = "\
# Captures of public projects

What the readers make of 76 small captures that Suricata, Zeek and tcpdump keep as test data, many of them malformed on purpose. Every frame is
read or refused with a reason. Written by `UPDATE=1 cargo test -p pcap-tests --test traces`, which also plays every side that can be played (and tells
of it with `-- --nocapture`). The captures are no part of this repository: `NETCELL_TRACES` names their folder.

| capture | frames | read | refused | flows: TCP, UDP, echo | end of the file |
|---|---|---|---|---|---|
";

/// The folder and the captures that its manifest names; none where it is absent and may be.
fn captures() -> Option<(PathBuf, Vec<String>)> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/traces");
    let asked = std::env::var_os("NETCELL_TRACES");
    let wanted = asked.is_some();
    let folder = PathBuf::from(asked.unwrap_or(beside.into()));
    let manifest = match std::fs::read_to_string(folder.join("MANIFEST.tsv")) {
        Ok(manifest) => manifest,
        Err(error) => {
            let told = format!("no public captures in {} ({error})", folder.display());
            assert!(!wanted, "{told}: NETCELL_TRACES names their folder");
            eprintln!("not tested: {told}");
            return None;
        }
    };
    let rows = manifest.lines().skip(1).filter_map(|row| row.split('\t').next());
    let files: BTreeSet<String> = rows.map(String::from).collect();
    assert!(!files.is_empty(), "the manifest names nothing");
    Some((folder, files.into_iter().collect()))
}

/// What reading a capture gave.
#[derive(Default)]
struct Read {
    frames: u64,
    refused: BTreeMap<String, u64>,
    records: u64,
    flows: [u64; 3],
    /// Who can be played: hosts, and single ports of those that talk to themselves.
    sides: BTreeSet<(IpAddr, Option<u16>)>,
    end: Option<ReadError>,
}

fn read(mut reader: Reader) -> Read {
    let mut read = Read::default();
    let mut summary = Summary::new(usize::MAX);
    read.end = loop {
        match reader.next() {
            Ok(Some(frame)) => {
                read.frames += 1;
                if let Err(fault) = Packet::of(&frame) {
                    *read.refused.entry(fault.to_string()).or_default() += 1;
                }
                summary.add(&frame);
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    read.records = reader.skipped_count();
    // What the summary tells is what was counted here.
    assert_eq!(summary.frames, read.frames);
    let told = summary.protocols().get("unreadable").copied().unwrap_or(0);
    assert_eq!(told, read.refused.values().sum::<u64>());
    for flow in summary.flows() {
        read.flows[flow.protocol as usize] += 1;
        if flow.protocol == Protocol::Tcp {
            let [caller, called] = flow.ends;
            let port = |port: u16| Some(port).filter(|_| caller.0 == called.0);
            read.sides.extend(flow.ends.map(|(host, of)| (host, port(of))));
        }
    }
    read
}

#[test]
fn every_frame_is_read_or_refused_with_a_reason() {
    let Some((folder, files)) = captures() else { return };
    let mut page = String::from(HEAD);
    for name in &files {
        let row = match Reader::open(&folder.join(name)) {
            Ok(reader) => {
                let read = read(reader);
                let refused: u64 = read.refused.values().sum();
                let mut why: Vec<String> =
                    read.refused.iter().map(|(why, count)| format!("{count} {why}")).collect();
                if read.records > 0 {
                    why.push(format!("{} damaged records", read.records));
                }
                let why = if why.is_empty() { "–".into() } else { why.join("; ") };
                let [tcp, udp, echo] = read.flows;
                let end = read.end.map_or("whole".into(), |error| error.to_string());
                let (frames, whole) = (read.frames, read.frames - refused);
                format!("{frames} | {whole} | {why} | {tcp}, {udp}, {echo} | {end}")
            }
            Err(error) => format!("– | – | – | – | {error}"),
        };
        writeln!(page, "| {name} | {row} |").expect("memory");
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(PAGE, &page).expect("the page is written");
    }
    let found = std::fs::read_to_string(PAGE).expect("docs/traces-corpus.md");
    assert!(found == page, "stale: run UPDATE=1 cargo test -p pcap-tests --test traces");
}

/// What came of a side, in a few words.
fn played(path: &Path, role: Role) -> (&'static str, String) {
    let roles = [role];
    let outcome = replay::replay(&|| Reader::open(path), &Settings::of(&roles), None);
    let outcome = outcome.expect("a capture that was read before");
    let why: BTreeSet<&str> = outcome.left_out.iter().map(|(_, why)| *why).collect();
    let left = match outcome.left_out.len() {
        0 => String::new(),
        flows => {
            let why = why.into_iter().collect::<Vec<_>>().join(", ");
            format!("; {flows} flows left out: {why}")
        }
    };
    let verdict = &outcome.verdict;
    let found = verdict.differences.iter().map(|found| found.aspect.name());
    let mut found: Vec<&str> = found.collect::<BTreeSet<_>>().into_iter().collect();
    found.extend((!outcome.notes.is_empty()).then_some("not fed"));
    match (outcome.flows, found.is_empty()) {
        (0, _) => ("left out", left),
        (flows, true) => ("alike", format!("{flows} flows{left}")),
        (flows, false) => ("different", format!("{flows} flows: {}{left}", found.join(", "))),
    }
}

#[test]
fn every_side_that_can_be_played_is_played() {
    let Some((folder, files)) = captures() else { return };
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for name in &files {
        let path = folder.join(name);
        let Ok(reader) = Reader::open(&path) else { continue };
        for (host, port) in read(reader).sides {
            let role = Role { host, port };
            let (status, words) = played(&path, role);
            *counts.entry(status).or_default() += 1;
            println!("{status:9}  {name} as {role}: {words}");
        }
    }
    println!("{counts:?}");
    let of = |status| counts.get(status).copied().unwrap_or(0);
    assert!(of("alike") + of("different") >= PLAYED, "{counts:?}");
}

/// So many sides were played when this was last looked at.
const PLAYED: u64 = 60;
