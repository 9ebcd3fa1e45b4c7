//! Quantities as people write them: `20ms`, `10Mbit`, `1%`, `64KiB`, and bounds of them: `>= 8Mbit`.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A quantity that is written as a number with a unit, or as a plain number where that is clear.
pub trait Quantity: Copy + PartialOrd + Sized {
    /// How it is written, for messages.
    const FORM: &'static str;

    /// Reads it.
    fn read(text: &str) -> Option<Self>;

    /// Shows it.
    fn show(self) -> String;
}

/// The number before a unit, and the unit.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    number.is_finite().then(|| (number, text[end..].trim()))
}

/// A number with the largest of some units that it fills.
fn largest(number: f64, units: &[(f64, &str)]) -> String {
    let fits = units.iter().find(|(size, _)| number >= *size).or(units.last());
    let (size, unit) = fits.copied().unwrap_or((1.0, ""));
    let shown = format!("{:.2}", number / size);
    format!("{}{unit}", shown.trim_end_matches('0').trim_end_matches('.'))
}

/// A time.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Default)]
pub struct Span(pub Duration);

impl Quantity for Span {
    const FORM: &'static str = "a time such as 20ms, 1.5s or 2m";

    fn read(text: &str) -> Option<Span> {
        let (number, unit) = split(text)?;
        let second = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "" if number == 0.0 => 1.0,
            _ => return None,
        };
        Duration::try_from_secs_f64(number * second).ok().map(Span)
    }

    fn show(self) -> String {
        let units = [(60.0, "m"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs")];
        largest(self.0.as_secs_f64(), &units)
    }
}

/// Bits a second.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub struct Rate(pub f64);

impl Quantity for Rate {
    const FORM: &'static str = "a rate such as 64kbit, 10Mbit or 1Gbit (a second)";

    fn read(text: &str) -> Option<Rate> {
        let (number, unit) = split(text)?;
        let scale = match unit.strip_suffix("/s").unwrap_or(unit) {
            "bit" => 1.0,
            "kbit" | "Kbit" => 1e3,
            "Mbit" | "mbit" => 1e6,
            "Gbit" | "gbit" => 1e9,
            _ => return None,
        };
        (number > 0.0).then_some(Rate(number * scale))
    }

    fn show(self) -> String {
        largest(self.0, &[(1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1.0, "bit/s")])
    }
}

/// A part of a whole, 0 to 1.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Default)]
pub struct Share(pub f64);

impl Share {
    /// In parts per million.
    pub fn ppm(self) -> u32 {
        (self.0 * 1e6).round() as u32
    }
}

impl Quantity for Share {
    const FORM: &'static str = "a share such as 1% or 0.05%";

    fn read(text: &str) -> Option<Share> {
        let (number, unit) = split(text)?;
        (unit == "%" && number <= 100.0).then_some(Share(number / 100.0))
    }

    fn show(self) -> String {
        largest(self.0 * 100.0, &[(1.0, "%")])
    }
}

/// Bytes.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Default)]
pub struct Bytes(pub u64);

impl Quantity for Bytes {
    const FORM: &'static str = "an amount such as 500, 64KiB or 10MB";

    fn read(text: &str) -> Option<Bytes> {
        let (number, unit) = split(text)?;
        let scale = match unit {
            "" | "B" => 1.0,
            "kB" | "KB" => 1e3,
            "MB" => 1e6,
            "GB" => 1e9,
            "KiB" => 1024.0,
            "MiB" => 1024.0 * 1024.0,
            "GiB" => 1024.0 * 1024.0 * 1024.0,
            _ => return None,
        };
        let bytes = number * scale;
        (bytes <= 1e15).then_some(Bytes(bytes as u64))
    }

    fn show(self) -> String {
        largest(self.0 as f64, &[(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")])
    }
}

/// A plain number.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub struct Count(pub f64);

impl Quantity for Count {
    const FORM: &'static str = "a number";

    fn read(text: &str) -> Option<Count> {
        let (number, unit) = split(text)?;
        unit.is_empty().then_some(Count(number))
    }

    fn show(self) -> String {
        largest(self.0, &[(1.0, "")])
    }
}

/// How a value is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    Least,
    Most,
    More,
    Less,
    Same,
}

/// What a value must be: `>= 8Mbit`, `< 1%`, `= 0`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bound<Q> {
    order: Order,
    limit: Q,
}

impl<Q: Quantity> Bound<Q> {
    fn read(text: &str) -> Option<Bound<Q>> {
        let text = text.trim();
        let orders = [
            (">=", Order::Least),
            ("<=", Order::Most),
            (">", Order::More),
            ("<", Order::Less),
            ("=", Order::Same),
        ];
        let (rest, order) =
            orders.iter().find_map(|(sign, order)| Some((text.strip_prefix(sign)?, *order)))?;
        Some(Bound { order, limit: Q::read(rest)? })
    }

    /// Whether a value is within.
    pub fn holds(&self, value: Q) -> bool {
        match self.order {
            Order::Least => value >= self.limit,
            Order::Most => value <= self.limit,
            Order::More => value > self.limit,
            Order::Less => value < self.limit,
            Order::Same => value == self.limit,
        }
    }
}

impl<Q: Quantity> fmt::Display for Bound<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.order {
            Order::Least => ">=",
            Order::Most => "<=",
            Order::More => ">",
            Order::Less => "<",
            Order::Same => "=",
        };
        write!(f, "{sign} {}", self.limit.show())
    }
}

