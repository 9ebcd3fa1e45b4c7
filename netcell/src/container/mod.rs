//! Containers: their records, their processes and what is done to them. It must not know the command line's words.
//!
//! A container is a folder below the root with its [`record`], a copy of its configuration and the socket of its sandbox, which is a process of
//! its own ([`sandbox`]) with the containers of a pod ([`pod`]); for each but the first a [`member`] stands on the host. [`create`] starts
//! that process, [`lifecycle`] holds what is done by its name afterwards, [`exec`] further programs, [`cgroup`] its limits on the host,
//! [`handoff`] what the CNI plugin has told of its network.

pub mod cgroup;
pub mod create;
pub mod exec;
mod handoff;
pub mod lifecycle;
mod member;
mod pod;
mod pty;
pub mod record;
pub mod sandbox;
mod sync;
mod waiting;

use std::path::PathBuf;

use crate::oci::journal::Journal;

/// What every command of the runtime is given.
#[derive(Debug)]
pub struct Runtime {
    /// Where the folders of containers are.
    pub root: PathBuf,
    /// Where lines for the caller go.
    pub journal: Journal,
}
