//! The memory manager: its state, its locks, and how one is made, forked and described.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use platform::{AddressSpace, MapOp, MemoryError, MemoryFile, Platform, PlatformError, Prot};
use sentry_abi::Errno;

use crate::error::{Error, Result};
use crate::mm::area::{Backing, Label, Vma, VmaFlags};
use crate::mm::areas::Areas;
use crate::mm::layout::{Layout, MemoryLimits};
use crate::mm::pages::{Owner, Pages, Run};
use crate::sync::{Mutex, Rank, RwLock};

/// Most areas of one address space (vm.max_map_count).
pub(crate) const AREAS_MAX: usize = 65530;

static IDENTITIES: AtomicU64 = AtomicU64::new(1);

/// A number that no other memory manager and no other mapped object has: for [`crate::mm::Mappable::identity`].
pub fn new_identity() -> u64 {
    IDENTITIES.fetch_add(1, Ordering::Relaxed)
}

/// Where the parts of the program lie, for /proc/PID/stat, cmdline, environ and prctl(PR_SET_MM). Addresses; `start..end`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ImageRanges {
    /// Executable segments.
    pub code: core::ops::Range<u64>,
    /// Data segments.
    pub data: core::ops::Range<u64>,
    /// First byte of the stack as the program found it.
    pub stack: u64,
    /// Argument strings.
    pub arg: core::ops::Range<u64>,
    /// Environment strings.
    pub env: core::ops::Range<u64>,
    /// The auxiliary vector.
    pub auxv: core::ops::Range<u64>,
}

/// What the map lock protects.
pub(crate) struct Map {
    pub areas: Areas,
    pub layout: Layout,
    /// First byte of brk; 0 until the loader has set it.
    pub brk_start: u64,
    /// The program break.
    pub brk: u64,
    /// Flags for areas to come (mlockall(MCL_FUTURE)).
    pub lock_future: VmaFlags,
    pub image: ImageRanges,
}

/// What statistics /proc shows, in bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct MemoryUsage {
    /// Size of all areas (VmSize).
    pub mapped: u64,
    /// Largest that this was (VmPeak).
    pub mapped_peak: u64,
    /// Pages held (VmRSS).
    pub resident: u64,
    /// Most that this was (VmHWM), as far as somebody looked.
    pub resident_peak: u64,
    /// Pages of mapped objects among them.
    pub resident_objects: u64,
    /// Private writable areas (VmData).
    pub data: u64,
    /// Growing areas (VmStk).
    pub stack: u64,
    /// Executable areas (VmExe + VmLib).
    pub code: u64,
    /// Locked areas (VmLck).
    pub locked: u64,
}

/// One line of /proc/PID/maps.
#[derive(Clone)]
pub struct MapEntry {
    /// The area.
    pub vma: Vma,
    /// Offset in bytes of its first page in the mapped object.
    pub offset: u64,
    /// Device and inode number of the mapped object.
    pub device_and_inode: (u64, u64),
    /// The name where it is no file: `[heap]`, `[stack]`, `[vdso]`.
    pub name: Option<&'static str>,
    /// Bytes of it that are held.
    pub resident: u64,
}

/// One program's address space: its areas and pages.
///
/// Locks, in this order: the map lock (which areas there are), then the pages lock (which pages are held and mapped).
/// Copies of the common case take only the pages lock, shared. Host mappings change only under the pages lock.
pub struct MemoryManager {
    id: u64,
    me: Weak<MemoryManager>,
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) memory: Arc<MemoryFile>,
    // Before `pages`: no guest may have pages mapped when their references are dropped.
    pub(crate) space: Arc<dyn AddressSpace>,
    pub(crate) pages: RwLock<Pages>,
    pub(crate) map: RwLock<Map>,
    limits: Mutex<MemoryLimits>,
    mapped_peak: AtomicU64,
    resident_peak: AtomicU64,
    /// Address of the last fault that found its page already mapped.
    pub(crate) spurious: AtomicU64,
    pub(crate) faults: AtomicU64,
}

impl MemoryManager {
    /// An empty address space. Errors: ENOMEM where the platform cannot make one.
    pub fn new(platform: &Arc<dyn Platform>, layout: Layout) -> Result<Arc<Self>> {
        let memory = platform.memory().clone();
        let map = Map {
            areas: Areas::default(),
            layout,
            brk_start: 0,
            brk: 0,
            lock_future: VmaFlags::empty(),
            image: ImageRanges::default(),
        };
        Self::assemble(platform, map, Pages::new(memory), MemoryLimits::default())
    }

