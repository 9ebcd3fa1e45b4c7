//! Faults: how a page becomes held, writable and mapped, in ranges as large as the case allows.

use std::sync::atomic::Ordering;

use platform::{FileRange, MapOp, Populate, Prot};
use sentry_abi::mman::MapFlags;
use sentry_abi::{Errno, PAGE_SIZE};

use crate::error::{Cause, Error, Result};
use crate::mm::area::{Vma, VmaFlags};
use crate::mm::areas::STACK_GUARD;
use crate::mm::manager::{Map, MemoryManager, host_error, memory_error};
use crate::mm::mappable::Touch;
use crate::mm::pages::{Owner, Pages, Placed, Run, Want};
use crate::sync::RwLockWriteGuard;

/// What is allocated, or copied of a file, at least at a time.
const CHUNK: u64 = 64 << 10;
/// What is copied at least, and at most, when a page that others share is written.
const COPY_MIN: u64 = 16 << 10;
const COPY_MAX: u64 = 256 << 10;
/// What is allocated or mapped at most at a time.
const WINDOW: u64 = 2 << 20;
/// How far before and behind a fault an object is asked for its pages.
const AROUND: u64 = 256 << 10;
/// A private mapping that can be written, has a fixed place and is no larger is copied when it is made: it is a program's data.
const DATA_MAX: u64 = 64 << 10;
/// What is held ahead at most when a file is mapped.
const AHEAD_MAX: u64 = 512 << 10;
/// How many runs on each side of a fault are entered with it, if they are held and not mapped.
const NEIGHBOURS: usize = 12;

const SIGKILL: i32 = 9;
const SIGBUS: i32 = 7;
const SIGSEGV: i32 = 11;
const SI_KERNEL: i32 = 0x80;
const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
const BUS_ADRERR: i32 = 2;

/// The signal that a task gets for a fault that cannot be resolved (sigaction(2), `si_code`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultSignal {
    /// SIGSEGV, SIGBUS; SIGKILL where the sandbox has no memory left.
    pub signo: i32,
    /// SEGV_MAPERR, SEGV_ACCERR, BUS_ADRERR, SI_KERNEL.
    pub code: i32,
    /// `si_addr`.
    pub addr: u64,
}

/// Why an address cannot be had.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refused {
    /// No area there.
    Unmapped,
    /// The area does not allow it.
    Forbidden,
    /// The page cannot be had: past the end of the file, I/O error, no memory.
    Failed(Error),
}

impl Refused {
    fn signal(self, addr: u64) -> FaultSignal {
        let (signo, code) = match self {
            Refused::Unmapped => (SIGSEGV, SEGV_MAPERR),
            Refused::Forbidden => (SIGSEGV, SEGV_ACCERR),
            Refused::Failed(error) if error.cause() == Cause::Errno(Errno::ENOMEM) => {
                (SIGKILL, SI_KERNEL)
            }
            Refused::Failed(_) => (SIGBUS, BUS_ADRERR),
        };
        FaultSignal { signo, code, addr }
    }
}

/// How much is made resident around a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Extent {
    /// By need: grows with what is already held next to it.
    ByNeed,
    /// As much of `start..end` as possible, entered in the page tables at once (MAP_POPULATE, mlock).
    All { end: u64 },
}

impl MemoryManager {
    /// Resolves a fault of the program. On `Ok` the instruction is tried again.
    pub fn handle_fault(
        &self,
        addr: u64,
        access: platform::Access,
    ) -> core::result::Result<(), FaultSignal> {
        self.faults.fetch_add(1, Ordering::Relaxed);
        let want = match access {
            platform::Access::Read => Want::Read,
            platform::Access::Write => Want::Write,
            platform::Access::Execute => Want::Execute,
        };
        // Another thread may have mapped the page meanwhile. The same address twice in a row says that the host's mapping is missing: it is made again.
        let mapped = self.pages.read().accessible(addr, want).is_some();
        if mapped && self.spurious.swap(addr, Ordering::Relaxed) != addr {
            return Ok(());
        }
        if mapped {
            self.spurious.store(u64::MAX, Ordering::Relaxed);
            self.forget_host_mapping(addr);
        }
        self.make_accessible(addr, want, Extent::ByNeed).map_err(|refused| refused.signal(addr))
    }

