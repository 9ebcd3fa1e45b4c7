//! Connections played by hand to Linux and to our stack: what each segment is answered by, in every state, must be the
//! same. Sequence numbers are told relative to the initial ones.

use std::collections::BTreeMap;

use crate::frames::{self, OPEN_PORT, PEER4, US4, V4, checked, ipv4};
use crate::peers::{Linux, Ours, Peer};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// Our initial sequence number.
const IRS: u32 = 1000;
/// An acknowledgment number that is not given.
const NO_ACK: i64 = i64::MIN;
/// The first of the ports that the connections come from.
const FIRST_PORT: u16 = 20_000;

/// A step of a script. Numbers are relative to the initial ones; the first byte of data has number 1.
enum Step {
    /// A segment: sequence number, acknowledgment number, flags, timestamp, payload.
    Send(i64, i64, u8, Option<u32>, &'static [u8]),
    /// The program accepts.
    Accept,
    /// The program closes what it accepted.
    Close,
}
use Step::{Accept, Close, Send};

fn plain(seq: i64, ack: i64, flags: u8) -> Step {
    Send(seq, ack, flags, None, b"")
}

/// A connection that the program has accepted.
fn open() -> Vec<Step> {
    vec![plain(0, NO_ACK, SYN), plain(1, 1, ACK), Accept]
}

fn open_stamped() -> Vec<Step> {
    vec![Send(0, NO_ACK, SYN, Some(1000), b""), Send(1, 1, ACK, Some(1001), b""), Accept]
}

/// One that the program closed first, in TIME-WAIT.
fn waiting(stamp: Option<u32>) -> Vec<Step> {
    let mut steps = if stamp.is_some() { open_stamped() } else { open() };
    steps.extend([Close, Send(1, 2, FIN | ACK, stamp, b"")]);
    steps
}

/// One that the program closed, in FIN-WAIT-2.
fn half_closed() -> Vec<Step> {
    [open(), vec![Close, plain(1, 2, ACK)]].concat_steps()
}

trait Concat {
    fn concat_steps(self) -> Vec<Step>;
}

impl<const N: usize> Concat for [Vec<Step>; N] {
    fn concat_steps(self) -> Vec<Step> {
        self.into_iter().flatten().collect()
    }
}

fn with(before: Vec<Step>, after: Vec<Step>) -> Vec<Step> {
    [before, after].concat_steps()
}

// tidy: table
fn scripts() -> Vec<(&'static str, Vec<Step>)> {
    let syn = || vec![plain(0, NO_ACK, SYN)];
    let stamped_syn = || vec![Send(0, NO_ACK, SYN, Some(1000), b"")];
    vec![
        ("syn in the window", with(open(), vec![plain(500, NO_ACK, SYN)])),
        ("syn at the next number", with(open(), vec![plain(1, NO_ACK, SYN)])),
        ("syn out of the window", with(open(), vec![plain(-500, NO_ACK, SYN)])),
        ("syn-ack in the window", with(open(), vec![plain(200, 1, SYN | ACK)])),
        (
            "resets beside the point, then one in place",
            with(
                open(),
                vec![
                    plain(500, NO_ACK, RST),
                    plain(200_000, NO_ACK, RST),
                    plain(0, NO_ACK, RST),
                    plain(1, NO_ACK, RST),
                    plain(1, 1, ACK),
                ],
            ),
        ),
        ("acknowledgment of nothing sent", with(open(), vec![plain(1, 500, ACK)])),
        ("acknowledgment of long ago", with(open(), vec![plain(1, -200_000, ACK)])),
        ("acknowledgment of the syn's own number", with(open(), vec![plain(1, 0, ACK)])),
        ("data with a bad acknowledgment", with(open(), vec![Send(1, 500, ACK | PSH, None, b"x")])),
        ("data without an acknowledgment", with(open(), vec![Send(1, NO_ACK, 0, None, b"x")])),
        ("empty segment before the window", with(open(), vec![plain(0, 1, ACK)])),
        ("data before the window", with(open(), vec![Send(-9, 1, ACK, None, b"abc")])),
        ("data beyond the window", with(open(), vec![Send(200_000, 1, ACK, None, b"abc")])),
        ("fin and a reset with its number", with(
            open(),
            vec![plain(1, 1, FIN | ACK), plain(1, NO_ACK, RST), plain(2, 1, ACK)],
        )),
        ("old timestamp on data", with(
            open_stamped(),
            vec![Send(1, 1, ACK | PSH, Some(500), b"old"), Send(1, NO_ACK, RST, Some(500), b"")],
        )),
        ("no timestamp on data", with(open_stamped(), vec![Send(1, 1, ACK | PSH, None, b"none")])),
        ("syn received: the syn again", with(syn(), syn())),
        ("syn received: another syn", with(syn(), vec![plain(100, NO_ACK, SYN), plain(1, 1, ACK)])),
        ("syn received: a wrong acknowledgment", with(
            syn(),
            vec![plain(1, 50, ACK), plain(1, 1, ACK)],
        )),
        ("syn received: a reset in the window", with(syn(), vec![plain(100, NO_ACK, RST)])),
        ("syn received: a reset in place", with(syn(), vec![plain(1, NO_ACK, RST), plain(1, 1, ACK)])),
        ("syn received: out of the window", with(syn(), vec![plain(900_000, 1, ACK)])),
        ("syn received: no acknowledgment", with(syn(), vec![Send(1, NO_ACK, 0, None, b"q")])),
        ("syn received: fin", with(syn(), vec![plain(1, 1, FIN | ACK)])),
        ("syn received: data", with(syn(), vec![Send(1, 1, ACK | PSH, None, b"hey")])),
        ("syn received: an old timestamp", with(stamped_syn(), vec![Send(1, 1, ACK, Some(5), b"")])),
        ("syn with data", vec![Send(0, NO_ACK, SYN, None, b"early")]),
        ("time-wait: the fin again", with(waiting(None), vec![plain(1, 2, FIN | ACK)])),
        ("time-wait: a bare acknowledgment", with(waiting(None), vec![plain(2, 2, ACK)])),
        ("time-wait: old data", with(waiting(None), vec![Send(1, 2, ACK, None, b"z")])),
        ("time-wait: data beyond", with(waiting(None), vec![Send(4000, 2, ACK, None, b"w")])),
        ("time-wait: an older syn", with(waiting(None), vec![plain(-100, NO_ACK, SYN)])),
        ("time-wait: a syn-ack", with(waiting(None), vec![plain(4000, 2, SYN | ACK)])),
        ("time-wait: a later syn", with(waiting(None), vec![plain(4000, NO_ACK, SYN)])),
        ("time-wait: resets", with(
            waiting(None),
            vec![plain(3, NO_ACK, RST), plain(2, NO_ACK, RST), plain(2, 2, ACK)],
        )),
        ("time-wait: a lower syn with a later timestamp", with(
            waiting(Some(1005)),
            vec![Send(-500, NO_ACK, SYN, Some(2000), b"")],
        )),
        ("time-wait: a later syn with an older timestamp", with(
            waiting(Some(1005)),
            vec![Send(50_000, NO_ACK, SYN, Some(20), b"")],
        )),
        ("time-wait: a lower syn with the same timestamp", with(
            waiting(Some(1005)),
            vec![Send(-500, NO_ACK, SYN, Some(1005), b"")],
        )),
        ("time-wait: an old timestamp", with(
            waiting(Some(1005)),
            vec![Send(2, 2, ACK, Some(20), b"")],
        )),
        ("fin-wait-2: a bare acknowledgment", with(half_closed(), vec![plain(1, 2, ACK)])),
        ("fin-wait-2: a syn in the window", with(half_closed(), vec![plain(101, NO_ACK, SYN)])),
        ("fin-wait-2: data", with(
            half_closed(),
            vec![Send(1, 2, ACK, None, b"late"), plain(5, 2, ACK)],
        )),
        ("fin-wait-2: fin", with(half_closed(), vec![plain(1, 2, FIN | ACK)])),
        ("fin-wait-1: data", with(open(), vec![Close, Send(1, 1, ACK, None, b"late")])),
        ("fin-wait-1: fin, closing", with(
            open(),
            vec![Close, plain(1, 1, FIN | ACK), plain(2, 2, ACK), plain(2, 2, ACK)],
        )),
        ("close with data unread", with(
            open(),
            vec![Send(1, 1, ACK | PSH, None, b"unread"), Close, plain(7, 1, ACK)],
        )),
    ]
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn segment(port: u16, seq: u32, ack: u32, flags: u8, stamp: Option<u32>, data: &[u8]) -> Vec<u8> {
    let mut options = Vec::new();
    if let Some(stamp) = stamp {
        options.extend([1, 1, 8, 10]);
        options.extend(stamp.to_be_bytes());
        options.extend([0; 4]);
    }
    let mut bytes = frames::tcp(OPEN_PORT, seq, ack, flags, &options, data);
    bytes[..2].copy_from_slice(&port.to_be_bytes());
    ipv4(&V4::default(), 6, &checked(bytes, 16, 6, &US4, &PEER4))
}

/// An answer in words: what differs by chance is left out, numbers are relative.
fn describe(frame: &[u8], port: u16, iss: &mut u32) -> Option<String> {
    let ours = frame.len() >= 54 && frame[12..14] == [8, 0] && frame[23] == 6;
    let tcp = frame.get(34..).filter(|_| ours)?;
    if tcp[2..4] != port.to_be_bytes() {
        return None;
    }
    let flags = tcp[13];
    if flags & SYN != 0 && *iss == 0 {
        *iss = word(tcp, 4);
    }
    let seq = match (word(tcp, 4), flags & (RST | ACK)) {
        (0, f) if f == RST | ACK => 0,
        (seq, _) => seq.wrapping_sub(*iss) as i32,
    };
    let ack = match flags & ACK {
        0 => 0,
        _ => word(tcp, 8).wrapping_sub(IRS) as i32,
    };
    let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let len = total - 20 - usize::from(tcp[12] >> 4) * 4;
    Some(format!("flags {flags:#04x} seq {seq} ack {ack} data {len}"))
}

fn answers(peer: &mut dyn Peer) -> BTreeMap<&'static str, Vec<String>> {
    let mut found = BTreeMap::new();
    let mut number = 30_000u16;
    for (port, (name, steps)) in (FIRST_PORT..).zip(scripts()) {
        let (mut iss, mut answers) = (0, Vec::new());
        for step in steps {
            match step {
                Send(seq, ack, flags, stamp, data) => {
                    let seq = IRS.wrapping_add(seq as u32);
                    let ack = if ack == NO_ACK { 0 } else { iss.wrapping_add(ack as u32) };
                    peer.send(&segment(port, seq, ack, flags, stamp, data));
                }
                Accept => peer.accept(),
                Close => peer.close(),
            }
            number += 1;
            peer.send(&frames::sentinel(number));
            loop {
                let frame = peer.receive();
                if frames::is_answer_to_sentinel(&frame, number) {
                    break;
                }
                answers.extend(describe(&frame, port, &mut iss));
            }
            answers.push("·".into());
        }
        found.insert(name, answers);
    }
    found
}

#[test]
fn every_state_answers_segments_as_linux_does() {
    let linux = std::thread::spawn(|| {
        let mut linux = Linux::new();
        linux.answer_invalid_at_once();
        answers(&mut linux)
    });
    let linux = linux.join().expect("the host's kernel as a peer");
    let mut ours = Ours::new();
    ours.answer_invalid_at_once();
    let ours = answers(&mut ours);
    let breaches: Vec<String> = linux
        .iter()
        .filter(|(name, expected)| ours.get(*name) != Some(expected))
        .map(|(name, expected)| {
            format!("{name}\n    Linux: {expected:#?}\n    ours:  {:#?}", ours[name])
        })
        .collect();
    let (bad, all) = (breaches.len(), linux.len());
    assert!(breaches.is_empty(), "{bad} of {all} scripts:\n{}", breaches.join("\n"));
}
