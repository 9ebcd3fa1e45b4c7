//! The picture of a connection that an engineer would draw by hand: the time-sequence graph of one direction, its round trips, its rate and what was in flight.

mod axis;
#[cfg(feature = "png")]
mod png;
mod svg;

use std::collections::VecDeque;
use std::time::Duration;

use crate::flows::{Flow, Record, Step};
use crate::packet::{ACK, FIN, RST, SYN, controls};
use axis::Axis;
use svg::{Panel, Svg};

#[cfg(feature = "png")]
pub use png::{PngError, png};

/// Which picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Graph {
    /// The time-sequence graph, and under it round trips, rate and bytes in flight.
    #[default]
    All,
    /// Segments, acknowledgments, the window's edge, SACK blocks.
    TimeSequence,
    /// From data to its acknowledgment.
    Rtt,
    /// Acknowledged bytes a second.
    Throughput,
    /// Bytes in flight under the window that the other side offers.
    Window,
}

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Which picture.
    pub graph: Graph,
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
    /// Time and bytes in flight, and the window that the other side offers.
    flight: Vec<(f64, f64)>,
    window: Vec<(f64, f64)>,
}

const WIDTH: f64 = 1100.0;
const HEIGHT: f64 = 800.0;
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

    let mut out = Svg::new(WIDTH, HEIGHT);
    let [caller, called] = flow.ends.map(|(address, port)| format!("{address} port {port}"));
    let (source, sink) = if side == 0 { (&caller, &called) } else { (&called, &caller) };
    out.title(&format!("{source} \u{2192} {sink}"), &subtitle(flow, side));
    let at = |top: f64, height: f64| Place { top, height, time: &time };
    let whole = at(90.0, 650.0);
    let [sent, again, acknowledged, window, sack, flight] = COLOURS;
    let bottom = match options.graph {
        Graph::All => {
            out.legend(&COLOURS);
            sequence(&mut out, &series, at(90.0, 400.0));
            round_trips(&mut out, &series, at(520.0, 90.0));
            rate(&mut out, &series, at(640.0, 110.0));
            at(640.0, 110.0)
        }
        Graph::TimeSequence => {
            out.legend(&[sent, again, acknowledged, window, sack]);
            sequence(&mut out, &series, whole);
            whole
        }
        Graph::Rtt => {
            round_trips(&mut out, &series, whole);
            whole
        }
        Graph::Throughput => {
            throughput(&mut out, &series, whole);
            whole
        }
        Graph::Window => {
            out.legend(&[flight, window]);
            in_flight(&mut out, &series, whole);
            whole
        }
    };
    out.times(&time, bottom.top + bottom.height);
    Some(out.finish())
}

/// Where a panel stands, and its times.
#[derive(Clone, Copy)]
struct Place<'a> {
    top: f64,
    height: f64,
    time: &'a Axis,
}

impl<'a> Place<'a> {
    fn panel(self, y: &'a Axis) -> Panel<'a> {
        Panel { top: self.top, height: self.height, x: self.time, y }
    }

    /// So many labels of values as have room.
    fn labels(&self) -> u32 {
        (self.height / 45.0).clamp(3.0, 12.0) as u32
    }
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

fn sequence(out: &mut Svg, series: &Series, place: Place<'_>) {
    let spans = series.sent.iter().chain(&series.again).chain(&series.sacked);
    let top = spans.map(|(_, _, end)| *end).chain(series.acked.iter().map(|(_, n)| *n));
    let top = top.fold(1.0, f64::max);
    // A window of megabytes would press a small stream into a line.
    let edge = series.edge.iter().map(|(_, edge)| *edge).fold(top, f64::max).min(top * 1.25);
    let bytes = Axis::new(0.0, edge, place.labels());
    let panel = place.panel(&bytes);
    out.frame(&panel, "bytes");
    out.steps(&panel, &series.edge, COLOURS[3].1, 1.0);
    out.steps(&panel, &series.acked, COLOURS[2].1, 1.4);
    out.bars(&panel, &series.sacked, COLOURS[4].1, 1.0);
    out.bars(&panel, &series.sent, COLOURS[0].1, 1.6);
    out.bars(&panel, &series.again, COLOURS[1].1, 2.2);
    series.marks.iter().for_each(|(t, n, letter)| out.letter(&panel, *t, *n, *letter));
}

fn round_trips(out: &mut Svg, series: &Series, place: Place<'_>) {
    let millis = Axis::new(0.0, top(&series.rtt, 1e-3), place.labels());
    let panel = place.panel(&millis);
    out.frame(&panel, "RTT, ms");
    out.dots(&panel, &series.rtt, COLOURS[2].1);
}

/// Above the highest value.
fn top(values: &[(f64, f64)], least: f64) -> f64 {
    values.iter().map(|(_, value)| *value).fold(least, f64::max) * 1.05
}

/// Acknowledged bytes a hundredth of the time, as Mbit/s; and how long that is.
fn rates(series: &Series, time: &Axis) -> (Vec<(f64, f64)>, f64) {
    let width = (time.to - time.from) / 100.0;
    let mut bins = vec![0.0; 100];
    for pair in series.acked.windows(2) {
        let at = ((pair[1].0 - time.from) / width) as usize;
        bins[at.min(99)] += (pair[1].1 - pair[0].1).max(0.0);
    }
    let rates = bins.iter().enumerate();
    let rates = rates.map(|(at, bytes)| (time.from + at as f64 * width, bytes * 8e-6 / width));
    (rates.collect(), width)
}

fn throughput(out: &mut Svg, series: &Series, place: Place<'_>) {
    let (rates, width) = rates(series, place.time);
    let mbits = Axis::new(0.0, top(&rates, 1e-6), place.labels());
    let panel = place.panel(&mbits);
    out.frame(&panel, "Mbit/s");
    out.area(&panel, &rates, width, COLOURS[0].1);
}

/// The rate, and on the right axis what was in flight.
fn rate(out: &mut Svg, series: &Series, place: Place<'_>) {
    throughput(out, series, place);
    let bytes = Axis::new(0.0, top(&series.flight, 1e-6), place.labels());
    let panel = place.panel(&bytes);
    out.steps(&panel, &series.flight, COLOURS[5].1, 1.0);
    out.right_axis(&panel, "in flight");
}

/// What was in flight: where it comes near the window, the receiver slows the sender down; elsewhere its congestion window does.
fn in_flight(out: &mut Svg, series: &Series, place: Place<'_>) {
    let most = top(&series.flight, 1.0);
    let bytes = Axis::new(0.0, top(&series.window, most).min(most * 4.0), place.labels());
    let panel = place.panel(&bytes);
    out.frame(&panel, "bytes");
    out.steps(&panel, &series.window, COLOURS[3].1, 1.4);
    out.steps(&panel, &series.flight, COLOURS[5].1, 1.2);
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
            self.window.push((time, step.window as f64));
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
        assert_eq!(series.window[1], (0.060, 128_000.0));
        for graph in [Graph::All, Graph::TimeSequence, Graph::Rtt, Graph::Throughput, Graph::Window]
        {
            let options = Options { graph, side: None, from: Duration::ZERO, to: None };
            let picture = svg(flows[0], options).expect("a picture");
            assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
            assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
            #[cfg(feature = "png")]
            assert_eq!(png(&picture).expect("pixels")[..8], *b"\x89PNG\r\n\x1a\n");
        }
    }
}
