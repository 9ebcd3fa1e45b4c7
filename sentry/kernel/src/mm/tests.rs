//! Tests of the memory manager on the fake platform: a guest that loads and stores through the recorded mappings and takes faults.

mod ahead;
mod areas;
mod model;
mod text;
mod threads;

use std::sync::{Arc, Weak};

use platform::fake::{FakeAddressSpace, FakePlatform};
use platform::{Access, FileRange, MapOp, MemoryFile, Platform};
use sentry_abi::mman::{Advice, LockAllFlags, LockFlags, MapFlags, MapType, RemapFlags};
use sentry_abi::uio::IoVec;
use sentry_abi::{Errno, PAGE_SIZE, UserAddr, UserPtr, UserSlice};

use crate::error::Result;
use crate::futex::FutexKey;
use crate::io::{Sink, Source};
use crate::mm::*;
use crate::sync::{Mutex, Rank};

const RW: Prot = Prot::READ.union(Prot::WRITE);
const SIGSEGV: i32 = 11;
const SIGBUS: i32 = 7;

/// A program: its memory manager, and loads and stores as the processor would do them.
struct Guest {
    mm: Arc<MemoryManager>,
}

fn platform() -> Arc<dyn Platform> {
    FakePlatform::new().unwrap()
}

fn guest_on(platform: &Arc<dyn Platform>) -> Guest {
    let layout = Layout::new(platform.user_range(), 8 << 20, LayoutRandom::default());
    Guest { mm: MemoryManager::new(platform, layout).unwrap() }
}

fn guest() -> Guest {
    guest_on(&platform())
}

impl Guest {
    fn space(&self) -> &FakeAddressSpace {
        FakeAddressSpace::of(self.mm.address_space()).unwrap()
    }

    /// Runs `act` until it has no fault; a fault that is not resolved ends it.
    fn run<T>(
        &self,
        mut act: impl FnMut(&FakeAddressSpace) -> core::result::Result<T, platform::fake::FakeFault>,
    ) -> core::result::Result<T, FaultSignal> {
        for _ in 0..100 {
            match act(self.space()) {
                Ok(value) => return Ok(value),
                Err(fault) => self.mm.handle_fault(fault.addr, fault.access)?,
            }
        }
        panic!("a fault is resolved again and again");
    }

    fn load(&self, addr: u64) -> core::result::Result<u8, FaultSignal> {
        let mut byte = [0];
        self.run(|space| space.read(addr, &mut byte))?;
        Ok(byte[0])
    }

    fn store(&self, addr: u64, byte: u8) -> core::result::Result<(), FaultSignal> {
        self.run(|space| space.write(addr, &[byte]))
    }

    fn map(&self, len: u64, prot: Prot) -> u64 {
        self.mm.mmap(MmapArgs::anonymous(len, prot)).unwrap().0
    }

    fn map_with(&self, change: impl FnOnce(&mut MmapArgs)) -> Result<u64> {
        let mut args = MmapArgs::anonymous(PAGE_SIZE, RW);
        change(&mut args);
        self.mm.mmap(args).map(|addr| addr.0)
    }

    fn fork(&self) -> Guest {
        Guest { mm: self.mm.fork().unwrap() }
    }

    fn operations(&self) -> usize {
        self.space().history().len()
    }

    fn areas(&self) -> Vec<(u64, u64, Prot)> {
        self.mm.maps().into_iter().map(|e| (e.vma.start, e.vma.end, e.vma.prot)).collect()
    }
}

/// A file in the page cache whose page n is filled with n + 1.
struct File {
    memory: Arc<MemoryFile>,
    identity: u64,
    pages: FileRange,
    len: Mutex<u64>,
    mappers: Mutex<Vec<Weak<MemoryManager>>>,
}

impl File {
    fn new(memory: &Arc<MemoryFile>, pages: u64) -> Arc<Self> {
        let range = memory.allocate(pages * PAGE_SIZE, PAGE_SIZE).unwrap();
        for page in 0..pages {
            let fill = [page as u8 + 1; PAGE_SIZE as usize];
            memory.write_at(range.start + page * PAGE_SIZE, &fill).unwrap();
        }
        Arc::new(Self {
            memory: memory.clone(),
            identity: new_identity(),
            pages: range,
            len: Mutex::new(Rank::PAGE_CACHE, range.len),
            mappers: Mutex::new(Rank::MAPPINGS, Vec::new()),
        })
    }

