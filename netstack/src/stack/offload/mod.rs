//! What a device does for a stack that it can ask, done here where it cannot: trains of segments are cut before the
//! device ([`gso`]), segments that follow each other become a train behind it ([`gro`]).

pub(super) mod gro;
pub(super) mod gso;

use core::net::IpAddr;

use crate::buffer::HEADER_ROOM;
use crate::wire::checksum::{self, Checksum};
use crate::wire::{ipv4, ipv6};

/// Where the control bits lie in a TCP header, but for AE, which is the lowest bit of the byte before.
const TCP_FLAGS: usize = 13;

/// The headers of a frame, in one piece.
#[derive(Clone)]
struct Headers {
    bytes: [u8; HEADER_ROOM],
    len: usize,
    /// Where the IP header begins.
    network: usize,
    /// Where the TCP or UDP header begins.
    transport: usize,
}

impl Headers {
    /// A copy of headers; None where they are longer than a packet's header room, or where their order makes no sense.
    fn new(headers: &[u8], network: usize, transport: usize) -> Option<Headers> {
        let mut bytes = [0; HEADER_ROOM];
        bytes.get_mut(..headers.len())?.copy_from_slice(headers);
        let whole = Headers { bytes, len: headers.len(), network, transport };
        let network_len = transport.checked_sub(network)?;
        let fits = match headers.get(network)? >> 4 {
            4 => ipv4::Ipv4::header_len(whole.byte(network)) == Some(network_len),
            6 => network_len >= ipv6::HEADER_LEN,
            _ => false,
        };
        (fits && transport < headers.len()).then_some(whole)
    }

    fn all(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        self.bytes.get(at..).and_then(|rest| rest.first_chunk().copied()).unwrap_or([0; N])
    }

    fn put<const N: usize>(&mut self, at: usize, value: [u8; N]) {
        if let Some(place) = self.bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
            *place = value;
        }
    }

    fn is_v4(&self) -> bool {
        self.byte(self.network) >> 4 == 4
    }

    /// Source and destination.
    fn addresses(&self) -> (IpAddr, IpAddr) {
        let at = self.network;
        match self.is_v4() {
            true => (self.get::<4>(at + 12).into(), self.get::<4>(at + 16).into()),
            false => (self.get::<16>(at + 8).into(), self.get::<16>(at + 24).into()),
        }
    }

    /// The pseudo-header's sum of a transport header and its payload.
    fn pseudo_sum(&self, protocol: u8, payload: usize) -> Checksum {
        let (src, dst) = self.addresses();
        Checksum::pseudo_header(src, dst, protocol, self.len - self.transport + payload)
    }

    /// Writes the lengths of the IP header for a payload behind all headers, and seals the header.
    fn fit(&mut self, payload: usize) {
        let (at, len) = (self.network, self.len + payload);
        if self.is_v4() {
            // What is cut or joined was checked to be no longer than an IP packet.
            self.put(at + 2, ((len - at) as u16).to_be_bytes());
            self.seal();
        } else {
            self.put(at + 4, ((len - at).saturating_sub(ipv6::HEADER_LEN) as u16).to_be_bytes());
        }
    }

    /// Writes the checksum of an IPv4 header.
    fn seal(&mut self) {
        self.put(self.network + 10, [0; 2]);
        let header = self.bytes.get(self.network..self.transport).unwrap_or_default();
        let sum = checksum::of(header);
        self.put(self.network + 10, sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
