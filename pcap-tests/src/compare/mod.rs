//! Two traces compared by what they mean: flows, openings, options, bytes, endings; strictly also segments, acknowledgments, windows, times.
//!
//! Initial sequence numbers, ephemeral ports, timestamps and identifications may differ: none of them is compared.

mod aspect;
mod pairs;
mod passing;

use std::fmt;
use std::time::Duration;

pub use aspect::Aspect;
pub use passing::{Comparison, files};

use crate::flows::{Detail, Ending, Flow, More, Protocol, Record, Step, Stream, Summary, Unlike};
use crate::packet::{ACK, FIN, PSH, RST, SYN, TcpOptions};

/// What is compared, and how closely.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What is compared.
    pub aspects: Vec<Aspect>,
    /// Times may differ by this.
    pub tolerance: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self { aspects: Aspect::DEFAULT.to_vec(), tolerance: Duration::from_millis(4) }
    }
}

impl Terms {
    /// What of each flow has to be kept for it.
    pub fn detail(&self) -> Detail {
        let strict = |aspect: &Aspect| !Aspect::DEFAULT.contains(aspect);
        if self.aspects.iter().any(strict) { Detail::Steps } else { Detail::Digests }
    }
}

/// Something that is not alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// In what.
    pub aspect: Aspect,
    /// Numbers of the flow in either trace.
    pub flows: [Option<u64>; 2],
    /// The flow, for a reader.
    pub name: String,
    /// Frames that show it.
    pub frames: [Option<u64>; 2],
    /// What either trace has.
    pub text: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.name, self.aspect.name(), self.text)?;
        match self.frames {
            [Some(one), Some(other)] => write!(f, " (frames {one} and {other})")?,
            [Some(one), None] => write!(f, " (frame {one} of the first)")?,
            [None, Some(other)] => write!(f, " (frame {other} of the second)")?,
            [None, None] => {}
        }
        match self.aspect.rule() {
            "" => Ok(()),
            rule => write!(f, " [{rule}]"),
        }
    }
}

/// Differences that are told one by one.
const MAX_TOLD: usize = 10_000;

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Flows that both traces have.
    pub compared: u64,
    /// What is not alike, in the order of the flows.
    pub differences: Vec<Difference>,
    /// Differences beyond the first ten thousand, which are only counted.
    pub untold: u64,
}

impl Verdict {
    fn tell(&mut self, difference: Difference) {
        match self.differences.len() < MAX_TOLD {
            true => self.differences.push(difference),
            false => self.untold += 1,
        }
    }

    /// Compares two flows, or tells that there is but one. Of the `sides` that are false only what they say is compared, not how.
    fn pair(&mut self, pair: [Option<&Flow>; 2], terms: &Terms, sides: [bool; 2]) {
        match pair {
            [Some(one), Some(other)] => {
                self.compared += 1;
                Pair { flows: [one, other], terms, sides, verdict: self }.compare();
            }
            [one, other] if terms.aspects.contains(&Aspect::Flows) => {
                let Some(flow) = one.or(other) else { return };
                self.tell(Difference {
                    aspect: Aspect::Flows,
                    flows: [one.map(|f| f.number), other.map(|f| f.number)],
                    name: name(flow),
                    frames: [one.map(|f| f.first_frame), other.map(|f| f.first_frame)],
                    text: "only one trace has this flow".into(),
                });
            }
            _ => {}
        }
    }
}

/// Compares two summaries that were made by [`Summary::recording`].
pub fn compare(one: &Summary, other: &Summary, terms: &Terms) -> Verdict {
    let mut verdict = Verdict::default();
    for pair in pairs::pair(&one.flows(), &other.flows()) {
        verdict.pair(pair, terms, [true; 2]);
    }
    verdict
}

fn name(flow: &Flow) -> String {
    let [(from, port), (to, service)] = flow.ends;
    match flow.protocol {
        Protocol::Tcp => format!("tcp {from} port {port} to {to} port {service}"),
        Protocol::Udp => format!("udp {from} port {port} to {to} port {service}"),
        Protocol::Echo => format!("echo {from} to {to}"),
    }
}

/// Two flows that are the same conversation.
struct Pair<'a> {
    flows: [&'a Flow; 2],
    terms: &'a Terms,
    /// Whose ways are compared: the caller's, the called's.
    sides: [bool; 2],
    verdict: &'a mut Verdict,
}

const SIDES: [&str; 2] = ["the caller", "the called"];

impl<'a> Pair<'a> {
    /// The sides whose ways are compared, and what they are called.
    fn whose(&self) -> impl Iterator<Item = (usize, &'static str)> + use<> {
        let sides = self.sides;
        SIDES.into_iter().enumerate().filter(move |(side, _)| sides[*side])
    }

