//! Connections that a hand plays, segment by segment, to Linux and to our stack: what each segment is answered by, in every state, and
//! what the program then sees must be the same. `connections.txt` has the scripts, a line each.
//!
//! A step is a segment (`flags seq ack key=value…`, with `.` for no flag and numbers relative to the initial ones), a call of the program,
//! or `wait`, until the kernel sends by itself. The answers are told in the same words.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::script::{Call, How, Protocol};
use super::{ADDRESSES, End, linux, ours};
use crate::frames::{FROM_MAC, PEER4, US4, V4, checked, ethernet, ipv4};

/// Our initial sequence number.
const IRS: u32 = 1000;
/// The hand's port in the first script, and the program's.
const FIRST_PORTS: (u16, u16) = (20_000, 30_000);
/// Flags by letter, from FIN to AE.
const FLAGS: &[u8] = b"FSRPAUECN";
const SYN: u16 = 2;
const RST: u16 = 4;
const ACK: u16 = 16;

/// Scripts that our stack answers otherwise, with the reason.
const DIFFERENCES: &[(&str, &str)] = &[(
    "data beyond the fin",
    "what lies behind a FIN is no data: it is not kept until the FIN is reached",
)];
/// Beginnings that scripts share.
const WORDS: &[(&str, &str)] = &[
    ("open", "listen; S 0; A 1 1; accept"),
    ("stamped", "listen; S 0 ts=1000; A 1 1 ts=1001; accept"),
    ("sacked", "listen; S 0 sackok; A 1 1; accept"),
    ("small", "listen; S 0 mss=536 sackok; A 1 1; accept"),
    ("request", "listen; S 0"),
    ("opened", "connect; SA 0 1"),
    // The program closed first.
    ("fin-wait-1", "open; close"),
    ("fin-wait-2", "fin-wait-1; A 1 2"),
    ("closing", "fin-wait-1; FA 1 1"),
    ("time-wait", "fin-wait-2; FA 1 2"),
    ("stamped-time-wait", "stamped; close; A 1 2 ts=1004; FA 1 2 ts=1005"),
    // The hand did. The acknowledgment of its FIN waits a little.
    ("close-wait", "open; FA 1 1; wait"),
    ("last-ack", "close-wait; close"),
];

/// A segment of the hand. The payload is `len` bytes.
#[derive(Debug, Default)]
struct Sent {
    flags: u16,
    seq: i64,
    ack: i64,
    window: u16,
    urgent: u16,
    len: usize,
    options: Vec<u8>,
    // Of a SACK option, relative to the kernel's initial number.
    blocks: Vec<(i64, i64)>,
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

impl Sent {
    fn parse(text: &str) -> Sent {
        let mut sent = Sent { window: 8192, ..Sent::default() };
        let mut words = text.split(' ');
        for letter in words.next().unwrap_or_default().bytes().filter(|letter| *letter != b'.') {
            let bit = FLAGS.iter().position(|flag| *flag == letter);
            sent.flags |= 1 << bit.unwrap_or_else(|| panic!("{text:?} has no such flag"));
        }
        let mut numbers = 0;
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("len", n) => sent.len = number(n),
                ("win", n) => sent.window = number(n),
                ("urg", n) => sent.urgent = number(n),
                ("mss", n) => {
                    sent.options.extend([&[2, 4], &number::<u16>(n).to_be_bytes()[..]].concat())
                }
                ("ws", n) => sent.options.extend([1, 3, 3, number(n)]),
                ("sackok", _) => sent.options.extend([1, 1, 4, 2]),
                ("sack", blocks) => {
                    let block = |block: &str| {
                        let (left, right) = block.split_once('-').expect("two edges");
                        (number(left), number(right))
                    };
                    sent.blocks = blocks.split('+').map(block).collect();
                }
                ("ts", stamps) => {
                    let (value, echo) = stamps.split_once('/').unwrap_or((stamps, "0"));
                    sent.options.extend([1, 1, 8, 10]);
                    sent.options.extend(number::<u32>(value).to_be_bytes());
                    sent.options.extend(number::<u32>(echo).to_be_bytes());
                }
                (n, "") => {
                    *(if numbers == 0 { &mut sent.seq } else { &mut sent.ack }) = number(n);
                    numbers += 1;
                }
                _ => panic!("{word:?} in {text:?}"),
            }
        }
        sent
    }

    fn frame(&self, ports: (u16, u16), iss: u32) -> Vec<u8> {
        let (from, to) = ports;
        let ack = if self.flags & ACK == 0 { 0 } else { iss.wrapping_add(self.ack as u32) };
        let mut options = self.options.clone();
        if !self.blocks.is_empty() {
            options.extend([1, 1, 5, 2 + 8 * self.blocks.len() as u8]);
            let edges = self.blocks.iter().flat_map(|(left, right)| [left, right]);
            options.extend(edges.flat_map(|edge| iss.wrapping_add(*edge as u32).to_be_bytes()));
        }
        let first = ((20 + options.len()) / 4) as u16;
        let mut tcp = [from.to_be_bytes(), to.to_be_bytes()].concat();
        tcp.extend(IRS.wrapping_add(self.seq as u32).to_be_bytes());
        tcp.extend(ack.to_be_bytes());
        tcp.extend((first << 12 | self.flags).to_be_bytes());
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0, 0]);
        tcp.extend(self.urgent.to_be_bytes());
        tcp.extend(&options);
        // The same byte whenever it is sent: which copy of two that differ is kept is the kernel's own affair.
        tcp.extend((0..self.len as i64).map(|n| b'a' + (self.seq + n).rem_euclid(26) as u8));
        ipv4(&V4::default(), 6, &checked(tcp, 16, 6, &US4, &PEER4))
    }
}

