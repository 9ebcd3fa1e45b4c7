//! The assembler: composes the kernel, the filesystems, the devices and the socket families into a sandbox, and boots it. No mechanism lives here.
//!
//! [`config`] says what a sandbox is made of, [`registry`] is the one list of what it offers, [`tree`] builds its mounts, [`boot`] brings it up.
#![forbid(unsafe_code)]

pub mod boot;
pub mod config;
mod host;
mod network;
mod registry;
mod tree;
mod vdso;

pub use boot::{BootError, Outcome, Remote, RunningCapture, Sandbox, boot};
pub use config::{
    Faults, Image, NamespaceNetwork, Network, Process, Rules, SandboxConfig, Stdio, TapNetwork,
    Volume, Writes,
};
pub use host::Logger;
pub use netstack_host::tap::TapError;
pub use sentry_fs::host::View;
pub use sentry_kernel::log::Level;
