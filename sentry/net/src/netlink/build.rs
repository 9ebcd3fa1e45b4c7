//! Lays netlink messages out: headers, fixed parts and attributes, each aligned to four bytes.

use sentry_abi::netlink::{NLM_F_MULTI, NLMSG_DONE, NLMSG_ERROR, NlMsgHdr, RtAttr};
use zerocopy::{Immutable, IntoBytes};

/// A datagram holds at most this; C libraries read with a buffer of one page.
const DATAGRAM_MAX: usize = 3800;

/// One message under construction.
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message of a type with its fixed part.
    pub fn new<T: IntoBytes + Immutable>(kind: u16, request: &NlMsgHdr, fixed: &T) -> Message {
        let header = NlMsgHdr { len: 0, kind, flags: 0, seq: request.seq, pid: request.pid };
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(fixed.as_bytes());
        pad(&mut bytes);
        Message { bytes }
    }

    /// Adds an attribute.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        let len = u16::try_from(size_of::<RtAttr>() + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(RtAttr { len, kind }.as_bytes());
        self.bytes.extend_from_slice(value);
        pad(&mut self.bytes);
    }

    /// Adds a name with its zero byte.
    pub fn string(&mut self, kind: u16, text: &str) {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.attribute(kind, &value);
    }

    /// Adds a 32-bit number.
    pub fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// The bytes with length and flags filled in.
    pub fn finish(mut self, flags: u16) -> Vec<u8> {
        let len = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.bytes
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Packs a dump into datagrams, closed by NLMSG_DONE.
pub fn dump(request: &NlMsgHdr, messages: Vec<Message>) -> Vec<Vec<u8>> {
    let done = Message::new(NLMSG_DONE, request, &0i32);
    let mut datagrams: Vec<Vec<u8>> = Vec::new();
    for message in messages.into_iter().chain([done]) {
        let bytes = message.finish(NLM_F_MULTI);
        match datagrams.last_mut() {
            Some(last) if last.len() + bytes.len() <= DATAGRAM_MAX => {
                last.extend_from_slice(&bytes);
            }
            _ => datagrams.push(bytes),
        }
    }
    datagrams
}

/// NLMSG_ERROR for a request: a negated errno, or 0 for an acknowledgement.
pub fn error(request: &NlMsgHdr, errno: i32, original: &[u8]) -> Vec<u8> {
    let mut message = Message::new(NLMSG_ERROR, request, &-errno);
    // An acknowledgement carries the header of the request, an error all of it.
    let part = if errno == 0 { original.get(..16).unwrap_or_default() } else { original };
    message.bytes.extend_from_slice(part);
    pad(&mut message.bytes);
    message.finish(0)
}
