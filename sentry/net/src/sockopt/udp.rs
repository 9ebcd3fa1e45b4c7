//! Level IPPROTO_UDP (udp(7)).

use netstack::socket::DatagramOption;
use sentry_abi::Errno;
use sentry_abi::in_::*;
use sentry_abi::socket::SOL_UDP;
use sentry_kernel::Result;
use sentry_kernel::cred::Credentials;

use super::row::{self, Row, Shape, Target, flag, number, refused};

/// The rows, by number.
pub const ROWS: &[Row] = &[
    flag("UDP_CORK", UDP_CORK, Shape::Int).tells(|n| DatagramOption::Cork(n != 0).into()),
    refused(
        "UDP_ENCAP",
        UDP_ENCAP,
        Errno::ENOPROTOOPT,
        "there is nothing to hand encapsulated packets to, as in a kernel without IPsec",
    ),
    flag("UDP_NO_CHECK6_TX", UDP_NO_CHECK6_TX, Shape::Int)
        .tells(|n| DatagramOption::NoCheck6Send(n != 0).into()),
    flag("UDP_NO_CHECK6_RX", UDP_NO_CHECK6_RX, Shape::Int)
        .tells(|n| DatagramOption::NoCheck6Receive(n != 0).into()),
    number("UDP_SEGMENT", UDP_SEGMENT, Shape::Int, |_, n| match u16::try_from(n) {
        Ok(size) => Ok(i64::from(size)),
        Err(_) => Err(Errno::EINVAL.into()),
    })
    .tells(|n| DatagramOption::Segment(n as u16).into()),
    flag("UDP_GRO", UDP_GRO, Shape::Int).tells(|n| DatagramOption::Coalesce(n != 0).into()),
];

/// setsockopt(2) at this level. Errors: EINVAL for a value shorter than an int, whatever the option; those of the row.
pub fn set(socket: &dyn Target, creds: &Credentials, name: i32, bytes: &[u8]) -> Result<()> {
    if bytes.len() < 4 {
        return Err(Errno::EINVAL.into());
    }
    row::set(ROWS, socket, creds, (SOL_UDP, name), bytes)
}
