//! Counters of what programs asked for and did not get, each named once in the log.

use std::collections::BTreeMap;

use crate::sync::{Mutex, Rank};

/// Counts by name.
#[derive(Default)]
pub struct Stats {
    unsupported: Names,
}

struct Names(Mutex<BTreeMap<String, u64>>);

impl Default for Names {
    fn default() -> Self {
        Self(Mutex::new(Rank::LEAF, BTreeMap::new()))
    }
}

/// Whether a thing was counted before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// This is the first time: say it in the log.
    First,
    /// It was said.
    Before,
}

/// The most different names that are kept; a program can make up more.
const MOST_NAMES: usize = 4096;

impl Stats {
    /// Counts something unsupported, such as `syscall 425` or `ioctl 0x1234`.
    pub fn count_unsupported(&self, what: &str) -> Seen {
        let mut names = self.unsupported.0.lock();
        if let Some(count) = names.get_mut(what) {
            *count += 1;
            return Seen::Before;
        }
        if names.len() >= MOST_NAMES {
            return Seen::Before;
        }
        names.insert(what.to_owned(), 1);
        Seen::First
    }

    /// All counts, by name.
    pub fn unsupported(&self) -> Vec<(String, u64)> {
        self.unsupported.0.lock().iter().map(|(name, n)| (name.clone(), *n)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_first_once_and_names_are_bounded() {
        let stats = Stats::default();
        assert_eq!(stats.count_unsupported("a"), Seen::First);
        assert_eq!(stats.count_unsupported("a"), Seen::Before);
        for n in 0..2 * MOST_NAMES {
            stats.count_unsupported(&n.to_string());
        }
        assert_eq!(stats.unsupported().len(), MOST_NAMES);
    }
}
