//! Sending and receiving: sendto, recvfrom, sendmsg, recvmsg and their many-message relatives.

use sentry_abi::signal::Signal;
use sentry_abi::socket::{
    AF_UNIX, MMsgHdr, MSG_CMSG_CLOEXEC, MSG_DONTWAIT, MSG_ERRQUEUE, MSG_NOSIGNAL, MSG_PEEK,
    MSG_WAITALL, MSG_WAITFORONE, MsgHdr, SOCK_STREAM, SOCKADDR_MAX, UIO_MAXIOV,
};
use sentry_abi::time::TimeSpec;
use sentry_abi::uio::IoVec;
use sentry_abi::{Errno, UserAddr, UserPtr, UserSlice};
use sentry_kernel::Result;
use sentry_kernel::file::FileDescription;
use sentry_kernel::io::{Sink, Source};
use sentry_kernel::mm::RW_MAX;
use sentry_kernel::socket::{Control, Received, SendMessage, SockAddr, Socket};
use sentry_kernel::task::CurrentTask;
use sentry_kernel::wait::Events;

use crate::args::Fd;
use crate::cmsg;
use crate::common::{blocking, deadline_after, file};
use crate::rows;
use crate::socket::{no_restart_with_timeout, read_address, socket_of, write_address};

rows! {
    sendto = 44 full;
    recvfrom = 45 full;
    sendmsg = 46 full;
    recvmsg = 47 full;
    recvmmsg = 299 full;
    sendmmsg = 307 full;
}

fn sendto(
    task: &CurrentTask,
    fd: Fd,
    buf: UserSlice<u8>,
    flags: u32,
    addr: UserAddr,
    len: i32,
) -> Result<usize> {
    task.mm().check_range(buf.addr(), buf.len().min(RW_MAX))?;
    let file = file(task, fd)?;
    let family = socket_of(&file)?.identity().0;
    // An empty address is none to unix sockets, and too short a one to the others.
    let is_given = !addr.is_null() && (len != 0 || family != AF_UNIX);
    let to = if is_given { Some(read_address(task, addr, len)?) } else { None };
    let mut src = task.mm().user_source_one(buf);
    send(task, &file, &mut src, &Envelope { to, control: Vec::new(), flags })
}

fn recvfrom(
    task: &CurrentTask,
    fd: Fd,
    buf: UserSlice<u8>,
    flags: u32,
    addr: UserAddr,
    len: UserPtr<i32>,
) -> Result<usize> {
    task.mm().check_range(buf.addr(), buf.len().min(RW_MAX))?;
    let file = file(task, fd)?;
    let mut dst = task.mm().user_sink_one(buf);
    let received = receive(task, &file, &mut dst, flags, 0)?;
    if !addr.is_null() {
        write_address(task, &received.from.unwrap_or_default(), addr, len)?;
    }
    Ok(received.len)
}

fn sendmsg(task: &CurrentTask, fd: Fd, msg: UserPtr<MsgHdr>, flags: u32) -> Result<usize> {
    let file = file(task, fd)?;
    socket_of(&file)?;
    let header = task.mm().read_obj(msg)?;
    send_message(task, &file, &header, flags)
}

fn recvmsg(task: &CurrentTask, fd: Fd, msg: UserPtr<MsgHdr>, flags: u32) -> Result<usize> {
    let file = file(task, fd)?;
    socket_of(&file)?;
    let mut header = task.mm().read_obj(msg)?;
    let len = receive_message(task, &file, &mut header, flags)?;
    task.mm().write_obj(msg, &header)?;
    Ok(len)
}

