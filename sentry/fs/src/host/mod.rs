//! host: a directory tree of the host, reached only relative to a directory descriptor that was handed over; a path is never walked by the host.
//!
//! Content is read with pread; what programs map is cached in the memory file. Read-only trees (a root's lower layer) refuse every change, read-write
//! trees (volumes) pass it on. Devices, sockets and fifos of the host are shown and never opened.

mod content;
mod dirs;
mod modify;
mod node;
mod sys;
mod view;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use nix::sys::stat::FileStat;
use sentry_abi::Errno;
use sentry_kernel::error::Result;
use sentry_kernel::sync::{Mutex, Rank};
use sentry_kernel::vfs::{FileSystem, FileType, FsStat, Inode};

pub use node::HostNode;
pub use view::View;

use crate::services::Services;
use content::Cache;
use dirs::DirFds;

/// Mapped files whose pages stay in memory while nobody has them open.
const CACHED_FILES_MAX: usize = 512;

/// Whether programs may change the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writes {
    /// EROFS for every change.
    Refused,
    /// Changes go to the host.
    PassedOn,
}

/// Whether somebody else changes the tree meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// Names may be remembered, also absent ones: system directories.
    Quiet,
    /// Every lookup asks the host: volumes.
    Live,
}

/// How a host tree is shown.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Whether programs may change it.
    pub writes: Writes,
    /// Whether the host changes it meanwhile.
    pub sharing: Sharing,
    /// Which names exist.
    pub view: View,
    /// Directory descriptors kept open at most.
    pub directory_fds_max: usize,
}

impl HostOptions {
    /// A quiet read-only tree, as a root's lower layer.
    pub fn read_only() -> Self {
        Self {
            writes: Writes::Refused,
            sharing: Sharing::Quiet,
            view: View::everything(),
            directory_fds_max: 256,
        }
    }

    /// A live tree whose changes reach the host.
    pub fn read_write() -> Self {
        Self { writes: Writes::PassedOn, sharing: Sharing::Live, ..Self::read_only() }
    }
}

/// Names a file of the host: device and inode number, and the view (by address) that it was reached through.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    dev: u64,
    ino: u64,
    view: usize,
}

impl Key {
    fn new(stat: &FileStat, view: Option<&Arc<View>>) -> Self {
        let view = view.map_or(0, |view| Arc::as_ptr(view) as usize);
        Self { dev: stat.st_dev, ino: stat.st_ino, view }
    }

    /// True where this stat is of the same file.
    fn is(&self, stat: &FileStat) -> bool {
        self.dev == stat.st_dev && self.ino == stat.st_ino
    }
}

/// Page caches by device and inode number.
type Caches = HashMap<(u64, u64), (u64, Arc<Cache>)>;

/// What all trees of the host share.
pub(crate) struct Known {
    /// The host's device numbers as programs see them.
    devices: Mutex<HashMap<u64, u64>>,
    /// Live trees without a view of their own, by their root: whoever mounts a directory again, in another container of a pod say, finds
    /// the same files there, with the same pages.
    trees: Mutex<HashMap<Place, Weak<HostFs>>>,
}

/// Where a tree of the host begins. By another mount it is another tree, as that may be read-only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Place {
    mount: u64,
    dev: u64,
    ino: u64,
}

impl Place {
    fn of(root: &OwnedFd, stat: &FileStat) -> Result<Self> {
        Ok(Self { mount: sys::mount_id(root)?, dev: stat.st_dev, ino: stat.st_ino })
    }
}

impl Default for Known {
    fn default() -> Self {
        Self {
            devices: Mutex::new(Rank::LEAF, HashMap::new()),
            trees: Mutex::new(Rank::LEAF, HashMap::new()),
        }
    }
}

/// What all nodes of one tree share.
struct Shared {
    services: Services,
    writes: Writes,
    sharing: Sharing,
    root_fd: Arc<OwnedFd>,
    dirs: Mutex<DirFds>,
    nodes: Mutex<HashMap<Key, Weak<HostNode>>>,
    /// With the time of their last use.
    caches: Mutex<Caches>,
    uses: AtomicU64,
    filesystem: Mutex<Weak<HostFs>>,
}

