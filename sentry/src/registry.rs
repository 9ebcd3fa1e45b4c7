//! The one list of what a sandbox and its containers offer: filesystems, devices, socket families.

use std::sync::Arc;

use sentry_fs::devpts::{self, DevPts};
use sentry_fs::proc::{self, NetFiles, ProcFs};
use sentry_fs::services::Services;
use sentry_fs::tty::Terminals;
use sentry_fs::{dev, tmpfs};
use sentry_kernel::error::Result;
use sentry_kernel::kernel::{Kernel, Random};
use sentry_kernel::task::Container;
use sentry_kernel::vfs::{FileSystem, FsType};
use sentry_net::netns::NetNamespace;
use sentry_net::sysctl;

use crate::host::HostRandom;

/// What was registered for a container, for its mounts.
pub(crate) struct Offer {
    pub(crate) terminals: Arc<Terminals>,
    devpts: Arc<DevPts>,
    net_files: NetFiles,
}

/// Registers the socket families with the kernel; gives the files of /proc/net.
pub(crate) fn network(kernel: &Kernel, net: &Arc<NetNamespace>) -> NetFiles {
    let net_files = NetFiles::new(Arc::new(sysctl::Tree::new(net)));
    for (name, generator) in net.proc_files() {
        net_files.register(name, generator);
    }
    for family in net.families() {
        kernel.register_family(family);
    }
    net_files
}

/// Registers devices and filesystems with a container.
pub(crate) fn offer(
    container: &Arc<Container>,
    services: &Services,
    net_files: &NetFiles,
) -> Offer {
    let terminals = Terminals::register(container);
    let devpts = DevPts::new(terminals.clone(), services);
    let random: dev::Random = Arc::new(|dst: &mut [u8]| HostRandom.fill(dst));
    for (rdev, device) in dev::devices(container.kernel().platform().memory(), random) {
        container.devices().register(rdev, device);
    }
    container.register_fs_type(Arc::new(tmpfs::fs_type(services.clone())));
    let row = proc::fs_type(services.clone(), Arc::downgrade(container), net_files.clone());
    container.register_fs_type(Arc::new(row));
    let pts = devpts.clone();
    container.register_fs_type(Arc::new(FsType {
        name: "devpts",
        user_mountable: true,
        create: Box::new(move |_| Ok(devpts::filesystem(&pts))),
    }));
    Offer { terminals, devpts, net_files: net_files.clone() }
}

impl Offer {
    pub(crate) fn proc(
        &self,
        container: &Arc<Container>,
        services: &Services,
    ) -> Arc<dyn FileSystem> {
        ProcFs::new(services, container, &self.net_files)
    }

    pub(crate) fn sys(
        &self,
        kernel: &Arc<Kernel>,
        services: &Services,
    ) -> Result<Arc<dyn FileSystem>> {
        sentry_fs::new_sys(services, kernel.cpus())
    }

    pub(crate) fn dev(&self, services: &Services) -> Result<Arc<dyn FileSystem>> {
        sentry_fs::new_dev(services)
    }

    pub(crate) fn devpts(&self) -> Arc<dyn FileSystem> {
        devpts::filesystem(&self.devpts)
    }
}
