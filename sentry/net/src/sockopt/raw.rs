//! Levels SOL_RAW and IPPROTO_ICMPV6: the filters of raw sockets (raw(7), ipv6(7)).

use netstack::socket::OptionValue;
use netstack::socket::options::{IpOption, IpOptionKind};
use sentry_abi::Errno;
use sentry_abi::in_::{ICMP_FILTER, ICMPV6_FILTER, IPPROTO_ICMP};
use sentry_kernel::Result;

use super::datagram;
use super::row::{Call, Row, own};
use crate::errno;

/// The rows of SOL_RAW.
pub const ROWS: &[Row] = &[own(
    "ICMP_FILTER",
    ICMP_FILTER,
    "u32: a bit set drops that type",
    Some(set_icmp),
    Some(icmp),
)];

/// The rows of IPPROTO_ICMPV6.
pub const ICMPV6_ROWS: &[Row] = &[own(
    "ICMPV6_FILTER",
    ICMPV6_FILTER,
    "struct icmp6_filter: a bit set drops that type",
    Some(datagram::set_icmp6_filter),
    Some(datagram::icmp6_filter),
)];

/// Only a raw socket of ICMP has it. Errors: EOPNOTSUPP.
fn check(call: &Call<'_>) -> Result<()> {
    match call.inet()?.protocol {
        IPPROTO_ICMP => Ok(()),
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}

/// A shorter value leaves the rest of the filter as it was.
fn set_icmp(call: &Call<'_>) -> Result<()> {
    check(call)?;
    let mut bits = filter(call)?.to_ne_bytes();
    let n = call.bytes.len().min(bits.len());
    bits[..n].copy_from_slice(&call.bytes[..n]);
    call.inet()?.tell(IpOption::IcmpFilter(u32::from_ne_bytes(bits)).into())
}

fn filter(call: &Call<'_>) -> Result<u32> {
    match call.inet()?.ask(IpOptionKind::IcmpFilter.into()).map_err(errno::of_option)? {
        OptionValue::IpOption(IpOption::IcmpFilter(bits)) => Ok(bits),
        _ => Err(Errno::ENOPROTOOPT.into()),
    }
}

fn icmp(call: &Call<'_>) -> Result<Vec<u8>> {
    check(call)?;
    Ok(filter(call)?.to_ne_bytes().to_vec())
}