    fn truncate(&self, len: u64) {
        let old = core::mem::replace(&mut *self.len.lock(), len);
        let mappers: Vec<_> = self.mappers.lock().iter().filter_map(Weak::upgrade).collect();
        for mm in mappers {
            mm.invalidate(self.identity, len, old - len, Invalidate::PagesAndCopies);
        }
    }
}

impl Mappable for File {
    fn pages(&self, offset: u64, max_len: u64, _: Touch) -> Result<PageRun> {
        let left = self.len.lock().checked_sub(offset).filter(|left| *left > 0);
        let left = left.ok_or(Errno::ENXIO)?;
        Ok(PageRun { offset: self.pages.start + offset, len: left.min(max_len) })
    }

    fn register(&self, manager: Weak<MemoryManager>) {
        self.mappers.lock().push(manager);
    }

    fn identity(&self) -> u64 {
        self.identity
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.memory.decref(self.pages);
    }
}

fn of_file(file: &Arc<File>, kind: MapType, prot: Prot, pages: u64) -> MmapArgs {
    MmapArgs {
        kind,
        source: MapSource::Object {
            object: file.clone(),
            offset: 0,
            allowed: Prot::all(),
            label: Label::None,
        },
        ..MmapArgs::anonymous(pages * PAGE_SIZE, prot)
    }
}

#[test]
fn anonymous_memory_reads_as_zero_and_keeps_what_is_written() {
    let g = guest();
    let at = g.map(8 * PAGE_SIZE, RW);
    assert_eq!(g.load(at + 5), Ok(0));
    g.store(at + 5, 7).unwrap();
    assert_eq!(g.load(at + 5), Ok(7));
    assert_eq!(g.operations(), 1, "one fault maps the whole small area");
}

#[test]
fn a_walk_through_memory_faults_in_growing_ranges() {
    let g = guest();
    let len = 32 << 20;
    let at = g.map(len, RW);
    for page in 0..len / PAGE_SIZE {
        g.store(at + page * PAGE_SIZE, 1).unwrap();
    }
    assert!(g.operations() < 30, "{} operations for 32 MiB", g.operations());
    let lone = guest();
    let at = lone.map(len, RW);
    lone.store(at + len / 2, 1).unwrap();
    assert!(lone.mm.usage().resident <= 64 << 10, "one touch holds little");
}

#[test]
fn a_fault_that_another_thread_resolved_changes_nothing() {
    let g = guest();
    let at = g.map(PAGE_SIZE, RW);
    g.store(at, 1).unwrap();
    let before = g.operations();
    g.mm.handle_fault(at, Access::Write).unwrap();
    assert_eq!(g.operations(), before);
    // The same address again means that the host has lost it.
    g.mm.handle_fault(at, Access::Write).unwrap();
    assert_eq!(g.operations(), before + 1);
}

#[test]
fn wild_addresses_and_forbidden_accesses_name_the_right_signal() {
    let g = guest();
    let at = g.map(PAGE_SIZE, Prot::READ);
    let fault = |addr, access| g.mm.handle_fault(addr, access).unwrap_err();
    for addr in [0, 8, at + PAGE_SIZE, 0x7fff_ffff_f000, 1 << 63, u64::MAX] {
        let signal = FaultSignal { signo: SIGSEGV, code: 1, addr };
        assert_eq!(fault(addr, Access::Read), signal);
    }
    assert_eq!(fault(at, Access::Write), FaultSignal { signo: SIGSEGV, code: 2, addr: at });
    assert_eq!(fault(at, Access::Execute).code, 2);
    let none = g.map(PAGE_SIZE, Prot::empty());
    assert_eq!(g.load(none).unwrap_err().code, 2);
    assert!(g.mm.read(UserAddr(u64::MAX - 3), &mut [0; 64]).unwrap_err().is(Errno::EFAULT));
    assert!(g.mm.write(UserAddr(at), b"x").unwrap_err().is(Errno::EFAULT));
}

