//! Captures that are damaged, cut or strange: what can be read is read, and what was not is told with its frame and the reason.

use std::io::Cursor;
use std::time::Duration;

use netstack::rng::{Rng, seed_from};
use pcap_tests::capture::{ReadError, Reader};
use pcap_tests::flows::{Ending, Opening, Summary};
use pcap_tests::replay::{self, Settings, Sink};
use pcap_tests::report::{self, Limits};

const SYN: u8 = 2;
const ACK: u8 = 16;
const LINK_ETHERNET: u32 = 1;
const LINK_RAW: u32 = 101;

/// A record of a pcap: microseconds, bytes, length on the wire.
type Record = (u64, Vec<u8>, u32);

fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

fn pcap(link: u32, records: &[Record]) -> Vec<u8> {
    let mut file = words(&[0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 65_535, link]);
    for (micros, bytes, wire) in records {
        let time = [(micros / 1_000_000) as u32, (micros % 1_000_000) as u32];
        file.extend(words(&[time[0], time[1], bytes.len() as u32, *wire]));
        file.extend(bytes);
    }
    file
}

/// A segment over IPv4 between 10.0.0.1 port 4000 and 10.0.0.2 port 80.
fn segment(from_client: bool, flags: u8, seq: u32, payload: usize) -> Vec<u8> {
    let (src, dst, ports) = match from_client {
        true => (1, 2, [0x0f, 0xa0, 0, 80]),
        false => (2, 1, [0, 80, 0x0f, 0xa0]),
    };
    let total = (40 + payload) as u16;
    let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, src, 10, 0, 0, dst];
    bytes[2..4].copy_from_slice(&total.to_be_bytes());
    bytes.extend(ports);
    bytes.extend(seq.to_be_bytes());
    bytes.extend([0, 0, 0, 1, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    bytes.resize(usize::from(total), 7);
    bytes
}

fn raw(micros: u64, bytes: Vec<u8>) -> Record {
    let len = bytes.len() as u32;
    (micros, bytes, len)
}

fn ethernet(ether_types: &[u8], bytes: &[u8]) -> Vec<u8> {
    [&[2; 12], ether_types, bytes].concat()
}

/// What is told of a file, the summary, and why it could not be read further.
fn told(file: Vec<u8>) -> (String, Summary, Option<String>) {
    let mut reader = Reader::new(Cursor::new(file)).expect("a capture");
    let (summary, error) = Summary::of(&mut reader);
    let text = report::text("file", &summary, &reader, Limits { hosts: 10, flows: 10 });
    (text, summary, error.map(|error| error.to_string()))
}

/// The lines with a word, with single spaces.
fn lines(text: &str, word: &str) -> Vec<String> {
    let found = text.lines().filter(|line| line.contains(word));
    found.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn empty_and_short_frames_are_told_by_their_numbers_and_the_others_count() {
    let syn = segment(true, SYN, 5, 0);
    let short = syn[..30].to_vec();
    let records = [
        raw(0, syn.clone()),
        raw(1, vec![]),
        raw(2, short),
        raw(3, syn[..9].to_vec()),
        raw(4, syn),
    ];
    let (text, summary, error) = told(pcap(LINK_RAW, &records));
    assert_eq!((summary.frames, summary.flow_count(), error), (5, 1, None));
    assert_eq!(
        lines(&text, "truncated"),
        [
            "frame 2: truncated IP header",
            "frame 3: truncated IPv4 packet",
            "frame 4: truncated IPv4 header"
        ]
    );
    assert_eq!(lines(&text, "malformed"), ["malformed 3 2 3 4"]);
}

#[test]
fn what_a_snapshot_length_cut_is_counted_with_its_length_on_the_wire() {
    let data = segment(true, ACK, 5, 1000);
    let records = [(0, data[..60].to_vec(), 1040), raw(1, segment(false, ACK, 1, 0))];
    let (text, summary, _) = told(pcap(LINK_RAW, &records));
    assert!(
        text.contains("2 frames, 1,080 bytes") && text.contains("1 cut by the snapshot length"),
        "{text}"
    );
    assert_eq!(summary.flows()[0].halves[0].payload_bytes, 1000);
    // The header itself is cut.
    let (text, ..) = told(pcap(LINK_RAW, &[(0, data[..30].to_vec(), 1040)]));
    assert_eq!(lines(&text, "frame 1:"), ["frame 1: truncated TCP header"]);
}

#[test]
fn lengths_that_cannot_be_end_the_file_where_no_frame_follows_any_more() {
    let syn = segment(true, SYN, 5, 0);
    let mut file = pcap(LINK_RAW, &[raw(0, syn.clone()), raw(1, syn.clone())]);
    let second = file.len() - syn.len() - 8;
    file[second..second + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let (_, summary, error) = told(file.clone());
    assert_eq!(summary.frames, 1);
    assert_eq!(error.as_deref(), Some("the file ends within the record after frame 1"));
    // The file goes on for longer than any record.
    file.resize(file.len() + (9 << 20), 0);
    let (_, summary, error) = told(file);
    assert_eq!(summary.frames, 1);
    let error = error.expect("no frame follows");
    assert!(error.starts_with("the record after frame 1 is longer than"), "{error}");
    // A header that claims more than its frame has.
    let mut long = syn;
    long[2..4].copy_from_slice(&60_000_u16.to_be_bytes());
    let (text, ..) = told(pcap(LINK_RAW, &[raw(0, long)]));
    assert_eq!(lines(&text, "frame 1:"), ["frame 1: truncated IPv4 packet"]);
}

#[test]
fn an_unknown_link_type_is_named_with_its_frames() {
    let (text, summary, error) = told(pcap(147, &[raw(0, vec![1; 60]), raw(1, vec![2; 60])]));
    assert_eq!((summary.frames, error), (2, None));
    assert!(text.contains("link type 147 (not read)"), "{text}");
    assert_eq!(lines(&text, "frame 2:"), ["frame 2: link type 147 is not read"]);
}

#[test]
fn time_that_goes_backwards_is_told_and_breaks_no_figure() {
    let at = [5_000_000, 1_000_000, u64::from(u32::MAX) * 1_000_000, 0];
    let records = at.map(|micros| raw(micros, segment(true, SYN, 5, 0)));
    let (text, summary, _) = told(pcap(LINK_RAW, &records));
    assert_eq!(lines(&text, "time goes backwards"), ["time goes backwards 2 2 4"]);
    assert_eq!(
        summary.span.map(|(first, last)| (last - first).as_secs()),
        Some(u64::from(u32::MAX))
    );
}

#[test]
fn half_of_a_conversation_and_one_without_its_ends_are_flows_of_their_own() {
    let only_calls: Vec<_> = (0..3)
        .map(|n| raw(n, segment(true, if n == 0 { SYN } else { ACK }, 5 + n as u32, 10)))
        .collect();
    let (_, summary, _) = told(pcap(LINK_RAW, &only_calls));
    let flow = summary.flows()[0];
    assert_eq!((flow.opening(), flow.ending()), (Opening::Unanswered, Ending::Open));
    assert_eq!([flow.halves[0].segments, flow.halves[1].segments], [3, 0]);
    let middle = [raw(0, segment(false, ACK, 900, 100)), raw(1, segment(true, ACK, 70, 0))];
    let (_, summary, _) = told(pcap(LINK_RAW, &middle));
    let flow = summary.flows()[0];
    assert_eq!((flow.opening(), flow.ending()), (Opening::Midstream, Ending::Open));
}

#[test]
fn tags_and_encapsulations_lead_to_the_same_flow() {
    let inner = segment(true, ACK, 5, 10);
    let tag = ethernet(&[0x81, 0, 0, 7, 8, 0], &inner);
    let tags = ethernet(&[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 8, 0], &inner);
    let many = ethernet(&[[0x81, 0, 0, 1].repeat(9), vec![8, 0]].concat(), &inner);
    let mut tunnel = segment(true, ACK, 0, 0)[..20].to_vec();
    tunnel[3] = 20 + inner.len() as u8;
    tunnel[9] = 4;
    let tunnel = ethernet(&[8, 0], &[tunnel, inner.clone()].concat());
    let plain = ethernet(&[8, 0], &inner);
    let records = [plain, tag, tags, many, tunnel].map(|bytes| raw(0, bytes));
    let (text, summary, _) = told(pcap(LINK_ETHERNET, &records));
    assert!(text.contains("2 with VLAN tags"), "{text}");
    assert_eq!((summary.flow_count(), summary.flows()[0].frames), (1, 4));
    assert_eq!(lines(&text, "frame 4:"), ["frame 4: malformed VLAN tags (too many)"]);
}

#[test]
fn interfaces_of_several_kinds_in_one_file_are_read_each_by_its_kind() {
    let block = |kind: u32, body: Vec<u8>| {
        let len = body.len() as u32 + 12;
        [words(&[kind, len]), body, words(&[len])].concat()
    };
    let frame = |interface: u32, bytes: &[u8]| {
        let len = bytes.len() as u32;
        let mut body = words(&[interface, 0, 0, len, len]);
        body.extend(bytes);
        body.resize(body.len().next_multiple_of(4), 0);
        block(6, body)
    };
    let inner = segment(true, ACK, 5, 10);
    let file = [
        block(0x0a0d_0d0a, words(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX])),
        block(1, words(&[LINK_ETHERNET, 0])),
        block(1, words(&[LINK_RAW, 0])),
        frame(0, &ethernet(&[8, 0], &inner)),
        frame(1, &inner),
        frame(5, &inner),
        frame(0, &inner),
    ];
    let (text, summary, error) = told(file.concat());
    assert_eq!(error, None);
    assert!(text.contains("Ethernet and raw IP"), "{text}");
    assert_eq!(summary.flows()[0].frames, 2);
    assert_eq!(lines(&text, "never described"), ["after frame 2: interface 5 was never described"]);
}

/// The seeds of the fuzz target `replay`, changed at some places: whatever comes of them is played or told.
#[test]
fn captures_with_changed_bytes_are_played_without_a_panic() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/replay");
    let mut rng = Rng::new(&seed_from(11), 0);
    let mut played = 0;
    for seed in std::fs::read_dir(folder).expect("seeds") {
        let whole = std::fs::read(seed.expect("a seed").path()).expect("a seed");
        for run in 0..100 {
            // The first byte is the fuzz target's; the file's head stays, so that there is something to play.
            let mut file = whole[1..].to_vec();
            for _ in 0..run % 5 {
                let at = 24 + rng.below((file.len() - 24) as u64) as usize;
                file[at] = rng.next_u64() as u8;
            }
            let open = || -> Result<Reader, ReadError> { Reader::new(Cursor::new(file.clone())) };
            for host in ["10.1.0.1", "10.2.0.1"] {
                let role = host.parse().expect("a role");
                // Only where somebody keeps what is played, checksums are made and looked at.
                let mut keep = |_: Duration, _: bool, _: &[u8]| Ok(());
                let sink: Option<Sink<'_>> = if run % 2 == 0 { Some(&mut keep) } else { None };
                let outcome = replay::replay(&open, &Settings::of(&[role]), sink);
                let outcome = outcome.expect("our stack plays");
                assert!(outcome.verdict.compared <= outcome.flows);
                played += outcome.flows;
            }
        }
    }
    assert!(played > 500, "{played} flows were played");
}
