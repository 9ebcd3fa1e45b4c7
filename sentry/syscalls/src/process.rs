//! clone, fork, execve, exit, wait and the process's own identity.

use sentry_abi::prctl::{ARCH_GET_FS, ARCH_GET_GS, ARCH_SET_FS, ARCH_SET_GS};
use sentry_abi::resource::{Resource, Rusage};
use sentry_abi::sched::{CLONE_ARGS_SIZE_VER0, CloneArgs, CloneFlags};
use sentry_abi::signal::{SI_USER, SigInfo, Signal};
use sentry_abi::wait::{P_ALL, P_PGID, P_PID, P_PIDFD, WaitOptions};
use sentry_abi::{Errno, UserAddr, UserPtr};
use sentry_kernel::error::Cause;
use sentry_kernel::file::pidfd::PidFd;
use sentry_kernel::file::{FileDescription, OnExec};
use sentry_kernel::loader::{ArgBudget, read_strings};
use sentry_kernel::task::{CloneRequest, CurrentTask, ExecRequest, WaitSelect};
use sentry_kernel::vfs::lookup::PATH_MAX;
use sentry_kernel::vfs::{DirRef, LookupFlags, OpenFlags};
use sentry_kernel::{Error, Result};
use std::sync::Arc;
use zerocopy::{FromBytes, IntoBytes};

use crate::args::Fd;
use crate::rows;
use crate::system::rusage_of;

rows! {
    getpid = 39 full;
    clone = 56 partial "CLONE_NEW* answer EINVAL or EPERM: no namespaces";
    fork = 57 full;
    vfork = 58 full;
    execve = 59 full;
    exit = 60 full;
    wait4 = 61 full;
    getpgrp = 111 full;
    getppid = 110 full;
    setpgid = 109 full;
    setsid = 112 full;
    getpgid = 121 full;
    getsid = 124 full;
    arch_prctl = 158 partial "FS and GS base; shadow stacks answer EINVAL";
    gettid = 186 full;
    set_tid_address = 218 full;
    restart_syscall = 219 full;
    exit_group = 231 full;
    waitid = 247 full;
    unshare = 272 partial "CLONE_FILES, CLONE_FS and what needs nothing; CLONE_NEW* answer EINVAL or EPERM";
    setns = 308 refused "EPERM: no namespaces";
    execveat = 322 full;
    pidfd_send_signal = 424 full;
    pidfd_open = 434 partial "no PIDFD_THREAD";
    clone3 = 435 partial "no namespaces, no set_tid, no cgroups";
    ptrace = 101 refused "EPERM: a program traces no other";
}

fn getpid(task: &CurrentTask) -> Result<u32> {
    Ok(task.pid())
}

fn gettid(task: &CurrentTask) -> Result<u32> {
    Ok(task.tid())
}

fn getppid(task: &CurrentTask) -> Result<u32> {
    Ok(task.pids().parent(task.pid()))
}

fn fork(task: &mut CurrentTask) -> Result<u32> {
    let request = CloneRequest { exit_signal: Some(Signal::SIGCHLD), ..CloneRequest::default() };
    task.clone_task(&request).map(|child| child.tid())
}

fn vfork(task: &mut CurrentTask) -> Result<u32> {
    let flags = CloneFlags::VM | CloneFlags::VFORK;
    let request =
        CloneRequest { flags, exit_signal: Some(Signal::SIGCHLD), ..CloneRequest::default() };
    task.clone_task(&request).map(|child| child.tid())
}

/// The low byte of clone(2)'s flags: the signal at the child's end.
const CSIGNAL: u64 = 0xff;

fn clone(
    task: &mut CurrentTask,
    flags: u64,
    stack: u64,
    parent_tid: UserPtr<u32>,
    child_tid: UserPtr<u32>,
    tls: u64,
) -> Result<u32> {
    let exit_signal = exit_signal(flags & CSIGNAL)?;
    // clone(2) ignores what it does not know; CLEAR_SIGHAND and INTO_CGROUP are clone3's, and out of 32 bits.
    let flags = CloneFlags::from_bits_truncate(flags & 0xffff_ff00);
    if flags.contains(CloneFlags::PIDFD | CloneFlags::PARENT_SETTID) {
        return Err(Errno::EINVAL.into());
    }
    let request = CloneRequest {
        flags,
        exit_signal,
        stack: (stack != 0).then_some(stack),
        tls,
        parent_tid: parent_tid.addr(),
        child_tid: child_tid.addr(),
    };
    clone_with_pidfd(task, &request, parent_tid.cast())
}

