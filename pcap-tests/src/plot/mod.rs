//! The picture of a connection that an engineer would draw by hand: the time-sequence graph of one direction, its round trips, its rate and what was in flight.

mod axis;
mod svg;

use std::collections::VecDeque;
use std::time::Duration;

use crate::flows::{Flow, Record, Step};
use crate::packet::{ACK, FIN, RST, SYN, controls};
use axis::Axis;
use svg::{Panel, Svg};

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The side whose bytes are drawn: 0 that began, 1 the other; none: the one that sent more.
    pub side: Option<usize>,
    /// From this time of the flow on, and up to that; none: to its end.
    pub from: Duration,
    /// See `from`.
    pub to: Option<Duration>,
}

/// Bytes and times of one direction, ready to be drawn. Times in seconds, sequence numbers in bytes from the first one.
#[derive(Debug, Default, PartialEq)]
struct Series {
    /// Time, start, end of segments sent once, and sent again.
    sent: Vec<(f64, f64, f64)>,
    again: Vec<(f64, f64, f64)>,
    /// Time and number of acknowledgments, and of the window's edge.
    acked: Vec<(f64, f64)>,
    edge: Vec<(f64, f64)>,
    /// Time, start, end of SACK blocks.
    sacked: Vec<(f64, f64, f64)>,
    /// Time and number of SYN, FIN and RST, with their letter.
    marks: Vec<(f64, f64, char)>,
    /// Time and milliseconds of round trips.
    rtt: Vec<(f64, f64)>,
    /// Time and bytes in flight.
    flight: Vec<(f64, f64)>,
}

const WIDTH: f64 = 1100.0;
const COLOURS: [(&str, &str); 6] = [
    ("sent", "#1f4e9c"),
    ("sent again", "#d62728"),
    ("acknowledged", "#2a9d4a"),
    ("window", "#b9a13c"),
    ("SACK", "#8e44ad"),
    ("in flight", "#5f6b7a"),
];

/// Draws one direction of a connection as SVG. None where the flow has no steps (it is no TCP connection).
pub fn svg(flow: &Flow, options: Options) -> Option<String> {
    let record = flow.record.as_deref().filter(|record| !record.steps.is_empty())?;
    let bytes = |side: usize| flow.halves[side].payload_bytes;
    let side = options.side.unwrap_or(usize::from(bytes(1) > bytes(0)));
    let to = options.to.unwrap_or(flow.duration());
    let series = Series::of(record, side, options.from, to);
    let (from, until) = (options.from.as_secs_f64(), to.as_secs_f64().max(1e-6));
    let time = Axis::new(from, until.max(from + 1e-6), 10);

    let mut out = Svg::new(WIDTH, 800.0);
    let [caller, called] = flow.ends.map(|(address, port)| format!("{address} port {port}"));
    let (source, sink) = if side == 0 { (&caller, &called) } else { (&called, &caller) };
    out.title(&format!("{source} \u{2192} {sink}"), &subtitle(flow, side));
    out.legend(&COLOURS);
    sequence(&mut out, &series, &time);
    round_trips(&mut out, &series, &time);
    rate(&mut out, &series, &time);
    Some(out.finish())
}

fn subtitle(flow: &Flow, side: usize) -> String {
    let half = &flow.halves[side];
    format!(
        "flow {}, {} bytes in {} segments, {} sent again, {:.3} s",
        flow.number,
        half.payload_bytes,
        half.segments,
        half.retransmissions,
        flow.duration().as_secs_f64()
    )
}

fn sequence(out: &mut Svg, series: &Series, time: &Axis) {
    let spans = series.sent.iter().chain(&series.again).chain(&series.sacked);
    let top = spans.map(|(_, _, end)| *end).chain(series.acked.iter().map(|(_, n)| *n));
    let top = top.fold(1.0, f64::max);
    // A window of megabytes would press a small stream into a line.
    let edge = series.edge.iter().map(|(_, edge)| *edge).fold(top, f64::max).min(top * 1.25);
    let bytes = Axis::new(0.0, edge, 8);
    let panel = Panel { top: 90.0, height: 400.0, x: time, y: &bytes };
    out.frame(&panel, "bytes", false);
    out.steps(&panel, &series.edge, COLOURS[3].1, 1.0);
    out.steps(&panel, &series.acked, COLOURS[2].1, 1.4);
    out.bars(&panel, &series.sacked, COLOURS[4].1, 1.0);
    out.bars(&panel, &series.sent, COLOURS[0].1, 1.6);
    out.bars(&panel, &series.again, COLOURS[1].1, 2.2);
    series.marks.iter().for_each(|(t, n, letter)| out.letter(&panel, *t, *n, *letter));
}

fn round_trips(out: &mut Svg, series: &Series, time: &Axis) {
    let top = series.rtt.iter().map(|(_, ms)| *ms).fold(0.001, f64::max);
    let millis = Axis::new(0.0, top * 1.05, 4);
    let panel = Panel { top: 520.0, height: 90.0, x: time, y: &millis };
    out.frame(&panel, "RTT, ms", false);
    out.dots(&panel, &series.rtt, COLOURS[2].1);
}

