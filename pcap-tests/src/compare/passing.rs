//! Comparing while reading: two flows of the same endpoints are compared as soon as both are over, and forgotten. Memory follows the open flows.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::{Difference, Terms, Verdict, pairs};
use crate::capture::{ReadError, Reader};
use crate::flows::{Flow, Protocol, Summary};
use crate::keyed::{self, Map};
use crate::packet::Endpoint;

/// Frames between two looks for flows that are over.
const STRIDE: u64 = 4096;

/// What has to be the same for two flows to be compared at once.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name(Protocol, [Endpoint; 2]);

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        keyed::hash_ends(state, self.0 as u8, self.1.each_ref());
    }
}

/// Whether the ways of an endpoint are compared.
type Whose<'a> = Box<dyn Fn(Endpoint) -> bool + 'a>;

/// A comparison under way.
pub struct Comparison<'a> {
    terms: &'a Terms,
    /// Whose ways are compared; none: everybody's.
    whose: Option<Whose<'a>>,
    /// Flows of either trace that are over, without one of the same endpoints in the other yet.
    waiting: [Map<Name, VecDeque<Box<Flow>>>; 2],
    verdict: Verdict,
}

impl<'a> Comparison<'a> {
    /// A comparison that has seen nothing.
    pub fn new(terms: &'a Terms) -> Self {
        Self { terms, whose: None, waiting: Default::default(), verdict: Verdict::default() }
    }

    /// One that compares the ways of these endpoints alone; of the others only what they say.
    pub fn of(terms: &'a Terms, whose: impl Fn(Endpoint) -> bool + 'a) -> Self {
        Self { whose: Some(Box::new(whose)), ..Self::new(terms) }
    }

    fn compare(&mut self, pair: [Option<&Flow>; 2]) {
        let ends = pair.iter().flatten().next().map(|flow| flow.ends);
        let sides = match (&self.whose, ends) {
            (Some(whose), Some(ends)) => ends.map(whose),
            _ => [true; 2],
        };
        self.verdict.pair(pair, self.terms, sides);
    }

    /// Takes in the next flow that is over, of the first trace (0) or the second. Those of the same endpoints come in their order.
    pub fn take(&mut self, trace: usize, flow: Box<Flow>) {
        let name = Name(flow.protocol, flow.ends);
        let others = &mut self.waiting[1 - trace];
        let Some(other) = others.get_mut(&name).and_then(VecDeque::pop_front) else {
            self.waiting[trace].entry(name).or_default().push_back(flow);
            return;
        };
        if others.get(&name).is_some_and(VecDeque::is_empty) {
            others.remove(&name);
        }
        let pair = if trace == 0 { [&flow, &other] } else { [&other, &flow] };
        self.compare(pair.map(|flow| Some(flow.as_ref())));
    }

    /// Both traces have ended: what is left is paired by hosts and service.
    pub fn finish(mut self) -> Verdict {
        let left = std::mem::take(&mut self.waiting).map(|flows| {
            let mut flows: Vec<Box<Flow>> = flows.into_values().flatten().collect();
            flows.sort_by_key(|flow| flow.number);
            flows
        });
        let [one, other] =
            left.each_ref().map(|flows| flows.iter().map(Box::as_ref).collect::<Vec<_>>());
        for pair in pairs::pair(&one, &other) {
            self.compare(pair);
        }
        let mut verdict = self.verdict;
        // In the order of the first trace; what only the second has comes last.
        let place = |found: &Difference| {
            let [one, other] = found.flows;
            (one.is_none(), one, other)
        };
        verdict.differences.sort_by_key(place);
        verdict
    }
}

