//! One datagram of a program: its requests, one after the other, and what each is answered (netlink_rcv_skb).

use sentry_abi::Errno;
use sentry_abi::netlink::*;

use super::build::{AckStyle, acknowledgment, dump};
use super::parse::{Refusal, Request};
use super::table::{Answer, Context, Protocol};

/// An answer as datagrams.
pub enum Reply {
    /// To be queued now.
    Now(Vec<u8>),
    /// A dump, to be brought as the program reads.
    Dump(Vec<Vec<u8>>),
}

/// Answers all messages of a datagram. `busy` tells whether the socket's last dump is still being read.
pub fn datagram(
    protocol: &Protocol,
    cx: &Context<'_>,
    bytes: &[u8],
    style: AckStyle,
    mut busy: bool,
) -> Vec<Reply> {
    let mut replies = Vec::new();
    let mut rest = bytes;
    while let Some((request, next)) = Request::next(rest) {
        rest = next;
        let header = &request.header;
        let mut refusal = None;
        // Control messages and what is no request are only acknowledged.
        if header.flags & NLM_F_REQUEST != 0 && header.kind >= NLMSG_MIN_TYPE {
            match (protocol.dispatch)(protocol, cx, &request) {
                // netlink(7) has one dump at a time; a second one is EBUSY (__netlink_dump_start).
                Ok(Answer::Dump(..)) if busy => refusal = Some(Refusal::from(Errno::EBUSY)),
                Ok(Answer::Dump(messages, end)) => {
                    busy = true;
                    replies.push(Reply::Dump(dump(header, messages, end, style.extended)));
                    continue;
                }
                Ok(Answer::Messages(messages)) => {
                    replies
                        .extend(messages.into_iter().map(|message| Reply::Now(message.finish(0))));
                }
                Err(error) => refusal = Some(error),
            }
        }
        if refusal.is_some() || header.flags & NLM_F_ACK != 0 {
            replies.push(Reply::Now(acknowledgment(&request, refusal.as_ref(), style)));
        }
    }
    replies
}
