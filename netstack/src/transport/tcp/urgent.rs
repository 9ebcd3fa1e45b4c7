//! Urgent data as Linux treats it (RFC 6093; the pointer as in tcp_stdurg 0): the last byte before the urgent
//! pointer is the urgent one, taken out of the stream unless SO_OOBINLINE is set.

use super::seq::Seq;

/// The urgent byte, if it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UrgentByte {
    /// Nobody announced one, or all is read past it.
    #[default]
    None,
    /// It was announced.
    Awaited,
    /// It is here.
    Here(u8),
    /// The program took it.
    Taken,
}

/// Why there is no urgent byte to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoUrgent {
    /// None was announced, it was read already, or it stands in the stream (EINVAL).
    Nothing,
    /// It is on its way (EAGAIN).
    NotYet,
}

/// The urgent mark of the receiving half.
#[derive(Clone, Copy, Debug, Default)]
pub struct Urgent {
    byte: UrgentByte,
    at: Seq,
}

impl Urgent {
    /// Where the mark is, while there is one.
    pub fn mark(&self) -> Option<Seq> {
        (self.byte != UrgentByte::None).then_some(self.at)
    }

    /// Whether an urgent byte waits to be taken (POLLPRI).
    pub fn is_here(&self) -> bool {
        matches!(self.byte, UrgentByte::Here(_))
    }

    /// A segment at `seq` announces urgent data up to `pointer` bytes on; `read` and `next` are how far the program
    /// and the stream are. Answers whether it is news (SIGURG).
    pub fn announce(&mut self, seq: Seq, pointer: u16, read: Seq, next: Seq) -> bool {
        // RFC 6093 section 3.1: "all the popular implementations interpret the urgent pointer as pointing to the octet
        // following the urgent data".
        let at = seq + usize::from(pointer.saturating_sub(1));
        let known = self.byte != UrgentByte::None && at <= self.at;
        if known || at < read || at < next {
            return false;
        }
        self.at = at;
        self.byte = UrgentByte::Awaited;
        true
    }

    /// Data at `seq` came; `byte_at` gives the byte at an offset of it. Answers whether the urgent byte is in it.
    pub fn arrived(
        &mut self,
        seq: Seq,
        len: usize,
        byte_at: impl FnOnce(usize) -> Option<u8>,
    ) -> bool {
        if self.byte != UrgentByte::Awaited || self.at < seq {
            return false;
        }
        let offset = self.at.since(seq);
        match (offset < len).then(|| byte_at(offset)).flatten() {
            Some(byte) => {
                self.byte = UrgentByte::Here(byte);
                true
            }
            None => false,
        }
    }

    /// The urgent byte, for a look (MSG_PEEK).
    pub fn peek(&self) -> Result<u8, NoUrgent> {
        match self.byte {
            UrgentByte::Here(byte) => Ok(byte),
            UrgentByte::Awaited => Err(NoUrgent::NotYet),
            UrgentByte::None | UrgentByte::Taken => Err(NoUrgent::Nothing),
        }
    }

    /// The urgent byte, taken (MSG_OOB).
    pub fn take(&mut self) -> Result<u8, NoUrgent> {
        let byte = self.peek()?;
        self.byte = UrgentByte::Taken;
        Ok(byte)
    }

    /// The program has read up to `read`: a mark before that is gone.
    pub fn on_read(&mut self, read: Seq) {
        if self.mark().is_some_and(|at| at < read) {
            self.byte = UrgentByte::None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_before_the_pointer_is_urgent_and_a_later_mark_replaces_it() {
        let mut urgent = Urgent::default();
        let (read, next) = (Seq(100), Seq(100));
        assert_eq!(urgent.take(), Err(NoUrgent::Nothing));
        assert!(urgent.announce(Seq(100), 3, read, next));
        assert_eq!((urgent.mark(), urgent.take()), (Some(Seq(102)), Err(NoUrgent::NotYet)));
        assert!(!urgent.announce(Seq(100), 3, read, next), "the same mark is no news");
        assert!(!urgent.arrived(Seq(100), 2, |_| Some(b'x')));
        assert!(urgent.arrived(Seq(102), 5, |at| Some(b"abcde"[at])));
        assert_eq!((urgent.peek(), urgent.is_here()), (Ok(b'a'), true));
        assert_eq!((urgent.take(), urgent.take()), (Ok(b'a'), Err(NoUrgent::Nothing)));
        assert_eq!(urgent.mark(), Some(Seq(102)), "the mark stays until it is read past");
        assert!(urgent.announce(Seq(105), 9, read, Seq(107)));
        urgent.on_read(Seq(113));
        assert_eq!(urgent.mark(), Some(Seq(113)));
        urgent.on_read(Seq(114));
        assert_eq!(urgent.mark(), None);
        assert!(!urgent.announce(Seq(90), 2, Seq(114), Seq(120)), "read long ago");
    }
}
