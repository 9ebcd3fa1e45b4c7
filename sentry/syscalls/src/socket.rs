//! Sockets: socket, bind, connect, listen, accept, options, addresses.

use std::sync::Arc;

use sentry_abi::socket::{
    SHUT_RD, SHUT_RDWR, SHUT_WR, SO_ATTACH_FILTER, SO_DOMAIN, SO_PROTOCOL, SO_TYPE, SOCK_CLOEXEC,
    SOCK_NONBLOCK, SOCK_TYPE_MASK, SOCKADDR_MAX, SOL_SOCKET,
};
use sentry_abi::{Errno, UserAddr, UserPtr};
use sentry_kernel::error::{Cause, Restart};
use sentry_kernel::file::{FileDescription, FileKind, OnExec};
use sentry_kernel::socket::{Shutdown, SockAddr, Socket};
use sentry_kernel::task::CurrentTask;
use sentry_kernel::vfs::OpenFlags;
use sentry_kernel::wait::Events;
use sentry_kernel::{Error, Result};

use crate::args::Fd;
use crate::common::{blocking, file, install, wait_on};
use crate::rows;

rows! {
    socket = 41 full;
    connect = 42 full;
    accept = 43 full;
    shutdown = 48 full;
    bind = 49 full;
    listen = 50 full;
    getsockname = 51 full;
    getpeername = 52 full;
    socketpair = 53 full;
    setsockopt = 54 full;
    getsockopt = 55 full;
    accept4 = 288 full;
}

/// Most bytes of an option's value that are looked at.
const OPTION_MAX: usize = 16 << 10;

/// The socket of an open file. Errors: ENOTSOCK.
pub(crate) fn socket_of(file: &FileDescription) -> Result<&dyn Socket> {
    match file.ops().kind() {
        FileKind::Socket(socket) => Ok(socket),
        _ => Err(Errno::ENOTSOCK.into()),
    }
}

/// An address of `len` bytes in program memory. Errors: EINVAL for a length out of bounds, EFAULT.
pub(crate) fn read_address(task: &CurrentTask, addr: UserAddr, len: i32) -> Result<SockAddr> {
    let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
    if len > SOCKADDR_MAX {
        return Err(Errno::EINVAL.into());
    }
    let mut bytes = vec![0; len];
    task.mm().read(addr, &mut bytes)?;
    Ok(SockAddr(bytes))
}

/// Stores an address, cut to the room that `len` tells, and its whole length in `len`. Errors: EFAULT, EINVAL.
pub(crate) fn write_address(
    task: &CurrentTask,
    address: &SockAddr,
    addr: UserAddr,
    len: UserPtr<i32>,
) -> Result<()> {
    let room = usize::try_from(task.mm().read_obj(len)?).map_err(|_| Errno::EINVAL)?;
    let part = address.0.get(..room.min(address.0.len())).unwrap_or_default();
    task.mm().write(addr, part)?;
    task.mm().write_obj(len, &(address.0.len() as i32))
}

/// Splits SOCK_NONBLOCK and SOCK_CLOEXEC off a type. Errors: EINVAL for other bits.
fn split_flags(bits: i32) -> Result<(OpenFlags, OnExec)> {
    if bits & !(SOCK_NONBLOCK | SOCK_CLOEXEC) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let mut flags = OpenFlags::RDWR;
    flags.set(OpenFlags::NONBLOCK, bits & SOCK_NONBLOCK != 0);
    let on_exec = if bits & SOCK_CLOEXEC != 0 { OnExec::Close } else { OnExec::Keep };
    Ok((flags, on_exec))
}

fn socket(task: &CurrentTask, domain: i32, kind: i32, protocol: i32) -> Result<Fd> {
    let (flags, on_exec) = split_flags(kind & !SOCK_TYPE_MASK)?;
    let family = task.kernel().family(domain)?;
    let socket = family.socket(task, kind & SOCK_TYPE_MASK, protocol)?;
    install(task, FileDescription::new(socket, None, flags), on_exec)
}

