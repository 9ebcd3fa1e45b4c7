//! The host's kernel as the oracle: the same frames go to Linux (over a plain TAP device) and to our stack, and the answers must be the same.
//!
//! Runs as root, in a network namespace of its own. After each probe comes an echo request; when it is answered, all answers to the probe are in.

mod differential;
mod frames;
mod goldens;
mod internet;
mod peers;
mod probes;
mod replay;
mod scripts;

use std::collections::BTreeMap;

use peers::{Linux, Ours, Peer};

/// Where the stack answers otherwise than Linux, by probe, with the reason.
const DIFFERENCES: &[(&str, &str)] = &[(
    "from the subnet's broadcast",
    "RFC 1122 section 3.2.1.3: a broadcast address is no source",
)];

/// Plays every probe to a peer; gives the answers by name, with what must differ (sequence numbers, identifiers, clocks) blanked.
fn answers(peer: &mut dyn Peer) -> BTreeMap<&'static str, Vec<String>> {
    let mut found = BTreeMap::new();
    for (number, (name, probe)) in (0u16..).zip(probes::all()) {
        for frame in probe {
            peer.send(&frame);
        }
        peer.send(&frames::sentinel(number));
        let mut answers = Vec::new();
        loop {
            let frame = peer.receive();
            if frames::is_answer_to_sentinel(&frame, number) {
                break;
            }
            answers.extend(frames::describe(&frame));
        }
        found.insert(name, answers);
    }
    found
}

#[test]
fn the_stack_answers_frames_as_linux_does() {
    let linux = std::thread::spawn(|| answers(&mut Linux::new()))
        .join()
        .expect("the host's kernel as a peer");
    let ours = answers(&mut Ours::new());
    let mut breaches = Vec::new();
    for (name, expected) in &linux {
        let same = ours.get(name) == Some(expected);
        match DIFFERENCES.iter().find(|(known, _)| known == name) {
            None if !same => breaches
                .push(format!("{name}\n    Linux: {expected:#?}\n    ours:  {:#?}", ours[name])),
            Some(_) if same => breaches.push(format!("{name} is listed as different and is not")),
            _ => {}
        }
    }
    assert!(
        breaches.is_empty(),
        "{} of {} probes:\n{}",
        breaches.len(),
        linux.len(),
        breaches.join("\n")
    );
}
