//! The goldens played by Linux and by our stack: what either sends to the same recorded other side is compared, segment by segment. Where
//! they differ, `differences.toml` says why; what it lists and does not occur fails, too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pcap_tests::capture::{Frame, LinkType};
use pcap_tests::compare::{self, Aspect, Terms};
use pcap_tests::flows::Summary;
use pcap_tests::golden::{self, Exchanged, Golden};
use pcap_tests::script::System;
use serde::Deserialize;

/// Replays that run at the same time: those over Linux mostly wait.
const JOBS: usize = 6;
/// A machine that does other things, too, may be late once, and again.
const TRIES: usize = 8;

/// What is compared: all but times and windows, which hang on when programs read and how a kernel counts its memory.
const ASPECTS: [Aspect; 9] = [
    Aspect::Opening,
    Aspect::Options,
    Aspect::Stream,
    Aspect::Ending,
    Aspect::Retransmissions,
    Aspect::ZeroWindow,
    Aspect::Icmp,
    Aspect::Segments,
    Aspect::Acks,
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    difference: Vec<Row>,
}

/// In these goldens Linux and the stack differ in this, for this reason.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    aspect: String,
    reason: String,
    goldens: Vec<String>,
    /// Linux plays in real time: it may also not differ.
    #[serde(default)]
    sometimes: bool,
}

/// A golden and an aspect of it.
type Place = (String, &'static str);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens")
}

/// The listed places, and whether each must differ.
fn listed() -> BTreeMap<Place, bool> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("differences.toml");
    let text = std::fs::read_to_string(&path).expect("differences.toml");
    let list: List = toml::from_str(&text).expect("differences.toml");
    let mut places = BTreeMap::new();
    for row in list.difference {
        assert!(!row.reason.trim().is_empty(), "{}: a reason is wanted", row.aspect);
        let aspect: Aspect = row.aspect.parse().expect("an aspect");
        for golden in row.goldens {
            let told = format!("{golden}: {} stands twice", aspect.name());
            let before = places.insert((golden, aspect.name()), !row.sometimes);
            assert!(before.is_none(), "{told}");
        }
    }
    places
}

fn summed(frames: &[Exchanged]) -> Summary {
    let mut summary = Summary::recording();
    for (number, (time, _, bytes)) in (1..).zip(frames) {
        summary.add(&Frame {
            number,
            time: *time,
            interface: 0,
            link: LinkType::Ethernet,
            wire_len: bytes.len() as u32,
            bytes,
        });
    }
    summary
}

/// In what Linux and the stack differ in a golden, told, by aspect.
fn differences(golden: &Golden) -> BTreeMap<&'static str, String> {
    let play = |system| golden.replay(system).expect("a replay").frames;
    let [linux, ours] = [System::Linux, System::Ours].map(|system| summed(&play(system)));
    let terms = Terms { aspects: ASPECTS.to_vec(), tolerance: Duration::ZERO };
    let mut found = BTreeMap::new();
    for difference in compare::compare(&linux, &ours, &terms).differences {
        found.entry(difference.aspect.name()).or_insert_with(|| difference.to_string());
    }
    found
}

/// Runs them side by side, each in a thread (and so a namespace) of its own; gives what was found, by golden.
fn found(goldens: &[&Golden]) -> BTreeMap<String, BTreeMap<&'static str, String>> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..JOBS {
            scope.spawn(|| {
                while let Some(golden) = goldens.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one =
                        std::thread::scope(|scope| scope.spawn(|| differences(golden)).join());
                    let one = one.expect("a replay");
                    found.lock().expect("the answers").insert(golden.name(), one);
                }
            });
        }
    });
    found.into_inner().expect("the answers")
}

#[test]
fn goldens_are_answered_as_linux_answers_them() {
    let goldens = Golden::manifest(&folder().join(golden::MANIFEST)).expect("the manifest");
    assert!(goldens.len() >= 60, "only {} goldens", goldens.len());
    let listed = listed();
    let mut left: Vec<&Golden> = goldens.iter().collect();
    // What was seen each time, and whether it was at all.
    let mut always: BTreeMap<Place, String> = BTreeMap::new();
    let mut ever: BTreeSet<Place> = BTreeSet::new();
    for turn in 0..TRIES {
        let found = found(&left);
        let seen = |place: &Place| found.get(&place.0).and_then(|one| one.get(place.1));
        for (name, one) in &found {
            ever.extend(one.keys().map(|aspect| (name.clone(), *aspect)));
            if turn == 0 {
                always.extend(
                    one.iter().map(|(aspect, told)| ((name.clone(), *aspect), told.clone())),
                );
            }
        }
        always.retain(|place, _| !found.contains_key(&place.0) || seen(place).is_some());
        let open = |name: &str| {
            always.keys().any(|place| place.0 == name && !listed.contains_key(place))
                || listed
                    .iter()
                    .any(|(place, must)| *must && place.0 == name && !ever.contains(place))
        };
        left.retain(|golden| open(&golden.name()));
    }
    let known: BTreeSet<String> = goldens.iter().map(Golden::name).collect();
    let strays = listed.keys().filter(|place| !known.contains(&place.0));
    let strays: Vec<String> = strays.map(|place| format!("{}: no such golden", place.0)).collect();
    assert_eq!(strays, [""; 0], "in differences.toml");
    let mut told: Vec<String> = always
        .iter()
        .filter(|(place, _)| !listed.contains_key(place))
        .map(|(place, told)| format!("{}: {told}", place.0))
        .collect();
    let gone = listed.iter().filter(|(place, must)| **must && !ever.contains(place));
    told.extend(
        gone.map(|((name, aspect), _)| format!("{name}: {aspect} is listed and does not differ")),
    );
    assert!(told.is_empty(), "{} of {}:\n{}", told.len(), goldens.len(), told.join("\n"));
}
