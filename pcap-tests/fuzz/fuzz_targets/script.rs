//! Texts into the reader of scripts, and what is one over the stack: whatever it says is run, told or refused, without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pcap_tests::script::syntax::{Action, Script};
use pcap_tests::script::System;

fuzz_target!(|text: &str| {
    let Ok(script) = Script::parse(text) else { return };
    // Python is not the stack's, and a long time is only slow.
    let is_slow = |script: &Script| {
        script.events.iter().any(|event| {
            let longest = event.when.until.max(event.when.end).unwrap_or(event.when.from);
            matches!(event.action, Action::Code(_)) || longest.as_secs() > 1000
        })
    };
    if !is_slow(&script) {
        let _ = System::Ours.play(&script, &mut |_| ());
    }
});
