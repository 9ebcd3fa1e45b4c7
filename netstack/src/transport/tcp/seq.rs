//! Sequence numbers: 32-bit arithmetic modulo 2^32 (RFC 9293 section 3.4).

use core::cmp::Ordering;
use core::ops::{Add, AddAssign, Sub};

/// A point of the sequence space. Comparison is by signed distance and so is meaningful only between
/// points less than 2^31 apart, which all numbers of one connection are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seq(pub u32);

impl Seq {
    /// Bytes from `earlier` to `self`; 0 if `earlier` is in fact later.
    pub fn since(self, earlier: Seq) -> usize {
        (self - earlier).max(0) as usize
    }

    /// The later of two.
    pub fn max(self, other: Seq) -> Seq {
        if self >= other { self } else { other }
    }

    /// The earlier of two.
    pub fn min(self, other: Seq) -> Seq {
        if self <= other { self } else { other }
    }
}

impl PartialOrd for Seq {
    fn partial_cmp(&self, other: &Seq) -> Option<Ordering> {
        Some((*self - *other).cmp(&0))
    }
}

impl Add<usize> for Seq {
    type Output = Seq;
    fn add(self, bytes: usize) -> Seq {
        Seq(self.0.wrapping_add(bytes as u32))
    }
}

impl AddAssign<usize> for Seq {
    fn add_assign(&mut self, bytes: usize) {
        *self = *self + bytes;
    }
}

impl Sub<usize> for Seq {
    type Output = Seq;
    fn sub(self, bytes: usize) -> Seq {
        Seq(self.0.wrapping_sub(bytes as u32))
    }
}

impl Sub<Seq> for Seq {
    type Output = i32;
    fn sub(self, other: Seq) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let before = Seq(u32::MAX - 1);
        let after = before + 3;
        assert_eq!(after, Seq(1));
        assert!(before < after);
        assert_eq!(after - before, 3);
        assert_eq!(after.since(before), 3);
        assert_eq!(before.since(after), 0);
        assert_eq!(before.max(after), after);
        assert_eq!(before.min(after), before);
        assert_eq!(after - 3usize, before);
    }
}