    fn forget_host_mapping(&self, addr: u64) {
        let page = addr / PAGE_SIZE * PAGE_SIZE;
        self.pages.write().update(page, page + PAGE_SIZE, |_, run| run.mapped = None);
    }

    /// Makes the page at `addr` held and mapped for `want`.
    pub(crate) fn make_accessible(
        &self,
        addr: u64,
        want: Want,
        extent: Extent,
    ) -> core::result::Result<(), Refused> {
        loop {
            let map = self.map.read();
            let Some(vma) = map.areas.find(addr) else {
                drop(map);
                self.grow_stack(addr)?;
                continue;
            };
            if !want.allowed_by(vma.prot) {
                return Err(Refused::Forbidden);
            }
            return self.resolve(&map, vma, addr, want, extent).map_err(Refused::Failed);
        }
    }

    /// Extends a growing area down to `addr` (setrlimit(2) RLIMIT_STACK, mmap(2) MAP_GROWSDOWN).
    fn grow_stack(&self, addr: u64) -> core::result::Result<(), Refused> {
        let limits = self.limits();
        let mut map = self.map.write();
        let Some(vma) = map.areas.at_or_after(addr) else { return Err(Refused::Unmapped) };
        if vma.start <= addr {
            return Ok(());
        }
        if !vma.flags.contains(VmaFlags::GROWSDOWN) {
            return Err(Refused::Unmapped);
        }
        let (old, end) = (vma.start, vma.end);
        let start = addr / PAGE_SIZE * PAGE_SIZE;
        let grown = old - start;
        let totals = map.areas.totals();
        let locked_more = if vma.flags.contains(VmaFlags::LOCKED) { grown } else { 0 };
        let fits = end - start <= limits.stack
            && totals.mapped.saturating_add(grown) <= limits.address_space
            && totals.locked.saturating_add(locked_more) <= limits.locked.max(totals.locked)
            && start >= map.layout.user.start;
        // The guard below a growing area keeps it from what lies there, unless that grows too or has no access.
        let guard_free = map.areas.before(old).is_none_or(|below| {
            below.flags.contains(VmaFlags::GROWSDOWN)
                || below.prot.is_empty()
                || below.end.saturating_add(STACK_GUARD) <= start
        });
        if !fits || !guard_free || !map.areas.is_free(start, old) {
            return Err(Refused::Unmapped);
        }
        let mut below = vma.clone();
        (below.start, below.end) = (start, old);
        map.areas.insert(below);
        self.note_peak(&map);
        Ok(())
    }

    /// Makes the page at `addr` of `vma` held and mapped; the area allows it. The map lock is held.
    pub(crate) fn resolve(
        &self,
        map: &Map,
        vma: &Vma,
        addr: u64,
        want: Want,
        extent: Extent,
    ) -> Result<()> {
        let addr = addr / PAGE_SIZE * PAGE_SIZE;
        let mut pages = self.hold(vma, addr, want, extent)?;
        self.install(map, &mut pages, vma, addr, extent)
    }

