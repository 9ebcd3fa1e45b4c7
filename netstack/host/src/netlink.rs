//! Netlink (netlink(7)) as a client of the host's kernel: requests, dumps and notices. What the messages say is not known here.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
    setsockopt, socket, sockopt,
};

/// Asks.
pub const NLM_F_REQUEST: u16 = 1;
/// Asks for an acknowledgment.
pub const NLM_F_ACK: u16 = 4;
/// Asks for all there is.
pub const NLM_F_DUMP: u16 = 0x300;
/// What it makes must not be there.
pub const NLM_F_EXCL: u16 = 0x200;
/// Makes what is not there.
pub const NLM_F_CREATE: u16 = 0x400;
/// A dump met a change: it must be asked for again.
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// struct nlmsghdr
const HEADER: usize = 16;
/// The kernel fills datagrams of a dump up to 32 KiB.
const DATAGRAM: usize = 64 << 10;
/// How often a dump is asked for again that changes while it is told.
const ATTEMPTS: usize = 16;
/// Bytes of notices that wait to be read.
const NOTICES: usize = 1 << 20;

/// One message: its type, and all of its bytes with the header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// nlmsg_type
    pub kind: u16,
    flags: u16,
    seq: u32,
    /// Header, fixed part and attributes.
    pub bytes: Vec<u8>,
}

impl Message {
    /// What follows the header.
    pub fn body(&self) -> &[u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }

    /// The errno of an NLMSG_ERROR, 0 for an acknowledgment.
    fn error(&self) -> Option<i32> {
        let code = self.body().first_chunk().map(|bytes| i32::from_ne_bytes(*bytes))?;
        (self.kind == NLMSG_ERROR).then_some(code.saturating_neg())
    }
}

