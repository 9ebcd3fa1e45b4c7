//! Bytes and options of the sockets of a script.

use std::net::SocketAddr;
use std::time::Duration;

use netstack::socket::{Ancillary, RecvFlags, SendFlags};
use nix::errno::Errno;
use nix::libc;

use super::{Attempt, Ours, Protocol, Running, done, errno, sockopt};
use crate::script::kernel::{Handle, KernelError, Outcome, Returned, SystemCall};

/// What a call that waited in vain returns: what it has done so far, or its error.
pub fn given_up(running: &mut Running, errno: Errno) -> Returned {
    match &running.call {
        // "A value of 0 indicates that the system call timed out before any file descriptors became ready."
        SystemCall::Poll(list, _) => Returned { events: vec![0; list.len()], ..done(0) },
        _ => failed(running, errno),
    }
}

/// What a call that failed returns: what it has done before counts more.
pub fn failed(running: &mut Running, errno: Errno) -> Returned {
    if running.sent > 0 {
        return done(running.sent as i64);
    }
    if !running.received.is_empty() {
        let data = std::mem::take(&mut running.received);
        return Returned { data: data.clone(), ..done(data.len() as i64) };
    }
    Returned { result: Outcome::Errno(errno as i32), ..Returned::default() }
}

/// Flags that this kernel knows, or a refusal.
fn check_flags(flags: i32, known: i32, what: &str) -> Result<(), KernelError> {
    match flags & !known {
        0 => Ok(()),
        rest => {
            Err(KernelError::Refused(format!("flags {rest:#x} of {what} are not understood here")))
        }
    }
}

impl Ours {
    pub(super) fn receive(
        &mut self,
        running: &mut Running,
        handle: Handle,
        len: usize,
        flags: i32,
    ) -> Result<Attempt, KernelError> {
        let known = libc::MSG_DONTWAIT
            | libc::MSG_OOB
            | libc::MSG_PEEK
            | libc::MSG_TRUNC
            | libc::MSG_WAITALL;
        check_flags(flags, known, "a receive")?;
        let mut asked = RecvFlags::empty();
        asked.set(RecvFlags::PEEK, flags & libc::MSG_PEEK != 0);
        asked.set(RecvFlags::TRUNC, flags & libc::MSG_TRUNC != 0);
        asked.set(RecvFlags::OOB, flags & libc::MSG_OOB != 0);
        let socket = match self.socket(handle) {
            Ok(socket) => socket,
            Err(errno) => return Ok(Attempt::Failed(errno)),
        };
        let mut room = vec![0; len - running.received.len().min(len)];
        let mut sink = &mut room[..];
        let (n, address) = match &socket.protocol {
            Protocol::Tcp(tcp) => match tcp.recv(self.now, &mut sink, asked) {
                Ok(n) => (n, None),
                Err(error) => return Ok(waits_or_fails(errno::of_recv(error))),
            },
            Protocol::Udp(udp) => match udp.recv_from(self.now, &mut sink, asked) {
                Ok(message) if asked.contains(RecvFlags::TRUNC) => {
                    (message.full_len, Some(message.from))
                }
                Ok(message) => (message.len, Some(message.from)),
                Err(error) => return Ok(waits_or_fails(errno::of_recv(error))),
            },
        };
        running.received.extend(&room[..n.min(room.len())]);
        let is_stream = matches!(socket.protocol, Protocol::Tcp(_));
        let wants_all = flags & libc::MSG_WAITALL != 0 && flags & libc::MSG_PEEK == 0 && is_stream;
        if wants_all && n > 0 && running.received.len() < len {
            return self.receive(running, handle, len, flags);
        }
        let data = std::mem::take(&mut running.received);
        // With MSG_TRUNC the value is more than what was copied.
        let value = if wants_all { data.len() } else { n };
        Ok(Attempt::Done(Returned { data, address, ..done(value as i64) }))
    }

    pub(super) fn send(
        &mut self,
        running: &mut Running,
        handle: Handle,
        bytes: &[u8],
        (flags, to): (i32, Option<SocketAddr>),
    ) -> Result<Attempt, KernelError> {
        let known = libc::MSG_DONTWAIT
            | libc::MSG_OOB
            | libc::MSG_MORE
            | libc::MSG_NOSIGNAL
            | libc::MSG_FASTOPEN;
        check_flags(flags, known, "a send")?;
        let socket = match self.socket(handle) {
            Ok(socket) => socket,
            Err(errno) => return Ok(Attempt::Failed(errno)),
        };
        let more = flags & libc::MSG_MORE != 0;
        let tcp = match &socket.protocol {
            Protocol::Tcp(tcp) => tcp,
            Protocol::Udp(udp) => {
                let ancillary = Ancillary { more, ..Ancillary::default() };
                return Ok(match udp.send_to(self.now, &mut &bytes[..], to, &ancillary) {
                    Ok(n) => Attempt::Done(done(n as i64)),
                    Err(error) => waits_or_fails(errno::of_send(error)),
                });
            }
        };
        let mut asked = SendFlags::empty();
        asked.set(SendFlags::MORE, more);
        asked.set(SendFlags::OOB, flags & libc::MSG_OOB != 0);
        let mut rest = &bytes[running.sent.min(bytes.len())..];
        let sent = match (flags & libc::MSG_FASTOPEN != 0, to) {
            (true, Some(to)) => tcp.fast_open(self.now, &mut rest, to, asked),
            // tcp(7): a destination of a stream is not looked at.
            _ => tcp.send(self.now, &mut rest, asked),
        };
        Ok(match sent {
            Ok(n) => {
                running.sent += n;
                match running.blocks && running.sent < bytes.len() {
                    true => Attempt::Waits(Errno::EAGAIN),
                    false => Attempt::Done(done(running.sent as i64)),
                }
            }
            Err(error) => match errno::of_send(error) {
                // A blocking fast open waits for the handshake.
                Errno::EINPROGRESS if running.blocks => Attempt::Waits(Errno::EINPROGRESS),
                errno => waits_or_fails(errno),
            },
        })
    }