fn exit_signal(number: u64) -> Result<Option<Signal>> {
    match i32::try_from(number) {
        Ok(0) => Ok(None),
        Ok(number) => Ok(Some(Signal::new(number)?)),
        Err(_) => Err(Errno::EINVAL.into()),
    }
}

fn clone_with_pidfd(
    task: &mut CurrentTask,
    request: &CloneRequest,
    pidfd: UserPtr<i32>,
) -> Result<u32> {
    let wants = request.flags.contains(CloneFlags::PIDFD);
    if wants && request.flags.contains(CloneFlags::THREAD) {
        return Err(Errno::EINVAL.into());
    }
    let child = task.clone_task(request)?;
    if wants {
        let file = PidFd::create(child.thread_group(), OpenFlags::empty());
        let fd = task.fds().install(file, OnExec::Close, nofile(task))?;
        task.mm().write_obj(pidfd, &fd)?;
    }
    Ok(child.tid())
}

fn nofile(task: &CurrentTask) -> u64 {
    task.thread_group().soft_limit(Resource::Nofile)
}

fn clone3(task: &mut CurrentTask, args: UserPtr<u8>, size: usize) -> Result<u32> {
    if (size as u64) < CLONE_ARGS_SIZE_VER0 {
        return Err(Errno::EINVAL.into());
    }
    let args = read_extensible::<CloneArgs>(task, args, size)?;
    let flags = CloneFlags::from_bits(args.flags).ok_or(Errno::EINVAL)?;
    let bad_stack = (args.stack == 0) != (args.stack_size == 0);
    if bad_stack || flags.intersects(CloneFlags::DETACHED) || args.exit_signal & !CSIGNAL != 0 {
        return Err(Errno::EINVAL.into());
    }
    if flags.intersects(CloneFlags::THREAD | CloneFlags::PARENT) && args.exit_signal != 0 {
        return Err(Errno::EINVAL.into());
    }
    if (args.set_tid == 0) != (args.set_tid_size == 0) || args.set_tid_size > MAX_PID_NS_LEVEL {
        return Err(Errno::EINVAL.into());
    }
    if args.set_tid != 0 {
        return Err(Errno::EPERM.into());
    }
    // The pidfd and the thread's number cannot go to the same place.
    let both = CloneFlags::PIDFD | CloneFlags::PARENT_SETTID;
    if flags.contains(both) && args.pidfd == args.parent_tid {
        return Err(Errno::EINVAL.into());
    }
    let stack = args.stack.checked_add(args.stack_size).ok_or(Errno::EINVAL)?;
    let request = CloneRequest {
        flags,
        exit_signal: exit_signal(args.exit_signal)?,
        stack: (stack != 0).then_some(stack),
        tls: args.tls,
        parent_tid: UserAddr(args.parent_tid),
        child_tid: UserAddr(args.child_tid),
    };
    clone_with_pidfd(task, &request, UserPtr::new(args.pidfd))
}

/// A structure that grows with versions: what is missing is zero, what we do not know must be. Errors: E2BIG, EFAULT.
pub fn read_extensible<T: FromBytes + IntoBytes>(
    task: &CurrentTask,
    ptr: UserPtr<u8>,
    size: usize,
) -> Result<T> {
    if size > 4096 {
        return Err(Errno::E2BIG.into());
    }
    let mut bytes = vec![0u8; size.max(size_of::<T>())];
    task.mm().read(ptr.addr(), &mut bytes[..size])?;
    let (known, rest) = bytes.split_at(size_of::<T>());
    if rest.iter().any(|b| *b != 0) {
        return Err(Errno::E2BIG.into());
    }
    T::read_from_bytes(known).map_err(|_| Errno::EINVAL.into())
}

fn execve(
    task: &mut CurrentTask,
    path: UserPtr<u8>,
    argv: UserPtr<u64>,
    envp: UserPtr<u64>,
) -> Result<()> {
    let path = task.mm().read_cstring(path.addr(), PATH_MAX + 1)?;
    let program = Program {
        dir: DirRef::Cwd,
        shown_path: path.clone(),
        path,
        path_closes: false,
        lookup: LookupFlags::FOLLOW,
    };
    execute(task, program, argv, envp)
}

