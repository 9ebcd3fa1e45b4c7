//! Level IPPROTO_UDP (udp(7)).

use sentry_abi::Errno;
use sentry_abi::in_::*;
use sentry_abi::socket::SOL_UDP;
use sentry_kernel::Result;
use sentry_kernel::cred::Credentials;

use super::row::{self, Row, Target, refused};

const NOT_YET: &str = "not yet";

/// The rows, by number.
pub const ROWS: &[Row] = &[
    refused("UDP_CORK", UDP_CORK, Errno::ENOPROTOOPT, NOT_YET),
    refused(
        "UDP_ENCAP",
        UDP_ENCAP,
        Errno::ENOPROTOOPT,
        "there is nothing to hand encapsulated packets to, as in a kernel without IPsec",
    ),
    refused("UDP_NO_CHECK6_TX", UDP_NO_CHECK6_TX, Errno::ENOPROTOOPT, NOT_YET),
    refused("UDP_NO_CHECK6_RX", UDP_NO_CHECK6_RX, Errno::ENOPROTOOPT, NOT_YET),
    refused("UDP_SEGMENT", UDP_SEGMENT, Errno::ENOPROTOOPT, NOT_YET),
    refused("UDP_GRO", UDP_GRO, Errno::ENOPROTOOPT, NOT_YET),
];

/// setsockopt(2) at this level. Errors: EINVAL for a value shorter than an int, whatever the option; those of the row.
pub fn set(socket: &dyn Target, creds: &Credentials, name: i32, bytes: &[u8]) -> Result<()> {
    if bytes.len() < 4 {
        return Err(Errno::EINVAL.into());
    }
    row::set(ROWS, socket, creds, (SOL_UDP, name), bytes)
}