/// Compares two captures while they are read, side by side as time goes in them, so that each flow meets its like soon. The errors tell
/// why one could not be read further.
pub fn files(
    readers: &mut [Reader; 2],
    terms: &Terms,
) -> (Verdict, [Summary; 2], [Option<ReadError>; 2]) {
    let mut comparison = Comparison::new(terms);
    let mut summaries = [(); 2].map(|()| Summary::passing(terms.detail()));
    let (mut ends, mut errors) = ([false; 2], [None, None]);
    // How far either is read, as time since its first frame.
    let mut clocks = [Duration::ZERO; 2];
    while let Some(at) = (0..2).filter(|at| !ends[*at]).min_by_key(|at| clocks[*at]) {
        match readers[at].next() {
            Ok(Some(frame)) => {
                summaries[at].add(&frame);
                let begin = summaries[at].span.map_or(frame.time, |(begin, _)| begin);
                clocks[at] = frame.time.saturating_sub(begin);
                if summaries[at].frames.is_multiple_of(STRIDE) {
                    let over = summaries[at].take_finished();
                    over.into_iter().for_each(|flow| comparison.take(at, flow));
                }
                continue;
            }
            Ok(None) => {}
            Err(error) => errors[at] = Some(error),
        }
        ends[at] = true;
    }
    for (at, summary) in summaries.iter_mut().enumerate() {
        summary.take_all().into_iter().for_each(|flow| comparison.take(at, flow));
    }
    (comparison.finish(), summaries, errors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Aspect, compare};
    use crate::packet::{ACK, FIN, PSH, RST, SYN};
    use crate::testing::{Segment, pcap, segment, summed};

    /// Conversations one after the other on the same ports; those of some numbers differ in what they say.
    fn talks(count: u64, other: &[u64]) -> Vec<(u64, Segment)> {
        let talk = |n: u64| {
            let base = n as u32 * 100_000;
            let mut data = segment(true, ACK | PSH, base + 1, 501, 600);
            data.fill += u8::from(other.contains(&n));
            let at = n * 100_000;
            [
                (at, segment(true, SYN, base, 0, 0)),
                (at + 1, segment(false, SYN | ACK, 500, base + 1, 0)),
                (at + 2, data),
                (at + 3, segment(false, FIN | ACK, 501, base + 601, 0)),
                (at + 4, segment(true, RST, base + 601, 0, 0)),
            ]
        };
        (0..count).flat_map(talk).collect()
    }

    fn compared(one: &[(u64, Segment)], other: &[(u64, Segment)], terms: &Terms) -> Verdict {
        let reader = |segments| Reader::new(std::io::Cursor::new(pcap(segments))).expect("a pcap");
        let (verdict, summaries, errors) = files(&mut [reader(one), reader(other)], terms);
        assert!(errors.iter().all(Option::is_none), "{errors:?}");
        assert_eq!(summaries[0].frames, one.len() as u64);
        verdict
    }

    #[test]
    fn what_is_found_while_reading_is_what_is_found_afterwards() {
        let strict = Terms { aspects: Aspect::ALL.to_vec(), ..Terms::default() };
        for terms in [Terms::default(), strict] {
            for (count, other) in [(3, &[][..]), (3, &[1]), (5, &[0, 2, 4]), (2, &[1])] {
                let (one, two) = (talks(3, &[]), talks(count, other));
                let afterwards = compare(&summed(&one), &summed(&two), &terms);
                assert_eq!(compared(&one, &two, &terms), afterwards, "{count} {other:?}");
                assert_eq!(afterwards.differences.is_empty(), (count, other) == (3, &[]));
            }
        }
    }

    #[test]
    fn flows_that_met_their_like_are_forgotten() {
        let terms = Terms::default();
        let mut comparison = Comparison::new(&terms);
        let mut both = [(); 2].map(|()| Summary::passing(terms.detail()));
        for at in [0, 1] {
            let whole = summed(&talks(50, &[]));
            assert_eq!(whole.flows().len(), 50);
            both[at] = whole;
        }
        let mut flows = both.each_mut().map(|summary| summary.take_all().into_iter());
        while let [Some(one), Some(other)] = flows.each_mut().map(Iterator::next) {
            comparison.take(1, other);
            comparison.take(0, one);
            assert!(comparison.waiting.iter().all(Map::is_empty));
        }
        assert_eq!(comparison.finish().compared, 50);
    }
}