const AT_EMPTY_PATH: u32 = 0x1000;
const AT_SYMLINK_NOFOLLOW: u32 = 0x100;

fn execveat(
    task: &mut CurrentTask,
    dirfd: Fd,
    path: UserPtr<u8>,
    argv: UserPtr<u64>,
    envp: UserPtr<u64>,
    flags: u32,
) -> Result<()> {
    if flags & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let path = task.mm().read_cstring(path.addr(), PATH_MAX + 1)?;
    let mut lookup = LookupFlags::empty();
    lookup.set(LookupFlags::FOLLOW, flags & AT_SYMLINK_NOFOLLOW == 0);
    lookup.set(LookupFlags::EMPTY_PATH, flags & AT_EMPTY_PATH != 0);
    let absolute = path.first() == Some(&b'/');
    let mut path_closes = false;
    let (dir, shown) = if dirfd == Fd::CWD || absolute {
        (DirRef::Cwd, path.clone())
    } else {
        let mut shown = format!("/dev/fd/{}", dirfd.0).into_bytes();
        if !path.is_empty() {
            shown.push(b'/');
            shown.extend_from_slice(&path);
        }
        path_closes = task.fds().on_exec(dirfd.0)? == OnExec::Close;
        (DirRef::File(task.fds().any(dirfd.0)?), shown)
    };
    let program = Program { dir, path, shown_path: shown, path_closes, lookup };
    execute(task, program, argv, envp)
}

/// What execve(2) or execveat(2) names.
struct Program {
    dir: DirRef,
    path: Vec<u8>,
    shown_path: Vec<u8>,
    path_closes: bool,
    lookup: LookupFlags,
}

fn execute(
    task: &mut CurrentTask,
    program: Program,
    argv: UserPtr<u64>,
    envp: UserPtr<u64>,
) -> Result<()> {
    let mut budget = ArgBudget::new(task.thread_group().soft_limit(Resource::Stack));
    let mut argv = read_strings(task.mm(), argv, &mut budget)?;
    let envp = read_strings(task.mm(), envp, &mut budget)?;
    if argv.is_empty() {
        // execve(2): since 5.18 a program never sees an argument count of 0.
        argv.push(Vec::new());
    }
    let Program { dir, path, shown_path, path_closes, lookup } = program;
    task.execute(ExecRequest { dir, path, lookup, shown_path, path_closes, argv, envp })
}

fn exit(task: &CurrentTask, code: i32) -> Result<()> {
    task.request_exit(code as u8);
    Ok(())
}

fn exit_group(task: &CurrentTask, code: i32) -> Result<()> {
    task.thread_group().begin_exit(sentry_kernel::task::WaitStatus::Exited(code as u8));
    Ok(())
}

fn wait4(
    task: &CurrentTask,
    pid: i32,
    status: UserPtr<i32>,
    options: u32,
    rusage: UserPtr<Rusage>,
) -> Result<u32> {
    let allowed = WaitOptions::NOHANG
        | WaitOptions::UNTRACED
        | WaitOptions::CONTINUED
        | WaitOptions::NOTHREAD
        | WaitOptions::CLONE
        | WaitOptions::ALL;
    let options = WaitOptions::from_bits(options).filter(|o| allowed.contains(*o));
    let options = options.ok_or(Errno::EINVAL)? | WaitOptions::EXITED;
    let select = match pid {
        i32::MIN => return Err(Errno::ESRCH.into()),
        -1 => WaitSelect::Any,
        0 => WaitSelect::ProcessGroup(own_process_group(task)),
        pid if pid < 0 => WaitSelect::ProcessGroup(pid.unsigned_abs()),
        pid => WaitSelect::Process(pid.unsigned_abs()),
    };
    let Some(found) = task.wait_child(select, options)? else { return Ok(0) };
    if let Some(status) = status.non_null() {
        task.mm().write_obj(status, &found.status.word())?;
    }
    if let Some(rusage) = rusage.non_null() {
        task.mm().write_obj(rusage, &rusage_of(&found.usage))?;
    }
    Ok(found.pid)
}

fn own_process_group(task: &CurrentTask) -> u32 {
    task.pids().process_group_of(task.pid()).map_or(0, |g| g.id())
}