#[test]
fn fork_shares_pages_until_one_side_writes() {
    let platform = platform();
    let parent = guest_on(&platform);
    let at = parent.map(256 * PAGE_SIZE, RW);
    for page in 0..256 {
        parent.store(at + page * PAGE_SIZE, 1).unwrap();
    }
    let used = platform.memory().used_bytes();
    let before = parent.operations();
    let child = parent.fork();
    assert!(parent.operations() - before <= 8, "write-protected in few ranges");
    assert_eq!(platform.memory().used_bytes(), used, "fork copies nothing");
    child.store(at, 2).unwrap();
    parent.store(at + PAGE_SIZE, 3).unwrap();
    assert_eq!((parent.load(at), child.load(at)), (Ok(1), Ok(2)));
    assert_eq!((parent.load(at + PAGE_SIZE), child.load(at + PAGE_SIZE)), (Ok(3), Ok(1)));
    assert!(platform.memory().used_bytes() <= used + (128 << 10), "copies are small");
    let used = platform.memory().used_bytes();
    drop(child);
    parent.store(at + 255 * PAGE_SIZE, 4).unwrap();
    assert!(platform.memory().used_bytes() <= used, "the last owner takes the page over");
    drop(parent);
    assert_eq!(platform.memory().used_bytes(), 0, "every reference is dropped");
}

#[test]
fn the_kernels_writes_break_sharing_like_the_programs() {
    let parent = guest();
    let at = parent.map(PAGE_SIZE, RW);
    parent.store(at, 1).unwrap();
    let child = parent.fork();
    child.mm.write(UserAddr(at), b"\x09").unwrap();
    parent.mm.store_u32(UserAddr(at + 8), 77).unwrap();
    assert_eq!((parent.load(at), child.load(at)), (Ok(1), Ok(9)));
    assert_eq!(child.mm.load_u32(UserAddr(at + 8)).unwrap(), 0);
}

#[test]
fn areas_marked_for_fork_stay_or_come_empty() {
    let parent = guest();
    let (stays, wiped) = (parent.map(PAGE_SIZE, RW), parent.map(PAGE_SIZE, Prot::all()));
    parent.store(stays, 1).unwrap();
    parent.store(wiped, 2).unwrap();
    parent.mm.madvise(UserAddr(stays), PAGE_SIZE, Advice::DontFork).unwrap();
    parent.mm.madvise(UserAddr(wiped), PAGE_SIZE, Advice::WipeOnFork).unwrap();
    let child = parent.fork();
    assert_eq!(child.load(stays).unwrap_err().code, 1);
    assert_eq!(child.load(wiped), Ok(0));
    assert_eq!((parent.load(stays), parent.load(wiped)), (Ok(1), Ok(2)));
}

#[test]
fn shared_anonymous_memory_is_seen_across_fork() {
    let platform = platform();
    let parent = guest_on(&platform);
    let at = parent
        .map_with(|args| {
            args.kind = MapType::Shared;
            args.len = 4 * PAGE_SIZE;
        })
        .unwrap();
    let child = parent.fork();
    child.store(at + PAGE_SIZE, 5).unwrap();
    assert_eq!(parent.load(at + PAGE_SIZE), Ok(5));
    let keys = [&parent, &child].map(|g| g.mm.futex_key(UserAddr(at + 4), FutexScope::Shared));
    assert_eq!(keys[0].as_ref().unwrap(), keys[1].as_ref().unwrap());
    let private = parent.mm.futex_key(UserAddr(at + 4), FutexScope::Private).unwrap();
    assert!(matches!(private, FutexKey::Private { .. }));
    parent.mm.madvise(UserAddr(at), 4 * PAGE_SIZE, Advice::Remove).unwrap();
    assert_eq!(child.load(at + PAGE_SIZE), Ok(0));
    drop((parent, child));
    assert_eq!(platform.memory().used_bytes(), 0);
}

