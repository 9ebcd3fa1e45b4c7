//! The one list of what a sandbox offers: filesystems, devices, socket families.

use std::sync::Arc;

use sentry_fs::devpts::{self, DevPts};
use sentry_fs::proc::Proc;
use sentry_fs::services::Services;
use sentry_fs::tty::Terminals;
use sentry_fs::{dev, tmpfs};
use sentry_kernel::device::Device;
use sentry_kernel::error::Result;
use sentry_kernel::file::FileOps;
use sentry_kernel::kernel::Kernel;
use sentry_kernel::task::Task;
use sentry_kernel::vfs::{FileSystem, FsType, OpenFlags};
use sentry_net::netns::NetNamespace;

/// What was registered, for the mounts.
pub(crate) struct Offer {
    pub(crate) terminals: Arc<Terminals>,
    devpts: Arc<DevPts>,
}

/// Registers everything with the kernel.
pub(crate) fn register(
    kernel: &Arc<Kernel>,
    services: &Services,
    net: &Arc<NetNamespace>,
) -> Offer {
    let terminals = Terminals::register(kernel);
    let devpts = DevPts::new(terminals.clone(), services);
    let random = kernel.clone();
    let random: dev::Random = Arc::new(move |dst: &mut [u8]| random.fill_random(dst));
    for (rdev, name, file) in dev::devices(kernel.platform().memory(), random) {
        kernel.devices().register(rdev, Arc::new(Stateless { name, file }));
    }
    kernel.register_fs_type(Arc::new(tmpfs::fs_type(services.clone())));
    let (weak, proc_services) = (Arc::downgrade(kernel), services.clone());
    kernel.register_fs_type(Arc::new(FsType {
        name: "proc",
        user_mountable: true,
        create: Box::new(move |_| {
            let kernel = weak.upgrade().ok_or(sentry_abi::Errno::EIO)?;
            Ok(Proc::new(&kernel, &proc_services)? as Arc<dyn FileSystem>)
        }),
    }));
    let pts = devpts.clone();
    kernel.register_fs_type(Arc::new(FsType {
        name: "devpts",
        user_mountable: true,
        create: Box::new(move |_| Ok(devpts::filesystem(&pts))),
    }));
    for family in net.families() {
        kernel.register_family(family);
    }
    Offer { terminals, devpts }
}

impl Offer {
    pub(crate) fn proc(
        &self,
        kernel: &Arc<Kernel>,
        services: &Services,
    ) -> Result<Arc<dyn FileSystem>> {
        Ok(Proc::new(kernel, services)?)
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

/// A device whose every open gives the same file.
struct Stateless {
    name: &'static str,
    file: Arc<dyn FileOps>,
}

impl Device for Stateless {
    fn name(&self) -> &str {
        self.name
    }

    fn open(&self, _: &Task, _: u64, _: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Ok(self.file.clone())
    }
}