    fn assemble(
        platform: &Arc<dyn Platform>,
        map: Map,
        pages: Pages,
        limits: MemoryLimits,
    ) -> Result<Arc<Self>> {
        let space = platform.new_address_space().map_err(host_error)?;
        let mapped = map.areas.totals().mapped;
        Ok(Arc::new_cyclic(|me| Self {
            id: new_identity(),
            me: me.clone(),
            platform: platform.clone(),
            memory: platform.memory().clone(),
            space,
            pages: RwLock::new(Rank::MM_PAGES, pages),
            map: RwLock::new(Rank::MM, map),
            limits: Mutex::new(Rank::LEAF, limits),
            mapped_peak: AtomicU64::new(mapped),
            resident_peak: AtomicU64::new(0),
            spurious: AtomicU64::new(u64::MAX),
            faults: AtomicU64::new(0),
        }))
    }

    /// A copy for fork(2): the same areas, pages shared until somebody writes. MADV_DONTFORK areas stay behind, MADV_WIPEONFORK areas come empty.
    pub fn fork(&self) -> Result<Arc<Self>> {
        let map = self.map.write();
        let (child_map, objects) = fork_map(&map);
        let mut child_pages = Pages::new(self.memory.clone());
        {
            let mut pages = self.pages.write();
            share_private_pages(&map, &mut pages, &mut child_pages, &self.memory, |ops| {
                self.space.batch(ops).map_err(host_error)
            })?;
        }
        let child = Self::assemble(&self.platform, child_map, child_pages, *self.limits.lock())?;
        for object in objects {
            object.register(Arc::downgrade(&child));
        }
        Ok(child)
    }

    /// True where a shared mapping of the object can be written, now or after mprotect(2).
    pub fn may_write_shared(&self, identity: u64) -> bool {
        let writes = VmaFlags::SHARED | VmaFlags::MAY_WRITE;
        let is_it = |vma: &Vma| match &vma.backing {
            Backing::Object { object, .. } => object.identity() == identity,
            Backing::Anonymous => false,
        };
        self.map.read().areas.iter().any(|vma| vma.flags.contains(writes) && is_it(vma))
    }

    /// Tells managers and private futexes apart.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// This manager, for those who keep it.
    pub(crate) fn weak(&self) -> Weak<Self> {
        self.me.clone()
    }

    /// The platform's side, for `Context::switch`.
    pub fn address_space(&self) -> &Arc<dyn AddressSpace> {
        &self.space
    }

    /// The file that holds the pages.
    pub fn memory_file(&self) -> &Arc<MemoryFile> {
        &self.memory
    }

    /// The fixed places.
    pub fn layout(&self) -> Layout {
        self.map.read().layout.clone()
    }

    /// The limits that bound it now.
    pub fn limits(&self) -> MemoryLimits {
        *self.limits.lock()
    }

    /// True where `len` bytes of private memory are obviously more than there can ever be (vm.overcommit_memory 0).
    pub(crate) fn is_overcommit(&self, len: u64) -> bool {
        len > self.memory.size().min(self.memory.limit_bytes())
    }

    /// Sets the limits, after setrlimit(2) or a change of capabilities.
    pub fn set_limits(&self, limits: MemoryLimits) {
        *self.limits.lock() = limits;
    }

    /// Where the program's parts lie.
    pub fn image(&self) -> ImageRanges {
        self.map.read().image.clone()
    }

    /// Says where the program's parts lie (the loader, PR_SET_MM).
    pub fn set_image(&self, image: ImageRanges) {
        self.map.write().image = image;
    }

    /// Faults handled so far (`min_flt`).
    pub fn fault_count(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    /// Sizes for /proc/PID/status, statm and getrusage(2).
    pub fn usage(&self) -> MemoryUsage {
        let totals = self.map.read().areas.totals();
        let (resident, resident_objects) = {
            let pages = self.pages.read();
            let objects = pages.iter().filter(|p| p.run.owner == Owner::Object).map(|p| p.len());
            (pages.resident(), objects.sum())
        };
        let peak = self.resident_peak.fetch_max(resident, Ordering::Relaxed).max(resident);
        MemoryUsage {
            mapped: totals.mapped,
            mapped_peak: self.mapped_peak.load(Ordering::Relaxed).max(totals.mapped),
            resident,
            resident_peak: peak,
            resident_objects,
            data: totals.data,
            stack: totals.stack,
            code: totals.code,
            locked: totals.locked,
        }
    }

    pub(crate) fn note_peak(&self, map: &Map) {
        self.mapped_peak.fetch_max(map.areas.totals().mapped, Ordering::Relaxed);
    }

    /// The areas in order, for /proc/PID/maps and smaps.
    pub fn maps(&self) -> Vec<MapEntry> {
        let mut entries: Vec<MapEntry> = {
            let map = self.map.read();
            let pages = self.pages.read();
            let held = |vma: &Vma| {
                pages.range(vma.start, vma.end).map(|p| p.clip(vma.start, vma.end).len()).sum()
            };
            let entry = |vma: &Vma| MapEntry {
                vma: vma.clone(),
                offset: vma.object_at(vma.start).map_or(0, |(_, offset)| offset),
                device_and_inode: (0, 0),
                name: area_name(&map, vma),
                resident: held(vma),
            };
            map.areas.iter().map(entry).collect()
        };
        // Objects may take locks of their own for this.
        for entry in &mut entries {
            if let Backing::Object { object, .. } = &entry.vma.backing {
                entry.device_and_inode = object.device_and_inode();
            }
        }
        entries
    }
}

fn area_name(map: &Map, vma: &Vma) -> Option<&'static str> {
    match &vma.label {
        Label::Fixed(name) => Some(name),
        Label::File(_) => None,
        Label::None if vma.start < map.brk && vma.end > map.brk_start => Some("[heap]"),
        Label::None if vma.start <= map.image.stack && map.image.stack < vma.end => Some("[stack]"),
        Label::None => None,
    }
}

