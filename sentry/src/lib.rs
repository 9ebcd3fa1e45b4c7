//! The assembler: composes the kernel, the filesystems, the devices and the socket families into a sandbox, and boots it. No mechanism lives here.
//!
//! [`config`] says what a sandbox is made of, [`registry`] is the one list of what it offers, [`tree`] builds its mounts, [`container`] the mounts of a container,
//! [`boot`] brings it up, [`world`] is what its containers share, [`member`] starts programs in one, [`seccomp`] filters their calls, [`attachment`] fits what was handed over to interfaces, [`remote`] is what the outside can do meanwhile.
#![forbid(unsafe_code)]

mod attachment;
mod boot;
pub mod config;
mod container;
mod host;
mod member;
mod network;
mod registry;
mod remote;
pub mod seccomp;
mod tree;
mod vdso;
mod world;

pub use boot::{BootError, Outcome, Prepared, Sandbox, boot, prepare};
pub use config::{
    Access, AttachedRoute, Attachment, Carrier, Console, ContainerFiles, ContainerLimits,
    DeviceKind, DeviceNode, Faults, Files, GatewayPlace, Home, HostTerminals, Image, Limit, Limits,
    MacAddr, MemberConfig, MissingWorkdir, Mount, MountKind, Names, NamespaceNetwork, Network,
    Process, Rules, SandboxConfig, SessionFiles, Stdio, TapNetwork, Volume, Writes,
};
pub use host::Logger;
pub use netstack_host::tap::TapError;
pub use remote::{
    ContainerLimit, Pause, PreparedMember, ProcessInfo, Remote, Running, RunningCapture,
    SignalScope,
};
pub use sentry_fs::host::View;
pub use sentry_kernel::cred::{Capabilities, Credentials};
pub use sentry_kernel::log::{Level, Log};
pub use sentry_kernel::task::ContainerUsage;
pub use sentry_kernel::vfs::MountFlags;
