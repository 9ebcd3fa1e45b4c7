//! mremap and brk: areas that move and grow.

use platform::{MapOp, Populate, Prot};
use sentry_abi::mman::RemapFlags;
use sentry_abi::{Errno, PAGE_SIZE, UserAddr};

use crate::error::Result;
use crate::mm::area::{Backing, Label, Vma, VmaFlags};
use crate::mm::areas::STACK_GUARD;
use crate::mm::layout::MemoryLimits;
use crate::mm::manager::{AREAS_MAX, Map, MemoryManager, host_error};
use crate::mm::map::{find_room, page_len, populate_want};
use crate::mm::pages::{Placed, Run};

/// Arguments of mremap(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MremapArgs {
    /// The old place.
    pub addr: UserAddr,
    /// Its bytes; 0 asks for a second mapping of a shared area.
    pub old_len: u64,
    /// Bytes wanted.
    pub new_len: u64,
    /// MREMAP_* flags.
    pub flags: RemapFlags,
    /// The new place, with MREMAP_FIXED (a hint with MREMAP_DONTUNMAP).
    pub new_addr: UserAddr,
}

/// A range that moves.
struct Move {
    from: u64,
    old_len: u64,
    to: u64,
    new_len: u64,
    flags: RemapFlags,
}

impl MemoryManager {
    /// mremap(2): the address of the area now. Errors: EINVAL, EFAULT (no such area, or several), ENOMEM, EAGAIN (locked memory).
    pub fn mremap(&self, args: MremapArgs) -> Result<UserAddr> {
        let limits = self.limits();
        let MremapArgs { addr, flags, .. } = args;
        let moves_anyway = flags.intersects(RemapFlags::FIXED | RemapFlags::DONTUNMAP);
        if !addr.is_page_aligned() || (moves_anyway && !flags.contains(RemapFlags::MAYMOVE)) {
            return Err(Errno::EINVAL.into());
        }
        let new_len = page_len(args.new_len).map_err(|_| Errno::EINVAL)?;
        let old_len = args.old_len.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::EINVAL)?;
        if flags.contains(RemapFlags::DONTUNMAP) && old_len != new_len {
            return Err(Errno::EINVAL.into());
        }
        self.check_commit(new_len.saturating_sub(old_len))?;
        let mut garbage = Vec::new();
        let grown;
        let at;
        {
            let mut map = self.map.write();
            let change = Move { from: addr.0, old_len, to: args.new_addr.0, new_len, flags };
            at = self.remap_locked(&mut map, change, &limits, &mut garbage)?;
            self.note_peak(&map);
            let locked = map.areas.find(at).is_some_and(|vma| vma.flags.contains(VmaFlags::LOCKED));
            grown = locked && new_len > old_len;
        }
        drop(garbage);
        if grown {
            let _ = self.populate(at + old_len, at + new_len, populate_want);
        }
        Ok(UserAddr(at))
    }

    fn remap_locked(
        &self,
        map: &mut Map,
        mut change: Move,
        limits: &MemoryLimits,
        garbage: &mut Vec<Vma>,
    ) -> Result<u64> {
        let (from, new_len) = (change.from, change.new_len);
        let old_end = from.checked_add(change.old_len).ok_or(Errno::EINVAL)?;
        if change.flags.contains(RemapFlags::FIXED) {
            check_target(map, &change, old_end)?;
        }
        let Some(vma) = map.areas.find(from) else { return Err(Errno::EFAULT.into()) };
        if change.old_len == 0 && !vma.is_shared() {
            return Err(Errno::EINVAL.into());
        }
        if change.flags.intersects(RemapFlags::FIXED | RemapFlags::DONTUNMAP) {
            if change.flags.contains(RemapFlags::FIXED) {
                garbage.extend(self.unmap_locked(map, change.to, change.to + new_len)?);
            } else {
                let wanted = change.to;
                let free = wanted != 0
                    && wanted.is_multiple_of(PAGE_SIZE)
                    && map.layout.holds(wanted, new_len)
                    && map.areas.is_free(wanted, wanted + new_len);
                change.to = if free { wanted } else { find_room(map, new_len, None)? };
            }
            if change.old_len > new_len {
                garbage.extend(self.unmap_locked(map, from + new_len, old_end)?);
                change.old_len = new_len;
            }
            check_growth(map, &change, limits)?;
            return self.move_area(map, change, garbage);
        }
        if change.old_len >= new_len && change.old_len > 0 {
            if change.old_len > new_len {
                garbage.extend(self.unmap_locked(map, from + new_len, old_end)?);
            }
            return Ok(from);
        }
        check_growth(map, &change, limits)?;
        if change.old_len > 0 && self.grow_in_place(map, &change) {
            return Ok(from);
        }
        if !change.flags.contains(RemapFlags::MAYMOVE) {
            return Err(Errno::ENOMEM.into());
        }
        change.to = find_room(map, new_len, None)?;
        self.move_area(map, change, garbage)
    }

    /// Extends the area's end where the room behind it is free.
    fn grow_in_place(&self, map: &mut Map, change: &Move) -> bool {
        let (old_end, end) = (change.from + change.old_len, change.from + change.new_len);
        let Some(vma) = map.areas.find(change.from) else { return false };
        let fits = vma.end == old_end
            && end <= map.layout.user.end
            && map.areas.is_free(old_end, end)
            && guard_is_free(map, end);
        if !fits {
            return false;
        }
        let mut more = vma.clone();
        more.cut_front(old_end);
        more.end = end;
        map.areas.insert(more);
        true
    }

    /// Moves the area and its pages; what is mapped in the host moves in one batch.
    fn move_area(&self, map: &mut Map, change: Move, garbage: &mut Vec<Vma>) -> Result<u64> {
        let Move { from, old_len, to, new_len, flags } = change;
        let old_end = from + old_len;
        let Some(vma) = map.areas.find(from).filter(|vma| old_end <= vma.end) else {
            return Err(Errno::EFAULT.into());
        };
        if map.areas.len() + 3 > AREAS_MAX {
            return Err(Errno::ENOMEM.into());
        }
        let mut moved = vma.clone();
        moved.cut_front(from);
        (moved.start, moved.end) = (to, to + new_len);
        if old_len > 0 {
            self.move_pages(from, old_end, to)?;
            if flags.contains(RemapFlags::DONTUNMAP) {
                let unlocked = VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT;
                map.areas.update(from, old_end, |old| old.flags.remove(unlocked));
            } else {
                garbage.extend(map.areas.remove(from, old_end));
            }
        }
        map.areas.insert(moved);
        Ok(to)
    }

    fn move_pages(&self, from: u64, end: u64, to: u64) -> Result<()> {
        let mut pages = self.pages.write();
        let taken = pages.remove(from, end);
        let target = |placed: &Placed| placed.start - from + to;
        let mut ops = vec![MapOp::Unmap { addr: from, len: end - from }];
        for placed in &taken {
            if let Some(prot) = placed.run.mapped {
                ops.push(MapOp::MapFile {
                    addr: target(placed),
                    len: placed.len(),
                    file_offset: placed.run.offset,
                    prot,
                    populate: Populate::Lazy,
                });
            }
        }
        let done = if ops.len() > 1 { self.space.batch(&ops) } else { Ok(()) };
        for placed in &taken {
            let start = target(placed);
            // Where the host refused, nothing is mapped at the new place as far as we know: faults will say.
            let mapped = if done.is_ok() { placed.run.mapped } else { None };
            pages.insert(start, Run { end: start + placed.len(), mapped, ..placed.run });
        }
        done.map_err(host_error)
    }

    /// Says where brk(2) starts: behind the program's last byte. The loader calls it once.
    pub fn set_brk_start(&self, start: UserAddr) {
        let mut map = self.map.write();
        let start = start.page_up().map_or(start.0, |up| up.0);
        (map.brk_start, map.brk) = (start, start);
    }

    /// The program break and its start (`brk`, `start_brk`), as addresses.
    pub fn brk_range(&self) -> (UserAddr, UserAddr) {
        let map = self.map.read();
        (UserAddr(map.brk_start), UserAddr(map.brk))
    }

    /// brk(2) as the kernel does it: the new break, or the old one where `addr` cannot be it.
    pub fn brk(&self, addr: UserAddr) -> UserAddr {
        let limits = self.limits();
        let mut garbage = Vec::new();
        let (at, fresh) = {
            let mut map = self.map.write();
            let fresh = self.set_brk(&mut map, addr.0, &limits, &mut garbage);
            self.note_peak(&map);
            (map.brk, fresh.filter(|_| map.lock_future.contains(VmaFlags::LOCKED)))
        };
        drop(garbage);
        if let Some((start, end)) = fresh {
            let _ = self.populate(start, end, populate_want);
        }
        UserAddr(at)
    }

    /// Moves the break; returns what was added.
    fn set_brk(
        &self,
        map: &mut Map,
        wanted: u64,
        limits: &MemoryLimits,
        garbage: &mut Vec<Vma>,
    ) -> Option<(u64, u64)> {
        if wanted < map.brk_start || map.brk_start == 0 {
            return None;
        }
        let old = map.brk.checked_next_multiple_of(PAGE_SIZE)?;
        let new = wanted.checked_next_multiple_of(PAGE_SIZE)?;
        if new <= old {
            if new < old {
                garbage.extend(self.unmap_locked(map, new, old).ok()?);
            }
            map.brk = wanted;
            return None;
        }
        let data = map.image.data.end.saturating_sub(map.image.data.start);
        let totals = map.areas.totals();
        let more = new - old;
        let locks = map.lock_future.contains(VmaFlags::LOCKED);
        let fine = (wanted - map.brk_start).saturating_add(data) <= limits.data
            && totals.data.saturating_add(more) <= limits.data
            && totals.mapped.saturating_add(more) <= limits.address_space
            && (!locks || totals.locked.saturating_add(more) <= limits.locked)
            && new <= map.layout.user.end
            && map.areas.len() < AREAS_MAX
            && map.areas.is_free(old, new)
            && guard_is_free(map, new)
            && !self.is_overcommit(more);
        if !fine {
            return None;
        }
        map.areas.insert(Vma {
            start: old,
            end: new,
            prot: Prot::READ | Prot::WRITE,
            flags: VmaFlags::MAY_ALL | map.lock_future,
            backing: Backing::Anonymous,
            label: Label::None,
        });
        map.brk = wanted;
        Some((old, new))
    }
}