type Objects = Vec<Arc<dyn crate::mm::Mappable>>;

/// The areas that a child gets, and the objects that it maps.
fn fork_map(map: &Map) -> (Map, Objects) {
    let (mut areas, mut seen, mut objects) = (Areas::default(), BTreeSet::new(), Objects::new());
    for vma in map.areas.iter().filter(|vma| !vma.flags.contains(VmaFlags::DONTFORK)) {
        let mut vma = vma.clone();
        // mlock(2): memory locks are not inherited by a child.
        vma.flags.remove(VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT);
        if let Backing::Object { object, .. } = &vma.backing
            && seen.insert(object.identity())
        {
            objects.push(object.clone());
        }
        areas.insert(vma);
    }
    let child = Map {
        areas,
        layout: map.layout.clone(),
        brk_start: map.brk_start,
        brk: map.brk,
        lock_future: VmaFlags::empty(),
        image: map.image.clone(),
    };
    (child, objects)
}

/// Gives the child a reference on every private page and takes the parent's right to write it, in one batch.
/// Pages of objects are not taken over: the child asks for them when it touches them.
fn share_private_pages(
    map: &Map,
    pages: &mut Pages,
    child: &mut Pages,
    memory: &MemoryFile,
    protect: impl FnOnce(&[MapOp]) -> Result<()>,
) -> Result<()> {
    let (mut ops, mut shared) = (Vec::new(), Vec::new());
    for vma in map.areas.iter() {
        if vma.flags.intersects(VmaFlags::DONTFORK | VmaFlags::WIPEONFORK) {
            continue;
        }
        let held = pages.range(vma.start, vma.end).map(|placed| placed.clip(vma.start, vma.end));
        for part in held.filter(|placed| placed.run.owner == Owner::Private) {
            shared.push(part);
            if let Some(prot) = part.run.mapped.filter(|prot| prot.contains(Prot::WRITE)) {
                let prot = prot.difference(Prot::WRITE);
                ops.push(MapOp::Protect { addr: part.start, len: part.len(), prot });
            }
        }
    }
    if !ops.is_empty() {
        protect(&ops)?;
    }
    for part in shared {
        memory.incref(part.file_range());
        child.insert(part.start, Run { writable: false, mapped: None, ..part.run });
        pages.update(part.start, part.run.end, |_, run| {
            run.writable = false;
            run.mapped = run.mapped.map(|prot| prot.difference(Prot::WRITE));
        });
    }
    Ok(())
}

impl Drop for MemoryManager {
    fn drop(&mut self) {
        // A context may still know the space: nothing may stay mapped when the references go.
        if Arc::strong_count(&self.space) > 1 {
            let user = self.platform.user_range();
            let _ = self.space.unmap(user.start, user.end - user.start);
        }
    }
}

/// The errno for a failed change of the host's side.
pub(crate) fn host_error(error: PlatformError) -> Error {
    match error {
        PlatformError::BadRange { .. } => Error::with_msg(Errno::EINVAL, "outside of the platform"),
        PlatformError::StubDied => Error::with_msg(Errno::ENOMEM, "the host process is gone"),
        _ => Error::with_msg(Errno::ENOMEM, "the platform refused a change of memory"),
    }
}

/// The errno for a failed allocation or copy of pages.
pub(crate) fn memory_error(error: MemoryError) -> Error {
    match error {
        MemoryError::Limit { .. } | MemoryError::Full { .. } => Errno::ENOMEM.into(),
        _ => Error::with_msg(Errno::EFAULT, "the memory file refused an access"),
    }
}