fn sendmmsg(
    task: &CurrentTask,
    fd: Fd,
    messages: UserPtr<MMsgHdr>,
    count: u32,
    flags: u32,
) -> Result<usize> {
    let file = file(task, fd)?;
    socket_of(&file)?;
    let mut done = 0;
    while done < u64::from(count).min(UIO_MAXIOV) {
        let at = messages.element(done)?;
        match send_one_of_many(task, &file, at, flags) {
            Ok(()) => done += 1,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done as usize)
}

fn send_one_of_many(
    task: &CurrentTask,
    file: &FileDescription,
    at: UserPtr<MMsgHdr>,
    flags: u32,
) -> Result<()> {
    let mut message = task.mm().read_obj(at)?;
    message.len = send_message(task, file, &message.hdr, flags)? as u32;
    task.mm().write_obj(at, &message)
}

fn recvmmsg(
    task: &CurrentTask,
    fd: Fd,
    messages: UserPtr<MMsgHdr>,
    count: u32,
    flags: u32,
    timeout: UserPtr<TimeSpec>,
) -> Result<usize> {
    let file = file(task, fd)?;
    socket_of(&file)?;
    // As on Linux the time-out is looked at after each message, and does not end a wait.
    let deadline = deadline_after(task, timeout)?;
    let mut flags = flags;
    let mut done = 0;
    while done < u64::from(count).min(UIO_MAXIOV) {
        let at = messages.element(done)?;
        match receive_one_of_many(task, &file, at, flags & !MSG_WAITFORONE) {
            Ok(()) => done += 1,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
        if flags & MSG_WAITFORONE != 0 {
            flags |= MSG_DONTWAIT;
        }
        if deadline.is_some_and(|deadline| task.kernel().now() >= deadline) {
            break;
        }
    }
    Ok(done as usize)
}

fn receive_one_of_many(
    task: &CurrentTask,
    file: &FileDescription,
    at: UserPtr<MMsgHdr>,
    flags: u32,
) -> Result<()> {
    let mut message = task.mm().read_obj(at)?;
    message.len = receive_message(task, file, &mut message.hdr, flags)? as u32;
    task.mm().write_obj(at, &message)
}

/// What a send carries besides its bytes.
struct Envelope {
    to: Option<SockAddr>,
    control: Vec<Control>,
    flags: u32,
}

/// The buffers of a message. Errors: EMSGSIZE for too many, EINVAL, EFAULT.
fn buffers(task: &CurrentTask, header: &MsgHdr) -> Result<Vec<IoVec>> {
    if header.iovlen > UIO_MAXIOV {
        return Err(Errno::EMSGSIZE.into());
    }
    task.mm().iovecs(UserPtr::new(header.iov), header.iovlen)
}

/// Room for an address; Linux takes a length that is too large as the largest. Errors: EINVAL for a negative one.
fn name_room(header: &MsgHdr) -> Result<i32> {
    match header.namelen as i32 {
        ..0 => Err(Errno::EINVAL.into()),
        len => Ok(len.min(SOCKADDR_MAX as i32)),
    }
}

fn send_message(
    task: &CurrentTask,
    file: &FileDescription,
    header: &MsgHdr,
    flags: u32,
) -> Result<usize> {
    let name_len = name_room(header)?;
    let to = match header.name {
        0 => None,
        _ if name_len == 0 => None,
        at => Some(read_address(task, UserAddr(at), name_len)?),
    };
    let vector = buffers(task, header)?;
    let control = cmsg::read(task, UserAddr(header.control), header.controllen)?;
    let mut src = task.mm().user_source(vector);
    send(task, file, &mut src, &Envelope { to, control, flags })
}

/// Sends all of `src` on a blocking stream, one message otherwise.
fn send(
    task: &CurrentTask,
    file: &FileDescription,
    src: &mut dyn Source,
    envelope: &Envelope,
) -> Result<usize> {
    let socket = socket_of(file)?;
    let stream = socket.identity().1 == SOCK_STREAM;
    let sent = send_all(task, (file, socket, stream), src, envelope);
    if stream && sent.as_ref().is_ok_and(|n| *n > 0) {
        socket.sent(&envelope.control, envelope.flags);
    }
    sent
}

fn send_all(
    task: &CurrentTask,
    (file, socket, stream): (&FileDescription, &dyn Socket, bool),
    src: &mut dyn Source,
    envelope: &Envelope,
) -> Result<usize> {
    let mut done = 0;
    loop {
        let mut attempt = || {
            // Only the first bytes carry the control messages.
            let control = if done == 0 { envelope.control.clone() } else { Vec::new() };
            let message = SendMessage { to: envelope.to.clone(), control, flags: envelope.flags };
            socket.send(task, src, message)
        };
        let result = match envelope.flags & MSG_DONTWAIT {
            0 => blocking(task, file, Events::OUT, attempt),
            _ => attempt(),
        };
        match result {
            Ok(n) => {
                done += n;
                if !stream || n == 0 || src.remaining() == 0 {
                    return Ok(done);
                }
            }
            Err(_) if done > 0 => return Ok(done),
            Err(error) => {
                if stream && error.is(Errno::EPIPE) && envelope.flags & MSG_NOSIGNAL == 0 {
                    task.raise(Signal::SIGPIPE);
                }
                return Err(no_restart_with_timeout(error, socket.timeouts_ns().1));
            }
        }
    }
}

fn receive_message(
    task: &CurrentTask,
    file: &FileDescription,
    header: &mut MsgHdr,
    flags: u32,
) -> Result<usize> {
    let name_len = name_room(header)?;
    let vector = buffers(task, header)?;
    let room = usize::try_from(header.controllen).unwrap_or(usize::MAX);
    let mut dst = task.mm().user_sink(vector);
    let wanted = if header.control == 0 { 0 } else { room };
    let received = receive(task, file, &mut dst, flags, wanted)?;
    if header.name != 0 {
        let from = received.from.unwrap_or_default();
        let part = from.0.get(..from.0.len().min(name_len as usize)).unwrap_or_default();
        task.mm().write(UserAddr(header.name), part)?;
        header.namelen = from.0.len() as u32;
    }
    let at = UserAddr(header.control);
    let stored = cmsg::write(task, at, wanted, received.control, flags & MSG_CMSG_CLOEXEC != 0)?;
    header.controllen = stored.len;
    header.flags = received.flags | stored.flags | (flags & MSG_CMSG_CLOEXEC);
    Ok(received.len)
}

/// Receives once, or until the buffer is full with MSG_WAITALL on a stream.
fn receive(
    task: &CurrentTask,
    file: &FileDescription,
    dst: &mut dyn Sink,
    flags: u32,
    control_wanted: usize,
) -> Result<Received> {
    let socket = socket_of(file)?;
    if flags & MSG_ERRQUEUE != 0 {
        // The error queue never blocks.
        return socket.receive(task, dst, flags, control_wanted);
    }
    let mut all = receive_once(task, file, socket, dst, flags, control_wanted)?;
    let more = flags & MSG_WAITALL != 0
        && flags & (MSG_PEEK | MSG_DONTWAIT) == 0
        && !file.is_nonblocking()
        && socket.identity().1 == SOCK_STREAM;
    // Rights and credentials end a message; numbers that come with each read (TCP_INQ) do not.
    let ends = |control: &[Control]| control.iter().any(|c| !matches!(c, Control::Raw { .. }));
    while more && dst.room() > 0 && all.len > 0 && !ends(&all.control) {
        match receive_once(task, file, socket, dst, flags, control_wanted) {
            Ok(next) if next.len == 0 => break,
            Ok(next) => {
                all.len += next.len;
                all.flags |= next.flags;
                all.control = next.control;
            }
            // What came before counts; the error is told by the next call.
            Err(_) => break,
        }
    }
    Ok(all)
}

fn receive_once(
    task: &CurrentTask,
    file: &FileDescription,
    socket: &dyn Socket,
    dst: &mut dyn Sink,
    flags: u32,
    control_wanted: usize,
) -> Result<Received> {
    let mut attempt = || socket.receive(task, dst, flags, control_wanted);
    match flags & MSG_DONTWAIT {
        0 => blocking(task, file, Events::IN | Events::RDHUP, attempt)
            .map_err(|error| no_restart_with_timeout(error, socket.timeouts_ns().0)),
        _ => attempt(),
    }
}