fn socketpair(
    task: &CurrentTask,
    domain: i32,
    kind: i32,
    protocol: i32,
    fds: UserPtr<[i32; 2]>,
) -> Result<()> {
    let (flags, on_exec) = split_flags(kind & !SOCK_TYPE_MASK)?;
    // As Linux does, before anything is made: a bad pointer is known first.
    task.mm().write_obj(fds, &[-1, -1])?;
    let family = task.kernel().family(domain)?;
    let (a, b) = family.pair(task, kind & SOCK_TYPE_MASK, protocol)?;
    let first = install(task, FileDescription::new(a, None, flags), on_exec)?;
    let second = match install(task, FileDescription::new(b, None, flags), on_exec) {
        Ok(second) => second,
        Err(error) => {
            let _ = task.fds().close(first.0);
            return Err(error);
        }
    };
    if let Err(error) = task.mm().write_obj(fds, &[first.0, second.0]) {
        let _ = task.fds().close(first.0);
        let _ = task.fds().close(second.0);
        return Err(error);
    }
    Ok(())
}

fn bind(task: &CurrentTask, fd: Fd, addr: UserAddr, len: i32) -> Result<()> {
    let file = file(task, fd)?;
    let socket = socket_of(&file)?;
    socket.bind(task, &read_address(task, addr, len)?)
}

/// An interrupted wait of a socket with a time-out is not restarted (signal(7)).
pub(crate) fn no_restart_with_timeout(error: Error, timeout_ns: Option<u64>) -> Error {
    match error.cause() {
        Cause::Interrupted(Restart::Sys) if timeout_ns.is_some() => Errno::EINTR.into(),
        _ => error,
    }
}

fn connect(task: &CurrentTask, fd: Fd, addr: UserAddr, len: i32) -> Result<()> {
    let file = file(task, fd)?;
    // Linux copies the address before it asks what the descriptor is (__sys_connect).
    let address = read_address(task, addr, len)?;
    let socket = socket_of(&file)?;
    // That the connection is there is news of room, for who hears of it by a signal.
    file.is_short();
    let first = socket.connect(task, &address);
    let waits = match &first {
        Err(e) => e.is(Errno::EINPROGRESS) || e.is(Errno::EALREADY) || e.is(Errno::EAGAIN),
        Ok(()) => false,
    };
    let Some(queue) = file.ops().wait_queue() else { return first };
    if !waits || file.is_nonblocking() {
        return first;
    }
    let timeout_ns = socket.timeouts_ns().1;
    let deadline = timeout_ns.map(|ns| task.kernel().now().after_ns(ns));
    // Linux goes on connecting after a time-out or a signal; a later call finds out how it ended.
    let full = first.as_ref().is_err_and(|e| e.is(Errno::EAGAIN));
    let answer = wait_on(task, queue, Events::OUT, deadline, || {
        let settled = Events::OUT | Events::ERR | Events::HUP;
        if !full && !file.ops().readiness().intersects(settled) {
            return Err(Errno::EAGAIN.into());
        }
        match socket.connect(task, &address) {
            Err(e) if e.is(Errno::EALREADY) || e.is(Errno::EINPROGRESS) => {
                Err(Errno::EAGAIN.into())
            }
            // The handshake that this very call began has ended well.
            Err(e) if e.is(Errno::EISCONN) && !full => Ok(()),
            other => other,
        }
    });
    match answer {
        Ok(Some(())) => Ok(()),
        Ok(None) if full => Err(Errno::EAGAIN.into()),
        Ok(None) => Err(Errno::EINPROGRESS.into()),
        Err(error) => Err(no_restart_with_timeout(error, timeout_ns)),
    }
}

fn listen(task: &CurrentTask, fd: Fd, backlog: i32) -> Result<()> {
    let file = file(task, fd)?;
    socket_of(&file)?.listen(backlog)
}

fn accept(task: &CurrentTask, fd: Fd, addr: UserAddr, len: UserPtr<i32>) -> Result<Fd> {
    accept4(task, fd, addr, len, 0)
}

fn accept4(
    task: &CurrentTask,
    fd: Fd,
    addr: UserAddr,
    len: UserPtr<i32>,
    flags: i32,
) -> Result<Fd> {
    let (flags, on_exec) = split_flags(flags)?;
    let file = file(task, fd)?;
    let socket = socket_of(&file)?;
    let accepted = blocking(task, &file, Events::IN, || socket.accept());
    let (new, peer) =
        accepted.map_err(|error| no_restart_with_timeout(error, socket.timeouts_ns().0))?;
    let description: Arc<FileDescription> = FileDescription::new(new, None, flags);
    let new_fd = install(task, description, on_exec)?;
    if !addr.is_null()
        && let Err(error) = write_address(task, &peer, addr, len)
    {
        let _ = task.fds().close(new_fd.0);
        return Err(error);
    }
    Ok(new_fd)
}

