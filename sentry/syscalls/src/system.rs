//! uname, sysinfo, resource limits and usage, random numbers.

use sentry_abi::resource::{
    RLIM_INFINITY, RUSAGE_CHILDREN, RUSAGE_SELF, RUSAGE_THREAD, Resource, Rlimit, Rusage,
};
use sentry_abi::sysinfo::Sysinfo;
use sentry_abi::time::{NSEC_PER_SEC, TimeVal};
use sentry_abi::utsname::{NEW_UTS_LEN, NewUtsname};
use sentry_abi::{Errno, UserPtr};
use sentry_kernel::Result;
use sentry_kernel::cred::Capabilities;
use sentry_kernel::limits::Privilege;
use sentry_kernel::task::{CurrentTask, Task, Usage};
use std::sync::Arc;

use crate::rows;

rows! {
    uname = 63 full;
    getrlimit = 97 full;
    getrusage = 98 full;
    sysinfo = 99 partial "load averages are 0";
    syslog = 103 refused "EPERM: no kernel log for programs";
    personality = 135 partial "kept; ADDR_NO_RANDOMIZE is obeyed";
    setrlimit = 160 full;
    acct = 163 refused "EPERM";
    reboot = 169 refused "EPERM";
    sethostname = 170 full;
    setdomainname = 171 full;
    prlimit64 = 302 full;
    getrandom = 318 full;
    membarrier = 324 refused "ENOSYS: programs fall back to fences";
    rseq = 334 refused "ENOSYS: programs fall back";
}

fn uname(task: &CurrentTask, out: UserPtr<NewUtsname>) -> Result<()> {
    task.mm().write_obj(out, &task.container().uts().utsname())
}

