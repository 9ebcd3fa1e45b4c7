//! One conversation of a script: its ports, and how the script's numbers and the kernel's are mapped onto each other.

use std::collections::HashMap;
use std::time::Duration;

use super::syntax::{Cookie, Tcp, TcpOption};
use super::wire::SentTcp;
use crate::packet::{ACK, RST, SYN};

/// A conversation. The other side's numbers are the script's own; the kernel's are shifted.
#[derive(Debug, Default)]
pub struct Flow {
    /// Our port, once it is known.
    pub local: Option<u16>,
    /// The other side's.
    pub remote: u16,
    /// To be added to the script's numbers of our side.
    shift: Option<u32>,
    /// The sequence number of the other side's last SYN.
    syn: Option<u32>,
    /// Another SYN came: an answer to it begins our numbers anew.
    may_restart: bool,
    /// The kernel's timestamp for each of the script's.
    stamps: HashMap<u32, u32>,
    /// The first of those, and when it was sent.
    first_stamp: Option<(u32, u32, Duration)>,
    /// Cookies of fast open by their names.
    cookies: HashMap<String, Vec<u8>>,
}

/// Timestamps of a script, at most.
const MAX_STAMPS: usize = 65_536;

/// The byte at an offset of every stream and datagram.
pub fn pattern(offset: u64) -> u8 {
    // No power of two: pieces that are swapped differ.
    (offset % 251) as u8
}

/// Bytes of a stream from an offset on.
pub fn payload(offset: u64, len: usize) -> Vec<u8> {
    (offset..).take(len).map(pattern).collect()
}

impl Flow {
    /// A conversation between these ports.
    pub fn new(local: Option<u16>, remote: u16) -> Flow {
        Flow { local, remote, ..Flow::default() }
    }

    /// The kernel's number for one of the script's.
    pub fn to_kernel(&self, number: u32) -> u32 {
        number.wrapping_add(self.shift.unwrap_or(0))
    }

    fn to_script(&self, number: u32) -> u32 {
        number.wrapping_sub(self.shift.unwrap_or(0))
    }

    /// Takes in a segment of the other side before it is built.
    pub fn arrives(&mut self, tcp: &Tcp) {
        if tcp.flags & (SYN | ACK | RST) == SYN {
            self.may_restart |= self.syn.is_some_and(|seq| seq != tcp.seq);
            self.syn = Some(tcp.seq);
        }
    }

    /// The options of a segment of the other side with the kernel's numbers.
    pub fn options_to_kernel(&self, options: &[TcpOption]) -> Vec<TcpOption> {
        let edge = |number: &u32| self.to_kernel(*number);
        let cookie = |cookie: &Cookie| match cookie {
            Cookie::Named(name) => {
                Cookie::Bytes(self.cookies.get(name).cloned().unwrap_or_default())
            }
            known => known.clone(),
        };
        let map = |option: &TcpOption| match option {
            TcpOption::Sack(blocks) => {
                TcpOption::Sack(blocks.iter().map(|(from, to)| (edge(from), edge(to))).collect())
            }
            TcpOption::Timestamps { val, ecr } => {
                TcpOption::Timestamps { val: *val, ecr: self.stamp_to_kernel(*ecr) }
            }
            TcpOption::FastOpen(named) => TcpOption::FastOpen(cookie(named)),
            TcpOption::FastOpenExperimental(named) => {
                TcpOption::FastOpenExperimental(cookie(named))
            }
            other => other.clone(),
        };
        options.iter().map(map).collect()
    }

    /// The kernel's timestamp for one of the script's: the same one, or as far from the first.
    fn stamp_to_kernel(&self, stamp: u32) -> u32 {
        match (self.stamps.get(&stamp), self.first_stamp) {
            (Some(known), _) => *known,
            (None, Some((script, kernel, _))) => stamp.wrapping_sub(script).wrapping_add(kernel),
            (None, None) => stamp,
        }
    }

    /// A segment of the kernel with the script's numbers. `expected` teaches the numbers that are not known yet.
    pub fn learn_tcp(&mut self, sent: &SentTcp, expected: Option<&Tcp>, at: Duration) -> Tcp {
        if let Some(expected) = expected.filter(|tcp| tcp.flags & sent.flags & SYN != 0)
            && (self.shift.is_none() || self.may_restart)
        {
            self.shift = Some(sent.seq.wrapping_sub(expected.seq));
            self.may_restart = false;
        }
        // RFC 9293 section 3.10.7.1: a reset for what has no acknowledgment begins at zero.
        let seq = match sent.seq {
            0 if sent.flags & RST != 0 => 0,
            // A reset for what has no connection: the number is the other side's acknowledgment.
            seq => self.to_script(seq),
        };
        let wanted = expected.and_then(|tcp| tcp.options.as_deref()).unwrap_or_default();
        let options = sent.options.iter().enumerate();
        let options = options.map(|(n, option)| self.learn_option(option, wanted.get(n), at));
        Tcp {
            ports: None,
            flags: sent.flags,
            seq,
            len: sent.payload.len() as u32,
            ack: (sent.flags & ACK != 0).then_some(sent.ack),
            window: Some(sent.window),
            urgent: (sent.flags & crate::packet::URG != 0).then_some(sent.urgent),
            options: Some(options.collect()),
        }
    }

