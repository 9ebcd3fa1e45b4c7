//! Packet traces as tests: reading captures and measuring what they show. It must not know the sentry.
#![forbid(unsafe_code)]
