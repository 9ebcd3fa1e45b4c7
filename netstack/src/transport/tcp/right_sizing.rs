//! Dynamic right-sizing: how large a receive buffer must be so that the sender is never short of window, by what
//! the program reads in a round trip, as Linux does it. A receiver may have no round-trip time of its own.

use super::seq::Seq;
use crate::time::{Duration, Instant, Span};

/// A timestamp's tick: shorter round trips are measured by the window.
const TICK: Duration = Duration::from_millis(1);

/// The receiver's measurements.
#[derive(Debug)]
pub struct RightSizing {
    rtt: Option<Span>,
    echo: u32,
    window_end: Seq,
    window_at: Option<Instant>,
    measured_at: Instant,
    measured_from: Seq,
    space: usize,
}

/// That the buffer should let the sender use this window, in payload bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted(pub usize);

impl RightSizing {
    /// Before any data.
    pub fn new(now: Instant) -> RightSizing {
        RightSizing {
            rtt: None,
            echo: 0,
            window_end: Seq(0),
            window_at: None,
            measured_at: now,
            measured_from: Seq(0),
            space: 1,
        }
    }

    /// The connection stands: what the first round trip may bring.
    pub fn start(&mut self, now: Instant, read: Seq, space: usize) {
        self.measured_at = now;
        self.measured_from = read;
        self.space = space.max(1);
    }

    /// What the program read in a round trip.
    pub fn space(&self) -> usize {
        self.space
    }

    /// The round-trip time, as the receiver sees it.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt.map(Span::get)
    }

    /// Data came, and with it the echo of our timestamp `age` ago.
    pub fn on_echo(&mut self, echo: u32, age: Duration) {
        if echo == self.echo || age < TICK {
            return;
        }
        self.echo = echo;
        let rtt = self.rtt().map_or(age, |rtt| rtt - rtt / 8 + age / 8);
        self.rtt = Some(rtt.into());
    }

    /// Data came up to `next`, with the window open until `end`: a full window takes at least a round trip.
    pub fn on_data(&mut self, now: Instant, next: Seq, end: Seq) {
        if let Some(since) = self.window_at {
            if next < self.window_end {
                return;
            }
            let sample = now.since(since).max(Duration::from_micros(1));
            self.rtt = Some(self.rtt().map_or(sample, |rtt| rtt.min(sample)).into());
        }
        self.window_end = end;
        self.window_at = Some(now);
    }

    /// The program has read up to `read`; `beyond` is how far data reaches that waits behind a gap.
    pub fn on_read(&mut self, now: Instant, read: Seq, beyond: usize) -> Option<Wanted> {
        let rtt = self.rtt()?;
        let elapsed = now.since(self.measured_at);
        if elapsed < rtt {
            return None;
        }
        // What waited behind a gap becomes readable all at once: by the rate it is no more than the path brings.
        let copied = read.since(self.measured_from) as u128;
        let copied = copied * rtt.as_nanos().max(1) / elapsed.as_nanos().max(1);
        let copied = usize::try_from(copied).unwrap_or(usize::MAX);
        let before = self.space;
        self.measured_at = now;
        self.measured_from = read;
        if copied <= before {
            return None;
        }
        self.space = copied;
        // Twice what was read, for the next round trip of data is under way while this one is read; and as much as the
        // sender sped up, which in slow start is to the double.
        let window = copied.saturating_mul(2);
        let growth = window as u128 * 2 * (copied - before) as u128 / before as u128;
        let growth = usize::try_from(growth).unwrap_or(usize::MAX).min(window);
        Some(Wanted(window.saturating_add(growth).saturating_add(beyond)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_steady_reader_wants_two_windows_and_a_faster_one_more() {
        let start = Instant::from_secs(1);
        let mut sizing = RightSizing::new(start);
        sizing.start(start, Seq(0), 10_000);
        assert_eq!(sizing.on_read(start + MS * 5, Seq(50_000), 0), None, "no round trip is known");
        sizing.on_echo(7, MS * 10);
        sizing.on_echo(7, MS * 90);
        assert_eq!(sizing.rtt(), Some(MS * 10), "one echo is one sample");
        let wanted = sizing.on_read(start + MS * 10, Seq(20_000), 0);
        assert_eq!(wanted, Some(Wanted(40_000 + 40_000)));
        assert_eq!(sizing.on_read(start + MS * 15, Seq(90_000), 0), None, "within the round trip");
        let wanted = sizing.on_read(start + MS * 20, Seq(40_000), 0);
        assert_eq!(wanted, None, "as much as before");
    }

    #[test]
    fn the_window_measures_round_trips_below_a_tick() {
        let start = Instant::from_secs(1);
        let mut sizing = RightSizing::new(start);
        sizing.on_data(start, Seq(100), Seq(1100));
        sizing.on_echo(1, Duration::ZERO);
        sizing.on_data(start + MS / 10, Seq(900), Seq(1900));
        assert_eq!(sizing.rtt(), None);
        sizing.on_data(start + MS / 5, Seq(1100), Seq(2100));
        assert_eq!(sizing.rtt(), Some(MS / 5));
        sizing.on_data(start + MS, Seq(2100), Seq(3100));
        assert_eq!(sizing.rtt(), Some(MS / 5), "a slow sender does not make the path longer");
    }
}
