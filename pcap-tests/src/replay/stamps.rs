//! Timestamps of a conversation: which stamp of the stack stands for a recorded one.

use std::collections::VecDeque;
use std::time::Duration;

/// Stamps that are remembered on either side.
const MAX: usize = 4096;

/// Those of a short conversation.
const FEW: usize = 8;

/// Stamps with the times at which they came first.
#[derive(Default)]
struct Seen(VecDeque<(u32, Duration)>);

impl Seen {
    fn add(&mut self, value: u32, time: Duration) {
        if self.0.back().is_some_and(|(last, _)| *last == value) {
            return;
        }
        match self.0.len() {
            0 => self.0.reserve(FEW),
            MAX => drop(self.0.pop_front()),
            _ => {}
        }
        self.0.push_back((value, time));
    }
}

/// Those that our side sent in the record, and those of the stack.
#[derive(Default)]
pub struct Stamps {
    recorded: Seen,
    sent: Seen,
}

impl Stamps {
    /// Our side sent this in the record.
    pub fn recorded(&mut self, value: u32, time: Duration) {
        self.recorded.add(value, time);
    }

    /// The stack sent this.
    pub fn sent(&mut self, value: u32, time: Duration) {
        self.sent.add(value, time);
    }

    /// What the other side echoes to the stack for a recorded stamp: the latest that was sent when that one was.
    pub fn echo(&self, recorded: u32) -> u32 {
        let (Seen(record), Seen(sent)) = (&self.recorded, &self.sent);
        let value = |stamp: Option<&(u32, Duration)>| stamp.map_or(0, |(value, _)| *value);
        let Some(at) = record.iter().rposition(|(value, _)| *value == recorded) else {
            return if recorded == 0 { 0 } else { value(sent.back()) };
        };
        let when = record[at].1;
        let found = sent.iter().rev().find(|(_, time)| *time <= when);
        value(found.or(sent.front()))
    }
}
