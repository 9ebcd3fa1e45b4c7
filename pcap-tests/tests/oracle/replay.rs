//! Captures played by Linux: what our stack did in a simulated conversation, Linux does again on either side.

use std::io::Cursor;
use std::time::Duration;

use netstack_host::pcapng::{self, Way};
use pcap_tests::capture::Reader;
use pcap_tests::compare::Verdict;
use pcap_tests::replay::{self, Settings};
use pcap_tests::scenario::Plan;
use pcap_tests::script::System;

/// A machine that does other things, too, may be late once, and again.
const TRIES: usize = 4;

/// The frames of a scenario's only link, as they were sent, as a file.
fn recorded(scenario: &str) -> Vec<u8> {
    let plan = Plan::parse(scenario).expect("a scenario");
    let mut frames: Vec<(Duration, Vec<u8>)> = Vec::new();
    let mut tell = |_, time, bytes: &[u8]| frames.push((time, bytes.to_vec()));
    let outcome = plan.play(1, Some(&mut tell)).expect("a run");
    assert!(outcome.passed(), "{:?}", outcome.complaints().collect::<Vec<_>>());
    let mut file = Vec::new();
    pcapng::section(&mut file, "test").expect("memory");
    pcapng::interface(&mut file, "a", pcapng::LINKTYPE_ETHERNET).expect("memory");
    for (time, bytes) in frames {
        let nanos = time.as_nanos() as u64;
        pcapng::packet(&mut file, 0, nanos, Way::Outbound, &bytes).expect("memory");
    }
    file
}

fn played(file: &[u8], role: &str) -> (Verdict, Vec<String>) {
    let open = || Reader::new(Cursor::new(file.to_vec()));
    let roles = [role.parse().expect("a role")];
    let settings = Settings { system: System::Linux, ..Settings::of(&roles) };
    let outcome = replay::replay(&open, &settings, None).expect("a replay over Linux");
    (outcome.verdict, outcome.notes)
}

fn alike(scenario: &str, roles: [&str; 2]) {
    let file = recorded(scenario);
    for role in roles {
        let mut told = (Verdict::default(), Vec::new());
        for _ in 0..TRIES {
            told = played(&file, role);
            if told.0.differences.is_empty() && told.1.is_empty() {
                break;
            }
        }
        let (verdict, notes) = told;
        assert_eq!((verdict.differences, notes), (vec![], vec![]), "{role}");
        assert!(verdict.compared > 0, "{role}: nothing was compared");
    }
}

/// Three conversations over 20 ms.
fn scenario(version: &str) -> String {
    format!(
        r#"
        title = "Conversations"
        seed = 1
        limit = "30s"
        [[link]]
        between = ["a", "b"]
        rate = "100Mbit"
        delay = "10ms"
        [[flow]]
        from = "a"
        to = "b"
        bytes = "20kB"
        answer = "3kB"
        times = 3
        version = "{version}"
        "#
    )
}

#[test]
fn linux_answers_as_the_stack_did_over_ipv4() {
    alike(&scenario("ipv4"), ["10.1.0.1", "10.1.0.2"]);
}

#[test]
fn linux_answers_as_the_stack_did_over_ipv6() {
    alike(&scenario("ipv6"), ["fd00:1::1", "fd00:1::2"]);
}
