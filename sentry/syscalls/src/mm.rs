//! Memory: mmap, munmap, mprotect, mremap, brk, madvise and their relatives.

use sentry_abi::mman::{
    Advice, LockAllFlags, LockFlags, MapFlags, MapType, ProtFlags, RemapFlags, SyncFlags,
};
use sentry_abi::{Errno, PAGE_SIZE, UserAddr};
use sentry_kernel::Result;
use sentry_kernel::file::memfd;
use sentry_kernel::mm::{Label, MapSource, MmapArgs, MremapArgs, Prot};
use sentry_kernel::task::CurrentTask;
use sentry_kernel::vfs::MountFlags;

use crate::args::Fd;
use crate::rows;

rows! {
    mmap = 9 partial "MAP_HUGETLB finds no huge pages (ENOMEM); MAP_SYNC is refused (EOPNOTSUPP)";
    mprotect = 10 full;
    munmap = 11 full;
    brk = 12 full;
    mremap = 25 full;
    msync = 26 full;
    mincore = 27 partial "pages of files count as held only where this program touched them";
    madvise = 28 partial "MADV_FREE drops at once; MADV_COLLAPSE answers EINVAL; paging hints do nothing";
    mlock = 149 partial "accounted and populated; the host may still page out";
    munlock = 150 full;
    mlockall = 151 partial "accounted and populated; the host may still page out";
    munlockall = 152 full;
    remap_file_pages = 216 refused "EINVAL: deprecated, use mmap";
    mbind = 237 refused "ENOSYS: as on a kernel without NUMA";
    set_mempolicy = 238 refused "ENOSYS: as on a kernel without NUMA";
    get_mempolicy = 239 refused "ENOSYS: as on a kernel without NUMA";
    migrate_pages = 256 refused "ENOSYS: as on a kernel without NUMA";
    move_pages = 279 refused "ENOSYS: as on a kernel without NUMA";
    mlock2 = 325 partial "accounted and populated; the host may still page out";
    pkey_mprotect = 329 partial "only without a key, as on a processor without protection keys";
    pkey_alloc = 330 refused "ENOSPC: as on a processor without protection keys";
    pkey_free = 331 refused "EINVAL: as on a processor without protection keys";
}

crate::flag_args!(RemapFlags: u32, SyncFlags: u32, LockFlags: u32, LockAllFlags: u32);

/// PROT_READ, PROT_WRITE and PROT_EXEC of `bits`.
fn rights(bits: ProtFlags) -> Prot {
    Prot::from_bits_truncate(bits.bits() as u8 & Prot::all().bits())
}

fn mmap(
    task: &CurrentTask,
    addr: UserAddr,
    len: u64,
    prot: u32,
    flags: u32,
    file: FileAndOffset,
) -> Result<UserAddr> {
    let FileAndOffset { fd, offset } = file;
    if !offset.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL.into());
    }
    let kind = MapType::from_bits(flags);
    let known = MapFlags::from_bits_truncate(flags);
    let source = if known.contains(MapFlags::ANONYMOUS) {
        MapSource::Anonymous
    } else {
        // Linux finds the place before it asks what the file allows and whether it can be mapped at all.
        let fixed = known.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE);
        if fixed && !addr.is_page_aligned() {
            task.fds().file(fd.0)?;
            return Err(Errno::EINVAL.into());
        }
        file_source(task, (fd, offset), kind, prot)?
    };
    let kind = kind.ok_or(Errno::EINVAL)?;
    if kind == MapType::SharedValidate {
        // mmap(2): unknown flags fail with EOPNOTSUPP; MAP_SYNC needs persistent memory.
        let unknown = flags & !(MapType::MASK | MapFlags::all().bits());
        match source {
            MapSource::Anonymous => return Err(Errno::EINVAL.into()),
            _ if unknown != 0 || known.contains(MapFlags::SYNC) => {
                return Err(Errno::EOPNOTSUPP.into());
            }
            _ => {}
        }
    }
    // Unknown bits of the protection mean nothing here, as on Linux.
    let prot = rights(ProtFlags::from_bits_truncate(prot));
    task.mm().mmap(MmapArgs { addr, len, prot, kind, flags: known, source })
}

/// The last two words of mmap.
struct FileAndOffset {
    fd: Fd,
    offset: u64,
}

impl crate::args::FromArg for FileAndOffset {
    fn from_arg(args: &mut crate::args::ArgReader<'_>) -> Result<Self> {
        let fd = Fd::from_arg(args)?;
        Ok(Self { fd, offset: args.word() })
    }
}

/// Seals that leave no writable shared mapping.
const UNWRITABLE: u32 = memfd::SEAL_WRITE | memfd::SEAL_FUTURE_WRITE;