    /// Acknowledgments and SACK blocks of the kernel are the other side's numbers: those of the script.
    fn learn_option(
        &mut self,
        option: &TcpOption,
        wanted: Option<&TcpOption>,
        at: Duration,
    ) -> TcpOption {
        match (option, wanted) {
            (
                TcpOption::Timestamps { val, ecr },
                Some(TcpOption::Timestamps { val: wanted, .. }),
            ) => {
                if self.stamps.len() < MAX_STAMPS {
                    self.stamps.insert(*wanted, *val);
                }
                self.first_stamp.get_or_insert((*wanted, *val, at));
                // Its own value is looked at apart from this: by the clock.
                TcpOption::Timestamps { val: *wanted, ecr: *ecr }
            }
            (TcpOption::FastOpen(found), Some(TcpOption::FastOpen(wanted))) => {
                TcpOption::FastOpen(self.learn_cookie(found, wanted))
            }
            (
                TcpOption::FastOpenExperimental(found),
                Some(TcpOption::FastOpenExperimental(wanted)),
            ) => TcpOption::FastOpenExperimental(self.learn_cookie(found, wanted)),
            _ => option.clone(),
        }
    }

    /// The first cookie under a name is that cookie.
    fn learn_cookie(&mut self, found: &Cookie, wanted: &Cookie) -> Cookie {
        match (found, wanted) {
            (Cookie::Bytes(bytes), Cookie::Named(name)) if !bytes.is_empty() => {
                let known = self.cookies.entry(name.clone()).or_insert_with(|| bytes.clone());
                if known == bytes { wanted.clone() } else { found.clone() }
            }
            _ => found.clone(),
        }
    }

    /// How many ticks the kernel's timestamp is away from what the script says, counted from the first one.
    pub fn stamp_error(&self, script: u32) -> i32 {
        match (self.first_stamp, self.stamps.get(&script)) {
            (Some((first, kernel, _)), Some(stamp)) => {
                stamp.wrapping_sub(kernel).wrapping_sub(script.wrapping_sub(first)) as i32
            }
            _ => 0,
        }
    }

    /// The first byte of a segment that is not what programs wrote. Sequence number 1 is the first byte of the stream.
    pub fn wrong_byte(&self, sent: &SentTcp) -> Option<u64> {
        let first =
            u64::from(self.to_script(sent.seq).wrapping_add(u32::from(sent.flags & SYN != 0)));
        let first = first.checked_sub(1)?;
        let mut wrong = (first..).zip(&sent.payload).filter(|(at, byte)| pattern(*at) != **byte);
        wrong.next().map(|(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(flags: u16, seq: u32, options: Vec<TcpOption>) -> SentTcp {
        SentTcp {
            from: 1,
            to: 2,
            seq,
            ack: 1,
            flags,
            window: 9,
            urgent: 0,
            options,
            payload: payload(0, 3),
        }
    }

    fn expected(flags: u16, options: Vec<TcpOption>) -> Tcp {
        let mut flow = Flow::new(None, 1);
        Tcp {
            options: Some(options),
            ..flow.learn_tcp(&sent(flags, 0, vec![]), None, Duration::ZERO)
        }
    }

    #[test]
    fn the_first_syn_teaches_the_numbers() {
        let mut flow = Flow::new(None, 1);
        let wanted = expected(SYN | ACK, vec![]);
        let first = flow.learn_tcp(&sent(SYN | ACK, 7000, vec![]), Some(&wanted), Duration::ZERO);
        assert_eq!((first.seq, flow.to_kernel(1)), (0, 7001));
        // Sent again with another number: that is seen.
        let again = flow.learn_tcp(&sent(SYN | ACK, 7005, vec![]), Some(&wanted), Duration::ZERO);
        assert_eq!(again.seq, 5);
        // The answer to another SYN begins anew.
        for seq in [0, 9] {
            flow.arrives(&Tcp { seq, ..expected(SYN, vec![]) });
        }
        let anew = flow.learn_tcp(&sent(SYN | ACK, 99, vec![]), Some(&wanted), Duration::ZERO);
        assert_eq!((anew.seq, flow.to_kernel(1)), (0, 100));
    }

    #[test]
    fn stamps_and_cookies_are_known_again() {
        let mut flow = Flow::new(None, 1);
        let stamp = |val| TcpOption::Timestamps { val, ecr: 5 };
        let cookie = |name: &str| TcpOption::FastOpen(Cookie::Named(name.into()));
        let bytes = |byte| TcpOption::FastOpen(Cookie::Bytes(vec![byte; 8]));
        let wanted = expected(SYN | ACK, vec![stamp(100), cookie("C")]);
        let first = sent(SYN | ACK, 7, vec![stamp(9000), bytes(3)]);
        assert_eq!(flow.learn_tcp(&first, Some(&wanted), Duration::ZERO).options, wanted.options);
        let options = [TcpOption::Timestamps { val: 5, ecr: 100 }, cookie("C")];
        let kernel = flow.options_to_kernel(&options);
        assert_eq!(kernel, [TcpOption::Timestamps { val: 5, ecr: 9000 }, bytes(3)]);
        // Ten ticks later by the script, and eleven by the kernel.
        let wanted = expected(ACK, vec![stamp(110), cookie("C")]);
        let later = sent(ACK, 8, vec![stamp(9011), bytes(4)]);
        let later = flow.learn_tcp(&later, Some(&wanted), Duration::ZERO);
        assert_eq!(later.options, Some(vec![stamp(110), bytes(4)]));
        assert_eq!((flow.stamp_error(110), flow.stamp_error(100)), (1, 0));
    }

    #[test]
    fn bytes_that_nobody_wrote_are_found() {
        let mut flow = Flow::new(None, 1);
        let wanted = expected(SYN, vec![]);
        flow.learn_tcp(&sent(SYN, 41, vec![]), Some(&wanted), Duration::ZERO);
        let mut segment = sent(ACK, 42, vec![]);
        assert_eq!(flow.wrong_byte(&segment), None);
        segment.payload[2] = 0;
        assert_eq!(flow.wrong_byte(&segment), Some(2));
    }
}
