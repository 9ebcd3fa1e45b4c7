//! A scenario's capture as a golden: passed, failed, rewritten.

use super::*;
use crate::check::{self, Verdict};
use crate::packet::{Body, dissect};
use crate::scenario::Plan;
use crate::script::System;

const SCENARIO: &str = r#"
title = "A question and its answer"
limit = "10s"
[[link]]
between = ["left", "right"]
[[flow]]
from = "left"
to = "right"
bytes = "5kB"
answer = "3kB"
"#;

/// A folder of a test's own, which goes with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("netcell-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.0.join(name), bytes).expect("a file");
    }

    /// Every case of the folder with how it ended.
    fn run(&self) -> Vec<check::Done> {
        check::run(&check::find(&self.0).expect("the folder"), System::Ours, 1, &mut |_| ())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays is in a folder for what may stay.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn capture(name: &str, frames: &[Exchanged]) -> Vec<u8> {
    update::written(Path::new(name), frames).expect("bytes")
}

/// The frames of the scenario, and the two ends of its connection.
fn recorded() -> (Vec<Exchanged>, String, String) {
    let mut frames = Vec::new();
    let mut tape = |_: usize, at: Duration, bytes: &[u8]| frames.push((at, false, bytes.to_vec()));
    let plan = Plan::parse(SCENARIO).expect("a scenario");
    assert!(plan.play(1, Some(&mut tape)).expect("it is played").passed());
    let ends = frames.iter().find_map(|(_, _, bytes)| {
        let packet = dissect(crate::capture::LinkType::Ethernet, bytes, bytes.len()).ok()?;
        match packet.body {
            Body::Tcp(tcp) => Some((tcp.src.0.to_string(), tcp.dst.0.to_string())),
            _ => None,
        }
    });
    let (caller, called) = ends.expect("a segment");
    (frames, caller, called)
}

/// The second segment with data goes out twice, though nothing was lost.
fn sent_twice(frames: &mut Vec<Exchanged>) {
    let carries: Vec<usize> = (0..frames.len()).filter(|at| frames[*at].2.len() > 1000).collect();
    let mut twice = frames[carries[1]].clone();
    // Another identification: it was sent, not captured, twice.
    twice.2[19] ^= 1;
    frames.insert(carries[1] + 1, twice);
}

fn entry(file: &str, role: &str) -> String {
    format!("[[golden]]\nfile = \"{file}\"\nas = [\"{role}\"]\nshows = \"an exchange\"\n")
}

#[test]
fn a_golden_is_a_case_of_each_side_that_is_played() {
    let folder = Folder::new("golden-sides");
    let (frames, caller, called) = recorded();
    let files = ["a.pcap", "b.pcapng", "c.pcapng.zst", "d.pcap.gz"];
    let mut manifest = String::new();
    for file in files {
        folder.write(file, capture(file, &frames));
        manifest += &entry(file, &caller);
        manifest += &entry(file, &called);
    }
    folder.write(MANIFEST, manifest);
    let done = folder.run();
    assert!(done.iter().all(|one| one.verdict == Verdict::Passed), "{done:?}");
    let names: Vec<&str> = done.iter().map(|one| one.case.name.as_str()).collect();
    assert_eq!((names.len(), names[0]), (8, format!("a.pcap as {caller}").as_str()));
    let alone = check::find(&folder.0.join("b.pcapng")).expect("a file");
    assert_eq!(alone.len(), 2, "{alone:?}");
    assert!(check::junit("all", &done).contains(&format!("name=\"d.pcap.gz as {called}\"")));
}

#[test]
fn captures_without_an_entry_and_entries_without_a_capture_are_told() {
    let folder = Folder::new("golden-strays");
    let (frames, caller, _) = recorded();
    folder.write("stray.pcapng", capture("x.pcapng", &frames));
    folder.write(MANIFEST, entry("gone.pcapng", &caller));
    let done = folder.run();
    let told: Vec<_> = done.iter().map(|one| &one.verdict).collect();
    assert!(
        matches!(&told[..], [Verdict::Unreadable(gone), Verdict::Unreadable(stray)]
            if gone.contains("No such file") && stray.contains("no goldens.toml names")),
        "{told:?}"
    );
}

#[test]
fn what_differs_is_told_and_rewritten_and_what_passes_is_left() {
    let folder = Folder::new("golden-update");
    let (mut frames, caller, called) = recorded();
    let good = capture("good.pcapng", &frames);
    sent_twice(&mut frames);
    folder.write("good.pcapng", &good);
    folder.write("bad.pcapng.zst", capture("x.zst", &frames));
    folder.write(
        MANIFEST,
        entry("bad.pcapng.zst", &caller)
            + &entry("good.pcapng", &caller)
            + &entry("good.pcapng", &called),
    );
    let done = folder.run();
    assert!(
        matches!(&done[0].verdict, Verdict::Failed(why)
            if why.contains("an exchange") && why.contains("1 by the caller; the other: 0")),
        "{done:?}"
    );
    let updated = check::update(&done);
    assert_eq!(updated, [(folder.0.join("bad.pcapng.zst").as_path(), Ok(true))]);
    assert!(folder.run().iter().all(|one| one.verdict == Verdict::Passed));
    assert_eq!(fs::read(folder.0.join("good.pcapng")).expect("a file"), good);
    assert_eq!(fs::read_dir(&folder.0).expect("the folder").count(), 3, "nothing else is left");
}

#[test]
fn what_a_manifest_cannot_mean_is_told() {
    let of = |more: &str| manifest::parse(&(entry("a.pcap", "10.0.0.1") + more), Path::new("f"));
    let golden = &of("strict = [\"acks\"]\nignore = [\"icmp\"]\nwhy = \"so\"\ntolerance = \"9ms\"")
        .expect("a manifest")[0];
    assert_eq!(golden.file, Path::new("f/a.pcap"));
    assert!(golden.terms.aspects.contains(&Aspect::Acks));
    assert!(!golden.terms.aspects.contains(&Aspect::Icmp));
    assert_eq!(golden.terms.tolerance, Duration::from_millis(9));
    for (more, told) in [
        ("ignore = [\"icmp\"]", "wants a reason"),
        ("ignore = [\"acks\"]\nwhy = \"so\"", "would not be compared"),
        ("strict = [\"ack\"]", "is none of flows"),
        ("strickt = [\"acks\"]", "unknown field"),
        (&entry("a.pcap", "10.0.0.1"), "two entries"),
        (&entry("../a.pcap", "10.0.0.1"), "no capture"),
        (&entry("a.txt", "10.0.0.1"), "no capture"),
        (&entry("b.pcap", "ten"), "no address"),
    ] {
        let why = of(more).expect_err(more);
        assert!(why.contains(told), "{more}: {why}");
    }
}
