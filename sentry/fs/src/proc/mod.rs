//! proc: what programs ask about the machine and about tasks (proc(5)), a file per group of entries, each entry a row.
//!
//! Everything shown is the guest's own state; nothing of the host is.

mod fd;
mod memory;
mod mounts;
mod node;
mod process;
mod status;
mod sysctl;
mod system;

pub use memory::command_line;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use sentry_abi::Errno;
use sentry_kernel::error::Result;
use sentry_kernel::settings::Settings;
use sentry_kernel::sync::{Mutex, Rank, RwLock};
use sentry_kernel::task::{self, Container};
use sentry_kernel::vfs::{FileSystem, FileType, FsStat, FsType, Inode};

use crate::listing::Entry;
use crate::services::Services;
use node::{Body, Entries, Node, Owner, number};

/// PROC_SUPER_MAGIC (linux/magic.h).
const MAGIC: u64 = 0x9fa0;
/// PROC_ROOT_INO
const ROOT_INO: u64 = 1;

/// Makes the content of a file that another part of the sentry registers.
pub type Generator = Arc<dyn Fn() -> Result<Vec<u8>> + Send + Sync>;

/// Files of /proc/PID/net, by name: registered by the network's owner before or after proc is mounted.
#[derive(Clone)]
pub struct NetFiles(Arc<RwLock<BTreeMap<&'static str, Generator>>>, Arc<dyn Settings>);

impl NetFiles {
    /// No files yet, and the tree of /proc/sys/net.
    pub fn new(settings: Arc<dyn Settings>) -> Self {
        Self(Arc::new(RwLock::new(Rank::LEAF, BTreeMap::new())), settings)
    }

    /// Makes `/proc/net/NAME` with what `generator` gives at each reading.
    pub fn register(&self, name: &'static str, generator: Generator) {
        self.0.write().insert(name, generator);
    }
}

/// What all nodes of proc share.
struct Shared {
    container: Weak<Container>,
    services: Services,
    net: NetFiles,
    dev: u64,
    root_ino: u64,
    /// boot_id, one for each boot.
    boot_id: String,
    /// oom_score_adj by process, as far as it was set.
    oom_adjustments: Mutex<BTreeMap<u32, i32>>,
    filesystem: Mutex<Weak<ProcFs>>,
}

impl Shared {
    /// The container that it is mounted in. Errors: ESRCH once that has gone.
    fn container(&self) -> Result<Arc<Container>> {
        self.container.upgrade().ok_or(Errno::ESRCH.into())
    }

    fn filesystem(self: &Arc<Self>) -> Arc<dyn FileSystem> {
        if let Some(filesystem) = self.filesystem.lock().upgrade() {
            return filesystem;
        }
        ProcFs::around(self.clone())
    }
}

fn stat() -> FsStat {
    FsStat {
        magic: MAGIC,
        block_size: 4096,
        blocks: 0,
        blocks_free: 0,
        files: 0,
        files_free: 0,
        name_max: 255,
    }
}

/// A mounted proc.
pub struct ProcFs {
    shared: Arc<Shared>,
}

impl ProcFs {
    /// The proc of a container.
    pub fn new(services: &Services, container: &Arc<Container>, net: &NetFiles) -> Arc<Self> {
        let boot_id = sysctl::uuid(container.kernel());
        let shared = Arc::new(Shared {
            container: Arc::downgrade(container),
            services: services.clone(),
            net: net.clone(),
            dev: services.anonymous_device(),
            root_ino: ROOT_INO,
            boot_id,
            oom_adjustments: Mutex::new(Rank::LEAF, BTreeMap::new()),
            filesystem: Mutex::new(Rank::LEAF, Weak::new()),
        });
        Self::around(shared)
    }

    fn around(shared: Arc<Shared>) -> Arc<Self> {
        let filesystem = Arc::new(Self { shared: shared.clone() });
        *shared.filesystem.lock() = Arc::downgrade(&filesystem);
        filesystem
    }
}

impl FileSystem for ProcFs {
    fn root(&self) -> Arc<dyn Inode> {
        let body = Body::Directory(Box::new(Root { shared: self.shared.clone() }));
        Node::new(&self.shared, ROOT_INO, 0o555, Owner::Root, body)
    }

    fn stat(&self) -> FsStat {
        stat()
    }

    fn type_name(&self) -> &'static str {
        "proc"
    }
}

/// The registry's row. `container` is upgraded when the filesystem is mounted.
pub fn fs_type(services: Services, container: Weak<Container>, net: NetFiles) -> FsType {
    FsType {
        name: "proc",
        user_mountable: true,
        create: Box::new(move |_| {
            let container = container.upgrade().ok_or(Errno::ENODEV)?;
            Ok(ProcFs::new(&services, &container, &net) as Arc<dyn FileSystem>)
        }),
    }
}

/// Links of the root: name, and where they lead for the caller.
const LINKS: [&str; 4] = ["self", "thread-self", "mounts", "net"];

/// The root directory: the machine's files, `sys`, and a directory for each process.
struct Root {
    shared: Arc<Shared>,
}

/// Errors: ENOENT where the caller has no number in the pid namespace of this proc.
fn link_text(shared: &Shared, name: &str) -> Result<Vec<u8>> {
    let caller = task::current().ok_or(Errno::ENOENT)?;
    if !Arc::ptr_eq(caller.pids(), shared.container()?.pids()) {
        return Err(Errno::ENOENT.into());
    }
    Ok(match name {
        "self" => caller.pid().to_string(),
        "thread-self" => format!("{}/task/{}", caller.pid(), caller.tid()),
        "mounts" => "self/mounts".to_owned(),
        _ => "self/net".to_owned(),
    }
    .into_bytes())
}

impl Entries for Root {
    fn find(&self, name: &[u8]) -> Result<Arc<Node>> {
        let text = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        if let Some(pid) = process::parse_id(text) {
            return process::directory(&self.shared, pid);
        }
        if let Some(link) = LINKS.iter().find(|link| **link == text) {
            let link = *link;
            let shared = self.shared.clone();
            let body = Body::Link(Box::new(move || link_text(&shared, link)));
            return Ok(Node::new(&self.shared, number(link), 0o777, Owner::Root, body));
        }
        if text == "sys" {
            return Ok(sysctl::directory(&self.shared, "sys"));
        }
        system::file(&self.shared, text)
    }

    fn list(&self) -> Result<Vec<Entry>> {
        let mut all = system::list();
        let links = LINKS.iter();
        all.extend(links.map(|l| Entry::new(l.as_bytes(), number(*l), FileType::Symlink)));
        all.push(Entry::new(b"sys", number("sys"), FileType::Directory));
        let mut pids: Vec<u32> =
            self.shared.container()?.pids().groups().iter().map(|group| group.pid()).collect();
        pids.sort_unstable();
        all.extend(pids.into_iter().map(|pid| {
            Entry::new(pid.to_string().as_bytes(), number(("process", pid)), FileType::Directory)
        }));
        Ok(all)
    }
}