fn shutdown(task: &CurrentTask, fd: Fd, how: i32) -> Result<()> {
    let file = file(task, fd)?;
    let socket = socket_of(&file)?;
    socket.shutdown(match how {
        SHUT_RD => Shutdown::Read,
        SHUT_WR => Shutdown::Write,
        SHUT_RDWR => Shutdown::Both,
        _ => return Err(Errno::EINVAL.into()),
    })
}

fn getsockname(task: &CurrentTask, fd: Fd, addr: UserAddr, len: UserPtr<i32>) -> Result<()> {
    let file = file(task, fd)?;
    let address = socket_of(&file)?.local_address()?;
    write_address(task, &address, addr, len)
}

fn getpeername(task: &CurrentTask, fd: Fd, addr: UserAddr, len: UserPtr<i32>) -> Result<()> {
    let file = file(task, fd)?;
    let address = socket_of(&file)?.peer_address()?;
    write_address(task, &address, addr, len)
}

fn setsockopt(
    task: &CurrentTask,
    fd: Fd,
    level: i32,
    name: i32,
    value: UserAddr,
    len: i32,
) -> Result<()> {
    let file = file(task, fd)?;
    let socket = socket_of(&file)?;
    let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?.min(OPTION_MAX);
    let mut bytes = vec![0; len];
    let n = task.mm().read_partial(value, &mut bytes);
    if n == 0 && len > 0 {
        return Err(Errno::EFAULT.into());
    }
    bytes.truncate(n);
    let result = socket.set_option(task, level, name, &bytes);
    note_unsupported(task, &result, level, name);
    result
}

fn getsockopt(
    task: &CurrentTask,
    fd: Fd,
    level: i32,
    name: i32,
    value: UserAddr,
    len: UserPtr<i32>,
) -> Result<()> {
    let file = file(task, fd)?;
    let socket = socket_of(&file)?;
    let room = usize::try_from(task.mm().read_obj(len)?).map_err(|_| Errno::EINVAL)?;
    if (level, name) == (SOL_SOCKET, SO_ATTACH_FILTER) {
        return get_filter(task, socket, value, (len, room));
    }
    let (domain, kind, protocol) = socket.identity();
    let common = match (level, name) {
        (SOL_SOCKET, SO_DOMAIN) => Some(domain),
        (SOL_SOCKET, SO_TYPE) => Some(kind),
        (SOL_SOCKET, SO_PROTOCOL) => Some(protocol),
        _ => None,
    };
    let bytes = match common {
        Some(number) => number.to_ne_bytes().to_vec(),
        None => {
            let mut old = vec![0; room.min(OPTION_MAX)];
            let n = task.mm().read_partial(value, &mut old);
            old.truncate(n);
            let result = socket.option(task, level, name, &old);
            note_unsupported(task, &result, level, name);
            result?
        }
    };
    let part = bytes.get(..room.min(bytes.len())).unwrap_or_default();
    task.mm().write(value, part)?;
    task.mm().write_obj(len, &(part.len() as i32))
}

/// SO_GET_FILTER, whose number is that of SO_ATTACH_FILTER: lengths count instructions, and no room asks for their number alone.
/// Errors: EINVAL for too little room.
fn get_filter(
    task: &CurrentTask,
    socket: &dyn Socket,
    value: UserAddr,
    (len, room): (UserPtr<i32>, usize),
) -> Result<()> {
    /// Bytes of struct sock_filter.
    const INSTRUCTION: usize = 8;
    let filter = socket.filter();
    let count = filter.len() / INSTRUCTION;
    if room != 0 && count != 0 {
        if room < count {
            return Err(Errno::EINVAL.into());
        }
        task.mm().write(value, &filter)?;
    }
    task.mm().write_obj(len, &(count as i32))
}

/// Counts an option that nobody knows, so that the log names it once.
fn note_unsupported<T>(task: &CurrentTask, result: &Result<T>, level: i32, name: i32) {
    if result.as_ref().is_err_and(|e| e.is(Errno::ENOPROTOOPT)) {
        task.kernel().unsupported(&format!("socket option level {level} name {name}"));
    }
}
