//! The options that tell when messages came and went (socket(7) SO_TIMESTAMP and its kin; SO_TIMESTAMPING).

use netstack::socket::SocketOption;
use sentry_abi::Errno;
use sentry_abi::socket::*;
use sentry_kernel::Result;

use super::row::{Call, Sorts};
use super::socket::{STAMP, STAMP_NEW, STAMP_NS};
use super::value;
use crate::inet::ancillary;

/// The layout of SO_TIMESTAMPING's value.
pub const STAMPING: &str = "u32 of SOF_TIMESTAMPING_*, or struct so_timestamping";
/// What is missing of it.
pub const STAMPING_PARTIAL: &str = "times of software only; no OPT_STATS of streams (EINVAL), OPT_CMSG and OPT_PKTINFO add nothing, no BIND_PHC (EOPNOTSUPP)";

fn kept(call: &Call<'_>) -> i64 {
    call.socket.options().number(SOL_SOCKET, SO_TIMESTAMP_OLD).unwrap_or(0)
}

/// Tells the endpoint whether anybody wants times of what it receives.
fn tell_wanted(call: &Call<'_>) -> Result<()> {
    let Some(inet) = call.socket.inet() else { return Ok(()) };
    let stamping = call.socket.options().number(SOL_SOCKET, SO_TIMESTAMPING_OLD).unwrap_or(0);
    let wanted = kept(call) & STAMP != 0 || stamping as u32 & SOF_TIMESTAMPING_SOFTWARE != 0;
    inet.tell(SocketOption::Timestamp(wanted).into())
}

/// One number for all four options: the last one set says how times are told. To switch them off leaves what SO_TIMESTAMPING has
/// of it (Linux's __sock_set_timestamps).
pub fn set_stamp(call: &Call<'_>, bits: i64) -> Result<()> {
    let bits = if value::flag(call.bytes)? { bits } else { kept(call) & STAMP_NEW };
    call.socket.options().put(SOL_SOCKET, SO_TIMESTAMP_OLD, bits);
    tell_wanted(call)
}

/// Whether times are told so. Those of nanoseconds have the other number's option on, too, where both are of 64 bits.
pub fn stamp(call: &Call<'_>, bits: i64) -> Result<Vec<u8>> {
    let kept = kept(call);
    let on = match bits {
        STAMP => kept == STAMP,
        _ => kept & bits == bits && kept & STAMP_NEW == bits & STAMP_NEW,
    };
    Ok(value::from_flag(on))
}

/// SO_TIMESTAMPING; `new` is the bit of the number with 64-bit times. Errors: EINVAL, EOPNOTSUPP for another clock.
pub fn set(call: &Call<'_>, new: i64) -> Result<()> {
    let flags = value::int(call.bytes)? as u32;
    let has = |flag: u32| flags & flag != 0;
    let stream = call.socket.options().sort() == Sorts::TCP;
    let numbers_of_nothing = has(SOF_TIMESTAMPING_OPT_ID_TCP) && !has(SOF_TIMESTAMPING_OPT_ID);
    let statistics = has(SOF_TIMESTAMPING_OPT_STATS);
    if flags & !SOF_TIMESTAMPING_MASK != 0
        || numbers_of_nothing
        || statistics && (stream || !has(SOF_TIMESTAMPING_OPT_TSONLY))
    {
        return Err(Errno::EINVAL.into());
    }
    if has(SOF_TIMESTAMPING_BIND_PHC) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if let Some(inet) = call.socket.inet() {
        inet.tell(SocketOption::Stamping(ancillary::stamping(flags)).into())?;
    }
    let options = call.socket.options();
    options.put(SOL_SOCKET, SO_TIMESTAMPING_OLD, i64::from(flags));
    options.put(SOL_SOCKET, SO_TIMESTAMP_OLD, kept(call) & (STAMP | STAMP_NS) | new);
    tell_wanted(call)
}

/// The flags; by the new number only where that was the last one.
pub fn get(call: &Call<'_>) -> Result<Vec<u8>> {
    let shown = call.row.number == SO_TIMESTAMPING_OLD || kept(call) & STAMP_NEW != 0;
    let flags = call.socket.options().number(SOL_SOCKET, SO_TIMESTAMPING_OLD);
    let flags = flags.filter(|_| shown).unwrap_or(0) as u32;
    // struct so_timestamping: the flags, and no clock.
    Ok([flags.to_ne_bytes(), [0; 4]].concat())
}