    /// Makes the page at `addr` of `vma` held. The map lock is held, the pages lock is returned.
    fn hold(
        &self,
        vma: &Vma,
        addr: u64,
        want: Want,
        extent: Extent,
    ) -> Result<RwLockWriteGuard<'_, Pages>> {
        let write = want == Want::Write;
        loop {
            let mut pages = self.pages.write();
            let found = pages.find(addr);
            match found {
                Some(placed) if !write || placed.run.writable => {}
                Some(placed) if !vma.is_shared() => {
                    self.break_sharing(&mut pages, vma, placed, addr)?
                }
                _ if vma.object_at(addr).is_some() => {
                    let generation = pages.generation;
                    drop(pages);
                    // The object may do I/O: the pages lock is not held meanwhile.
                    let got = self.ask_object(vma, addr, write, extent)?;
                    pages = self.pages.write();
                    if pages.generation != generation {
                        continue;
                    }
                    for part in got {
                        self.enter_object_pages(&mut pages, vma, part, write && vma.is_shared())?;
                    }
                    if write && !vma.is_shared() {
                        let Some(placed) = pages.find(addr) else { continue };
                        self.break_sharing(&mut pages, vma, placed, addr)?;
                    }
                }
                _ => self.allocate_private(&mut pages, vma, addr, extent)?,
            }
            return Ok(pages);
        }
    }

    /// Holds what a program that has just mapped a file at `start` will soon touch, without mapping it: the next fault nearby enters all of it at once.
    pub(crate) fn hold_ahead(&self, start: u64, flags: MapFlags) {
        let map = self.map.read();
        // Another thread may have changed the map meanwhile.
        let Some(vma) = map.areas.find(start) else { return };
        let small = vma.len() <= AROUND;
        if vma.is_shared() || vma.prot.is_empty() || !(small || vma.prot.contains(Prot::EXEC)) {
            return;
        }
        let fixed = flags.contains(MapFlags::FIXED);
        let data = fixed && vma.prot.contains(Prot::WRITE) && vma.len() <= DATA_MAX;
        let want = if data { Want::Write } else { Want::Read };
        let end = vma.end.min(start.saturating_add(AHEAD_MAX));
        let mut at = start;
        while at < end {
            // Whatever hinders it now will be told at the fault.
            let Ok(pages) = self.hold(vma, at, want, Extent::ByNeed) else { return };
            at = pages.find(at).map_or(end, |placed| placed.run.end);
        }
    }

    /// Allocates zeroed pages around `addr`, where none are held.
    fn allocate_private(
        &self,
        pages: &mut Pages,
        vma: &Vma,
        addr: u64,
        extent: Extent,
    ) -> Result<()> {
        let low = pages.before(addr).map_or(vma.start, |below| below.run.end.max(vma.start));
        let high = pages.after(addr).map_or(vma.end, |above| above.start.min(vma.end));
        let (start, end) = match extent {
            Extent::All { end } => (addr, end.min(high).min(addr.saturating_add(WINDOW))),
            Extent::ByNeed => {
                let size = window_size(pages, vma, addr, low, high);
                let start = addr / size * size;
                (start.max(low), start.saturating_add(size).min(high))
            }
        };
        let len = end - start;
        let align = if len == WINDOW && start.is_multiple_of(WINDOW) { WINDOW } else { PAGE_SIZE };
        let (start, range) = match self.memory.allocate(len, align) {
            Ok(range) => (start, range),
            // Near the limit one page may still be had.
            Err(_) => (addr, self.memory.allocate(PAGE_SIZE, PAGE_SIZE).map_err(memory_error)?),
        };
        pages.insert(start, private_run(start, range));
        Ok(())
    }

    /// Gives the program a page of its own at `addr`, which lies in `placed`: takes it over where nobody else has it, copies it otherwise.
    fn break_sharing(&self, pages: &mut Pages, vma: &Vma, placed: Placed, addr: u64) -> Result<()> {
        let window = WINDOW.min(vma.len().next_power_of_two());
        let wide = addr / window * window;
        let part = placed.clip(wide.max(vma.start), (wide + window).min(vma.end));
        let sole = |at: u64| self.memory.refs(part.offset_of(at)) == 1;
        if part.run.owner == Owner::Private && sole(addr) {
            let (start, end) = stretch(part, addr, sole);
            pages.update(start, end, |_, run| run.writable = true);
            return Ok(());
        }
        let chunk = copy_size(pages, vma, part.run.owner, addr);
        let low = addr / chunk * chunk;
        let near = part.clip(low.max(part.start), low.saturating_add(chunk).min(part.run.end));
        let (start, end) = match part.run.owner {
            Owner::Private => stretch(near, addr, |at| !sole(at)),
            Owner::Object => (near.start, near.run.end),
        };
        let source = placed.offset_of(start);
        let (start, source, range) = match self.memory.allocate(end - start, PAGE_SIZE) {
            Ok(range) => (start, source, range),
            Err(_) => {
                let range = self.memory.allocate(PAGE_SIZE, PAGE_SIZE).map_err(memory_error)?;
                (addr, placed.offset_of(addr), range)
            }
        };
        self.memory.copy_within(source, range.start, range.len).map_err(memory_error)?;
        self.replace(pages, vma, start, private_run(start, range))
    }

    /// Puts `run` in the place of what is held there; the old pages leave the host's address space before their references go.
    fn replace(&self, pages: &mut Pages, vma: &Vma, start: u64, run: Run) -> Result<()> {
        let taken = pages.remove(start, run.end);
        let mut run = run;
        if taken.iter().any(|placed| placed.run.mapped.is_some()) {
            let prot = host_prot(vma, run.writable);
            let op = self.space.map_file(start, run.end - start, run.offset, prot, Populate::Lazy);
            if let Err(error) = op {
                // What the host now has there is unknown: nothing, then.
                let _ = self.space.unmap(start, run.end - start);
                pages.insert(start, run);
                pages.release(&taken);
                return Err(host_error(error));
            }
            run.mapped = Some(prot);
        }
        pages.insert(start, run);
        pages.release(&taken);
        Ok(())
    }

    /// Asks the mapped object for the page at `addr` and what lies around it. Only the map lock is held.
    fn ask_object(&self, vma: &Vma, addr: u64, write: bool, extent: Extent) -> Result<Vec<Placed>> {
        let touch = if write && vma.is_shared() { Touch::Write } else { Touch::Read };
        let (first, end) = match extent {
            Extent::ByNeed if touch == Touch::Read => {
                let first = addr.saturating_sub(AROUND) / CHUNK * CHUNK;
                (first.max(vma.start), addr.saturating_add(AROUND).min(vma.end))
            }
            // What is written of a file is written back: no more than need be.
            Extent::ByNeed => ((addr / CHUNK * CHUNK).max(vma.start), addr + PAGE_SIZE),
            Extent::All { .. } => (addr, addr + PAGE_SIZE),
        };
        let (mut runs, mut at) = (Vec::new(), first);
        while at < end {
            match self.object_run(vma, at, touch) {
                Ok(got) if got.run.end > at => {
                    at = got.run.end;
                    runs.push(got);
                }
                // What lies around is a convenience: on any difficulty go on at the page itself.
                Ok(_) | Err(_) if at < addr => at = addr,
                Err(error) if at == addr => return Err(error),
                _ => break,
            }
        }
        Ok(runs)
    }

    fn object_run(&self, vma: &Vma, at: u64, touch: Touch) -> Result<Placed> {
        let Some((object, offset)) = vma.object_at(at) else { return Err(Errno::EFAULT.into()) };
        let most = WINDOW.min(vma.end - at);
        let got = object.pages(offset, most, touch)?;
        let len = got.len.min(most) / PAGE_SIZE * PAGE_SIZE;
        if len == 0 || !got.offset.is_multiple_of(PAGE_SIZE) {
            return Err(Error::with_msg(Errno::EIO, "a mapped object gave no whole page"));
        }
        let writable = touch == Touch::Write;
        let run =
            Run { end: at + len, offset: got.offset, owner: Owner::Object, writable, mapped: None };
        Ok(Placed { start: at, run })
    }

    /// Enters an object's pages where none are held, and for a write through a shared mapping also in place of what was held for reading.
    fn enter_object_pages(
        &self,
        pages: &mut Pages,
        vma: &Vma,
        got: Placed,
        shared_write: bool,
    ) -> Result<()> {
        let mut at = got.start;
        while at < got.run.end {
            let held = pages.find(at);
            let end = match held {
                Some(placed) => placed.run.end.min(got.run.end),
                None => pages.after(at).map_or(got.run.end, |next| next.start.min(got.run.end)),
            };
            let part = got.clip(at, end);
            match held {
                None => {
                    self.memory.incref(part.file_range());
                    pages.insert(at, part.run);
                }
                Some(placed) if shared_write && !placed.run.writable => {
                    if placed.offset_of(at) == part.run.offset {
                        pages.update(at, end, |_, run| run.writable = true);
                    } else {
                        self.memory.incref(part.file_range());
                        self.replace(pages, vma, at, part.run)?;
                    }
                }
                Some(_) => {}
            }
            at = end;
        }
        Ok(())
    }

    /// Maps the page at `addr`, which is held, and what is held around it in the host's address space: one batch.
    fn install(
        &self,
        map: &Map,
        pages: &mut Pages,
        vma: &Vma,
        addr: u64,
        extent: Extent,
    ) -> Result<()> {
        let Some(placed) = pages.find(addr) else { return Ok(()) };
        let prot = host_prot(vma, placed.run.writable);
        if placed.run.mapped == Some(prot) {
            return Ok(());
        }
        let part = clip_to_window(placed, vma, addr);
        let populate = match extent {
            Extent::ByNeed => Populate::Lazy,
            Extent::All { .. } => Populate::Now,
        };
        let mut ops = vec![if part.run.mapped.is_some() {
            MapOp::Protect { addr: part.start, len: part.len(), prot }
        } else {
            map_op(part, prot, populate)
        }];
        let mut changed = vec![(part, prot)];
        if extent == Extent::ByNeed && part.run.mapped.is_none() {
            for (near, prot) in unmapped_neighbours(map, pages, placed) {
                ops.push(map_op(near, prot, Populate::Lazy));
                changed.push((near, prot));
            }
        } else if prot.contains(Prot::WRITE) {
            for (near, prot) in self.take_over_neighbours(map, pages, placed) {
                ops.push(MapOp::Protect { addr: near.start, len: near.len(), prot });
                changed.push((near, prot));
            }
        }
        if let Err(error) = self.space.batch(&ops) {
            // How far the host came is unknown: nothing is mapped there, then.
            for (part, _) in changed {
                let _ = self.space.unmap(part.start, part.len());
                pages.update(part.start, part.run.end, |_, run| run.mapped = None);
            }
            return Err(host_error(error));
        }
        for (part, prot) in changed {
            pages.update(part.start, part.run.end, |_, run| run.mapped = Some(prot));
        }
        Ok(())
    }

    /// Private runs next to `placed` that were shared by a fork and that nobody else has any more: a parent gets all back at once when its child has gone on to exec.
    fn take_over_neighbours(
        &self,
        map: &Map,
        pages: &mut Pages,
        placed: Placed,
    ) -> Vec<(Placed, Prot)> {
        let sole = |held: &Placed| {
            let mut at = (held.start..held.run.end).step_by(PAGE_SIZE as usize);
            held.len() <= COPY_MAX && at.all(|at| self.memory.refs(held.offset_of(at)) == 1)
        };
        let shared = |held: &Placed| held.run.owner == Owner::Private && !held.run.writable;
        let near = pages.beside(placed, NEIGHBOURS);
        let near: Vec<Placed> =
            near.filter(|held| held.run.mapped.is_some() && shared(held) && sole(held)).collect();
        let mut taken = Vec::new();
        for held in near {
            let Some(vma) = map.areas.find(held.start).filter(|vma| held.run.end <= vma.end) else {
                continue;
            };
            if vma.prot.contains(Prot::WRITE) && !vma.is_shared() {
                pages.update(held.start, held.run.end, |_, run| run.writable = true);
                taken.push((held, host_prot(vma, true)));
            }
        }
        taken
    }

    /// Makes `start..end` resident as far as its areas allow (MAP_POPULATE, mlock, MADV_POPULATE_*). The first refusal ends it.
    pub(crate) fn populate(
        &self,
        start: u64,
        end: u64,
        want: impl Fn(&Vma) -> Option<Want>,
    ) -> core::result::Result<(), Refused> {
        let mut at = start;
        while at < end {
            let map = self.map.read();
            let Some(vma) = map.areas.find(at) else { return Err(Refused::Unmapped) };
            let upto = vma.end.min(end);
            let Some(want) = want(vma) else {
                at = upto;
                continue;
            };
            if !want.allowed_by(vma.prot) {
                return Err(Refused::Forbidden);
            }
            let extent = Extent::All { end: upto };
            self.resolve(&map, vma, at, want, extent).map_err(Refused::Failed)?;
            drop(map);
            let done = self.pages.read().accessible(at, want).map_or(PAGE_SIZE, |(_, len)| len);
            at = at.saturating_add(done);
        }
        Ok(())
    }

    /// The protection that the host gets for held pages changes with their area's: one batch for `start..end`.
    pub(crate) fn update_host_protection(
        &self,
        map: &Map,
        pages: &mut Pages,
        start: u64,
        end: u64,
    ) -> Result<()> {
        let mut ops = Vec::new();
        let mut changed = Vec::new();
        for vma in map.areas.range(start, end) {
            let (from, to) = (vma.start.max(start), vma.end.min(end));
            for placed in pages.range(from, to) {
                let part = placed.clip(from, to);
                let prot = host_prot(vma, part.run.writable);
                if part.run.mapped.is_some_and(|mapped| mapped != prot) {
                    ops.push(MapOp::Protect { addr: part.start, len: part.len(), prot });
                    changed.push((part, prot));
                }
            }
        }
        if ops.is_empty() {
            return Ok(());
        }
        self.space.batch(&ops).map_err(host_error)?;
        for (part, prot) in changed {
            pages.update(part.start, part.run.end, |_, run| run.mapped = Some(prot));
        }
        Ok(())
    }
}

