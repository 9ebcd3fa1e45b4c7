//! Formats on the wire: views and plain values, parse and emit, without state. It imports no other layer.

pub mod checksum;
pub mod ethernet;
pub mod tcp;