impl Shared {
    /// The device number that programs see in place of the host's.
    fn device(&self, host: u64) -> u64 {
        let mut devices = self.services.host.devices.lock();
        *devices.entry(host).or_insert_with(|| self.services.anonymous_device())
    }

    /// EROFS on a read-only tree.
    fn check_writable(&self) -> Result<()> {
        match self.writes {
            Writes::PassedOn => Ok(()),
            Writes::Refused => Err(Errno::EROFS.into()),
        }
    }

    /// The page cache of a file, made where there is none.
    fn cache(&self, dev: u64, ino: u64) -> Arc<Cache> {
        let now = self.uses.fetch_add(1, Ordering::Relaxed);
        let mut dropped = Vec::new();
        let mut caches = self.caches.lock();
        if caches.len() >= CACHED_FILES_MAX && !caches.contains_key(&(dev, ino)) {
            let mut uses: Vec<_> = caches.iter().map(|(key, (used, _))| (*used, *key)).collect();
            uses.sort_unstable();
            for (_, key) in uses.iter().take(CACHED_FILES_MAX / 4) {
                dropped.extend(caches.remove(key));
            }
        }
        let memory = &self.services.memory;
        let entry = caches.entry((dev, ino)).or_insert_with(|| (now, Cache::new(memory)));
        entry.0 = now;
        entry.1.clone()
    }

    /// The page cache of a file, if it has one.
    fn known_cache(&self, dev: u64, ino: u64) -> Option<Arc<Cache>> {
        self.caches.lock().get(&(dev, ino)).map(|(_, cache)| cache.clone())
    }
}

/// A tree of the host.
pub struct HostFs {
    shared: Arc<Shared>,
    root: Arc<HostNode>,
}

impl HostFs {
    /// The tree below `root`, a directory descriptor (O_PATH suffices). Errors: ENOTDIR and those of fstat(2).
    pub fn new(services: &Services, root: OwnedFd, options: HostOptions) -> Result<Arc<Self>> {
        let stat = sys::stat(&root)?;
        if sys::file_type(&stat)? != FileType::Directory {
            return Err(Errno::ENOTDIR.into());
        }
        let is_common = options.view.is_whole()
            && options.writes == Writes::PassedOn
            && options.sharing == Sharing::Live;
        let place = match is_common {
            true => Some(Place::of(&root, &stat)?),
            false => None,
        };
        if let Some(place) = &place {
            let found = services.host.trees.lock().get(place).and_then(Weak::upgrade);
            if let Some(tree) = found {
                return Ok(tree);
            }
        }
        let view = (!options.view.is_whole()).then(|| Arc::new(options.view));
        let shared = Arc::new(Shared {
            services: services.clone(),
            writes: options.writes,
            sharing: options.sharing,
            root_fd: Arc::new(root),
            dirs: Mutex::new(Rank::LEAF, DirFds::new(options.directory_fds_max)),
            nodes: Mutex::new(Rank::LEAF, HashMap::new()),
            caches: Mutex::new(Rank::PAGE_CACHE, HashMap::new()),
            uses: AtomicU64::new(0),
            filesystem: Mutex::new(Rank::LEAF, Weak::new()),
        });
        let root = HostNode::root(&shared, &stat, view)?;
        let filesystem = Arc::new(Self { shared: shared.clone(), root });
        *shared.filesystem.lock() = Arc::downgrade(&filesystem);
        if let Some(place) = place {
            let mut trees = services.host.trees.lock();
            trees.retain(|_, tree| tree.strong_count() > 0);
            trees.insert(place, Arc::downgrade(&filesystem));
        }
        Ok(filesystem)
    }
}

impl FileSystem for HostFs {
    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn stat(&self) -> FsStat {
        let Ok(stat) = nix::sys::statfs::fstatfs(&*self.shared.root_fd) else {
            return FsStat {
                magic: 0,
                block_size: 4096,
                blocks: 0,
                blocks_free: 0,
                files: 0,
                files_free: 0,
                name_max: 255,
            };
        };
        FsStat {
            magic: stat.filesystem_type().0 as u64,
            block_size: stat.block_size() as u64,
            blocks: stat.blocks(),
            blocks_free: stat.blocks_free(),
            files: stat.files(),
            files_free: stat.files_free(),
            name_max: 255,
        }
    }

    fn type_name(&self) -> &'static str {
        "hostfs"
    }
}
