//! CLOSED: no connection. Whatever arrives is answered by a reset.

use super::super::segment::Segment;

/// No connection, before or after one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed;

impl Closed {
    /// RFC 9293 section 3.10.7.1: "all data in the incoming segment is discarded. An incoming segment containing
    /// a RST is discarded. An incoming segment not containing a RST causes a RST to be sent in response."
    pub fn on_segment(self, segment: &Segment) -> Option<Segment> {
        segment.answer_with_reset()
    }
}
