//! The OCI runtime specification's objects and what the sandbox makes of them. It must not know processes of the host or where state is kept.
//!
//! [`spec`] reads a bundle and says what cannot be had, [`process`], [`files`] and [`seccomp`] turn its parts into the sandbox's, [`hooks`] runs hooks,
//! [`journal`] tells callers of errors.

pub mod features;
pub mod files;
pub mod hooks;
pub mod journal;
pub mod process;
pub mod seccomp;
pub mod spec;
pub mod template;

/// The version of the runtime specification that is served.
pub const VERSION: &str = "1.2.0";
