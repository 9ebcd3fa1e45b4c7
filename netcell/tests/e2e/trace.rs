//! `netcell trace`: what it tells of captures that are known, and of files that are none.

use std::process::{Command, Output};

use crate::harness::Scratch;

fn trace(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_netcell")).arg("trace").args(words).output().expect("netcell")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A pcap of raw IPv4: a SYN, sent again after a second, and the answer that refuses it.
fn refused() -> Vec<u8> {
    let word = u32::to_le_bytes;
    let mut file =
        [word(0xa1b2_c3d4), [2, 0, 4, 0], word(0), word(0), word(65_535), word(101)].concat();
    let segment = |from: u8, to: u8, ports: [u8; 4], flags: u8| {
        let addresses = [10, 0, 0, from, 10, 0, 0, to];
        let ip = [0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
        let rest = [0, 0, 0, 9, 0, 0, 0, 10, 0x50, flags, 1, 0, 0, 0, 0, 0];
        [&ip[..], &addresses, &ports, &rest].concat()
    };
    let syn = segment(1, 2, [0x9c, 0x40, 0, 80], 2);
    let rst = segment(2, 1, [0, 80, 0x9c, 0x40], 0x14);
    for (second, micros, bytes) in [(0, 0, &syn), (1, 0, &syn), (1, 500_000, &rst)] {
        file.extend([word(second), word(micros), word(40), word(40)].concat());
        file.extend(bytes);
    }
    file
}

#[test]
fn info_tells_a_refused_connection_as_a_table_and_as_json() {
    let folder = Scratch::new();
    let file = folder.file("refused.pcap");
    std::fs::write(&file, refused()).expect("a file");
    let told = trace(&["info", &file]);
    let out = text(&told.stdout);
    assert_eq!(told.status.code(), Some(0), "{}", text(&told.stderr));
    let row: Vec<&str> = out
        .lines()
        .find(|line| line.contains(" tcp "))
        .expect("a flow")
        .split_whitespace()
        .collect();
    assert_eq!(row[..6], ["1", "tcp", "10.0.0.1:40000", "10.0.0.2:80", "refused", "reset-by-peer"]);
    let again: Vec<&str> = out
        .lines()
        .find(|line| line.contains("retransmission"))
        .expect("an anomaly")
        .split_whitespace()
        .collect();
    assert_eq!(again, ["retransmission", "1", "2"]);
    let json = trace(&["info", "--json", &file]);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(value["flows"][0]["opening"], "refused");
    assert_eq!(value["anomalies"]["retransmission"]["frames"][0], 2);
    assert!(text(&trace(&["info", "--flow", "1", &file]).stdout).contains("began: refused"));
}

#[test]
fn what_can_be_read_is_told_and_what_cannot_is_named() {
    let folder = Scratch::new();
    let (cut, none) = (folder.file("cut.pcap"), folder.file("none.pcap"));
    let whole = refused();
    std::fs::write(&cut, &whole[..whole.len() - 1]).expect("a file");
    std::fs::write(&none, b"no capture at all").expect("a file");
    let told = trace(&["info", &cut]);
    assert_eq!(told.status.code(), Some(0));
    assert!(text(&told.stderr).contains("the file ends within the record after frame 2"));
    assert!(text(&told.stdout).contains("2 frames"));
    for (file, why) in
        [(&none, "neither pcap nor pcapng"), (&folder.file("absent"), "No such file")]
    {
        let told = trace(&["info", file]);
        assert_eq!(told.status.code(), Some(2));
        let error = text(&told.stderr);
        assert!(error.contains(why) && error.lines().count() == 1, "{error}");
    }
    assert_eq!(trace(&["info", "--flow", "7", &cut]).status.code(), Some(2));
}

#[test]
fn diff_tells_what_differs_and_its_status_says_so() {
    let folder = Scratch::new();
    let (one, other) = (folder.file("one.pcap"), folder.file("other.pcap"));
    let whole = refused();
    std::fs::write(&one, &whole).expect("a file");
    // Without the SYN that was sent again.
    std::fs::write(&other, [&whole[..80], &whole[136..]].concat()).expect("a file");
    let alike = trace(&["diff", &one, &one]);
    assert_eq!(
        (alike.status.code(), text(&alike.stdout).as_str()),
        (Some(0), "alike: 1 flows compared\n")
    );
    let told = trace(&["diff", &one, &other]);
    assert_eq!(told.status.code(), Some(1));
    assert!(
        text(&told.stdout).starts_with(
            "tcp 10.0.0.1 port 40000 to 10.0.0.2 port 80: retransmissions: 1 by the caller"
        ),
        "{}",
        text(&told.stdout)
    );
    let ignored = trace(&["diff", "--ignore", "retransmissions", &one, &other]);
    assert_eq!(ignored.status.code(), Some(0), "{}", text(&ignored.stdout));
    assert_eq!(trace(&["diff", "--strict", "all", "-q", &one, &other]).status.code(), Some(1));
    assert_eq!(trace(&["diff", &one, &folder.file("absent")]).status.code(), Some(2));
    assert!(text(&trace(&["diff", "--ignore", "colour", &one, &other]).stderr).contains("stream"));
}

#[test]
fn replay_plays_either_side_of_a_refused_call_and_keeps_what_was_played() {
    let folder = Scratch::new();
    let (file, out) = (folder.file("refused.pcap"), folder.file("out.pcapng"));
    std::fs::write(&file, refused()).expect("a file");
    let called = trace(&["replay", &file, "--as", "10.0.0.2:80", "--write", &out]);
    assert_eq!(called.status.code(), Some(0), "{}", text(&called.stdout));
    // The recorded host answered the second SYN only; the stack answers each.
    let strict = trace(&["replay", &file, "--as", "10.0.0.2:80", "--strict", "segments"]);
    assert_eq!(strict.status.code(), Some(1));
    assert!(text(&strict.stdout).contains("the called sends"), "{}", text(&strict.stdout));
    let played = text(&trace(&["info", &out]).stdout);
    assert!(played.contains("refused") && played.contains("4 frames"), "{played}");
    let caller = trace(&["replay", &file, "--as", "10.0.0.1", "--ignore", "options"]);
    assert_eq!(text(&caller.stdout), "alike: 1 flows compared\n", "{}", text(&caller.stderr));
    let nobody = trace(&["replay", &file, "--as", "192.0.2.1"]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(text(&nobody.stderr).contains("nobody of that address"));
    assert_eq!(trace(&["replay", &file, "--as", "10.0.0"]).status.code(), Some(125));
}

const SCRIPT: &str = "
0   socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0  bind(3, ..., ...) = 0
+0  listen(3, 1) = 0
+0  < S 0:0(0) win 65535 <mss 1000>
+0  > S. 0:0(0) ack 1 <...>
";

#[test]
fn a_script_passes_fails_or_cannot_be_run() {
    let folder = Scratch::new();
    let file = |name: &str, text: &str| {
        let path = folder.file(name);
        std::fs::write(&path, text).expect("a file");
        path
    };
    let right = file("right.pkt", SCRIPT);
    let kept = folder.file("kept.pcapng");
    let told = trace(&["script", "-v", "--write", &kept, &right]);
    let out = text(&told.stdout);
    assert_eq!(told.status.code(), Some(0), "{out}{}", text(&told.stderr));
    assert!(out.contains("0.000000 > S. 0:0(0) ack 1 win 64240 <mss 1460>"), "{out}");
    assert!(out.ends_with("right.pkt: passed\n"), "{out}");
    let shown = trace(&["info", &kept]);
    assert!(text(&shown.stdout).contains("192.0.2.1:40000"), "{}", text(&shown.stdout));

    let wrong =
        file("wrong.pkt", &SCRIPT.replace("> S. 0:0(0) ack 1 <...>", "> S. 0:0(0) ack 2 <...>"));
    let told = trace(&["script", &wrong]);
    assert_eq!(told.status.code(), Some(1));
    assert!(
        text(&told.stdout).contains("line 6: the acknowledgment number"),
        "{}",
        text(&told.stdout)
    );

    let broken = file("broken.pkt", "0 socket(");
    let told = trace(&["script", &broken]);
    assert_eq!(told.status.code(), Some(2));
    assert!(text(&told.stderr).contains("line 1: column 10: expected"), "{}", text(&told.stderr));
}

#[test]
fn a_folder_of_scripts_is_a_test_run() {
    let folder = Scratch::new();
    let scripts = folder.file("scripts");
    std::fs::create_dir(&scripts).expect("a folder");
    std::fs::write(format!("{scripts}/a.pkt"), SCRIPT).expect("a file");
    let report = folder.file("report.xml");
    let told = trace(&["check", &scripts]);
    assert_eq!(
        (told.status.code(), text(&told.stdout)),
        (Some(0), "1 passed, 0 failed\n".to_owned())
    );
    std::fs::write(format!("{scripts}/b.pkt"), SCRIPT.replace("= 3", "= -1 EPERM"))
        .expect("a file");
    let told = trace(&["check", "--junit", &report, &scripts]);
    assert_eq!(told.status.code(), Some(1));
    assert!(text(&told.stdout).ends_with("\n1 passed, 1 failed\n"), "{}", text(&told.stdout));
    let xml = std::fs::read_to_string(&report).expect("the report");
    assert!(xml.contains("tests=\"2\" failures=\"1\" errors=\"0\""), "{xml}");
    let empty = folder.file("empty");
    std::fs::create_dir(&empty).expect("a folder");
    assert_eq!(trace(&["check", &empty]).status.code(), Some(2));
}

#[test]
fn a_golden_that_differs_is_shown_and_rewritten() {
    let folder = Scratch::new();
    let goldens = folder.file("goldens");
    std::fs::create_dir(&goldens).expect("a folder");
    std::fs::write(format!("{goldens}/refused.pcap"), refused()).expect("a file");
    let told = trace(&["check", &goldens]);
    assert_eq!(told.status.code(), Some(1));
    assert!(text(&told.stdout).contains("refused.pcap: cannot be run: no goldens.toml names"));
    let manifest =
        "[[golden]]\nfile = \"refused.pcap\"\nas = [\"10.0.0.1\"]\nshows = \"a refusal\"\n";
    std::fs::write(format!("{goldens}/goldens.toml"), manifest).expect("a file");
    // The record offers nothing in its SYN, and the stack a segment size at the least.
    let told = trace(&["check", "--update", &goldens]);
    let out = text(&told.stdout);
    assert_eq!(told.status.code(), Some(1), "{}", text(&told.stderr));
    assert!(out.contains("refused.pcap as 10.0.0.1: failed\nit shows: a refusal\n"), "{out}");
    assert!(out.contains("the caller offers none; the other: the caller offers mss 1460"), "{out}");
    assert!(out.ends_with("refused.pcap: rewritten\n0 passed, 1 failed, 1 rewritten\n"), "{out}");
    let now = std::fs::read(format!("{goldens}/refused.pcap")).expect("the capture");
    let told = trace(&["check", "--update", &goldens]);
    let last = (told.status.code(), text(&told.stdout));
    assert_eq!(last, (Some(0), "1 passed, 0 failed, 0 rewritten\n".to_owned()));
    assert_eq!(std::fs::read(format!("{goldens}/refused.pcap")).expect("the capture"), now);
}

const SCENARIO: &str = r#"
title = "A second over a link that loses"
[[link]]
between = ["a", "b"]
rate = "10Mbit"
delay = "5ms"
loss = "1%"
[[flow]]
from = "a"
to = "b"
bytes = "500kB"
expect = { goodput = ">= 1Mbit" }
"#;

#[test]
fn a_scenario_comes_as_expected_or_not_and_is_kept() {
    let folder = Scratch::new();
    let file = folder.file("a.toml");
    std::fs::write(&file, SCENARIO).expect("a file");
    let kept = folder.file("kept");
    let told = trace(&["sim", &file, "--write", &kept]);
    let out = text(&told.stdout);
    assert_eq!(told.status.code(), Some(0), "{out}{}", text(&told.stderr));
    assert!(out.starts_with("A second over a link that loses\n"), "{out}");
    assert!(out.contains("500kB") && out.contains("as expected"), "{out}");
    let shown = text(&trace(&["info", &format!("{kept}/a-b.pcapng")]).stdout);
    assert!(shown.contains("10.1.0.1:") && shown.contains("10.1.0.2:5001"), "{shown}");

    std::fs::write(&file, SCENARIO.replace(">= 1Mbit", ">= 11Mbit")).expect("a file");
    let told = trace(&["sim", &file, "--seed", "7", "--runs", "2"]);
    let out = text(&told.stdout);
    assert_eq!(told.status.code(), Some(1), "{out}");
    assert!(out.contains("seed 7: a -> b: goodput ") && out.contains("--seed 7 --write"), "{out}");
    assert!(out.ends_with("0 seeds passed, 2 failed\n"), "{out}");

    std::fs::write(&file, SCENARIO.replace("rate", "rat")).expect("a file");
    let told = trace(&["sim", &file]);
    assert_eq!(told.status.code(), Some(2));
    assert!(text(&told.stderr).contains("unknown field `rat`"), "{}", text(&told.stderr));
}
