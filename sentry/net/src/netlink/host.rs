//! What the host's rtnetlink tells, read by what reads the requests of programs: a message that tells of an address asks, sent the
//! other way, for the same address.

pub(crate) use super::parse::{Refusal, Request, Strictness};
pub(crate) use super::route::addr::{Named, named as address};
pub(crate) use super::route::neigh::named as neighbour;
pub(crate) use super::route::routes::{loopback_of, route};
pub(crate) use super::route::rule::rule;
pub(crate) use super::table::Context;
