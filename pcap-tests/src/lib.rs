//! Packet traces as tests: reading captures and measuring what they show. It must not know the sentry.
//!
//! [`capture`] reads files, [`packet`] takes one frame apart and checks it, [`flows`] sums conversations up as an engineer would by hand, [`report`] tells it.
#![forbid(unsafe_code)]

pub mod capture;
pub mod flows;
pub mod packet;
pub mod report;
