//! madvise, mincore, msync, the mlock family, and what files say when their pages go away.

use std::sync::Arc;

use sentry_abi::mman::{Advice, LockAllFlags, LockFlags, SyncFlags};
use sentry_abi::{Errno, PAGE_SIZE, UserAddr};

use crate::error::Result;
use crate::mm::area::{Backing, Vma, VmaFlags};
use crate::mm::fault::Refused;
use crate::mm::manager::{Map, MemoryManager, host_error};
use crate::mm::map::{page_range, populate_want};
use crate::mm::mappable::Mappable;
use crate::mm::pages::{Owner, Want};

/// What becomes invalid when a file says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Invalidate {
    /// The file's own pages: a hole was punched, or they were replaced.
    Pages,
    /// Also the private copies of them: the file was truncated.
    PagesAndCopies,
}

impl MemoryManager {
    /// madvise(2). Errors: EINVAL, ENOMEM for a hole (areas behind it are done), EACCES, EFAULT and EIO for pages that cannot be populated.
    pub fn madvise(&self, addr: UserAddr, len: u64, advice: Advice) -> Result<()> {
        let (start, end) = page_range(addr, len, Errno::EINVAL)?;
        if start == end {
            return Ok(());
        }
        match advice {
            Advice::PopulateRead => self.advise_populate(start, end, Want::Read),
            Advice::PopulateWrite => self.advise_populate(start, end, Want::Write),
            Advice::DontNeed | Advice::DontNeedLocked | Advice::Free => {
                self.advise_drop(start, end, advice)
            }
            Advice::Remove => self.advise_remove(start, end),
            Advice::WillNeed | Advice::Cold | Advice::PageOut => {
                // Nothing is ever far away, and the host pages out by itself.
                self.check_covered(start, end)
            }
            // There is nobody who could do it at once (CONFIG_TRANSPARENT_HUGEPAGE off).
            Advice::Collapse => Err(Errno::EINVAL.into()),
            _ => self.advise_flags(start, end, advice),
        }
    }

    fn check_covered(&self, start: u64, end: u64) -> Result<()> {
        let covered = self.map.read().areas.is_covered(start, end);
        if covered { Ok(()) } else { Err(Errno::ENOMEM.into()) }
    }

    fn advise_populate(&self, start: u64, end: u64, want: Want) -> Result<()> {
        self.populate(start, end, |_| Some(want)).map_err(|refused| match refused {
            Refused::Unmapped => Errno::ENOMEM.into(),
            Refused::Forbidden => Errno::EINVAL.into(),
            Refused::Failed(error) if error.is(Errno::ENOMEM) => error,
            Refused::Failed(_) => Errno::EFAULT.into(),
        })
    }

    fn advise_drop(&self, start: u64, end: u64, advice: Advice) -> Result<()> {
        // Areas must stay while their pages go.
        let map = self.map.read();
        for vma in map.areas.range(start, end) {
            let (from, to) = (vma.start.max(start), vma.end.min(end));
            let anonymous = matches!(vma.backing, Backing::Anonymous) && !vma.is_shared();
            let locked = vma.flags.contains(VmaFlags::LOCKED);
            if (locked && advice == Advice::DontNeed) || (advice == Advice::Free && !anonymous) {
                return Err(Errno::EINVAL.into());
            }
            self.drop_pages(from, to)?;
        }
        if map.areas.is_covered(start, end) { Ok(()) } else { Err(Errno::ENOMEM.into()) }
    }

    /// MADV_REMOVE: punches a hole into what shared mappings show.
    fn advise_remove(&self, start: u64, end: u64) -> Result<()> {
        let mut holes: Vec<(Arc<dyn Mappable>, u64, u64)> = Vec::new();
        {
            let map = self.map.read();
            for vma in map.areas.range(start, end) {
                if vma.flags.contains(VmaFlags::LOCKED) {
                    return Err(Errno::EINVAL.into());
                }
                let from = vma.start.max(start);
                let Some((object, offset)) = vma.object_at(from) else {
                    return Err(Errno::EINVAL.into());
                };
                if !vma.is_shared() || !vma.flags.contains(VmaFlags::MAY_WRITE) {
                    return Err(Errno::EACCES.into());
                }
                holes.push((object.clone(), offset, vma.end.min(end) - from));
            }
            if !map.areas.is_covered(start, end) {
                return Err(Errno::ENOMEM.into());
            }
        }
        // The object tells its mappers, this one too: no lock is held.
        holes.into_iter().try_for_each(|(object, offset, len)| object.punch_hole(offset, len))
    }

