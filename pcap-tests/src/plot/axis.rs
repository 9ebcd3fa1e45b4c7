//! Axes: a range, and round numbers on it.

/// A range of values with the places of its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    pub from: f64,
    pub to: f64,
    step: f64,
}

impl Axis {
    /// An axis with about `labels` round labels.
    pub fn new(from: f64, to: f64, labels: u32) -> Self {
        let to = if to > from { to } else { from + 1.0 };
        let raw = (to - from) / f64::from(labels.max(1));
        let power = 10_f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power);
        let step = step.into_iter().find(|step| *step >= raw).unwrap_or(raw);
        Self { from, to, step }
    }

    /// Values of the labels, with their texts.
    pub fn labels(&self) -> Vec<(f64, String)> {
        let first = (self.from / self.step).ceil() as i64;
        let last = (self.to / self.step).floor() as i64;
        (first..=last).map(|n| n as f64 * self.step).map(|v| (v, self.text(v))).collect()
    }

    fn text(&self, value: f64) -> String {
        if value == 0.0 {
            return "0".into();
        }
        let (unit, name) = match self.to.abs() {
            to if to >= 2e9 => (1e9, "G"),
            to if to >= 2e6 => (1e6, "M"),
            to if to >= 2e4 => (1e3, "k"),
            _ => (1.0, ""),
        };
        let decimals = (-(self.step / unit).log10().floor()).clamp(0.0, 9.0) as usize;
        format!("{:.decimals$}{name}", value / unit)
    }

    /// Where a value lies, from 0 to 1; what is outside lies on the edge.
    pub fn place(&self, value: f64) -> f64 {
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(from: f64, to: f64) -> Vec<String> {
        Axis::new(from, to, 5).labels().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn labels_are_round_and_short() {
        assert_eq!(texts(0.0, 10.0), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(texts(0.0, 0.04), ["0", "0.01", "0.02", "0.03", "0.04"]);
        assert_eq!(texts(0.0, 5e6), ["0", "1M", "2M", "3M", "4M", "5M"]);
        assert_eq!(texts(3.0, 3.0).len(), 6);
        assert_eq!(Axis::new(0.0, 2.0, 4).place(9.0), 1.0);
    }
}
