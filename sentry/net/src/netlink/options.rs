//! Level SOL_NETLINK (netlink(7), "Socket options").

use std::sync::atomic::{AtomicU32, Ordering};

use sentry_abi::Errno;
use sentry_abi::netlink::*;
use sentry_kernel::Result;
use sentry_kernel::cred::{Capabilities, Credentials};

use super::build::AckStyle;
use super::parse::Strictness;
use crate::sockopt::value;

/// The options that are flags, a bit each by their number.
#[derive(Debug, Default)]
pub struct Flags(AtomicU32);

/// The flags that getsockopt(2) and setsockopt(2) know alike.
const KNOWN: &[i32] = &[
    NETLINK_PKTINFO,
    NETLINK_BROADCAST_ERROR,
    NETLINK_NO_ENOBUFS,
    NETLINK_LISTEN_ALL_NSID,
    NETLINK_CAP_ACK,
    NETLINK_EXT_ACK,
    NETLINK_GET_STRICT_CHK,
];

impl Flags {
    /// Whether an option is on.
    pub fn has(&self, name: i32) -> bool {
        self.0.load(Ordering::Relaxed) & (1 << name) != 0
    }

    /// How acknowledgments shall look.
    pub fn ack_style(&self) -> AckStyle {
        AckStyle { capped: self.has(NETLINK_CAP_ACK), extended: self.has(NETLINK_EXT_ACK) }
    }

    /// NETLINK_GET_STRICT_CHK
    pub fn strictness(&self) -> Strictness {
        match self.has(NETLINK_GET_STRICT_CHK) {
            true => Strictness::Strict,
            false => Strictness::Liberal,
        }
    }

    /// setsockopt(2) of a flag. Errors: ENOPROTOOPT, EINVAL, EPERM.
    pub fn set(&self, creds: &Credentials, name: i32, bytes: &[u8]) -> Result<()> {
        let on = value::int(bytes)? != 0;
        if !KNOWN.contains(&name) {
            return Err(Errno::ENOPROTOOPT.into());
        }
        if name == NETLINK_LISTEN_ALL_NSID && !creds.has(Capabilities::NET_BROADCAST) {
            return Err(Errno::EPERM.into());
        }
        match on {
            true => self.0.fetch_or(1 << name, Ordering::Relaxed),
            false => self.0.fetch_and(!(1 << name), Ordering::Relaxed),
        };
        Ok(())
    }

    /// getsockopt(2) of a flag. Errors: ENOPROTOOPT.
    pub fn option(&self, name: i32) -> Result<Vec<u8>> {
        if !KNOWN.contains(&name) {
            return Err(Errno::ENOPROTOOPT.into());
        }
        Ok(value::from_flag(self.has(name)))
    }
}

/// The bit of a group number. Errors: EINVAL for one that the protocol does not have.
pub fn group_bit(group: i32, groups: u32) -> Result<u64> {
    match u32::try_from(group) {
        Ok(group @ 1..) if group <= groups => Ok(1 << (group - 1)),
        _ => Err(Errno::EINVAL.into()),
    }
}
