//! System V shared memory: shmget, shmat, shmctl, shmdt.

use sentry_abi::ipc::{
    IPC_RMID, IPC_SET, IPC_STAT, SHM_EXEC, SHM_LOCK, SHM_RDONLY, SHM_REMAP, SHM_RND, SHM_UNLOCK,
    ShmidDs,
};
use sentry_abi::mman::{MapFlags, MapType};
use sentry_abi::{Errno, PAGE_SIZE, UserAddr, UserPtr};
use sentry_kernel::Result;
use sentry_kernel::cred::Credentials;
use sentry_kernel::ipc::{Attach, Caller};
use sentry_kernel::mm::{Label, MapSource, MmapArgs, Prot};
use sentry_kernel::task::CurrentTask;
use std::sync::Arc;

use crate::rows;

rows! {
    shmget = 29 partial "SHM_HUGETLB finds no huge pages (ENOMEM)";
    shmat = 30 full;
    shmctl = 31 partial "SHM_LOCK does nothing; IPC_INFO, SHM_INFO and SHM_STAT answer EINVAL";
    shmdt = 67 full;
}

fn with_caller<T>(task: &CurrentTask, f: impl FnOnce(&Caller<'_>) -> Result<T>) -> Result<T> {
    let creds: Arc<Credentials> = task.credentials();
    let now_s = task.kernel().clock().realtime_ns().div_euclid(1_000_000_000);
    f(&Caller { creds: &creds, pid: task.pid(), now_s })
}

fn shmget(task: &CurrentTask, key: i32, size: u64, flags: u32) -> Result<i32> {
    let file = task.kernel().platform().memory();
    let segments = task.container().segments();
    with_caller(task, |by| segments.find_or_make(file, key, size, flags, by))
}

fn shmat(task: &CurrentTask, id: i32, addr: UserAddr, flags: u32) -> Result<UserAddr> {
    let mut place = MapFlags::empty();
    let mut addr = addr;
    if addr != UserAddr::NULL {
        if flags & SHM_RND != 0 {
            addr = UserAddr(addr.0 / PAGE_SIZE * PAGE_SIZE);
        }
        if !addr.is_page_aligned() {
            return Err(Errno::EINVAL.into());
        }
        place = if flags & SHM_REMAP != 0 { MapFlags::FIXED } else { MapFlags::FIXED_NOREPLACE };
    } else if flags & SHM_REMAP != 0 {
        return Err(Errno::EINVAL.into());
    }
    let how = if flags & SHM_RDONLY != 0 { Attach::Read } else { Attach::ReadWrite };
    let mut prot = Prot::READ;
    prot.set(Prot::WRITE, how == Attach::ReadWrite);
    prot.set(Prot::EXEC, flags & SHM_EXEC != 0);
    let memory = with_caller(task, |by| task.container().segments().attach(id, how, by))?;
    let args = MmapArgs {
        addr,
        len: memory.size(),
        prot,
        kind: MapType::Shared,
        flags: place,
        source: MapSource::Object {
            object: memory,
            offset: 0,
            allowed: prot | Prot::EXEC,
            label: Label::Fixed("/SYSV"),
        },
    };
    // shmat(2): something is mapped there already.
    task.mm().mmap(args).map_err(|e| match e.errno() {
        Errno::EEXIST => Errno::EINVAL.into(),
        _ => e,
    })
}

fn shmdt(task: &CurrentTask, addr: UserAddr) -> Result<()> {
    let identity = task.mm().object_starting_at(addr).ok_or(Errno::EINVAL)?;
    let size = with_caller(task, |by| task.container().segments().detach(identity, by))?;
    task.mm().unmap_object(addr, size, identity)
}

fn shmctl(task: &CurrentTask, id: i32, command: i32, buf: UserPtr<ShmidDs>) -> Result<()> {
    let segments = task.container().segments();
    if id < 0 {
        return Err(Errno::EINVAL.into());
    }
    match command {
        IPC_RMID => with_caller(task, |by| segments.remove(id, by)),
        IPC_STAT => {
            let status = with_caller(task, |by| segments.status(id, by))?;
            task.mm().write_obj(buf, &status)
        }
        IPC_SET => {
            let new = task.mm().read_obj(buf)?;
            with_caller(task, |by| segments.set_owner(id, &new.perm, by))
        }
        SHM_LOCK | SHM_UNLOCK => with_caller(task, |by| segments.check_owned(id, by)),
        _ => Err(Errno::EINVAL.into()),
    }
}
