//! Files into the reader of captures and the summary: whatever a file holds is told or refused, without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pcap_tests::capture::Reader;
use pcap_tests::flows::Summary;
use pcap_tests::report::{self, Limits};

fuzz_target!(|file: &[u8]| {
    let Ok(mut reader) = Reader::new(std::io::Cursor::new(file.to_vec())) else { return };
    let (summary, _) = Summary::of(&mut reader);
    for flow in summary.flows() {
        report::flow(flow);
    }
    let limits = Limits { hosts: 10, flows: 10 };
    report::text("fuzz", &summary, &reader, limits);
    report::json("fuzz", &summary, &reader, limits);
});
