//! What all containers of a sandbox share: the kernel, the network, and what the host is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sentry_fs::proc::NetFiles;
use sentry_fs::services::Services;
use sentry_fs::stdio::HostWatcher;
use sentry_kernel::ipc::Segments;
use sentry_kernel::kernel::{Kernel, SyscallTable};
use sentry_kernel::namespaces::{self, Kind};
use sentry_kernel::task::{Container, ContainerConfig, PidNamespace};
use sentry_kernel::uts::Uts;
use sentry_net::netns::NetNamespace;

use crate::boot::{BootError, step};
use crate::config::{ContainerFiles, ContainerLimits, MemberConfig, Names};
use crate::container;
use crate::member::Member;
use crate::registry::{self, Offer};
use crate::seccomp::{Filtered, Profile};
use crate::tree::Tree;

/// A sandbox's kernel with its network.
pub(crate) struct World {
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) net: Arc<NetNamespace>,
    pub(crate) watcher: Arc<HostWatcher>,
    pub(crate) services: Services,
    pub(crate) net_files: NetFiles,
    pub(crate) syscalls: Arc<dyn SyscallTable>,
    /// Containers that were made.
    pub(crate) made: AtomicU32,
}

/// The namespaces of a container that is to be made: those of others, or new ones.
pub(crate) struct Namespaces {
    pub(crate) pids: Option<Arc<PidNamespace>>,
    pub(crate) segments: Option<Arc<Segments>>,
    pub(crate) names: Names<Arc<Uts>>,
}

impl World {
    /// Makes a container; `files` builds its mounts.
    pub(crate) fn member(
        self: &Arc<Self>,
        shared: Namespaces,
        seccomp: Option<Profile>,
        limits: ContainerLimits,
        files: impl FnOnce(&Arc<Container>, &Offer) -> Result<Tree, BootError>,
    ) -> Result<Member, BootError> {
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        let number = |kind| namespaces::number(kind, made);
        let uts = match shared.names {
            Names::Shared(uts) => uts,
            Names::Own { hostname, domainname } => {
                let uts = Uts::new(number(Kind::Uts), &hostname);
                if let Some(name) = domainname {
                    uts.set_domainname(name.as_bytes()).map_err(step("set the domain name"))?;
                }
                uts
            }
        };
        let syscalls = self.syscalls.clone();
        let config = ContainerConfig {
            pids: shared.pids.unwrap_or_else(|| PidNamespace::new(number(Kind::Pid))),
            uts,
            segments: shared.segments.unwrap_or_else(|| Segments::new(number(Kind::Ipc))),
            syscalls: match seccomp {
                Some(profile) => Filtered::new(syscalls, profile),
                None => syscalls,
            },
        };
        let container = Container::new(&self.kernel, config);
        container.set_memory_shown(limits.memory_max);
        container.set_tasks_max(limits.tasks_max);
        let offer = registry::offer(&container, &self.services, &self.net_files);
        let tree = files(&container, &offer)?;
        Ok(Member { world: self.clone(), container, tree, terminals: offer.terminals })
    }

    /// Makes a container beside the first.
    pub(crate) fn further(
        self: &Arc<Self>,
        files: ContainerFiles,
        config: MemberConfig<'_>,
    ) -> Result<Member, BootError> {
        let shared = Namespaces {
            pids: config.pids.map(|other| other.container().pids().clone()),
            segments: config.segments.map(|other| other.container().segments().clone()),
            names: match config.names {
                Names::Shared(other) => Names::Shared(other.container().uts().clone()),
                Names::Own { hostname, domainname } => Names::Own { hostname, domainname },
            },
        };
        self.member(shared, config.seccomp, config.limits, |container, offer| {
            container::tree(container, &self.services, offer, files)
        })
    }
}
