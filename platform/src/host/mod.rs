//! Safe wrappers over the host system calls that the sentry needs.

pub mod random;
