//! mmap, munmap, mprotect: which areas there are.

use std::sync::Arc;

use platform::Prot;
use sentry_abi::mman::{MapFlags, MapType};
use sentry_abi::{Errno, PAGE_SIZE, UserAddr};

use crate::error::Result;
use crate::mm::area::{Backing, Label, Vma, VmaFlags};
use crate::mm::layout::MemoryLimits;
use crate::mm::manager::{AREAS_MAX, Map, MemoryManager, host_error};
use crate::mm::mappable::Mappable;
use crate::mm::pages::Want;
use crate::mm::shared::SharedMemory;

/// Areas of this size and multiples of it are placed so that large pages fit.
const HUGE: u64 = 2 << 20;

/// What mmap(2) maps.
pub enum MapSource {
    /// Zeroes.
    Anonymous,
    /// A file or device.
    Object {
        /// What [`crate::file::FileOps::mappable`] gave.
        object: Arc<dyn Mappable>,
        /// Offset in bytes of the first page.
        offset: u64,
        /// What the open file allows: READ and WRITE as it was opened, EXEC unless its mount is noexec.
        allowed: Prot,
        /// Name for /proc.
        label: Label,
    },
}

/// Arguments of mmap(2).
pub struct MmapArgs {
    /// Hint, or place with MAP_FIXED.
    pub addr: UserAddr,
    /// Bytes; rounded up to pages.
    pub len: u64,
    /// PROT_READ, PROT_WRITE, PROT_EXEC.
    pub prot: Prot,
    /// MAP_SHARED or MAP_PRIVATE.
    pub kind: MapType,
    /// The other MAP_* flags.
    pub flags: MapFlags,
    /// What to map.
    pub source: MapSource,
}

impl MmapArgs {
    /// Private anonymous memory anywhere.
    pub fn anonymous(len: u64, prot: Prot) -> Self {
        Self {
            addr: UserAddr::NULL,
            len,
            prot,
            kind: MapType::Private,
            flags: MapFlags::ANONYMOUS,
            source: MapSource::Anonymous,
        }
    }
}

/// Rounds a length up to pages. Errors: EINVAL for 0, ENOMEM where it wraps.
pub(crate) fn page_len(len: u64) -> Result<u64> {
    match len {
        0 => Err(Errno::EINVAL.into()),
        len => Ok(len.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::ENOMEM)?),
    }
}

/// The page-aligned range `addr..addr + len`, rounded up. Errors: EINVAL where `addr` is not aligned, `wraps` where it does.
pub(crate) fn page_range(addr: UserAddr, len: u64, wraps: Errno) -> Result<(u64, u64)> {
    if !addr.is_page_aligned() {
        return Err(Errno::EINVAL.into());
    }
    let len = len.checked_next_multiple_of(PAGE_SIZE).ok_or(wraps)?;
    Ok((addr.0, addr.0.checked_add(len).ok_or(wraps)?))
}

impl MemoryManager {
    /// mmap(2): the address of the new area.
    /// Errors: EINVAL, ENOMEM, EEXIST (MAP_FIXED_NOREPLACE), EACCES and EPERM for what the file does not allow, EOVERFLOW, EAGAIN (locked memory), EPERM below the lowest address.
    pub fn mmap(&self, args: MmapArgs) -> Result<UserAddr> {
        let len = page_len(args.len)?;
        let limits = self.limits();
        let populate =
            args.flags.contains(MapFlags::POPULATE) && !args.flags.contains(MapFlags::NONBLOCK);
        let mut vma = self.new_vma(&args, len)?;
        if vma.is_private_writable() && !vma.flags.contains(VmaFlags::NORESERVE) {
            self.check_commit(len)?;
        }
        let garbage;
        let locked;
        {
            let mut map = self.map.write();
            let (start, free) = place(&map, &args, len)?;
            vma.start = start;
            vma.end = start + len;
            vma.flags |= map.lock_future;
            locked = vma.flags.contains(VmaFlags::LOCKED)
                && !vma.flags.contains(VmaFlags::LOCK_ON_FAULT);
            check_limits(&map, &vma, &limits, start)?;
            garbage =
                if free { Vec::new() } else { self.unmap_locked(&mut map, start, start + len)? };
            if let Backing::Object { object, .. } = &vma.backing {
                object.register(self.weak());
            }
            map.areas.insert(vma.clone());
            self.note_peak(&map);
        }
        // Files may be closed by this: no lock is held.
        drop(garbage);
        if populate || locked {
            // mmap(2): the call does not fail where the pages cannot be had.
            let _ = self.populate(vma.start, vma.end, populate_want);
        } else if matches!(vma.backing, Backing::Object { .. }) {
            self.hold_ahead(vma.start, args.flags);
        }
        Ok(UserAddr(vma.start))
    }