/// What the host may let the program do: the area's rights, without writing where a write must be seen first.
pub(crate) fn host_prot(vma: &Vma, writable: bool) -> Prot {
    let mut prot = vma.prot;
    if prot.intersects(Prot::WRITE | Prot::EXEC) {
        // On x86 such pages can be read.
        prot |= Prot::READ;
    }
    if writable { prot } else { prot.difference(Prot::WRITE) }
}

/// The part of `placed` that one operation maps for a fault at `addr`.
fn clip_to_window(placed: Placed, vma: &Vma, addr: u64) -> Placed {
    let wide = addr / WINDOW * WINDOW;
    placed.clip(wide.max(vma.start), wide.saturating_add(WINDOW).min(vma.end))
}

fn map_op(part: Placed, prot: Prot, populate: Populate) -> MapOp {
    let (addr, len) = (part.start, part.len());
    MapOp::MapFile { addr, len, file_offset: part.run.offset, prot, populate }
}

/// Runs next to `placed` that are held and not mapped, as far as their areas let the program touch them, with their protection.
fn unmapped_neighbours(map: &Map, pages: &Pages, placed: Placed) -> Vec<(Placed, Prot)> {
    let mut near = Vec::new();
    for held in pages.beside(placed, NEIGHBOURS).filter(|held| held.run.mapped.is_none()) {
        // A run may span areas: their rights may differ.
        for vma in map.areas.range(held.start, held.run.end).filter(|vma| !vma.prot.is_empty()) {
            let part = held.clip(vma.start.max(held.start), vma.end.min(held.run.end));
            near.push((clip_to_window(part, vma, part.start), host_prot(vma, part.run.writable)));
        }
    }
    near
}

