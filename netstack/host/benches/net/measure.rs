//! Clocks, interleaved runs, medians and the line of JSON that each metric gives.

use nix::time::{ClockId, clock_gettime};

/// How often everything is measured.
#[derive(Clone, Copy)]
pub struct Runs(pub usize);

/// Which way a ratio is good.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// A bar is a least value.
    Higher,
    /// A bar is a most value.
    Lower,
}

/// A row of the table.
pub struct Metric {
    pub name: &'static str,
    pub unit: &'static str,
    /// What it is compared with; empty where the figure itself has the bar.
    pub reference: &'static str,
    pub better: Better,
    pub bar: f64,
    pub stretch: f64,
    pub measure: Box<dyn Fn(Runs) -> Samples>,
}

/// What the runs gave: ours, and the reference where there is one.
pub struct Samples {
    ours: Vec<f64>,
    reference: Vec<f64>,
}

impl Runs {
    /// Measures ours and the reference in turn.
    pub fn pairs(
        self,
        mut ours: impl FnMut() -> f64,
        mut reference: impl FnMut() -> f64,
    ) -> Samples {
        let mut samples = Samples { ours: Vec::new(), reference: Vec::new() };
        for _ in 0..self.0 {
            samples.reference.push(reference());
            samples.ours.push(ours());
        }
        samples
    }

    /// Measures something that has no reference.
    pub fn alone(self, mut ours: impl FnMut() -> f64) -> Samples {
        Samples { ours: (0..self.0).map(|_| ours()).collect(), reference: Vec::new() }
    }
}

impl Samples {
    /// What was measured elsewhere; without a reference where there is none.
    pub fn of(ours: Vec<f64>, reference: Vec<f64>) -> Samples {
        Samples { ours, reference }
    }

    /// One line, as `scripts/bench` prints and reads it. The ratio is the median of the runs' ratios.
    pub fn to_json(&self, metric: &Metric) -> String {
        let ratios: Vec<f64> = match self.reference.is_empty() {
            true => self.ours.clone(),
            false => {
                self.ours.iter().zip(&self.reference).map(|(ours, than)| ours / than).collect()
            }
        };
        let ratio = median(&ratios);
        let holds = |bar: f64| match metric.better {
            Better::Higher => ratio >= bar,
            Better::Lower => ratio <= bar,
        };
        let number =
            |value: Option<f64>| value.map_or("null".into(), |value| format!("{value:.4}"));
        let spread = |values: &[f64]| {
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            format!("[{low:.4}, {high:.4}]")
        };
        let compared = !self.reference.is_empty();
        let native = compared.then(|| median(&self.reference));
        let mut spreads = format!("\"ours\": {}", spread(&self.ours));
        if compared {
            spreads += &format!(
                ", \"native\": {}, \"ratio\": {}",
                spread(&self.reference),
                spread(&ratios)
            );
        }
        format!(
            "{{\"group\": \"net\", \"metric\": \"{}\", \"unit\": \"{}\", \"ours\": {}, \"native\": {}, \"peer\": null, \"peer_name\": null, \
             \"reference\": \"{}\", \"ratio\": {}, \"better\": \"{}\", \"bar\": {}, \"stretch\": {}, \"holds\": {}, \"holds_stretch\": {}, \"spread\": {{{spreads}}}}}",
            metric.name,
            metric.unit,
            number(Some(median(&self.ours))),
            number(native),
            metric.reference,
            number(compared.then_some(ratio)),
            if metric.better == Better::Higher { "higher" } else { "lower" },
            metric.bar,
            metric.stretch,
            holds(metric.bar),
            holds(metric.stretch),
        )
    }
}

/// The middle value.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// CPU time of this thread so far, in seconds.
pub fn cpu() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the thread's CPU clock");
    time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9
}

/// Gbit/s of so many bytes in so many seconds.
pub fn gbits(bytes: usize, seconds: f64) -> f64 {
    bytes as f64 * 8.0 / 1e9 / seconds
}