    pub(super) fn set_option(
        &mut self,
        handle: Handle,
        (level, name): (i32, i32),
        value: &[u8],
    ) -> Result<Attempt, KernelError> {
        let now = self.now;
        let Some(Some(socket)) = self.sockets.get_mut(handle) else {
            return Ok(Attempt::Failed(Errno::EBADF));
        };
        if let (libc::SOL_SOCKET, libc::SO_RCVTIMEO | libc::SO_SNDTIMEO) = (level, name) {
            let which = usize::from(name == libc::SO_SNDTIMEO);
            let Some(time) = timeval(value) else { return Ok(Attempt::Failed(Errno::EINVAL)) };
            // No time at all means to wait for ever.
            socket.timeouts[which] = Some(time).filter(|time| !time.is_zero());
            return Ok(Attempt::Done(done(0)));
        }
        let told = match sockopt::to_stack(level, name, value) {
            Some(Ok(told)) => told,
            Some(Err(error)) => return Ok(Attempt::Failed(errno::of_option(error))),
            None => {
                let told = sockopt::told(level, name);
                return Err(KernelError::Refused(format!("{told} is not set by scripts here")));
            }
        };
        let set = match &socket.protocol {
            Protocol::Tcp(tcp) => tcp.set_option(now, told),
            Protocol::Udp(udp) => udp.set_option(now, told),
        };
        Ok(match set {
            Ok(()) => {
                socket.options.insert((level, name), value.to_vec());
                Attempt::Done(done(0))
            }
            Err(error) => Attempt::Failed(errno::of_option(error)),
        })
    }

    pub(super) fn option(
        &mut self,
        handle: Handle,
        (level, name): (i32, i32),
        room: usize,
    ) -> Result<Attempt, KernelError> {
        let socket = match self.socket(handle) {
            Ok(socket) => socket,
            Err(errno) => return Ok(Attempt::Failed(errno)),
        };
        let number = |n: i32| n.to_ne_bytes().to_vec();
        let mut data = match (level, name, sockopt::kind(level, name)) {
            (libc::SOL_SOCKET, libc::SO_ERROR, _) => {
                let error = match &socket.protocol {
                    Protocol::Tcp(tcp) => tcp.take_error(),
                    Protocol::Udp(udp) => udp.take_error(),
                };
                number(error.map_or(0, |error| errno::of_socket(error) as i32))
            }
            (libc::SOL_SOCKET, libc::SO_TYPE, _) => number(match socket.protocol {
                Protocol::Tcp(_) => libc::SOCK_STREAM,
                Protocol::Udp(_) => libc::SOCK_DGRAM,
            }),
            (_, _, Some(kind)) => {
                let value = match &socket.protocol {
                    Protocol::Tcp(tcp) => tcp.option(self.now, kind),
                    Protocol::Udp(udp) => udp.option(self.now, kind),
                };
                match value.map(sockopt::bytes) {
                    Ok(Some(bytes)) => bytes,
                    Ok(None) => return Err(not_read(level, name)),
                    Err(error) => return Ok(Attempt::Failed(errno::of_option(error))),
                }
            }
            _ => match socket.options.get(&(level, name)) {
                Some(bytes) => bytes.clone(),
                None => return Err(not_read(level, name)),
            },
        };
        data.truncate(room);
        Ok(Attempt::Done(Returned { data, ..done(0) }))
    }
}

fn not_read(level: i32, name: i32) -> KernelError {
    KernelError::Refused(format!("{} is not read by scripts here", sockopt::told(level, name)))
}

fn waits_or_fails(errno: Errno) -> Attempt {
    match errno {
        Errno::EAGAIN => Attempt::Waits(errno),
        errno => Attempt::Failed(errno),
    }
}

/// struct timeval
fn timeval(bytes: &[u8]) -> Option<Duration> {
    let seconds = i64::from_ne_bytes(*bytes.first_chunk()?);
    let micros = i64::from_ne_bytes(*bytes.get(8..)?.first_chunk()?);
    let (seconds, micros) = (u64::try_from(seconds).ok()?, u64::try_from(micros).ok()?);
    (micros < 1_000_000).then(|| Duration::from_secs(seconds) + Duration::from_micros(micros))
}