fn private_run(start: u64, range: FileRange) -> Run {
    Run {
        end: start + range.len,
        offset: range.start,
        owner: Owner::Private,
        writable: true,
        mapped: None,
    }
}

/// The pages around `addr` in `part` for which `same` holds without a gap.
fn stretch(part: Placed, addr: u64, same: impl Fn(u64) -> bool) -> (u64, u64) {
    let (mut start, mut end) = (addr, addr + PAGE_SIZE);
    while start > part.start && same(start - PAGE_SIZE) {
        start -= PAGE_SIZE;
    }
    while end < part.run.end && same(end) {
        end += PAGE_SIZE;
    }
    (start, end)
}

/// How much to copy around `addr`: as much as was copied next to it. A child that runs on to exec touches few pages, one that lives on touches many.
fn copy_size(pages: &Pages, vma: &Vma, owner: Owner, addr: u64) -> u64 {
    if owner == Owner::Object {
        return CHUNK;
    }
    let low = addr / COPY_MIN * COPY_MIN;
    let beside = [low.checked_sub(1), low.checked_add(COPY_MIN)];
    let copied = beside
        .into_iter()
        .flatten()
        .filter(|at| (vma.start..vma.end).contains(at))
        .filter_map(|at| pages.find(at))
        .filter(|placed| placed.run.owner == Owner::Private && placed.run.writable)
        .map(|placed| placed.clip(vma.start, vma.end).len());
    let near = copied.max().unwrap_or(0).clamp(COPY_MIN, COPY_MAX);
    // Down to a power of two.
    1 << near.ilog2()
}

/// How much to allocate around `addr`: twice what lies next to it, so that a program that walks through memory faults seldom and one that
/// touches a page here and there gets little.
fn window_size(pages: &Pages, vma: &Vma, addr: u64, low: u64, high: u64) -> u64 {
    let chunk = addr / CHUNK * CHUNK;
    let mut near = 0;
    if chunk <= low
        && let Some(below) = low.checked_sub(1).and_then(|at| pages.find(at))
    {
        near = below.clip(vma.start.min(below.run.end), below.run.end).len();
    }
    if chunk + CHUNK >= high
        && let Some(above) = pages.find(high)
    {
        near = near.max(above.len());
    }
    near.saturating_mul(2).clamp(CHUNK, WINDOW).next_power_of_two().min(WINDOW)
}