/// The messages of a datagram.
fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let mut all = Vec::new();
    while let Some((header, _)) = bytes.split_first_chunk::<HEADER>() {
        let word = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let len = word(0) as usize;
        let Some(message) = bytes.get(..len).filter(|_| len >= HEADER) else { break };
        all.push(Message { kind: half(4), flags: half(6), seq: word(8), bytes: message.to_vec() });
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

/// The attributes behind a fixed part, as (number without flags, value).
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (header, _) = bytes.split_first_chunk::<4>()?;
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of a number.
pub fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// A value as a number of 32 bits in the host's order.
pub fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// A value as text up to its first zero byte.
pub fn text(value: &[u8]) -> String {
    let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// Adds an attribute.
pub fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// A request of a batch: type, flags beside NLM_F_REQUEST, and what follows the header.
pub struct Request {
    /// nlmsg_type
    pub kind: u16,
    /// nlmsg_flags
    pub flags: u16,
    /// Fixed part and attributes.
    pub body: Vec<u8>,
}

/// A netlink socket.
pub struct Socket {
    fd: OwnedFd,
    seq: u32,
}

impl Socket {
    /// Opens it in the caller's network namespace.
    pub fn open(protocol: SockProtocol) -> Result<Socket, Errno> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        Ok(Socket { fd, seq: 0 })
    }

    /// Opens it for the notices of groups (a bit each, as in `nl_groups`), which are then read without waiting.
    pub fn listen(protocol: SockProtocol, groups: u32) -> Result<Socket, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        // Without privilege the usual bound holds; what is lost is told (ENOBUFS).
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &NOTICES);
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Socket { fd, seq: 0 })
    }

    /// The descriptor to wait on.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn send(&mut self, requests: &[Request]) -> Result<u32, Errno> {
        let mut datagram = Vec::new();
        for request in requests {
            self.seq = self.seq.wrapping_add(1);
            let len = u32::try_from(HEADER + request.body.len()).map_err(|_| Errno::EMSGSIZE)?;
            datagram.extend_from_slice(&len.to_ne_bytes());
            datagram.extend_from_slice(&request.kind.to_ne_bytes());
            datagram.extend_from_slice(&(NLM_F_REQUEST | request.flags).to_ne_bytes());
            datagram.extend_from_slice(&self.seq.to_ne_bytes());
            datagram.extend_from_slice(&0u32.to_ne_bytes());
            datagram.extend_from_slice(&request.body);
            datagram.resize(datagram.len().next_multiple_of(4), 0);
        }
        let kernel = NetlinkAddr::new(0, 0);
        sendto(self.fd.as_raw_fd(), &datagram, &kernel, MsgFlags::empty())?;
        Ok(self.seq)
    }

    /// The messages of the next datagram.
    fn receive(&self) -> Result<Vec<Message>, Errno> {
        let mut datagram = vec![0u8; DATAGRAM];
        loop {
            match recv(self.fd.as_raw_fd(), &mut datagram, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                other => return Ok(messages(datagram.get(..other?).unwrap_or_default())),
            }
        }
    }

    /// Takes the notices that wait. Errors: EAGAIN where there are none, ENOBUFS where some were lost.
    pub fn notices(&self) -> Result<Vec<Message>, Errno> {
        self.receive()
    }

    /// Sends one request and waits for its acknowledgment.
    pub fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<(), Errno> {
        self.batch(&[Request { kind, flags: flags | NLM_F_ACK, body: body.to_vec() }])
    }

    /// Sends requests as one datagram and waits for the acknowledgments of those that ask for one. Errors: the first that is told.
    pub fn batch(&mut self, requests: &[Request]) -> Result<(), Errno> {
        let last = self.send(requests)?;
        let first = last.wrapping_sub(requests.len() as u32).wrapping_add(1);
        let mut awaited: Vec<u32> = (0u32..)
            .zip(requests)
            .filter(|(_, request)| request.flags & NLM_F_ACK != 0)
            .map(|(nth, _)| first.wrapping_add(nth))
            .collect();
        while !awaited.is_empty() {
            for message in self.receive()? {
                let known = message.seq.wrapping_sub(first) < requests.len() as u32;
                match message.error().filter(|_| known) {
                    Some(0) => awaited.retain(|seq| *seq != message.seq),
                    Some(code) => return Err(Errno::from_raw(code)),
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// Asks for all there is of a kind. Errors: EAGAIN where it never stood still.
    pub fn dump(&mut self, kind: u16, body: &[u8]) -> Result<Vec<Message>, Errno> {
        for _ in 0..ATTEMPTS {
            if let Some(all) = self.dump_once(kind, body)? {
                return Ok(all);
            }
        }
        Err(Errno::EAGAIN)
    }

    fn dump_once(&mut self, kind: u16, body: &[u8]) -> Result<Option<Vec<Message>>, Errno> {
        let seq = self.send(&[Request { kind, flags: NLM_F_DUMP, body: body.to_vec() }])?;
        let (mut all, mut whole) = (Vec::new(), true);
        loop {
            for message in self.receive()?.into_iter().filter(|message| message.seq == seq) {
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.error() {
                    Some(code) => return Err(Errno::from_raw(code)),
                    None if message.kind == NLMSG_DONE => return Ok(whole.then_some(all)),
                    None => all.push(message),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_lie_end_the_reading() {
        let mut message = vec![0u8; 20];
        for (len, count) in [(20u32, 1), (16, 1), (15, 0), (0, 0), (21, 0), (u32::MAX, 0)] {
            message[..4].copy_from_slice(&len.to_ne_bytes());
            // Four bytes are left behind the header where it ends there, and they are no message.
            assert_eq!(messages(&message).len(), count, "{len}");
        }
        let mut body = Vec::new();
        attribute(&mut body, 3, b"eth0\0");
        attribute(&mut body, 4 | 0x8000, &1500u32.to_ne_bytes());
        assert_eq!(find(&body, 3).map(text), Some("eth0".into()));
        assert_eq!(find(&body, 4).and_then(number), Some(1500), "flags are no part of the number");
        for len in [0u16, 3, 60_000] {
            body[..2].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(attributes(&body).count(), 0, "{len}");
        }
    }
}
