//! Layouts of option values: integers, time values and structures, with Linux's answer to a short one.

use sentry_abi::Errno;
use sentry_abi::socket::SockTimeval;
use sentry_kernel::Result;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A value of at least four bytes as an int. Errors: EINVAL for a shorter one.
pub fn int(value: &[u8]) -> Result<i32> {
    match value.first_chunk::<4>() {
        Some(bytes) => Ok(i32::from_ne_bytes(*bytes)),
        None => Err(Errno::EINVAL.into()),
    }
}

/// An int, or for the IP levels a single byte. Errors: EINVAL for an empty value.
pub fn int_or_byte(value: &[u8]) -> Result<i32> {
    match value {
        [byte] | [byte, _] | [byte, _, _] => Ok(i32::from(*byte)),
        _ => int(value),
    }
}

/// A truth value: any int but zero.
pub fn flag(value: &[u8]) -> Result<bool> {
    Ok(int(value)? != 0)
}

/// A structure at the front of the value. Errors: EINVAL for a shorter one.
pub fn object<T: FromBytes>(value: &[u8]) -> Result<T> {
    match T::read_from_prefix(value) {
        Ok((object, _)) => Ok(object),
        Err(_) => Err(Errno::EINVAL.into()),
    }
}

/// A time-out of SO_RCVTIMEO in nanoseconds; `None` for zero, which means for ever. Errors: EINVAL, EDOM for microseconds out of range.
pub fn timeout_ns(value: &[u8]) -> Result<Option<u64>> {
    let time: SockTimeval = object(value)?;
    if !(0..1_000_000).contains(&time.usec) {
        return Err(Errno::EDOM.into());
    }
    if time.sec < 0 {
        // Linux: a negative time-out means not to wait at all.
        return Ok(Some(0));
    }
    let ns =
        (time.sec as u64).saturating_mul(1_000_000_000).saturating_add(time.usec as u64 * 1000);
    Ok((ns != 0).then_some(ns))
}

/// The value of an int option.
pub fn from_int(value: i32) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

/// The value of a flag.
pub fn from_flag(value: bool) -> Vec<u8> {
    from_int(i32::from(value))
}

/// The value of a time-out in nanoseconds.
pub fn from_timeout_ns(timeout_ns: Option<u64>) -> Vec<u8> {
    let ns = timeout_ns.unwrap_or(0);
    let time =
        SockTimeval { sec: (ns / 1_000_000_000) as i64, usec: (ns % 1_000_000_000 / 1000) as i64 };
    time.as_bytes().to_vec()
}

/// The value of a structure.
pub fn from_object<T: IntoBytes + Immutable>(object: &T) -> Vec<u8> {
    object.as_bytes().to_vec()
}
