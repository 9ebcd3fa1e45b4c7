//! The congestion window and its threshold, in bytes, with what every algorithm does to them.

/// RFC 6928 section 2: an initial window of ten segments.
const INITIAL_SEGMENTS: u16 = 10;
/// No path needs more, and arithmetic on it cannot overflow.
const MAX_WINDOW: usize = 1 << 30;

/// How much may be in flight, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Payload of a full segment.
    pub mss: usize,
    /// The window.
    pub size: usize,
    /// Where slow start ends; `usize::MAX` until it is known.
    pub ssthresh: usize,
    /// Segments that a new connection may send at once.
    pub first: u16,
}

impl Window {
    /// The window of a new connection.
    pub fn new(mss: usize) -> Window {
        let mss = mss.max(1);
        let first = INITIAL_SEGMENTS;
        Window { mss, size: usize::from(first) * mss, ssthresh: usize::MAX, first }
    }

    /// What a new connection may send at once.
    pub fn initial(&self) -> usize {
        usize::from(self.first) * self.mss
    }

    /// The route says how many segments a new connection may send at once (RTAX_INITCWND).
    pub fn set_first(&mut self, segments: u16) {
        self.first = segments.max(1);
        self.size = self.initial();
    }

    /// Whether the window doubles with each round trip.
    pub fn is_slow_start(&self) -> bool {
        self.size < self.ssthresh
    }

    /// Grows the window.
    pub fn grow(&mut self, bytes: usize) {
        self.size = self.size.saturating_add(bytes).min(MAX_WINDOW);
    }

    /// Slow start, by the bytes acknowledged (RFC 3465) up to the threshold; returns those beyond it.
    pub fn slow_start(&mut self, acked: usize) -> usize {
        let grown = acked.min(self.ssthresh.saturating_sub(self.size));
        self.grow(grown);
        acked - grown
    }

    /// What reductions keep at least (RFC 5681 equation 4: "max (FlightSize / 2, 2*SMSS)").
    pub fn floor(&self) -> usize {
        2 * self.mss
    }

    /// The threshold to return to when a reduction was a mistake (Linux's tcp_current_ssthresh).
    pub fn known_threshold(&self) -> usize {
        self.ssthresh.max(self.size / 4 * 3)
    }

    /// The window counts segments: a new size of segments keeps their number, as on Linux.
    pub fn set_mss(&mut self, mss: usize) {
        let mss = mss.max(1);
        if mss == self.mss {
            return;
        }
        let rescale = |bytes: usize| (bytes / self.mss).max(1).saturating_mul(mss).min(MAX_WINDOW);
        self.size = rescale(self.size);
        if self.ssthresh != usize::MAX {
            self.ssthresh = rescale(self.ssthresh);
        }
        self.mss = mss;
    }
}