fn word32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn word16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The hand on one script: the ports, and what it learned of the kernel's numbers.
struct Hand<'a> {
    end: &'a mut dyn End,
    mac: [u8; 6],
    ports: (u16, u16),
    iss: Option<u32>,
    listener: Option<usize>,
    socket: Option<usize>,
    log: Vec<String>,
}

impl Hand<'_> {
    /// What the kernel has sent; requests for our link address are answered.
    fn heard(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        loop {
            let frames = self.end.sent();
            if frames.is_empty() {
                return told;
            }
            for frame in frames {
                answer_arp(self.end, &frame);
                told.extend(self.describe(&frame));
            }
        }
    }

    /// A segment of this connection in words. The window is told where it says that it is closed, and in a SYN.
    fn describe(&mut self, frame: &[u8]) -> Option<String> {
        let is_tcp = frame.len() >= 54 && frame[12..14] == [8, 0] && frame[23] == 6;
        let tcp = frame.get(34..).filter(|tcp| is_tcp && word16(tcp, 2) == self.ports.0)?;
        let flags = word16(tcp, 12) & 0x1ff;
        if flags & SYN != 0 && self.iss.is_none() {
            self.iss = Some(word32(tcp, 4));
            self.ports.1 = word16(tcp, 0);
        }
        let (iss, header_len) = (self.iss.unwrap_or(0), usize::from(tcp[12] >> 4) * 4);
        let len = usize::from(word16(frame, 16)) - 20 - header_len;
        let mut text: String = (0..FLAGS.len())
            .filter(|bit| flags & 1 << bit != 0)
            .map(|bit| FLAGS[bit] as char)
            .collect();
        // A reset for what has no connection begins at zero, or where the hand said.
        let seq = match word32(tcp, 4) {
            0 if flags & RST != 0 => 0,
            seq => seq.wrapping_sub(iss) as i32,
        };
        text += &format!(" {seq}");
        if flags & ACK != 0 {
            text += &format!(" {}", word32(tcp, 8).wrapping_sub(IRS) as i32);
        }
        match word16(tcp, 14) {
            0 if flags & RST == 0 => text += " closed",
            window if flags & SYN != 0 => text += &format!(" win={window}"),
            _ => {}
        }
        if len > 0 {
            text += &format!(" len={len}");
        }
        if flags & 32 != 0 {
            text += &format!(" urg={}", word16(tcp, 18));
        }
        Some(text + &options(&tcp[20..header_len]))
    }

    fn step(&mut self, step: &str) {
        let mut told = Vec::new();
        let address = |end: usize, port| {
            SocketAddr::new(ADDRESSES[end][0].parse().expect("an address"), port)
        };
        match step.split_once(' ').unwrap_or((step, "")) {
            ("listen", _) => {
                let listener = self.end.socket(Protocol::Tcp, address(1, 0).ip());
                self.end.call(listener, &Call::Bind(address(1, self.ports.1)));
                self.end.call(listener, &Call::Listen(8));
                self.listener = Some(listener);
            }
            ("accept", _) => {
                let listener = self.listener.expect("a listener");
                let outcome = self.end.call(listener, &Call::Accept);
                self.socket = outcome.accepted;
                told.push(outcome.text);
            }
            ("connect", _) => {
                let socket = self.end.socket(Protocol::Tcp, address(1, 0).ip());
                told.push(self.end.call(socket, &Call::Connect(address(0, self.ports.0))).text);
                self.socket = Some(socket);
            }
            ("wait", _) => {
                let started = std::time::Instant::now();
                while told.is_empty() && started.elapsed().as_secs() < 5 {
                    told = self.heard();
                }
            }
            (name, argument) => match call_of(name, argument) {
                Some(call) => {
                    told.extend(self.socket.map(|socket| self.end.call(socket, &call).text))
                }
                None => {
                    let mut frame = Sent::parse(step).frame(self.ports, self.iss.unwrap_or(0));
                    frame[..6].copy_from_slice(&self.mac);
                    self.end.arrive(&frame);
                }
            },
        }
        told.extend(self.heard());
        self.log.push(format!("{step}: {}", told.join(", ")));
    }
}

fn call_of(name: &str, argument: &str) -> Option<Call> {
    Some(match name {
        "send" => Call::Send(number(argument), 0),
        "urgent" => Call::SendUrgent(number(argument), 0),
        "recv" => Call::Recv(number(argument)),
        "recv-urgent" => Call::RecvUrgent,
        "shutdown" => Call::Shutdown(How::Write),
        "shutdown-read" => Call::Shutdown(How::Read),
        "linger-zero" => Call::LingerZero,
        "close" => Call::Close,
        "error" => Call::Error,
        "poll" => Call::Poll,
        "info" => Call::Info,
        _ => return None,
    })
}