/// What the descriptor gives to map. Errors: EBADF, ENODEV, EPERM for what a seal forbids.
fn file_source(
    task: &CurrentTask,
    (fd, offset): (Fd, u64),
    kind: Option<MapType>,
    prot: u32,
) -> Result<MapSource> {
    let is_private = kind == Some(MapType::Private);
    let prot = ProtFlags::from_bits_truncate(prot);
    let file = task.fds().file(fd.0)?;
    let flags = file.flags();
    let path = file.path();
    let mut allowed = Prot::empty();
    allowed.set(Prot::READ, flags.readable());
    allowed.set(Prot::WRITE, flags.writable());
    if !is_private && file.ops().seals().is_ok_and(|seals| seals & UNWRITABLE != 0) {
        if prot.contains(ProtFlags::WRITE) {
            return Err(Errno::EPERM.into());
        }
        allowed.remove(Prot::WRITE);
    }
    let noexec = path.is_some_and(|path| path.mount.flags().contains(MountFlags::NOEXEC));
    allowed.set(Prot::EXEC, !noexec);
    let writes = !is_private && prot.contains(ProtFlags::WRITE);
    if !flags.readable() || (writes && !flags.writable()) {
        return Err(Errno::EACCES.into());
    }
    let label = path.map_or(Label::None, |path| Label::File(path.clone()));
    Ok(MapSource::Object { object: file.ops().mappable()?, offset, allowed, label })
}

fn mprotect(task: &CurrentTask, addr: UserAddr, len: u64, prot: u32) -> Result<()> {
    let grows = ProtFlags::GROWSDOWN | ProtFlags::GROWSUP;
    let prot = ProtFlags::from_bits(prot).ok_or(Errno::EINVAL)?;
    // No area grows up on x86.
    if prot.contains(ProtFlags::GROWSUP) || !addr.is_page_aligned() {
        return Err(Errno::EINVAL.into());
    }
    if len == 0 {
        return Ok(());
    }
    if prot.intersects(grows) {
        return task.mm().mprotect_grows_down(addr, len, rights(prot));
    }
    task.mm().mprotect(addr, len, rights(prot))
}

fn pkey_mprotect(task: &CurrentTask, addr: UserAddr, len: u64, prot: u32, key: i32) -> Result<()> {
    if key != -1 {
        return Err(Errno::EINVAL.into());
    }
    mprotect(task, addr, len, prot)
}

fn pkey_alloc(_: &CurrentTask, flags: u32, rights: u32) -> Result<()> {
    // pkey_alloc(2): flags must be 0, and rights one of the two known bits.
    let errno = if flags != 0 || rights > 3 { Errno::EINVAL } else { Errno::ENOSPC };
    Err(errno.into())
}

fn pkey_free(_: &CurrentTask, _key: i32) -> Result<()> {
    Err(Errno::EINVAL.into())
}

fn munmap(task: &CurrentTask, addr: UserAddr, len: u64) -> Result<()> {
    task.mm().munmap(addr, len)
}

fn brk(task: &CurrentTask, addr: UserAddr) -> Result<UserAddr> {
    Ok(task.mm().brk(addr))
}

fn mremap(
    task: &CurrentTask,
    addr: UserAddr,
    old_len: u64,
    new_len: u64,
    flags: RemapFlags,
    new_addr: UserAddr,
) -> Result<UserAddr> {
    task.mm().mremap(MremapArgs { addr, old_len, new_len, flags, new_addr })
}

fn msync(task: &CurrentTask, addr: UserAddr, len: u64, flags: SyncFlags) -> Result<()> {
    task.mm().msync(addr, len, flags)
}

fn mincore(task: &CurrentTask, addr: UserAddr, len: u64, vec: UserAddr) -> Result<()> {
    task.mm().mincore(addr, len, vec)
}

fn madvise(task: &CurrentTask, addr: UserAddr, len: u64, advice: i32) -> Result<()> {
    let advice = Advice::from_number(advice).ok_or(Errno::EINVAL)?;
    task.mm().madvise(addr, len, advice)
}

fn mlock(task: &CurrentTask, addr: UserAddr, len: u64) -> Result<()> {
    mlock2(task, addr, len, LockFlags::empty())
}

fn mlock2(task: &CurrentTask, addr: UserAddr, len: u64, flags: LockFlags) -> Result<()> {
    task.update_memory_limits();
    task.mm().mlock(addr, len, flags)
}

fn munlock(task: &CurrentTask, addr: UserAddr, len: u64) -> Result<()> {
    task.mm().munlock(addr, len)
}

fn mlockall(task: &CurrentTask, flags: LockAllFlags) -> Result<()> {
    task.update_memory_limits();
    task.mm().mlockall(flags)
}

fn munlockall(task: &CurrentTask) -> Result<()> {
    task.mm().munlockall();
    Ok(())
}

fn remap_file_pages(_: &CurrentTask) -> Result<()> {
    Err(Errno::EINVAL.into())
}

fn mbind(_: &CurrentTask) -> Result<()> {
    Err(Errno::ENOSYS.into())
}

fn set_mempolicy(_: &CurrentTask) -> Result<()> {
    Err(Errno::ENOSYS.into())
}

fn get_mempolicy(_: &CurrentTask) -> Result<()> {
    Err(Errno::ENOSYS.into())
}

fn migrate_pages(_: &CurrentTask) -> Result<()> {
    Err(Errno::ENOSYS.into())
}

fn move_pages(_: &CurrentTask) -> Result<()> {
    Err(Errno::ENOSYS.into())
}