#[test]
fn private_file_mappings_share_the_page_cache_until_written() {
    let platform = platform();
    let g = guest_on(&platform);
    let file = File::new(platform.memory(), 4);
    let used = platform.memory().used_bytes();
    let at = g.mm.mmap(of_file(&file, MapType::Private, RW, 4)).unwrap().0;
    assert_eq!(g.load(at + 2 * PAGE_SIZE), Ok(3));
    assert_eq!(platform.memory().used_bytes(), used, "nothing is copied for reading");
    g.store(at, 99).unwrap();
    assert_eq!(g.load(at), Ok(99));
    assert_eq!(g.load(at + 1), Ok(1), "the rest of the page came along");
    let mut first = [0];
    platform.memory().read_at(file.pages.start, &mut first).unwrap();
    assert_eq!(first, [1], "the file is untouched");
}

#[test]
fn shared_file_mappings_write_to_the_file() {
    let platform = platform();
    let (a, b) = (guest_on(&platform), guest_on(&platform));
    let file = File::new(platform.memory(), 2);
    let at = a.mm.mmap(of_file(&file, MapType::Shared, RW, 2)).unwrap().0;
    let other = b.mm.mmap(of_file(&file, MapType::Shared, RW, 2)).unwrap().0;
    assert_eq!(b.load(other), Ok(1));
    a.store(at, 42).unwrap();
    assert_eq!(b.load(other), Ok(42));
}

#[test]
fn behind_the_end_of_the_file_is_a_bus_error() {
    let platform = platform();
    let g = guest_on(&platform);
    let file = File::new(platform.memory(), 2);
    let at = g.mm.mmap(of_file(&file, MapType::Private, RW, 4)).unwrap().0;
    assert_eq!(g.load(at + PAGE_SIZE), Ok(2));
    let beyond = at + 3 * PAGE_SIZE;
    let bus = FaultSignal { signo: SIGBUS, code: 2, addr: beyond };
    assert_eq!(g.load(beyond), Err(bus));
    assert!(g.mm.read(UserAddr(beyond), &mut [0]).unwrap_err().is(Errno::EFAULT));
}

#[test]
fn truncation_takes_mapped_pages_and_private_copies_away() {
    let platform = platform();
    let g = guest_on(&platform);
    let file = File::new(platform.memory(), 3);
    let at = g.mm.mmap(of_file(&file, MapType::Private, RW, 3)).unwrap().0;
    g.store(at + 2 * PAGE_SIZE, 9).unwrap();
    assert_eq!(g.load(at + PAGE_SIZE), Ok(2));
    file.truncate(PAGE_SIZE);
    assert_eq!(g.load(at), Ok(1));
    assert_eq!(g.load(at + PAGE_SIZE).unwrap_err().signo, SIGBUS);
    assert_eq!(g.load(at + 2 * PAGE_SIZE).unwrap_err().signo, SIGBUS);
}

#[test]
fn mprotect_splits_areas_and_joins_them_again() {
    let g = guest();
    let at = g.map(4 * PAGE_SIZE, RW);
    g.store(at + PAGE_SIZE, 1).unwrap();
    g.mm.mprotect(UserAddr(at + PAGE_SIZE), PAGE_SIZE, Prot::READ).unwrap();
    assert_eq!(g.areas().len(), 3);
    assert_eq!(g.store(at + PAGE_SIZE, 2).unwrap_err().code, 2);
    assert_eq!(g.load(at + PAGE_SIZE), Ok(1));
    g.store(at + 2 * PAGE_SIZE, 2).unwrap();
    g.mm.mprotect(UserAddr(at + PAGE_SIZE), PAGE_SIZE, RW).unwrap();
    assert_eq!(g.areas(), [(at, at + 4 * PAGE_SIZE, RW)]);
    g.store(at + PAGE_SIZE, 3).unwrap();
    let hole = g.mm.mprotect(UserAddr(at + 3 * PAGE_SIZE), 2 * PAGE_SIZE, Prot::READ);
    assert!(hole.unwrap_err().is(Errno::ENOMEM));
    assert_eq!(g.areas().len(), 2, "what lies before the hole is changed");
}