/// Acknowledged bytes a hundredth of the time, as Mbit/s, and bytes in flight on the same picture's right axis.
fn rate(out: &mut Svg, series: &Series, time: &Axis) {
    let width = (time.to - time.from) / 100.0;
    let mut bins = vec![0.0; 100];
    for pair in series.acked.windows(2) {
        let at = ((pair[1].0 - time.from) / width) as usize;
        bins[at.min(99)] += (pair[1].1 - pair[0].1).max(0.0);
    }
    let rates: Vec<(f64, f64)> = bins
        .iter()
        .enumerate()
        .map(|(at, bytes)| (time.from + at as f64 * width, bytes * 8e-6 / width))
        .collect();
    let top = |values: &[(f64, f64)]| values.iter().map(|(_, v)| *v).fold(1e-6, f64::max) * 1.05;
    let (mbits, bytes) = (Axis::new(0.0, top(&rates), 4), Axis::new(0.0, top(&series.flight), 4));
    let panel = Panel { top: 640.0, height: 110.0, x: time, y: &mbits };
    out.frame(&panel, "Mbit/s", true);
    out.area(&panel, &rates, width, COLOURS[0].1);
    let flight = Panel { y: &bytes, ..panel };
    out.steps(&flight, &series.flight, COLOURS[5].1, 1.0);
    out.right_axis(&flight, "in flight");
}

impl Series {
    fn of(record: &Record, side: usize, from: Duration, to: Duration) -> Self {
        let mut series = Self::default();
        let mut waiting: VecDeque<(i64, Duration)> = VecDeque::new();
        let (mut acked, mut next) = (0, 0);
        for step in &record.steps {
            if step.side == side {
                let end = step.seq + i64::from(step.len) + i64::from(controls(step.flags));
                if step.is_again {
                    waiting.retain(|(sent, _)| *sent <= step.seq || *sent > end);
                } else if end > next {
                    waiting.push_back((end, step.time));
                }
                next = next.max(end);
            } else if step.flags & ACK != 0 && step.flags & RST == 0 && step.ack > acked {
                acked = step.ack;
                while let Some(&(end, sent)) = waiting.front()
                    && end <= acked
                {
                    waiting.pop_front();
                    if end == acked && (from..=to).contains(&step.time) {
                        let millis = step.time.saturating_sub(sent).as_secs_f64() * 1e3;
                        series.rtt.push((step.time.as_secs_f64(), millis));
                    }
                }
            }
            if (from..=to).contains(&step.time) {
                series.step(step, side, (next - acked).max(0));
            }
        }
        series
    }

    fn step(&mut self, step: &Step, side: usize, in_flight: i64) {
        let time = step.time.as_secs_f64();
        let (seq, end) = (step.seq as f64, (step.seq + i64::from(step.len)) as f64);
        if step.side == side {
            if step.len > 0 {
                let to = if step.is_again { &mut self.again } else { &mut self.sent };
                to.push((time, seq, end));
            }
            for (bit, letter) in [(SYN, 'S'), (FIN, 'F'), (RST, 'R')] {
                if step.flags & bit != 0 {
                    self.marks.push((time, end, letter));
                }
            }
        } else if step.flags & ACK != 0 && step.flags & RST == 0 {
            self.acked.push((time, step.ack as f64));
            self.edge.push((time, (step.ack + step.window as i64) as f64));
            let blocks = step.sack.iter().map(|(from, to)| (time, *from as f64, *to as f64));
            self.sacked.extend(blocks);
        } else if step.flags & RST != 0 {
            self.marks.push((time, step.ack as f64, 'r'));
        }
        self.flight.push((time, in_flight as f64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{segment, summed};

    #[test]
    fn the_series_hold_what_the_segments_say() {
        let summary = summed(&[
            (0, segment(true, SYN, 100, 0, 0)),
            (20, segment(false, SYN | ACK, 500, 101, 0)),
            (21, segment(true, ACK, 101, 501, 0)),
            (22, segment(true, ACK, 101, 501, 1000)),
            (30, segment(true, ACK, 101, 501, 1000)),
            (60, segment(false, ACK, 501, 1101, 0)),
        ]);
        let flows = summary.flows();
        let record = flows[0].record.as_deref().expect("steps");
        let series = Series::of(record, 0, Duration::ZERO, Duration::from_secs(1));
        assert_eq!(series.sent, [(0.022, 1.0, 1001.0)]);
        assert_eq!(series.again, [(0.030, 1.0, 1001.0)]);
        assert_eq!(series.acked, [(0.020, 1.0), (0.060, 1001.0)]);
        assert_eq!(series.edge[1], (0.060, 1001.0 + 128_000.0));
        // The segment was sent twice: only the SYN's round trip counts.
        assert_eq!(series.rtt, [(0.020, 20.0)]);
        assert_eq!(series.marks, [(0.0, 0.0, 'S')]);
        assert_eq!(series.flight.last(), Some(&(0.060, 0.0)));
        let picture = svg(flows[0], Options { side: None, from: Duration::ZERO, to: None });
        let picture = picture.expect("a picture");
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
    }
}
