//! Initial sequence numbers and timestamp offsets that an attacker off the path cannot guess (RFC 6528, RFC 7323).

use super::config::Secrets;
use crate::rng::{Seed, SipKey};
use crate::time::Instant;
use core::net::SocketAddr;

const DOMAIN_SEQUENCE: u64 = 0x7463_7069_736e;
const DOMAIN_TIMESTAMP: u64 = 0x7463_7074_7373;

/// The keys of one stack.
#[derive(Clone)]
pub struct IsnKeys {
    sequence: SipKey,
    timestamp: SipKey,
}

impl IsnKeys {
    /// Keys derived from a stack's seed.
    pub fn new(seed: &Seed) -> IsnKeys {
        IsnKeys {
            sequence: SipKey::derive(seed, DOMAIN_SEQUENCE),
            timestamp: SipKey::derive(seed, DOMAIN_TIMESTAMP),
        }
    }

    /// RFC 6528 section 3: "ISN = M + F(localip, localport, remoteip, remoteport, secretkey)" where M is a timer
    /// of 4 microseconds.
    pub fn secrets(&self, now: Instant, local: SocketAddr, remote: SocketAddr) -> Secrets {
        let flow = self.sequence.hash_one((local, remote)) as u32;
        let timer = (now.micros() / 4) as u32;
        // The offset depends on the addresses alone, so that the clock of a pair of hosts never goes back (PAWS
        // over a reused four-tuple).
        let offset = self.timestamp.hash_one((local.ip(), remote.ip())) as u32;
        Secrets { iss: flow.wrapping_add(timer), timestamp_offset: offset }
    }
}