    fn compare(&mut self) {
        let [Some(one), Some(other)]: [Option<&'a Record>; 2] =
            self.flows.map(|flow| flow.record.as_deref())
        else {
            return;
        };
        if self.flows[0].protocol == Protocol::Tcp {
            self.equal(Aspect::Opening, self.flows.map(Flow::opening));
            self.options(one, other);
            self.streams(one, other);
            self.equal(Aspect::Ending, self.flows.map(Flow::ending));
            self.counts(Aspect::Retransmissions, |half| half.retransmissions);
            self.counts(Aspect::ZeroWindow, |half| half.zero_windows);
            self.steps(one, other);
        } else {
            self.messages(one, other);
            self.more_messages(one, other);
        }
        let errors = |record: &Record| -> Vec<(u8, u8)> {
            record.icmp.iter().map(|(_, kind, code)| (*kind, *code)).collect()
        };
        let frames = [one, other].map(|record| record.icmp.first().map(|error| error.0));
        self.differ(Aspect::Icmp, frames, [errors(one), errors(other)], |errors| {
            let words: Vec<_> =
                errors.iter().map(|(kind, code)| format!("type {kind} code {code}")).collect();
            if words.is_empty() { "no error".into() } else { words.join(", ") }
        });
    }

    fn tell(&mut self, aspect: Aspect, frames: [Option<u64>; 2], text: String) {
        if self.terms.aspects.contains(&aspect) {
            let flows = self.flows.map(|flow| Some(flow.number));
            let name = name(self.flows[0]);
            self.verdict.tell(Difference { aspect, flows, name, frames, text });
        }
    }

    fn differ<T: PartialEq>(
        &mut self,
        aspect: Aspect,
        frames: [Option<u64>; 2],
        values: [T; 2],
        show: impl Fn(&T) -> String,
    ) {
        if values[0] != values[1] {
            let [one, other] = values.each_ref().map(show);
            self.tell(aspect, frames, format!("{one}; the other: {other}"));
        }
    }

    fn equal<T: PartialEq + fmt::Debug>(&mut self, aspect: Aspect, values: [T; 2]) {
        let frames = match aspect {
            Aspect::Ending => self.flows.map(|flow| flow.record.as_deref()?.last_control),
            _ => self.flows.map(|flow| Some(flow.first_frame)),
        };
        self.differ(aspect, frames, values, |value| format!("{value:?}"));
    }

    fn options(&mut self, one: &'a Record, other: &'a Record) {
        for (side, who) in self.whose() {
            let frames = [one, other].map(|record| record.syn[side]);
            let options = [one, other].map(|record| record.options[side].map(Offered::of));
            self.differ(Aspect::Options, frames, options, |offered| match offered {
                Some(offered) => format!("{who} offers {offered:?}"),
                None => format!("{who} sends no SYN"),
            });
        }
    }

    fn streams(&mut self, one: &'a Record, other: &'a Record) {
        for (side, who) in SIDES.iter().enumerate() {
            let streams: [&Stream; 2] = [&one.streams[side], &other.streams[side]];
            let Some(Unlike { bytes: (from, to), frames }) = streams[0].difference(streams[1])
            else {
                continue;
            };
            let lens = streams.map(|stream| stream.len);
            if from == lens[0].min(lens[1]) && self.was_on_its_way(side, from) {
                continue;
            }
            let text = match lens[0] == lens[1] || from < lens[0].min(lens[1]) {
                true => format!("what {who} sends differs between bytes {from} and {to}"),
                false => format!("{who} sends {} bytes; the other: {}", lens[0], lens[1]),
            };
            self.tell(Aspect::Stream, frames, text);
        }
    }

    /// Whether what stands behind `from` was still on its way to the other side when that reset the connection, in both traces.
    fn was_on_its_way(&self, side: usize, from: u64) -> bool {
        let reset = if side == 0 { Ending::ResetByPeer } else { Ending::ResetByOpener };
        let unheard =
            |flow: &Flow| flow.ending() == reset && flow.halves[side].acked_bytes() <= from;
        self.flows.into_iter().all(unheard)
    }

    fn counts(&mut self, aspect: Aspect, read: fn(&crate::flows::Half) -> u64) {
        for (side, who) in self.whose() {
            let values = self.flows.map(|flow| read(&flow.halves[side]));
            let frames = self.flows.map(|flow| match aspect {
                Aspect::Retransmissions => flow.record.as_deref().and_then(|r| r.again[side]),
                _ => None,
            });
            self.differ(aspect, frames, values, |count| format!("{count} by {who}"));
        }
    }

    /// The sequences of data, of acknowledgments, of windows, and their times: the first step that differs is told of each.
    fn steps(&mut self, one: &'a Record, other: &'a Record) {
        for (side, _) in self.whose() {
            let carries =
                |s: &&Step| s.side == side && (s.len > 0 || s.flags & (SYN | FIN | RST) != 0);
            let acknowledges = |s: &&Step| {
                s.side == side && s.len == 0 && s.flags & (SYN | FIN | RST | ACK) == ACK
            };
            // PSH depends on how a program cuts its writes, and is no promise.
            self.sequence(Aspect::Segments, side, [one, other], &carries, &|s| {
                (i64::from(s.flags & !PSH & !ACK), s.seq, i64::from(s.len))
            });
            self.sequence(Aspect::Acks, side, [one, other], &acknowledges, &|s| (s.ack, 0, 0));
            self.sequence(Aspect::Window, side, [one, other], &acknowledges, &|s| {
                (s.ack, s.window as i64, 0)
            });
            self.times(side, one, other);
        }
    }

    fn sequence(
        &mut self,
        aspect: Aspect,
        side: usize,
        records: [&'a Record; 2],
        chosen: &dyn Fn(&&Step) -> bool,
        key: &dyn Fn(&Step) -> (i64, i64, i64),
    ) {
        let [one, other] = records;
        let mut two = other.steps.iter().filter(chosen);
        let mut one = one.steps.iter().filter(chosen);
        loop {
            match (one.next(), two.next()) {
                (None, None) => return,
                (Some(a), Some(b)) if key(a) == key(b) => {}
                (a, b) => {
                    let text = [a, b].map(|step| step.map_or("nothing".into(), shown));
                    let frames = [a, b].map(|step| step.map(|step| step.frame));
                    let [a, b] = text;
                    let who = SIDES[side];
                    return self.tell(aspect, frames, format!("{who} sends {a}; the other: {b}"));
                }
            }
        }
    }

    fn times(&mut self, side: usize, one: &'a Record, other: &'a Record) {
        let steps = |record: &'a Record| record.steps.iter().filter(move |s| s.side == side);
        for (a, b) in steps(one).zip(steps(other)) {
            if a.time.abs_diff(b.time) > self.terms.tolerance {
                let text = format!(
                    "{} sends {} at {:?}; the other: at {:?}",
                    SIDES[side],
                    shown(a),
                    a.time,
                    b.time
                );
                return self.tell(Aspect::Timing, [Some(a.frame), Some(b.frame)], text);
            }
        }
    }

    fn more_messages(&mut self, one: &'a Record, other: &'a Record) {
        for (side, who) in SIDES.iter().enumerate() {
            let more = [one, other].map(|record| &record.more[side]);
            if !is_alike(more) {
                let text = format!(
                    "what {who} sends later differs: {} datagrams; the other: {}",
                    more[0].count, more[1].count
                );
                self.tell(Aspect::Stream, more.map(|more| more.frame), text);
            }
        }
    }

    fn messages(&mut self, one: &'a Record, other: &'a Record) {
        for (side, who) in SIDES.iter().enumerate() {
            let mut of = [one, other].map(|r| r.messages.iter().filter(move |m| m.side == side));
            loop {
                let [one, other] = of.each_mut().map(Iterator::next);
                let unlike = match (one, other) {
                    (None, None) => break,
                    (Some(a), Some(b)) => {
                        let known = a.digest.is_some() && b.digest.is_some();
                        a.len != b.len || known && a.digest != b.digest
                    }
                    _ => true,
                };
                if unlike {
                    let shown = |m: Option<&crate::flows::Message>| {
                        m.map_or("nothing".into(), |m| format!("{} bytes", m.len))
                    };
                    let text = match (one, other) {
                        (Some(a), Some(b)) if a.len == b.len => {
                            format!("what {who} sends in {} bytes differs", a.len)
                        }
                        _ => format!("{who} sends {}; the other: {}", shown(one), shown(other)),
                    };
                    self.tell(Aspect::Stream, [one, other].map(|m| m.map(|m| m.frame)), text);
                    break;
                }
            }
        }
    }
}

/// Whether datagrams that were not kept one by one are the same, as far as both were captured.
fn is_alike([one, other]: [&More; 2]) -> bool {
    let known = one.digest.is_some() && other.digest.is_some();
    (one.count, one.lens) == (other.count, other.lens) && (!known || one.digest == other.digest)
}

/// A step as tcpdump writes it.
fn shown(step: &Step) -> String {
    let names = [(SYN, 'S'), (FIN, 'F'), (RST, 'R'), (PSH, 'P'), (ACK, '.')];
    let flags: String =
        names.iter().filter(|(bit, _)| step.flags & bit != 0).map(|(_, name)| *name).collect();
    let end = step.seq + i64::from(step.len);
    format!("[{flags}] {}:{end} ack {} win {}", step.seq, step.ack, step.window)
}

/// What an endpoint offers in its SYN: how, not with which numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Offered(TcpOptions);

impl Offered {
    fn of(options: TcpOptions) -> Self {
        // The clock behind timestamps starts anywhere.
        let mut offered = options;
        offered.timestamps = options.timestamps.map(|_| (0, 0));
        Self(offered)
    }
}

impl fmt::Debug for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_string())
    }
}

#[cfg(test)]
mod tests;