/// The options that do not show a clock or a buffer's size.
fn options(bytes: &[u8]) -> String {
    let (mut text, mut at) = (String::new(), 0);
    while at < bytes.len() && bytes[at] != 0 {
        let len = if bytes[at] == 1 { 1 } else { usize::from(bytes[at + 1]).max(2) };
        match bytes[at] {
            2 => text += &format!(" mss={}", word16(bytes, at + 2)),
            3 => text += " ws",
            4 => text += " sackok",
            5 => {
                for block in bytes[at + 2..at + len].chunks_exact(8) {
                    let edge = |at| word32(block, at).wrapping_sub(IRS) as i32;
                    text += &format!(" {}-{}", edge(0), edge(4));
                }
            }
            8 => text += &format!(" ts/{}", word32(bytes, at + 6)),
            _ => {}
        }
        at += len;
    }
    text
}

fn answer_arp(end: &mut dyn End, frame: &[u8]) {
    let asks = frame.len() >= 42 && frame[12..14] == [8, 6] && frame[21] == 1;
    if !asks || frame[38..42] != US4 {
        return;
    }
    let mut reply = vec![0, 1, 8, 0, 6, 4, 0, 2];
    reply.extend([&FROM_MAC[..], &US4, &frame[22..28], &frame[28..32]].concat());
    let mut reply = ethernet(0x0806, &reply);
    reply[..6].copy_from_slice(&frame[6..12]);
    end.arrive(&reply);
}

/// Asks for the kernel's link address until it answers (a fresh device of Linux loses its first packets), and tells ours by that.
fn warm_up(end: &mut dyn End) -> [u8; 6] {
    let mut request = vec![0, 1, 8, 0, 6, 4, 0, 1];
    request.extend([&FROM_MAC[..], &US4, &[0; 6], &PEER4].concat());
    let mut request = ethernet(0x0806, &request);
    request[..6].fill(0xff);
    let started = std::time::Instant::now();
    loop {
        end.arrive(&request);
        for frame in end.sent() {
            if frame.len() >= 42 && frame[12..14] == [8, 6] && frame[21] == 2 {
                return frame[6..12].try_into().expect("six bytes");
            }
        }
        assert!(started.elapsed().as_secs() < 60, "the kernel does not answer");
    }
}

/// The steps of a script, with the shared beginnings written out.
fn steps_of(text: &str) -> Vec<String> {
    let mut steps = Vec::new();
    for step in text.split(';').map(str::trim) {
        match WORDS.iter().find(|(word, _)| *word == step) {
            Some((_, meaning)) => steps.extend(steps_of(meaning)),
            None => steps.push(step.to_owned()),
        }
    }
    steps
}

fn scripts() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = include_str!("connections.txt").lines();
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{line:?} has no name")))
}

fn play(end: &mut dyn End) -> Vec<Vec<String>> {
    let mac = warm_up(end);
    let mut logs = Vec::new();
    for (n, (_, text)) in (0u16..).zip(scripts()) {
        let ports = (FIRST_PORTS.0 + n, FIRST_PORTS.1 + n);
        let mut hand = Hand {
            end: &mut *end,
            mac,
            ports,
            iss: None,
            listener: None,
            socket: None,
            log: Vec::new(),
        };
        steps_of(text).iter().for_each(|step| hand.step(step));
        logs.push(hand.log);
    }
    logs
}

/// What Linux and the stack do not do alike, by the name of the script.
fn breaches() -> BTreeMap<&'static str, String> {
    let linux = std::thread::spawn(|| play(&mut *linux(1)));
    let linux = linux.join().expect("Linux as a peer");
    let ours = play(&mut *ours(1));
    let mut breaches = BTreeMap::new();
    for (((name, _), expected), found) in scripts().zip(&linux).zip(&ours) {
        if std::env::var("NETCELL_SHOW_LINUX").is_ok() {
            println!("{name}\n    {}", expected.join("\n    "));
        }
        let known = DIFFERENCES.iter().any(|(script, _)| *script == name);
        match super::difference(expected, found) {
            Some(text) if !known => drop(breaches.insert(name, text)),
            None if known => {
                drop(breaches.insert(name, "is listed as different and is not".into()))
            }
            _ => {}
        }
    }
    breaches
}

#[test]
fn every_state_answers_segments_as_linux_does() {
    let mut found = breaches();
    // A kernel that others hold up may send a segment after the step that it belongs to: a difference counts when it comes again.
    if !found.is_empty() {
        let again = breaches();
        found.retain(|name, _| again.contains_key(name));
    }
    let told: Vec<String> = found.iter().map(|(name, text)| format!("{name}\n{text}")).collect();
    assert!(
        told.is_empty(),
        "{} of {} scripts:\n{}",
        told.len(),
        scripts().count(),
        told.join("\n")
    );
}