/// True where `end` does not come into the guard of a growing area above.
fn guard_is_free(map: &Map, end: u64) -> bool {
    map.areas.at_or_after(end).is_none_or(|above| {
        !above.flags.contains(VmaFlags::GROWSDOWN) || end + STACK_GUARD <= above.start
    })
}

/// MREMAP_FIXED: the target must be aligned, in range and apart from the source.
fn check_target(map: &Map, change: &Move, old_end: u64) -> Result<()> {
    let fine = change.to.is_multiple_of(PAGE_SIZE)
        && change.to.checked_add(change.new_len).is_some_and(|end| end <= map.layout.user.end)
        && (change.to >= old_end || change.to + change.new_len <= change.from);
    if !fine {
        return Err(Errno::EINVAL.into());
    }
    if change.to < map.layout.user.start { Err(Errno::EPERM.into()) } else { Ok(()) }
}

/// What grows must be one area that may grow, and the limits must allow it.
fn check_growth(map: &Map, change: &Move, limits: &MemoryLimits) -> Result<()> {
    let Some(vma) = map.areas.find(change.from) else { return Err(Errno::EFAULT.into()) };
    if change.old_len > vma.end - change.from {
        return Err(Errno::EFAULT.into());
    }
    let more = change.new_len.saturating_sub(change.old_len);
    if vma.flags.contains(VmaFlags::DONTEXPAND) && (more > 0 || change.old_len == 0) {
        return Err(Errno::EFAULT.into());
    }
    if let Some((_, offset)) = vma.object_at(change.from)
        && offset.checked_add(change.new_len).is_none_or(|end| end > i64::MAX as u64)
    {
        return Err(Errno::EINVAL.into());
    }
    let totals = map.areas.totals();
    if vma.flags.contains(VmaFlags::LOCKED)
        && totals.locked.saturating_add(more) > limits.locked.max(totals.locked)
    {
        return Err(Errno::EAGAIN.into());
    }
    let data = if vma.is_private_writable() { more } else { 0 };
    if totals.mapped.saturating_add(more) > limits.address_space.max(totals.mapped)
        || totals.data.saturating_add(data) > limits.data.max(totals.data)
    {
        return Err(Errno::ENOMEM.into());
    }
    Ok(())
}