/// Linux stores into `info` whatever came of the wait: zeroes where nothing was found or the call fails.
fn waitid(
    task: &CurrentTask,
    kind: i32,
    id: i32,
    info: UserPtr<SigInfo>,
    options: u32,
    rusage: UserPtr<Rusage>,
) -> Result<()> {
    wait_for_id(task, kind, id, info, options, rusage).or_else(|error| {
        if !info.is_null() && matches!(error.cause(), Cause::Errno(_)) {
            task.mm().write(info.addr(), &[0; 32])?;
        }
        Err(error)
    })
}

fn wait_for_id(
    task: &CurrentTask,
    kind: i32,
    id: i32,
    info: UserPtr<SigInfo>,
    options: u32,
    rusage: UserPtr<Rusage>,
) -> Result<()> {
    let options = WaitOptions::from_bits(options).ok_or(Errno::EINVAL)?;
    let states = WaitOptions::EXITED | WaitOptions::UNTRACED | WaitOptions::CONTINUED;
    if !options.intersects(states) {
        return Err(Errno::EINVAL.into());
    }
    let positive = |id: i32| u32::try_from(id).ok().filter(|id| *id > 0).ok_or(Errno::EINVAL);
    let mut nonblocking = None;
    let select = match kind {
        P_ALL => WaitSelect::Any,
        P_PID => WaitSelect::Process(positive(id)?),
        P_PGID if id == 0 => WaitSelect::ProcessGroup(own_process_group(task)),
        P_PGID => WaitSelect::ProcessGroup(positive(id)?),
        P_PIDFD => {
            if id < 0 {
                return Err(Errno::EINVAL.into());
            }
            let file = task.fds().file(id)?;
            let group = PidFd::group_of(&file).ok_or(Errno::EBADF)?;
            nonblocking = file.flags().contains(OpenFlags::NONBLOCK).then_some(());
            WaitSelect::Process(group.pid())
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    let asked = if nonblocking.is_some() { options | WaitOptions::NOHANG } else { options };
    let found = task.wait_child(select, asked)?;
    if found.is_none() && nonblocking.is_some() && !options.contains(WaitOptions::NOHANG) {
        return Err(Errno::EAGAIN.into());
    }
    if let (Some(rusage), Some(found)) = (rusage.non_null(), &found) {
        task.mm().write_obj(rusage, &rusage_of(&found.usage))?;
    }
    if let Some(info) = info.non_null() {
        let value = match &found {
            Some(found) => {
                let (code, status) = found.status.code_and_status();
                SigInfo::child(code, found.pid, found.uid, status, (0, 0))
            }
            None => SigInfo { signo: 0, ..SigInfo::new(Signal::SIGCHLD, 0) },
        };
        // waitid(2) stores the fields it has, not the whole of siginfo_t.
        task.mm().write(info.addr(), &value.as_bytes()[..32])?;
    }
    Ok(())
}

fn getpgrp(task: &CurrentTask) -> Result<u32> {
    Ok(own_process_group(task))
}

fn target_pid(task: &CurrentTask, pid: i32) -> Result<u32> {
    match u32::try_from(pid) {
        Ok(0) => Ok(task.pid()),
        Ok(pid) => Ok(task.pids().task(pid).ok_or(Errno::ESRCH)?.pid()),
        Err(_) => Err(Errno::ESRCH.into()),
    }
}

fn getpgid(task: &CurrentTask, pid: i32) -> Result<u32> {
    let pid = target_pid(task, pid)?;
    Ok(task.pids().process_group_of(pid).ok_or(Errno::ESRCH)?.id())
}

fn getsid(task: &CurrentTask, pid: i32) -> Result<u32> {
    let pid = target_pid(task, pid)?;
    Ok(task.pids().process_group_of(pid).ok_or(Errno::ESRCH)?.session().id())
}

fn setpgid(task: &CurrentTask, pid: i32, pgid: i32) -> Result<()> {
    // A group of 0 is the process's id, which must be one as a group then.
    let group = if pgid == 0 { pid } else { pgid };
    let group = u32::try_from(group).map_err(|_| Errno::EINVAL)?;
    let pid = u32::try_from(pid).map_err(|_| Errno::ESRCH)?;
    task.pids().set_process_group(task.pid(), pid, group)
}

fn setsid(task: &CurrentTask) -> Result<u32> {
    task.pids().set_session(task.pid())
}

fn set_tid_address(task: &CurrentTask, addr: UserPtr<u32>) -> Result<u32> {
    task.details(|d| d.clear_child_tid = addr.addr().0);
    Ok(task.tid())
}

/// How deep PID namespaces nest, and so how many numbers a task can have.
const MAX_PID_NS_LEVEL: u64 = 32;

/// Where user addresses end (TASK_SIZE_MAX with four-level paging).
const TASK_SIZE: u64 = 0x7fff_ffff_f000;

fn arch_prctl(task: &mut CurrentTask, code: u32, addr: u64) -> Result<()> {
    match code {
        ARCH_SET_FS | ARCH_SET_GS => {
            if addr >= TASK_SIZE {
                return Err(Errno::EPERM.into());
            }
            let registers = task.registers_mut();
            match code {
                ARCH_SET_FS => registers.fs_base = addr,
                _ => registers.gs_base = addr,
            }
            Ok(())
        }
        ARCH_GET_FS => task.mm().write_obj(UserPtr::new(addr), &task.registers().fs_base),
        ARCH_GET_GS => task.mm().write_obj(UserPtr::new(addr), &task.registers().gs_base),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn restart_syscall(task: &mut CurrentTask) -> Result<u64> {
    task.restart_syscall()
}

fn unshare(task: &mut CurrentTask, flags: u64) -> Result<()> {
    let flags = CloneFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    let known = CloneFlags::FILES
        | CloneFlags::FS
        | CloneFlags::SYSVSEM
        | CloneFlags::THREAD
        | CloneFlags::SIGHAND
        | CloneFlags::VM
        | CloneFlags::NAMESPACES;
    if !known.contains(flags) {
        return Err(Errno::EINVAL.into());
    }
    if flags.intersects(CloneFlags::NAMESPACES) {
        use sentry_kernel::cred::Capabilities;
        let may = task.credentials().has(Capabilities::SYS_ADMIN);
        return Err(if may { Errno::EINVAL.into() } else { Errno::EPERM.into() });
    }
    let alone = task.thread_group().tasks().len() == 1;
    if flags.intersects(CloneFlags::THREAD | CloneFlags::SIGHAND | CloneFlags::VM) && !alone {
        return Err(Errno::EINVAL.into());
    }
    if flags.contains(CloneFlags::FILES) {
        task.unshare_fds();
    }
    if flags.contains(CloneFlags::FS) {
        task.unshare_fs();
    }
    Ok(())
}

fn setns(_: &CurrentTask, _fd: Fd, _kind: i32) -> Result<()> {
    Err(Errno::EPERM.into())
}

fn ptrace(_: &CurrentTask, _request: u64, _pid: i32) -> Result<()> {
    Err(Errno::EPERM.into())
}

fn pidfd_open(task: &CurrentTask, pid: i32, flags: u32) -> Result<Fd> {
    let flags = OpenFlags::from_bits(flags).filter(|f| OpenFlags::NONBLOCK.contains(*f));
    let flags = flags.ok_or(Errno::EINVAL)?;
    let pid = u32::try_from(pid).ok().filter(|p| *p > 0).ok_or(Errno::EINVAL)?;
    let pids = task.pids();
    let group = match pids.group(pid) {
        Some(group) => group,
        // An id that is a thread's, not a process's.
        None if pids.task(pid).is_some() => return Err(Errno::ENOENT.into()),
        None => return Err(Errno::ESRCH.into()),
    };
    let file = PidFd::create(&group, flags);
    task.fds().install(file, OnExec::Close, nofile(task)).map(Fd)
}

fn pidfd_send_signal(
    task: &CurrentTask,
    fd: Fd,
    signal: i32,
    info: UserPtr<SigInfo>,
    flags: u32,
) -> Result<()> {
    if flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    let file: Arc<FileDescription> = task.fds().file(fd.0)?;
    let group = PidFd::group_of(&file).ok_or(Errno::EBADF)?;
    let signal = match signal {
        0 => None,
        number => Some(Signal::new(number)?),
    };
    let default = SigInfo::user(
        signal.unwrap_or(Signal::SIGHUP),
        SI_USER,
        task.pid(),
        task.credentials().uid,
    );
    let info = match info.non_null() {
        None => default,
        Some(ptr) => {
            let info = task.mm().read_obj(ptr)?;
            if Some(info.signo) != signal.map(Signal::number) {
                return Err(Errno::EINVAL.into());
            }
            if group.pid() != task.pid() && info.code >= 0 {
                return Err(Error::new(Errno::EPERM));
            }
            info
        }
    };
    if group.has_ended() {
        return Err(Errno::ESRCH.into());
    }
    task.kill_group(&group, signal, info)
}