    pub(crate) fn check_commit(&self, len: u64) -> Result<()> {
        if self.is_overcommit(len) { Err(Errno::ENOMEM.into()) } else { Ok(()) }
    }

    /// The area for the arguments, without its place.
    fn new_vma(&self, args: &MmapArgs, len: u64) -> Result<Vma> {
        let shared = args.kind != MapType::Private;
        let mut flags = VmaFlags::MAY_ALL;
        flags.set(VmaFlags::SHARED, shared);
        flags.set(VmaFlags::NORESERVE, args.flags.contains(MapFlags::NORESERVE));
        flags.set(VmaFlags::LOCKED, args.flags.contains(MapFlags::LOCKED));
        let grows = args.flags.contains(MapFlags::GROWSDOWN);
        if args.flags.contains(MapFlags::HUGETLB) {
            // There is no pool of huge pages, as on a machine with vm.nr_hugepages = 0.
            return Err(Errno::ENOMEM.into());
        }
        let (backing, label) = match &args.source {
            MapSource::Anonymous if shared => {
                if grows {
                    return Err(Errno::EINVAL.into());
                }
                let object = SharedMemory::new(self.memory_file().clone(), len);
                (Backing::Object { object, offset: 0 }, Label::Fixed("/dev/zero (deleted)"))
            }
            MapSource::Anonymous => {
                flags.set(VmaFlags::GROWSDOWN, grows);
                (Backing::Anonymous, Label::None)
            }
            MapSource::Object { object, offset, allowed, label } => {
                object_rights(args, *offset, len, *allowed, &mut flags)?;
                (Backing::Object { object: object.clone(), offset: *offset }, label.clone())
            }
        };
        Ok(Vma { start: 0, end: len, prot: args.prot, flags, backing, label })
    }

    /// munmap(2). Errors: EINVAL, ENOMEM where an area would be split and there are too many.
    pub fn munmap(&self, addr: UserAddr, len: u64) -> Result<()> {
        let (start, end) = page_range(addr, len, Errno::EINVAL)?;
        let garbage;
        {
            let mut map = self.map.write();
            if len == 0 || !map.layout_allows(start, end) {
                return Err(Errno::EINVAL.into());
            }
            garbage = self.unmap_locked(&mut map, start, end)?;
        }
        drop(garbage);
        Ok(())
    }

    /// Takes areas and pages away. The caller drops what is returned after the lock: files may be closed by it.
    pub(crate) fn unmap_locked(&self, map: &mut Map, start: u64, end: u64) -> Result<Vec<Vma>> {
        if map.areas.len() + map.areas.splits(start, end) > AREAS_MAX {
            return Err(Errno::ENOMEM.into());
        }
        let removed = map.areas.remove(start, end);
        if !removed.is_empty() {
            self.drop_pages(start, end)?;
        }
        Ok(removed)
    }

    /// Lets go of the pages in `start..end`; what the program finds there next comes by a new fault.
    pub(crate) fn drop_pages(&self, start: u64, end: u64) -> Result<()> {
        let mut pages = self.pages.write();
        let taken = pages.remove(start, end);
        let mut mapped = taken.iter().filter(|placed| placed.run.mapped.is_some());
        if let Some(first) = mapped.next() {
            let last = mapped.next_back().unwrap_or(first);
            // On an error the references are kept: the program may still reach the pages.
            self.space.unmap(first.start, last.run.end - first.start).map_err(host_error)?;
        }
        pages.release(&taken);
        Ok(())
    }

    /// Identity of the object whose first byte is mapped at `addr`, where an area starts.
    pub fn object_starting_at(&self, addr: UserAddr) -> Option<u64> {
        let map = self.map.read();
        let vma = map.areas.find(addr.0).filter(|vma| vma.start == addr.0)?;
        let (object, offset) = vma.object_at(addr.0)?;
        (offset == 0).then(|| object.identity())
    }