/// Reads a text, or a number that stands without quotes.
struct Words<T>(PhantomData<T>, fn(&str) -> Option<T>, &'static str);

impl<T> Visitor<'_> for Words<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.2)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        (self.1)(&number.to_string())
            .ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        (self.1)(&number.to_string())
            .ok_or_else(|| E::invalid_value(de::Unexpected::Float(number), &self))
    }
}

macro_rules! deserialize {
    ($($quantity:ty),*) => {$(
        impl<'de> Deserialize<'de> for $quantity {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_any(Words(PhantomData, Self::read, Self::FORM))
            }
        }
    )*};
}

deserialize!(Span, Rate, Share, Bytes);

impl<'de, Q: Quantity> Deserialize<'de> for Bound<Q> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let form = "a bound: one of >= <= > < = and a value with its unit";
        from.deserialize_any(Words(PhantomData, Bound::read, form))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_and_shown() {
        assert_eq!(Span::read("20ms"), Some(Span(Duration::from_millis(20))));
        assert_eq!(Span::read("1.5 s").map(Quantity::show), Some("1.5s".into()));
        assert_eq!(Rate::read("10Mbit"), Some(Rate(1e7)));
        assert_eq!(Rate(1.5e9).show(), "1.5Gbit/s");
        assert_eq!(Share::read("0.05%").map(Share::ppm), Some(500));
        assert_eq!(Bytes::read("64KiB"), Some(Bytes(65_536)));
        for wrong in ["", "ms", "-1s", "1e400s", "20", "1.2.3s", "99999999999999999999h"] {
            assert_eq!(Span::read(wrong), None, "{wrong}");
        }
        assert_eq!(
            (Share::read("101%"), Rate::read("0Mbit"), Bytes::read("1PB")),
            (None, None, None)
        );
    }

    #[test]
    fn bounds_are_kept_to() {
        let bound = Bound::<Rate>::read(">= 8Mbit").unwrap();
        assert!(bound.holds(Rate(8e6)) && !bound.holds(Rate(7.9e6)));
        assert_eq!(bound.to_string(), ">= 8Mbit/s");
        assert!(Bound::<Count>::read("= 0").unwrap().holds(Count(0.0)));
        assert_eq!(Bound::<Count>::read("0"), None);
    }
}
