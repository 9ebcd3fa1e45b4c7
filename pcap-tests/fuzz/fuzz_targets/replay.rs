//! Files into the replay: whatever a capture holds (clocks that jump, options and lengths that lie) is played by the stack or told, without a panic
//! and without end. The first byte chooses whom the stack plays, what is compared, and whether checksums are looked at; the rest is the file.
#![no_main]

use std::io::Cursor;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pcap_tests::capture::{ReadError, Reader};
use pcap_tests::compare::{Aspect, Terms};
use pcap_tests::packet::{Body, Endpoint, Packet};
use pcap_tests::replay::{self, Role, Settings, Sink};

/// The ends of the first segment that can be read.
fn ends(mut reader: Reader) -> Option<[Endpoint; 2]> {
    while let Ok(Some(frame)) = reader.next() {
        if let Ok(Packet { body: Body::Tcp(tcp), .. }) = Packet::of(&frame) {
            return Some([tcp.src, tcp.dst]);
        }
    }
    None
}

fuzz_target!(|input: &[u8]| {
    let [choice, file @ ..] = input else { return };
    let open = || -> Result<Reader, ReadError> { Reader::new(Cursor::new(file.to_vec())) };
    let Ok(reader) = open() else { return };
    let absent = [(IpAddr::from([10, 9, 9, 9]), 80), (IpAddr::from(Ipv6Addr::LOCALHOST), 80)];
    let [caller, called] = ends(reader).unwrap_or(absent);
    let role = |(host, port): Endpoint| Role { host, port: (choice & 8 != 0).then_some(port) };
    let roles = match choice & 3 {
        0 => vec![role(caller)],
        1 => vec![role(called)],
        2 => vec![role(caller), role(called)],
        _ => absent.map(role).to_vec(),
    };
    let mut settings = Settings::of(&roles);
    if choice & 4 != 0 {
        settings.terms = Terms { aspects: Aspect::ALL.to_vec(), ..Terms::default() };
    }
    // Only where somebody keeps what is played, checksums are made and looked at.
    let mut keep = |_: Duration, _: bool, _: &[u8]| Ok(());
    let sink: Option<Sink<'_>> = if choice & 16 != 0 { Some(&mut keep) } else { None };
    if let Ok(outcome) = replay::replay(&open, &settings, sink) {
        assert!(outcome.verdict.compared <= outcome.flows);
    }
});