    fn advise_flags(&self, start: u64, end: u64, advice: Advice) -> Result<()> {
        let (set, clear) = match advice {
            Advice::Random => (VmaFlags::RANDOM, VmaFlags::SEQUENTIAL),
            Advice::Sequential => (VmaFlags::SEQUENTIAL, VmaFlags::RANDOM),
            Advice::DontFork => (VmaFlags::DONTFORK, VmaFlags::empty()),
            Advice::DoFork => (VmaFlags::empty(), VmaFlags::DONTFORK),
            Advice::DontDump => (VmaFlags::DONTDUMP, VmaFlags::empty()),
            Advice::DoDump => (VmaFlags::empty(), VmaFlags::DONTDUMP),
            Advice::WipeOnFork => (VmaFlags::WIPEONFORK, VmaFlags::empty()),
            Advice::KeepOnFork => (VmaFlags::empty(), VmaFlags::WIPEONFORK),
            Advice::HugePage => (VmaFlags::HUGEPAGE, VmaFlags::NOHUGEPAGE),
            Advice::NoHugePage => (VmaFlags::NOHUGEPAGE, VmaFlags::HUGEPAGE),
            Advice::Mergeable => (VmaFlags::MERGEABLE, VmaFlags::empty()),
            Advice::Unmergeable => (VmaFlags::empty(), VmaFlags::MERGEABLE),
            _ => (VmaFlags::empty(), VmaFlags::RANDOM | VmaFlags::SEQUENTIAL),
        };
        let mut map = self.map.write();
        if advice == Advice::WipeOnFork {
            let private = |v: &Vma| matches!(v.backing, Backing::Anonymous) && !v.is_shared();
            if !map.areas.range(start, end).all(private) {
                return Err(Errno::EINVAL.into());
            }
        }
        map.areas.update(start, end, |vma| {
            vma.flags.remove(clear);
            vma.flags.insert(set);
        });
        if map.areas.is_covered(start, end) { Ok(()) } else { Err(Errno::ENOMEM.into()) }
    }

    /// mincore(2): a byte for each page is written to `vec`, 1 where it is held. Errors: EINVAL, ENOMEM for a hole, EFAULT.
    pub fn mincore(&self, addr: UserAddr, len: u64, vec: UserAddr) -> Result<()> {
        const CHUNK: u64 = 4096;
        let (start, end) = page_range(addr, len, Errno::ENOMEM)?;
        let (mut at, mut out) = (start, vec);
        while at < end {
            let upto = end.min(at.saturating_add(CHUNK * PAGE_SIZE));
            let mut bytes = vec![0u8; ((upto - at) / PAGE_SIZE) as usize];
            {
                let map = self.map.read();
                if !map.areas.is_covered(at, upto) {
                    return Err(Errno::ENOMEM.into());
                }
                let pages = self.pages.read();
                for placed in pages.range(at, upto) {
                    let part = placed.clip(at, upto);
                    let first = ((part.start - at) / PAGE_SIZE) as usize;
                    let count = (part.len() / PAGE_SIZE) as usize;
                    if let Some(held) = bytes.get_mut(first..first + count) {
                        held.fill(1);
                    }
                }
            }
            self.write(out, &bytes)?;
            out = out.offset(bytes.len() as u64)?;
            at = upto;
        }
        Ok(())
    }

    /// msync(2). Errors: EINVAL, ENOMEM for a hole, EBUSY (MS_INVALIDATE of locked memory), EIO.
    pub fn msync(&self, addr: UserAddr, len: u64, flags: SyncFlags) -> Result<()> {
        if flags.contains(SyncFlags::ASYNC | SyncFlags::SYNC) {
            return Err(Errno::EINVAL.into());
        }
        let (start, end) = page_range(addr, len, Errno::ENOMEM)?;
        let mut objects: Vec<Arc<dyn Mappable>> = Vec::new();
        let covered;
        {
            let map = self.map.read();
            for vma in map.areas.range(start, end) {
                if flags.contains(SyncFlags::INVALIDATE) && vma.flags.contains(VmaFlags::LOCKED) {
                    return Err(Errno::EBUSY.into());
                }
                if let Some((object, _)) = vma.object_at(vma.start)
                    && vma.is_shared()
                    && flags.contains(SyncFlags::SYNC)
                {
                    objects.push(object.clone());
                }
            }
            covered = map.areas.is_covered(start, end);
        }
        for object in objects {
            object.sync()?;
        }
        if covered { Ok(()) } else { Err(Errno::ENOMEM.into()) }
    }

    /// mlock(2), mlock2(2). Errors: EPERM where nothing may be locked, ENOMEM above the limit or for a hole, EAGAIN where pages cannot be had.
    pub fn mlock(&self, addr: UserAddr, len: u64, flags: LockFlags) -> Result<()> {
        let limits = self.limits();
        if limits.locked == 0 {
            return Err(Errno::EPERM.into());
        }
        let (start, end) = lock_range(addr, len)?;
        let mut set = VmaFlags::LOCKED;
        set.set(VmaFlags::LOCK_ON_FAULT, flags.contains(LockFlags::ONFAULT));
        {
            let mut map = self.map.write();
            let already: u64 = map
                .areas
                .range(start, end)
                .filter(|vma| vma.flags.contains(VmaFlags::LOCKED))
                .map(|vma| vma.end.min(end) - vma.start.max(start))
                .sum();
            let total = (map.areas.totals().locked - already).saturating_add(end - start);
            if total > limits.locked || !map.areas.is_covered(start, end) {
                return Err(Errno::ENOMEM.into());
            }
            set_lock(&mut map, start, end, set);
        }
        if flags.contains(LockFlags::ONFAULT) {
            return Ok(());
        }
        self.populate(start, end, populate_want).map_err(|refused| match refused {
            Refused::Unmapped | Refused::Forbidden => Errno::ENOMEM.into(),
            Refused::Failed(error) if error.is(Errno::ENOMEM) => Errno::EAGAIN.into(),
            Refused::Failed(_) => Errno::ENOMEM.into(),
        })
    }

