//! Captures into a replay: the stack plays either of the seeds' hosts, whatever the file says, without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pcap_tests::capture::Reader;
use pcap_tests::compare::{self, Terms};
use pcap_tests::replay::{self, Role};

fuzz_target!(|file: &[u8]| {
    let open = || Reader::new(std::io::Cursor::new(file.to_vec()));
    for host in [[10, 0, 0, 1], [10, 0, 0, 2]] {
        let roles = [Role { host: host.into(), port: None }];
        let Ok(outcome) = replay::replay(&open, &roles, &mut |_, _, _| Ok(())) else { return };
        compare::compare(&outcome.recorded, &outcome.replayed, &Terms::default());
    }
});