    /// Removes what is left of a mapping of the object's first `len` bytes at `addr` (shmdt(2)): other areas in between stay. Errors: those of munmap(2).
    pub fn unmap_object(&self, addr: UserAddr, len: u64, identity: u64) -> Result<()> {
        let (start, end) = page_range(addr, len, Errno::EINVAL)?;
        let parts: Vec<(u64, u64)> = {
            let map = self.map.read();
            let own = |vma: &&Vma| {
                vma.object_at(vma.start).is_some_and(|(object, offset)| {
                    object.identity() == identity && start.checked_add(offset) == Some(vma.start)
                })
            };
            map.areas.range(start, end).filter(own).map(|vma| (vma.start, vma.len())).collect()
        };
        parts.into_iter().try_for_each(|(at, len)| self.munmap(UserAddr(at), len))
    }

    /// mprotect(2) for a range without PROT_GROWSDOWN. Errors: EINVAL, ENOMEM for a hole (areas before it are changed), EACCES.
    pub fn mprotect(&self, addr: UserAddr, len: u64, prot: Prot) -> Result<()> {
        let (start, end) = page_range(addr, len, Errno::ENOMEM)?;
        if start == end {
            return Ok(());
        }
        let limits = self.limits();
        let mut map = self.map.write();
        self.protect_locked(&mut map, start, end, prot, &limits)
    }

    /// mprotect(2) with PROT_GROWSDOWN: from the start of the growing area that holds `addr`. Errors: EINVAL where it does not grow.
    pub fn mprotect_grows_down(&self, addr: UserAddr, len: u64, prot: Prot) -> Result<()> {
        let (start, end) = page_range(addr, len, Errno::ENOMEM)?;
        let limits = self.limits();
        let mut map = self.map.write();
        let Some(vma) = map.areas.at_or_after(start).filter(|vma| vma.start < end) else {
            return Err(Errno::ENOMEM.into());
        };
        if !vma.flags.contains(VmaFlags::GROWSDOWN) {
            return Err(Errno::EINVAL.into());
        }
        let start = vma.start;
        self.protect_locked(&mut map, start, end, prot, &limits)
    }

    fn protect_locked(
        &self,
        map: &mut Map,
        start: u64,
        end: u64,
        prot: Prot,
        limits: &MemoryLimits,
    ) -> Result<()> {
        let mut upto = start;
        let mut failed = None;
        let mut more_data = 0u64;
        for vma in map.areas.range(start, end) {
            if vma.start > upto {
                break;
            }
            if !vma.flags.may().contains(prot) {
                failed = Some(Errno::EACCES);
                break;
            }
            let part = vma.end.min(end) - vma.start.max(start);
            if !vma.is_shared() && prot.contains(Prot::WRITE) && !vma.prot.contains(Prot::WRITE) {
                more_data += part;
            }
            upto = vma.end.min(end);
        }
        if more_data > 0 && map.areas.totals().data.saturating_add(more_data) > limits.data {
            return Err(Errno::ENOMEM.into());
        }
        if map.areas.len() + 2 > AREAS_MAX && map.areas.splits(start, end) > 0 {
            return Err(Errno::ENOMEM.into());
        }
        if upto > start {
            map.areas.update(start, upto, |vma| vma.prot = prot);
            let mut pages = self.pages.write();
            self.update_host_protection(map, &mut pages, start, upto)?;
        }
        match failed {
            Some(errno) => Err(errno.into()),
            None if upto < end => Err(Errno::ENOMEM.into()),
            None => Ok(()),
        }
    }
}

impl Map {
    /// True where `start..end` lies in what a program could map.
    pub(crate) fn layout_allows(&self, start: u64, end: u64) -> bool {
        end >= start && end <= self.layout.user.end
    }
}

/// What a populated area is touched for: writing where a private page would otherwise be copied later.
pub(crate) fn populate_want(vma: &Vma) -> Option<Want> {
    if vma.prot.is_empty() {
        None
    } else if !vma.is_shared() && vma.prot.contains(Prot::WRITE) {
        Some(Want::Write)
    } else {
        Some(Want::Read)
    }
}