    /// munlock(2). Errors: EINVAL, ENOMEM for a hole.
    pub fn munlock(&self, addr: UserAddr, len: u64) -> Result<()> {
        let (start, end) = lock_range(addr, len)?;
        let mut map = self.map.write();
        set_lock(&mut map, start, end, VmaFlags::empty());
        if map.areas.is_covered(start, end) { Ok(()) } else { Err(Errno::ENOMEM.into()) }
    }

    /// mlockall(2). Errors: EINVAL, EPERM, ENOMEM above the limit.
    pub fn mlockall(&self, flags: LockAllFlags) -> Result<()> {
        if flags.is_empty() || flags == LockAllFlags::ONFAULT {
            return Err(Errno::EINVAL.into());
        }
        let limits = self.limits();
        if limits.locked == 0 {
            return Err(Errno::EPERM.into());
        }
        let mut set = VmaFlags::LOCKED;
        set.set(VmaFlags::LOCK_ON_FAULT, flags.contains(LockAllFlags::ONFAULT));
        let ranges: Vec<(u64, u64)>;
        {
            let mut map = self.map.write();
            let current = flags.contains(LockAllFlags::CURRENT);
            if current && map.areas.totals().mapped > limits.locked {
                return Err(Errno::ENOMEM.into());
            }
            let future = flags.contains(LockAllFlags::FUTURE);
            map.lock_future = if future { set } else { VmaFlags::empty() };
            if !current {
                return Ok(());
            }
            let end = map.layout.user.end;
            set_lock(&mut map, 0, end, set);
            ranges = map.areas.iter().map(|vma| (vma.start, vma.end)).collect();
        }
        if !flags.contains(LockAllFlags::ONFAULT) {
            for (start, end) in ranges {
                // Errors of single pages are not told, as on Linux.
                let _ = self.populate(start, end, populate_want);
            }
        }
        Ok(())
    }

    /// munlockall(2).
    pub fn munlockall(&self) {
        let mut map = self.map.write();
        map.lock_future = VmaFlags::empty();
        let end = map.layout.user.end;
        set_lock(&mut map, 0, end, VmaFlags::empty());
    }

    /// A mapped object says that its pages in `offset..offset + len` go away: they leave every mapping before this returns.
    /// The caller holds no lock of rank MM or above (collect the managers first) and drops its own references afterwards.
    pub fn invalidate(&self, identity: u64, offset: u64, len: u64, what: Invalidate) {
        let gone_end = offset.saturating_add(len);
        let map = self.map.read();
        let mut pages = self.pages.write();
        pages.generation += 1;
        for vma in map.areas.iter() {
            let Backing::Object { object, offset: first } = &vma.backing else { continue };
            let last = first.saturating_add(vma.len());
            if object.identity() != identity || gone_end <= *first || offset >= last {
                continue;
            }
            let start = vma.start + offset.saturating_sub(*first) / PAGE_SIZE * PAGE_SIZE;
            let end = (gone_end.min(last) - first).next_multiple_of(PAGE_SIZE) + vma.start;
            let gone: Vec<(u64, u64)> = pages
                .range(start, end.min(vma.end))
                .map(|placed| placed.clip(start, end.min(vma.end)))
                .filter(|p| p.run.owner == Owner::Object || what == Invalidate::PagesAndCopies)
                .map(|placed| (placed.start, placed.run.end))
                .collect();
            for (start, end) in gone {
                let taken = pages.remove(start, end);
                // Where the host cannot unmap, its process is gone or unusable; the pages must not be given away then.
                if self.space.unmap(start, end - start).map_err(host_error).is_ok() {
                    pages.release(&taken);
                }
            }
        }
    }
}

/// mlock(2) rounds the start down and the end up. Errors: EINVAL where that wraps.
fn lock_range(addr: UserAddr, len: u64) -> Result<(u64, u64)> {
    let end = addr.0.checked_add(len).ok_or(Errno::EINVAL)?;
    let end = end.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::EINVAL)?;
    Ok((addr.page_down().0, end))
}

fn set_lock(map: &mut Map, start: u64, end: u64, set: VmaFlags) {
    map.areas.update(start, end, |vma| {
        vma.flags.remove(VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT);
        // PROT_NONE areas and special ones count too; that is what the limit is for.
        if !vma.flags.contains(VmaFlags::DONTEXPAND) {
            vma.flags.insert(set);
        }
    });
}
