//! The clocks of capture files: units and offsets.

use std::time::Duration;

use pcap_file::TsResolution;

/// Time of a pcap record. A fraction of a second or more is carried over.
pub fn of_pcap(seconds: u32, fraction: u32, resolution: TsResolution) -> Duration {
    let seconds = u64::from(seconds);
    match resolution {
        TsResolution::MicroSecond => {
            let (more, micros) = (fraction / 1_000_000, fraction % 1_000_000);
            Duration::new(seconds + u64::from(more), micros * 1000)
        }
        TsResolution::NanoSecond => Duration::new(seconds, fraction),
    }
}

/// Time of a pcapng record: `raw` units of if_tsresol (the highest bit: a power of two, else of ten), plus if_tsoffset in seconds.
/// What lies before the epoch is the epoch.
pub fn of_pcapng(raw: u64, resolution: u8, offset_secs: i64) -> Duration {
    let exponent = u32::from(resolution & 0x7f);
    let nanos = match resolution & 0x80 {
        0 if exponent <= 9 => u128::from(raw) * 10_u128.pow(9 - exponent),
        0 => 10_u128.checked_pow(exponent - 9).map_or(0, |unit| u128::from(raw) / unit),
        _ if exponent < 64 => (u128::from(raw) * 1_000_000_000) >> exponent,
        _ => 0,
    };
    let nanos = nanos as i128 + i128::from(offset_secs) * 1_000_000_000;
    let nanos = u128::try_from(nanos).unwrap_or(0);
    let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
    Duration::new(seconds, (nanos % 1_000_000_000) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_ten_or_of_two() {
        assert_eq!(of_pcapng(1_500_000, 6, 0), Duration::from_millis(1500));
        assert_eq!(of_pcapng(1_500_000_000, 9, 1), Duration::from_millis(2500));
        assert_eq!(of_pcapng(3 << 9, 0x80 | 10, 0), Duration::from_millis(1500));
        assert_eq!(of_pcapng(7, 0, -9), Duration::ZERO);
        assert_eq!(of_pcapng(15, 10, 0), Duration::from_nanos(1));
    }

    #[test]
    fn no_unit_or_offset_overflows() {
        for resolution in 0..=255 {
            for offset in [i64::MIN, -1, 0, i64::MAX] {
                let _ = of_pcapng(u64::MAX, resolution, offset);
            }
        }
        assert_eq!(of_pcap(1, u32::MAX, TsResolution::NanoSecond).as_secs(), 5);
    }
}