#[test]
fn a_file_opened_for_reading_cannot_be_written_through_a_shared_mapping() {
    let platform = platform();
    let g = guest_on(&platform);
    let file = File::new(platform.memory(), 1);
    let source = |prot| {
        let mut args = of_file(&file, MapType::Shared, prot, 1);
        if let MapSource::Object { allowed, .. } = &mut args.source {
            *allowed = Prot::READ;
        }
        args
    };
    assert!(g.mm.mmap(source(RW)).unwrap_err().is(Errno::EACCES));
    assert!(g.mm.mmap(source(Prot::EXEC)).unwrap_err().is(Errno::EPERM));
    let at = g.mm.mmap(source(Prot::READ)).unwrap();
    assert!(g.mm.mprotect(at, PAGE_SIZE, RW).unwrap_err().is(Errno::EACCES));
}

#[test]
fn places_are_chosen_as_the_flags_say() {
    let g = guest();
    let at = g.map(PAGE_SIZE, RW);
    let fixed = |addr, flags| g.map_with(|a| (a.addr, a.flags) = (UserAddr(addr), flags));
    let refused = |addr, flags, errno| assert!(fixed(addr, flags).unwrap_err().is(errno));
    refused(at, MapFlags::FIXED_NOREPLACE, Errno::EEXIST);
    refused(at + 1, MapFlags::FIXED, Errno::EINVAL);
    refused(PAGE_SIZE, MapFlags::FIXED, Errno::EPERM);
    refused(!0 << 12, MapFlags::FIXED, Errno::ENOMEM);
    assert_eq!(fixed(at, MapFlags::FIXED).unwrap(), at);
    let hint = 0x1234_5000;
    assert_eq!(fixed(hint + 1, MapFlags::empty()).unwrap(), hint + PAGE_SIZE);
    assert_ne!(fixed(hint + PAGE_SIZE, MapFlags::empty()).unwrap(), hint + PAGE_SIZE);
    assert!(fixed(0, MapFlags::LOW_32BIT).unwrap() < 1 << 31);
    for len in [u64::MAX, u64::MAX - 4096, 1 << 47] {
        let result = g.map_with(|args| args.len = len);
        assert!(result.unwrap_err().is(Errno::ENOMEM), "{len:#x}");
    }
    assert!(g.map_with(|args| args.len = 0).unwrap_err().is(Errno::EINVAL));
    let promised = |flags| g.map_with(|args| (args.len, args.flags) = (1 << 40, flags));
    assert!(promised(MapFlags::empty()).unwrap_err().is(Errno::ENOMEM), "more than there is");
    promised(MapFlags::NORESERVE).unwrap();
}

#[test]
fn the_stack_grows_to_its_limit_and_not_into_its_neighbour() {
    let g = guest();
    let top = 0x7000_0000_0000;
    let stack = |flags| {
        g.map_with(|a| (a.addr, a.flags) = (UserAddr(top), flags | MapFlags::GROWSDOWN)).unwrap()
    };
    stack(MapFlags::FIXED);
    g.store(top - 100 * PAGE_SIZE, 1).unwrap();
    assert_eq!(g.areas(), [(top - 100 * PAGE_SIZE, top + PAGE_SIZE, RW)]);
    g.mm.write(UserAddr(top - 200 * PAGE_SIZE), b"kernel too").unwrap();
    assert_eq!(g.store(top - (9 << 20), 1).unwrap_err().code, 1, "8 MiB is the limit");
    let below = UserAddr(top - (4 << 20));
    g.map_with(|a| (a.addr, a.flags) = (below, MapFlags::FIXED)).unwrap();
    assert_eq!(g.store(below.0 + 2 * PAGE_SIZE, 1).unwrap_err().code, 1, "the guard holds");
}

