//! IPv6 extension headers as programs give and get them (RFC 3542 sections 6 to 9).

use std::sync::Arc;

use netstack::socket::datagram::Headers;
use sentry_abi::Errno;
use sentry_abi::in_::*;
use sentry_kernel::Result;
use sentry_kernel::cred::Capabilities;

use super::row::Call;

/// Hop-by-hop options as a next header.
pub const HOP_BY_HOP: u8 = 0;
/// Options for the destination as a next header.
pub const DESTINATION: u8 = 60;
/// The most bytes of one (ipv6_set_opt_hdr).
const MAX: usize = 8 * 255;

/// The header at the front of a value, whole; None where its length says that there is more.
pub fn whole(bytes: &[u8]) -> Option<Arc<[u8]>> {
    let len = (usize::from(*bytes.get(1)?) + 1) * 8;
    bytes.get(..len).map(Into::into)
}

/// The headers that came with a message, with their kinds.
pub fn list(extensions: Option<&Arc<[u8]>>) -> Vec<(u8, &[u8])> {
    let mut rest = extensions.map_or(&[][..], |bytes| bytes);
    let mut all = Vec::new();
    while let [kind, tail @ ..] = rest {
        let len = tail.get(1).map_or(0, |len| (usize::from(*len) + 1) * 8);
        let Some((header, after)) = tail.split_at_checked(len).filter(|_| len > 0) else { break };
        all.push((*kind, header));
        rest = after;
    }
    all
}

/// The headers that a socket sends before each of its messages.
#[derive(Debug, Default)]
pub struct Sticky {
    hop_by_hop: Option<Arc<[u8]>>,
    destination: Option<Arc<[u8]>>,
    // Before a routing header; none is sent.
    before_routing: Option<Arc<[u8]>>,
}

impl Sticky {
    fn place(&mut self, name: i32) -> &mut Option<Arc<[u8]>> {
        match name {
            IPV6_HOPOPTS => &mut self.hop_by_hop,
            IPV6_DSTOPTS => &mut self.destination,
            _ => &mut self.before_routing,
        }
    }
}

/// Sets a header for all messages; no bytes take it away. Errors: EPERM without CAP_NET_RAW, EINVAL for one that is
/// longer than the value.
pub fn set(call: &Call<'_>) -> Result<()> {
    let inet = call.inet()?;
    if !call.may(&[Capabilities::NET_RAW]) {
        return Err(Errno::EPERM.into());
    }
    let bytes = call.bytes;
    let header = match bytes.len() {
        0 => None,
        len if len > MAX || len & 7 != 0 => return Err(Errno::EINVAL.into()),
        _ => Some(whole(bytes).ok_or(Errno::EINVAL)?),
    };
    let mut sticky = inet.sticky.lock();
    *sticky.place(call.row.number) = header;
    let headers =
        Headers { hop_by_hop: sticky.hop_by_hop.clone(), destination: sticky.destination.clone() };
    drop(sticky);
    if let Some(socket) = inet.endpoint.datagram() {
        socket.set_headers(headers);
    }
    Ok(())
}

/// The header as it was given; nothing where there is none.
pub fn get(call: &Call<'_>) -> Result<Vec<u8>> {
    let inet = call.inet()?;
    let header = inet.sticky.lock().place(call.row.number).clone();
    Ok(header.map_or_else(Vec::new, |bytes| bytes.to_vec()))
}

/// A routing header: none is sent, but to send none is no error. Errors: EINVAL.
pub fn set_routing(call: &Call<'_>) -> Result<()> {
    if call.bytes.is_empty() { Ok(()) } else { Err(Errno::EINVAL.into()) }
}