/// What an open file allows a mapping of it (mmap(2), EACCES and EPERM).
fn object_rights(
    args: &MmapArgs,
    offset: u64,
    len: u64,
    allowed: Prot,
    flags: &mut VmaFlags,
) -> Result<()> {
    if !offset.is_multiple_of(PAGE_SIZE) || args.flags.contains(MapFlags::GROWSDOWN) {
        return Err(Errno::EINVAL.into());
    }
    if len > i64::MAX as u64 {
        return Err(Errno::ENOMEM.into());
    }
    if offset.checked_add(len).is_none_or(|end| end > i64::MAX as u64) {
        return Err(Errno::EOVERFLOW.into());
    }
    if !allowed.contains(Prot::READ) {
        return Err(Errno::EACCES.into());
    }
    if flags.contains(VmaFlags::SHARED) && !allowed.contains(Prot::WRITE) {
        if args.prot.contains(Prot::WRITE) {
            return Err(Errno::EACCES.into());
        }
        flags.remove(VmaFlags::MAY_WRITE);
    }
    if !allowed.contains(Prot::EXEC) {
        if args.prot.contains(Prot::EXEC) {
            return Err(Errno::EPERM.into());
        }
        flags.remove(VmaFlags::MAY_EXEC);
    }
    Ok(())
}

/// Where the area goes, and whether nothing is there yet.
fn place(map: &Map, args: &MmapArgs, len: u64) -> Result<(u64, bool)> {
    let user = &map.layout.user;
    let addr = args.addr.0;
    if args.flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE) {
        if !args.addr.is_page_aligned() {
            return Err(Errno::EINVAL.into());
        }
        let end = addr.checked_add(len).filter(|end| *end <= user.end).ok_or(Errno::ENOMEM)?;
        if addr < user.start {
            return Err(Errno::EPERM.into());
        }
        let free = map.areas.is_free(addr, end);
        if !free && args.flags.contains(MapFlags::FIXED_NOREPLACE) {
            return Err(Errno::EEXIST.into());
        }
        return Ok((addr, free));
    }
    if let Some(hint) = args.addr.page_up().filter(|hint| !hint.is_null()) {
        let hint = hint.0.max(user.start);
        if map.layout.holds(hint, len) && map.areas.is_free(hint, hint + len) {
            return Ok((hint, true));
        }
    }
    let low_32bit = args.flags.contains(MapFlags::LOW_32BIT);
    find_room(map, len, low_32bit.then_some(1 << 31)).map(|at| (at, true))
}

/// A free place of `len` bytes, top down below the layout's mmap top (or below `below`), else anywhere.
pub(crate) fn find_room(map: &Map, len: u64, below: Option<u64>) -> Result<u64> {
    let user = &map.layout.user;
    let align = if len >= HUGE && len.is_multiple_of(HUGE) { HUGE } else { PAGE_SIZE };
    let (areas, low) = (&map.areas, user.start);
    let found = match below {
        Some(top) => areas.room_below(len, low, top.min(user.end), PAGE_SIZE),
        None => areas
            .room_below(len, low, map.layout.mmap_top, align)
            .or_else(|| areas.room_above(len, map.layout.mmap_top, user.end, PAGE_SIZE))
            .or_else(|| areas.room_above(len, low, user.end, PAGE_SIZE)),
    };
    found.ok_or_else(|| Errno::ENOMEM.into())
}

/// Limits for an area that is about to be mapped at `start`; what it replaces does not count.
fn check_limits(map: &Map, vma: &Vma, limits: &MemoryLimits, start: u64) -> Result<()> {
    let totals = map.areas.totals();
    // Linux looks at locked memory first.
    if vma.flags.contains(VmaFlags::LOCKED) {
        if limits.locked == 0 {
            return Err(Errno::EPERM.into());
        }
        if totals.locked.saturating_add(vma.len()) > limits.locked {
            return Err(Errno::EAGAIN.into());
        }
    }
    let mut replaced = 0;
    let mut replaced_data = 0;
    for old in map.areas.range(start, vma.end) {
        let part = old.end.min(vma.end) - old.start.max(start);
        replaced += part;
        replaced_data += if old.is_private_writable() { part } else { 0 };
    }
    let mapped = (totals.mapped - replaced).saturating_add(vma.len());
    let data = (totals.data - replaced_data).saturating_add(vma.len());
    if mapped > limits.address_space || (vma.is_private_writable() && data > limits.data) {
        return Err(Errno::ENOMEM.into());
    }
    if map.areas.len() + 2 > AREAS_MAX {
        return Err(Errno::ENOMEM.into());
    }
    Ok(())
}
