//! Lays netlink messages out: headers, fixed parts and attributes, each aligned to four bytes.

use sentry_abi::netlink::*;
use zerocopy::{Immutable, IntoBytes};

use super::parse::{Refusal, Request};

/// A datagram of a dump holds at most this: Linux's NLMSG_GOODSIZE, and C libraries read with a buffer of one page.
const DATAGRAM_MAX: usize = 3776;

/// One message under construction.
#[derive(Clone)]
pub struct Message {
    bytes: Vec<u8>,
}

/// A nested attribute that is open, to be given to [`Message::end`].
#[must_use]
pub struct Nest(usize);

impl Message {
    /// A message of a type with its fixed part, which answers a request.
    pub fn new<T: IntoBytes + Immutable>(kind: u16, request: &NlMsgHdr, fixed: &T) -> Message {
        let header = NlMsgHdr { len: 0, kind, flags: 0, seq: request.seq, pid: request.pid };
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(fixed.as_bytes());
        pad(&mut bytes);
        Message { bytes }
    }

    /// Adds an attribute. One that is too long for its length field is left out, as nla_put does.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        let Ok(len) = u16::try_from(size_of::<RtAttr>() + value.len()) else { return };
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

    /// Adds a byte.
    pub fn byte(&mut self, kind: u16, value: u8) {
        self.attribute(kind, &[value]);
    }

    /// Adds a 32-bit number.
    pub fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// Adds a structure.
    pub fn object<T: IntoBytes + Immutable>(&mut self, kind: u16, value: &T) {
        self.attribute(kind, value.as_bytes());
    }

    /// Opens a nested attribute; what is added until [`Message::end`] lies in it.
    pub fn nest(&mut self, kind: u16) -> Nest {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(RtAttr { len: 0, kind }.as_bytes());
        Nest(at)
    }

    /// Closes a nested attribute.
    pub fn end(&mut self, nest: Nest) {
        let len = u16::try_from(self.bytes.len() - nest.0).unwrap_or(u16::MAX);
        self.bytes[nest.0..nest.0 + 2].copy_from_slice(&len.to_ne_bytes());
    }

    /// Adds a structure with attributes of its own behind it (a next hop), which has no attribute header.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        pad(&mut self.bytes);
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

/// Which flags of a dump's messages beyond NLM_F_MULTI, and how it ended.
#[derive(Default)]
pub struct DumpEnd {
    /// NLM_F_DUMP_FILTERED where the request narrowed the dump.
    pub flags: u16,
    /// Why it ended early.
    pub refusal: Option<Refusal>,
}

/// Packs a dump into datagrams, closed by NLMSG_DONE.
pub fn dump(request: &NlMsgHdr, messages: Vec<Message>, end: DumpEnd, tlvs: bool) -> Vec<Vec<u8>> {
    let errno = end.refusal.as_ref().map_or(0, |refusal| refusal.errno.number());
    let mut done = Message::new(NLMSG_DONE, request, &-errno);
    let mut done_flags = NLM_F_MULTI | end.flags;
    if let Some(refusal) = end.refusal.filter(|_| tlvs)
        && refusal.describe(&mut done)
    {
        done_flags |= NLM_F_ACK_TLVS;
    }
    let mut datagrams: Vec<Vec<u8>> = Vec::new();
    let all = messages.into_iter().map(|message| message.finish(NLM_F_MULTI | end.flags));
    for bytes in all.chain([done.finish(done_flags)]) {
        match datagrams.last_mut() {
            Some(last) if last.len() + bytes.len() <= DATAGRAM_MAX => {
                last.extend_from_slice(&bytes);
            }
            _ => datagrams.push(bytes),
        }
    }
    datagrams
}

/// What a socket wants to hear in acknowledgments.
#[derive(Clone, Copy, Debug, Default)]
pub struct AckStyle {
    /// NETLINK_CAP_ACK: never the whole request.
    pub capped: bool,
    /// NETLINK_EXT_ACK: explanations.
    pub extended: bool,
}

/// NLMSG_ERROR for a request: why it is refused, or an acknowledgment (netlink_ack).
pub fn acknowledgment(
    request: &Request<'_>,
    refusal: Option<&Refusal>,
    style: AckStyle,
) -> Vec<u8> {
    let errno = refusal.map_or(0, |refusal| refusal.errno.number());
    let mut message = Message::new(NLMSG_ERROR, &request.header, &-errno);
    let mut flags = 0;
    if errno != 0 && !style.capped {
        message.raw(request.message);
    } else {
        message.raw(request.message.get(..size_of::<NlMsgHdr>()).unwrap_or_default());
        flags |= NLM_F_CAPPED;
    }
    if style.extended
        && let Some(refusal) = refusal
        && refusal.describe(&mut message)
    {
        flags |= NLM_F_ACK_TLVS;
    }
    message.finish(flags)
}