fn read_name(task: &CurrentTask, name: UserPtr<u8>, len: i32) -> Result<Vec<u8>> {
    if !task.credentials().has(Capabilities::SYS_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    let len = usize::try_from(len).ok().filter(|n| *n <= NEW_UTS_LEN).ok_or(Errno::EINVAL)?;
    let mut bytes = vec![0u8; len];
    task.mm().read(name.addr(), &mut bytes)?;
    Ok(bytes)
}

fn sethostname(task: &CurrentTask, name: UserPtr<u8>, len: i32) -> Result<()> {
    let name = read_name(task, name, len)?;
    task.container().uts().set_hostname(&name)
}

fn setdomainname(task: &CurrentTask, name: UserPtr<u8>, len: i32) -> Result<()> {
    let name = read_name(task, name, len)?;
    task.container().uts().set_domainname(&name)
}

fn resource(number: u32) -> Result<Resource> {
    Resource::from_number(number).ok_or(Errno::EINVAL.into())
}

fn getrlimit(task: &CurrentTask, number: u32, out: UserPtr<Rlimit>) -> Result<()> {
    task.mm().write_obj(out, &task.thread_group().limit(resource(number)?))
}

fn setrlimit(task: &CurrentTask, number: u32, new: UserPtr<Rlimit>) -> Result<()> {
    let new = task.mm().read_obj(new)?;
    set_limit(task, task.task(), resource(number)?, new)
}

fn set_limit(
    task: &CurrentTask,
    target: &Arc<Task>,
    resource: Resource,
    new: Rlimit,
) -> Result<()> {
    let privilege = match task.credentials().has(Capabilities::SYS_RESOURCE) {
        true => Privilege::Held,
        false => Privilege::None,
    };
    target.thread_group().set_limit(resource, new, privilege)?;
    apply_memory_limits(target);
    Ok(())
}

/// The memory manager enforces what concerns it.
fn apply_memory_limits(target: &Task) {
    let Some(resources) = target.resources() else { return };
    let group = target.thread_group();
    let mut limits = resources.mm.limits();
    limits.address_space = group.soft_limit(Resource::As);
    limits.data = group.soft_limit(Resource::Data);
    limits.stack = group.soft_limit(Resource::Stack);
    limits.locked = match target.credentials().has(Capabilities::IPC_LOCK) {
        true => RLIM_INFINITY,
        false => group.soft_limit(Resource::Memlock),
    };
    resources.mm.set_limits(limits);
}

fn prlimit64(
    task: &CurrentTask,
    pid: i32,
    number: u32,
    new: UserPtr<Rlimit>,
    old: UserPtr<Rlimit>,
) -> Result<()> {
    let resource = resource(number)?;
    let target = match u32::try_from(pid) {
        Ok(0) => task.task().clone(),
        Ok(tid) => task.pids().task(tid).ok_or(Errno::ESRCH)?,
        Err(_) => return Err(Errno::ESRCH.into()),
    };
    check_prlimit(task, &target)?;
    let new = new.non_null().map(|p| task.mm().read_obj(p)).transpose()?;
    let before = target.thread_group().limit(resource);
    if let Some(new) = new {
        set_limit(task, &target, resource, new)?;
    }
    match old.non_null() {
        Some(old) => task.mm().write_obj(old, &before),
        None => Ok(()),
    }
}

/// prlimit(2): all of the target's ids are the caller's real ones, or CAP_SYS_RESOURCE.
fn check_prlimit(task: &CurrentTask, target: &Task) -> Result<()> {
    let (own, theirs) = (task.credentials(), target.credentials());
    let same_user = [theirs.uid, theirs.euid, theirs.suid].iter().all(|id| *id == own.uid);
    let same_group = [theirs.gid, theirs.egid, theirs.sgid].iter().all(|id| *id == own.gid);
    let own_group = target.pid() == task.pid();
    if own_group || (same_user && same_group) || own.has(Capabilities::SYS_RESOURCE) {
        Ok(())
    } else {
        Err(Errno::EPERM.into())
    }
}

/// What wait4(2) and getrusage(2) tell of a usage.
pub fn rusage_of(usage: &Usage) -> Rusage {
    Rusage {
        utime: TimeVal::from_ns(usage.cpu.user_ns),
        stime: TimeVal::from_ns(usage.cpu.system_ns),
        maxrss: i64::try_from(usage.peak_resident / 1024).unwrap_or(i64::MAX),
        minflt: i64::try_from(usage.faults).unwrap_or(i64::MAX),
        nvcsw: i64::try_from(usage.voluntary_switches).unwrap_or(i64::MAX),
        ..Rusage::default()
    }
}

fn getrusage(task: &CurrentTask, who: i32, out: UserPtr<Rusage>) -> Result<()> {
    let usage = match who {
        RUSAGE_SELF => task.thread_group().usage(),
        RUSAGE_CHILDREN => task.thread_group().children_usage(),
        RUSAGE_THREAD => {
            let cpu = task.account().read(task.kernel().now());
            Usage { cpu, ..Usage::default() }
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    task.mm().write_obj(out, &rusage_of(&usage))
}

fn sysinfo(task: &CurrentTask, out: UserPtr<Sysinfo>) -> Result<()> {
    let kernel = task.kernel();
    let uptime = kernel.now().since_ns(kernel.boot_time()) / NSEC_PER_SEC;
    let (total, free) = task.container().memory_sizes();
    let info = Sysinfo {
        uptime: uptime as i64,
        totalram: total,
        freeram: free,
        procs: u16::try_from(task.pids().task_count()).unwrap_or(u16::MAX),
        mem_unit: 1,
        ..Sysinfo::default()
    };
    task.mm().write_obj(out, &info)
}

fn syslog(_: &CurrentTask, _action: i32, _buf: u64, _len: i32) -> Result<()> {
    Err(Errno::EPERM.into())
}

fn acct(_: &CurrentTask, _path: u64) -> Result<()> {
    Err(Errno::EPERM.into())
}

fn reboot(_: &CurrentTask, _a: u64, _b: u64, _c: u64, _d: u64) -> Result<()> {
    Err(Errno::EPERM.into())
}

/// Asks for the present value only.
const PERSONALITY_QUERY: u32 = 0xffff_ffff;

fn personality(task: &CurrentTask, value: u32) -> Result<u32> {
    let group = task.thread_group();
    let old = group.personality();
    if value != PERSONALITY_QUERY {
        group.set_personality(value);
    }
    Ok(old)
}

/// GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE
const GRND_KNOWN: u32 = 7;
/// The most bytes of one call.
const RANDOM_MAX: usize = 0x7fff_f000;

fn getrandom(task: &CurrentTask, buf: UserPtr<u8>, len: usize, flags: u32) -> Result<usize> {
    if flags & !GRND_KNOWN != 0 || flags & 6 == 6 {
        return Err(Errno::EINVAL.into());
    }
    let len = len.min(RANDOM_MAX);
    let mut done = 0;
    let mut block = [0u8; 4096];
    while done < len {
        let part = (len - done).min(block.len());
        task.kernel().fill_random(&mut block[..part]);
        let at = buf.element(done as u64)?.addr();
        match task.mm().write(at, &block[..part]) {
            Ok(()) => done += part,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
        if task.is_interrupted() {
            break;
        }
    }
    Ok(done)
}

fn membarrier(_: &CurrentTask, _command: i32, _flags: u32, _cpu: i32) -> Result<()> {
    Err(Errno::ENOSYS.into())
}

fn rseq(_: &CurrentTask, _area: u64, _len: u32, _flags: i32, _signature: u32) -> Result<()> {
    Err(Errno::ENOSYS.into())
}