#[test]
fn mremap_keeps_contents_in_place_and_when_it_moves() {
    let g = guest();
    let at = g.map(4 * PAGE_SIZE, RW);
    for page in 0..4 {
        g.store(at + page * PAGE_SIZE, page as u8 + 1).unwrap();
    }
    let remap = |addr, old, new, flags, to| {
        let (addr, new_addr) = (UserAddr(addr), UserAddr(to));
        let (old_len, new_len) = (old * PAGE_SIZE, new * PAGE_SIZE);
        g.mm.mremap(MremapArgs { addr, old_len, new_len, flags, new_addr }).map(|a| a.0)
    };
    assert_eq!(remap(at, 4, 3, RemapFlags::empty(), 0).unwrap(), at);
    assert_eq!(g.load(at + 3 * PAGE_SIZE).unwrap_err().code, 1);
    assert_eq!(remap(at, 3, 4, RemapFlags::empty(), 0).unwrap(), at, "grows into the hole");
    assert_eq!(g.load(at + 3 * PAGE_SIZE), Ok(0));
    let blocker = at + 4 * PAGE_SIZE;
    g.map_with(|a| (a.addr, a.flags) = (UserAddr(blocker), MapFlags::FIXED)).unwrap();
    g.mm.mprotect(UserAddr(blocker), PAGE_SIZE, Prot::READ).unwrap();
    assert!(remap(at, 4, 8, RemapFlags::empty(), 0).unwrap_err().is(Errno::ENOMEM));
    let moved = remap(at, 4, 8, RemapFlags::MAYMOVE, 0).unwrap();
    assert_eq!((g.load(moved), g.load(moved + 2 * PAGE_SIZE)), (Ok(1), Ok(3)));
    assert_eq!(g.load(at).unwrap_err().code, 1);
    let fixed = RemapFlags::MAYMOVE | RemapFlags::FIXED;
    assert_eq!(remap(moved, 2, 2, fixed, at).unwrap(), at);
    assert_eq!((g.load(at + PAGE_SIZE), g.load(moved + 2 * PAGE_SIZE)), (Ok(2), Ok(3)));
    let keep = RemapFlags::MAYMOVE | RemapFlags::DONTUNMAP;
    let copy = remap(at, 2, 2, keep, 0).unwrap();
    assert_eq!((g.load(copy), g.load(at)), (Ok(1), Ok(0)), "the old place is empty, not gone");
    assert!(remap(at, 9, 9, fixed, at + PAGE_SIZE).unwrap_err().is(Errno::EINVAL));
    assert!(remap(at, 2, 2, RemapFlags::FIXED, 0).unwrap_err().is(Errno::EINVAL));
    assert!(remap(0x5000, 1, 2, RemapFlags::MAYMOVE, 0).unwrap_err().is(Errno::EFAULT));
    assert!(remap(at, 0, 2, RemapFlags::MAYMOVE, 0).unwrap_err().is(Errno::EINVAL));
}

#[test]
fn brk_moves_within_its_limits() {
    let g = guest();
    let start = 0x1000_0000;
    assert_eq!(g.mm.brk(UserAddr(start)), UserAddr(0), "before the loader said where");
    g.mm.set_brk_start(UserAddr(start));
    assert_eq!(g.mm.brk(UserAddr(0)), UserAddr(start));
    assert_eq!(g.mm.brk(UserAddr(start + 10_000)), UserAddr(start + 10_000));
    g.store(start + 9_999, 1).unwrap();
    assert_eq!(g.mm.maps()[0].name, Some("[heap]"));
    assert_eq!(g.mm.brk(UserAddr(start + 100)), UserAddr(start + 100));
    assert_eq!(g.load(start + 8192).unwrap_err().code, 1);
    g.mm.set_limits(MemoryLimits { data: 1 << 20, ..MemoryLimits::default() });
    assert_eq!(g.mm.brk(UserAddr(start + (2 << 20))), UserAddr(start + 100));
    assert_eq!(g.mm.brk(UserAddr(u64::MAX)), UserAddr(start + 100));
}

#[test]
fn limits_bound_what_can_be_mapped_and_locked() {
    let g = guest();
    let limit = 64 * PAGE_SIZE;
    g.mm.set_limits(MemoryLimits {
        address_space: limit,
        locked: 4 * PAGE_SIZE,
        ..MemoryLimits::default()
    });
    let at = g.map(60 * PAGE_SIZE, RW);
    assert!(g.map_with(|args| args.len = 5 * PAGE_SIZE).unwrap_err().is(Errno::ENOMEM));
    let lock = |pages| g.mm.mlock(UserAddr(at), pages * PAGE_SIZE, LockFlags::empty());
    lock(4).unwrap();
    lock(4).unwrap();
    assert_eq!(g.mm.usage().locked, 4 * PAGE_SIZE, "locks do not nest");
    assert!(lock(5).unwrap_err().is(Errno::ENOMEM));
    assert!(g.mm.mlockall(LockAllFlags::CURRENT).unwrap_err().is(Errno::ENOMEM));
    let dontneed = g.mm.madvise(UserAddr(at), PAGE_SIZE, Advice::DontNeed);
    assert!(dontneed.unwrap_err().is(Errno::EINVAL));
    g.mm.munlockall();
    assert_eq!(g.mm.usage().locked, 0);
}

