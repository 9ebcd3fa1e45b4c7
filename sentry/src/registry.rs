//! The one list of what a sandbox offers: filesystems, devices, socket families.

use std::sync::Arc;

use sentry_fs::devpts::{self, DevPts};
use sentry_fs::proc::{self, NetFiles, ProcFs};
use sentry_fs::services::Services;
use sentry_fs::tty::Terminals;
use sentry_fs::{dev, tmpfs};
use sentry_kernel::error::Result;
use sentry_kernel::kernel::{Kernel, Random};
use sentry_kernel::vfs::{FileSystem, FsType};
use sentry_net::netns::NetNamespace;
use sentry_net::sysctl;

use crate::host::HostRandom;

/// What was registered, for the mounts.
pub(crate) struct Offer {
    pub(crate) terminals: Arc<Terminals>,
    devpts: Arc<DevPts>,
    net_files: NetFiles,
}

/// Registers everything with the kernel.
pub(crate) fn register(
    kernel: &Arc<Kernel>,
    services: &Services,
    net: &Arc<NetNamespace>,
) -> Offer {
    let terminals = Terminals::register(kernel);
    let devpts = DevPts::new(terminals.clone(), services);
    let random: dev::Random = Arc::new(|dst: &mut [u8]| HostRandom.fill(dst));
    for (rdev, device) in dev::devices(kernel.platform().memory(), random) {
        kernel.devices().register(rdev, device);
    }
    kernel.register_fs_type(Arc::new(tmpfs::fs_type(services.clone())));
    let net_files = NetFiles::new(Arc::new(sysctl::Tree::new(net)));
    for (name, generator) in net.proc_files() {
        net_files.register(name, generator);
    }
    let row = proc::fs_type(services.clone(), Arc::downgrade(kernel), net_files.clone());
    kernel.register_fs_type(Arc::new(row));
    let pts = devpts.clone();
    kernel.register_fs_type(Arc::new(FsType {
        name: "devpts",
        user_mountable: true,
        create: Box::new(move |_| Ok(devpts::filesystem(&pts))),
    }));
    for family in net.families() {
        kernel.register_family(family);
    }
    Offer { terminals, devpts, net_files }
}

impl Offer {
    pub(crate) fn proc(&self, kernel: &Arc<Kernel>, services: &Services) -> Arc<dyn FileSystem> {
        ProcFs::new(services, kernel, &self.net_files)
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
