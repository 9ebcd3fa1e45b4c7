//! TCP options of a segment, as far as an analysis wants them.

use std::fmt;

/// Options of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Maximum segment size in bytes.
    pub mss: Option<u16>,
    /// Shift of the window.
    pub window_scale: Option<u8>,
    /// SACK permitted.
    pub sack_permitted: bool,
    /// Value and echo of the timestamp.
    pub timestamps: Option<(u32, u32)>,
    /// SACK blocks; the first `sack_len` count.
    sack: [(u32, u32); 4],
    sack_len: u8,
    /// Fast Open: length of the cookie in bytes.
    pub fast_open: Option<u8>,
    /// Accurate ECN counters.
    pub acc_ecn: bool,
    /// Multipath TCP.
    pub multipath: bool,
    /// Options of other kinds.
    pub others: u8,
    /// A length contradicts the header: what follows was not read.
    pub malformed: bool,
}

impl TcpOptions {
    /// Reads the bytes between the fixed header and the payload.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut options = Self::default();
        options.read(bytes);
        options
    }

    /// Adds what stands in the bytes between the fixed header and the payload.
    #[inline]
    pub(super) fn read(&mut self, bytes: &[u8]) {
        // RFC 7323, appendix A: the layout that timestamps alone have in every segment.
        if let ([[1, 1, 8, 10], value, echo], []) = bytes.as_chunks::<4>() {
            self.timestamps = Some((u32::from_be_bytes(*value), u32::from_be_bytes(*echo)));
        } else if !bytes.is_empty() {
            self.read_all(bytes);
        }
    }

    fn read_all(&mut self, mut bytes: &[u8]) {
        while let [kind, rest @ ..] = bytes {
            match kind {
                0 => break,
                1 => bytes = rest,
                _ => {
                    let len = rest.first().map_or(0, |len| usize::from(*len));
                    let Some((option, rest)) = bytes.split_at_checked(len).filter(|_| len >= 2)
                    else {
                        self.malformed = true;
                        break;
                    };
                    self.add(*kind, &option[2..]);
                    bytes = rest;
                }
            }
        }
    }

    fn add(&mut self, kind: u8, value: &[u8]) {
        let word = |at: usize| {
            u32::from_be_bytes([value[at], value[at + 1], value[at + 2], value[at + 3]])
        };
        match (kind, value.len()) {
            (2, 2) => self.mss = Some(u16::from_be_bytes([value[0], value[1]])),
            (3, 1) => self.window_scale = Some(value[0]),
            (4, 0) => self.sack_permitted = true,
            (5, 8 | 16 | 24 | 32) => {
                for at in (0..value.len()).step_by(8) {
                    self.sack[at / 8] = (word(at), word(at + 4));
                }
                self.sack_len = (value.len() / 8) as u8;
            }
            (8, 8) => self.timestamps = Some((word(0), word(4))),
            (30, _) => self.multipath = true,
            (34, len) => self.fast_open = Some(len as u8),
            (172 | 174, _) => self.acc_ecn = true,
            (2..=5 | 8, _) => self.malformed = true,
            _ => self.others = self.others.saturating_add(1),
        }
    }

    /// Whether there are no SACK blocks, and nothing contradicts itself.
    pub fn is_quiet(&self) -> bool {
        self.sack_len == 0 && !self.malformed
    }

    /// Left and right edges of the SACK blocks, in the order of the segment.
    pub fn sack(&self) -> &[(u32, u32)] {
        &self.sack[..usize::from(self.sack_len)]
    }
}

/// As tcpdump names them.
impl fmt::Display for TcpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        words.extend(self.mss.map(|mss| format!("mss {mss}")));
        words.extend(self.window_scale.map(|shift| format!("wscale {shift}")));
        words.extend(self.sack_permitted.then(|| "sackOK".into()));
        words.extend(self.timestamps.map(|_| "TS".into()));
        words.extend(self.fast_open.map(|len| format!("TFO {len}")));
        words.extend(self.acc_ecn.then(|| "AccECN".into()));
        words.extend(self.multipath.then(|| "MPTCP".into()));
        f.write_str(&if words.is_empty() { "none".into() } else { words.join(" ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syns_options_are_read() {
        let options = TcpOptions::parse(&[
            2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 0, 1, 3, 3, 9, 34, 2,
        ]);
        let expected = TcpOptions {
            mss: Some(1460),
            window_scale: Some(9),
            sack_permitted: true,
            timestamps: Some((7, 0)),
            fast_open: Some(0),
            ..TcpOptions::default()
        };
        assert_eq!(options, expected);
    }

    #[test]
    fn lengths_that_lie_are_told_and_end_the_list() {
        for bytes in [&[2][..], &[2, 0], &[2, 1], &[2, 5, 0, 0], &[3, 2], &[5, 7, 0, 0, 0, 0, 0]] {
            assert!(TcpOptions::parse(bytes).malformed, "{bytes:?}");
        }
        let sack = TcpOptions::parse(&[1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9]);
        assert_eq!(sack.sack(), [(1, 9)]);
        assert!(!TcpOptions::parse(&[0, 2, 0]).malformed);
    }
}