#[test]
fn dropped_pages_read_as_zero_or_as_the_file() {
    let platform = platform();
    let g = guest_on(&platform);
    let at = g.map(4 * PAGE_SIZE, RW);
    g.store(at, 1).unwrap();
    g.store(at + PAGE_SIZE, 2).unwrap();
    g.mm.madvise(UserAddr(at), PAGE_SIZE, Advice::DontNeed).unwrap();
    assert_eq!((g.load(at), g.load(at + PAGE_SIZE)), (Ok(0), Ok(2)));
    let file = File::new(platform.memory(), 1);
    let mapped = g.mm.mmap(of_file(&file, MapType::Private, RW, 1)).unwrap();
    g.store(mapped.0, 7).unwrap();
    g.mm.madvise(mapped, PAGE_SIZE, Advice::DontNeed).unwrap();
    assert_eq!(g.load(mapped.0), Ok(1));
    let free = g.mm.madvise(mapped, PAGE_SIZE, Advice::Free);
    assert!(free.unwrap_err().is(Errno::EINVAL));
}

#[test]
fn populate_maps_everything_at_once() {
    let g = guest();
    let at = g
        .map_with(|args| {
            args.len = 8 << 20;
            args.flags |= MapFlags::POPULATE;
        })
        .unwrap();
    let before = g.operations();
    assert!(before <= 5);
    for mib in 0..8 {
        g.store(at + (mib << 20), 1).unwrap();
    }
    assert_eq!(g.operations(), before, "no further fault");
    let vec = g.map(PAGE_SIZE, RW);
    g.mm.mincore(UserAddr(at), 3 * PAGE_SIZE, UserAddr(vec)).unwrap();
    let mut held = [9; 4];
    g.mm.read(UserAddr(vec), &mut held).unwrap();
    assert_eq!(held, [1, 1, 1, 0]);
    assert!(g.mm.mincore(UserAddr(0), PAGE_SIZE, UserAddr(vec)).unwrap_err().is(Errno::ENOMEM));
}

#[test]
fn munmap_unmaps_in_the_host_once_and_only_what_was_mapped() {
    let g = guest();
    let at = g.map(64 * PAGE_SIZE, RW);
    g.mm.munmap(UserAddr(at), 64 * PAGE_SIZE).unwrap();
    assert_eq!(g.operations(), 0, "nothing was mapped yet");
    let at = g.map(64 * PAGE_SIZE, RW);
    g.store(at, 1).unwrap();
    g.mm.munmap(UserAddr(at), 64 * PAGE_SIZE).unwrap();
    let last = g.space().history().pop();
    assert!(matches!(last, Some(MapOp::Unmap { .. })));
    assert!(g.space().mappings().is_empty());
    assert_eq!(g.load(at).unwrap_err().code, 1);
}

#[test]
fn copies_stop_at_the_first_bad_byte() {
    let g = guest();
    let at = g.map(2 * PAGE_SIZE, RW);
    g.mm.munmap(UserAddr(at + PAGE_SIZE), PAGE_SIZE).unwrap();
    let edge = UserAddr(at + PAGE_SIZE - 4);
    assert_eq!(g.mm.write_partial(edge, b"abcdefgh"), 4);
    let mut buf = [0; 8];
    assert_eq!(g.mm.read_partial(edge, &mut buf), 4);
    assert_eq!(&buf, b"abcd\0\0\0\0");
    assert!(g.mm.read(edge, &mut buf).unwrap_err().is(Errno::EFAULT));
    let string = g.mm.read_cstring(edge, 100);
    assert!(string.unwrap_err().is(Errno::EFAULT), "no NUL before the hole");
    g.mm.write(UserAddr(edge.0 + 3), b"\0").unwrap();
    assert_eq!(g.mm.read_cstring(edge, 100).unwrap(), b"abc");
    assert!(g.mm.read_cstring(edge, 3).unwrap_err().is(Errno::ENAMETOOLONG));
    let value: u64 = g.mm.read_obj(UserPtr::new(at)).unwrap();
    assert_eq!(value, 0);
    assert!(g.mm.read_slice(UserSlice::<u64>::new(at, u64::MAX), 10).is_err());
}

#[test]
fn vectors_are_filled_and_read_in_order_with_short_counts_at_faults() {
    let g = guest();
    let at = g.map(PAGE_SIZE, RW);
    let vector = |parts: &[(u64, u64)]| -> Vec<IoVec> {
        parts.iter().map(|(base, len)| IoVec { base: *base, len: *len }).collect()
    };
    let mut sink = g.mm.user_sink(vector(&[(at, 3), (at + 100, 0), (at + 10, 5), (16, 4)]));
    assert_eq!(sink.room(), 12);
    assert_eq!(sink.write(b"abcdefghijkl").unwrap(), 8);
    assert!(sink.write(b"x").unwrap_err().is(Errno::EFAULT));
    let mut source = g.mm.user_source(vector(&[(at + 10, 5), (at, 3)]));
    let mut bytes = [0; 6];
    assert_eq!(source.read(&mut bytes).unwrap(), 6);
    assert_eq!((&bytes, source.remaining()), (b"defgha", 2));
    let page = g.mm.memory_file().allocate(PAGE_SIZE, PAGE_SIZE).unwrap();
    let mut source = g.mm.user_source(vector(&[(at, 3), (at + 10, 5)]));
    assert_eq!(source.read_memory(g.mm.memory_file(), page.start, 8).unwrap(), 8);
    let mut sink = g.mm.user_sink(vector(&[(at + 200, 4), (at + 300, 4)]));
    assert_eq!(sink.write_memory(g.mm.memory_file(), page.start, 8).unwrap(), 8);
    let mut bytes = [0; 4];
    g.mm.read(UserAddr(at + 300), &mut bytes).unwrap();
    assert_eq!(&bytes, b"efgh");
    let raw = [IoVec { base: at, len: u64::MAX }];
    g.mm.write_slice(UserPtr::new(at), &raw).unwrap();
    assert!(g.mm.iovecs(UserPtr::new(at), 1).unwrap_err().is(Errno::EINVAL));
    assert!(g.mm.iovecs(UserPtr::new(at), 2000).unwrap_err().is(Errno::EINVAL));
}

#[test]
fn atomic_words_need_alignment_and_memory() {
    let g = guest();
    let at = g.map(PAGE_SIZE, RW);
    assert_eq!(g.mm.compare_exchange_u32(UserAddr(at), 0, 5).unwrap(), Ok(0));
    assert_eq!(g.mm.compare_exchange_u32(UserAddr(at), 0, 6).unwrap(), Err(5));
    assert_eq!(g.mm.fetch_update_u32(UserAddr(at), |v| v + 1).unwrap(), 5);
    assert_eq!(g.mm.load_u32(UserAddr(at)).unwrap(), 6);
    assert!(g.mm.load_u32(UserAddr(at + 1)).unwrap_err().is(Errno::EINVAL));
    assert!(g.mm.load_u32(UserAddr(4)).unwrap_err().is(Errno::EFAULT));
}

#[test]
fn the_last_pages_are_given_one_by_one_and_then_the_program_is_killed() {
    let platform = platform();
    let g = guest_on(&platform);
    let at = g.map(64 * PAGE_SIZE, RW);
    platform.memory().set_limit_bytes(3 * PAGE_SIZE);
    for page in 0..3 {
        g.store(at + page * PAGE_SIZE, 1).unwrap();
    }
    let beyond = at + 3 * PAGE_SIZE;
    let killed = FaultSignal { signo: 9, code: 0x80, addr: beyond };
    assert_eq!(g.store(beyond, 1), Err(killed));
    assert!(g.mm.write(UserAddr(beyond), b"x").unwrap_err().is(Errno::EFAULT));
    let child = g.fork();
    assert_eq!(child.load(at), Ok(1), "sharing needs no memory");
    assert_eq!(child.store(at, 2).unwrap_err().signo, 9);
    drop(child);
    g.store(at, 3).unwrap();
}
