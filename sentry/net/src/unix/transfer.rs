//! Bytes, datagrams, descriptors and credentials between local sockets.

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_abi::socket::{
    MSG_CTRUNC, MSG_DONTWAIT, MSG_ERRQUEUE, MSG_OOB, MSG_PEEK, MSG_TRUNC, SO_PEEK_OFF, SOL_SOCKET,
    UCred,
};
use sentry_kernel::Result;
use sentry_kernel::file::FileDescription;
use sentry_kernel::io::{Sink, Source};
use sentry_kernel::socket::{Control, Received};
use sentry_kernel::wait::Events;

use super::address::Name;
use super::message::{Message, Rights, release};
use super::socket::{Kind, Role, UnixSocket};

/// Bytes that one message of a stream carries at most.
const CHUNK_MAX: usize = 64 * 1024;
/// Linux takes this off the send buffer before it compares a datagram's length.
const DATAGRAM_RESERVE: usize = 32;

/// What goes with a send.
#[derive(Default)]
pub struct Outgoing {
    /// The sender's identity.
    pub cred: UCred,
    /// Files for SCM_RIGHTS.
    pub files: Vec<Arc<FileDescription>>,
    /// MSG_* flags.
    pub flags: u32,
}

/// Reads `len` bytes; fewer where the program's memory ends earlier.
fn read_up_to(src: &mut dyn Source, len: usize) -> Result<Vec<u8>> {
    let mut data = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match src.read(&mut data[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if filled == 0 => return Err(error),
            Err(_) => break,
        }
    }
    data.truncate(filled);
    Ok(data)
}

impl UnixSocket {
    fn rights(&self, files: Vec<Arc<FileDescription>>) -> Result<Rights> {
        Rights::new(files, self.names.in_flight())
    }

    /// Sends bytes on a stream; a partial count where the peer's queue filled.
    /// Errors: ENOTCONN, EPIPE, EAGAIN, EFAULT, ETOOMANYREFS, EOPNOTSUPP for MSG_OOB.
    pub fn send_stream(&self, src: &mut dyn Source, out: Outgoing) -> Result<usize> {
        if out.flags & MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let from = self.writable_name()?;
        let Some(peer) = self.peer() else { return Err(Errno::EPIPE.into()) };
        let mut rights = Some(self.rights(out.files)?);
        let mut total = 0;
        while src.remaining() > 0 {
            let room = {
                let state = peer.state.lock();
                if state.shut_read {
                    return if total > 0 { Ok(total) } else { Err(Errno::EPIPE.into()) };
                }
                self.options.sndbuf().saturating_sub(state.queue.bytes())
            };
            if room == 0 {
                return if total > 0 { Ok(total) } else { Err(Errno::EAGAIN.into()) };
            }
            let len = room.min(CHUNK_MAX).min(src.remaining());
            let data = match read_up_to(src, len) {
                Err(_) if total > 0 => return Ok(total),
                other => other?,
            };
            let n = data.len();
            let rights = rights.take().unwrap_or_default();
            let message = Message {
                data,
                taken: 0,
                peeked: false,
                from: from.clone(),
                cred: out.cred,
                rights,
            };
            peer.state.lock().queue.push_stream(message);
            peer.waiters.notify(Events::IN | Events::RDNORM);
            total += n;
            if n < len {
                break;
            }
        }
        Ok(total)
    }

    /// Our name, if a connected kind of socket can be written to. Errors: ENOTCONN, EPIPE, a pending error.
    fn writable_name(&self) -> Result<Name> {
        let mut state = self.state.lock();
        if self.kind == Kind::SeqPacket
            && let Some(errno) = state.error.take()
        {
            return Err(errno.into());
        }
        if !matches!(state.role, Role::Connected) {
            return Err(Errno::ENOTCONN.into());
        }
        if state.shut_write {
            return Err(Errno::EPIPE.into());
        }
        Ok(state.local.clone())
    }

    /// Sends one datagram to `target`, or to the peer.
    /// Errors: ENOTCONN, ECONNREFUSED, EPIPE, EPERM, EMSGSIZE, EAGAIN (then we are told of room), EFAULT.
    pub fn send_datagram(
        &self,
        target: Option<Arc<UnixSocket>>,
        src: &mut dyn Source,
        out: Outgoing,
    ) -> Result<usize> {
        if out.flags & MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let from = match self.kind {
            Kind::Datagram => {
                let state = self.state.lock();
                if state.shut_write {
                    return Err(Errno::EPIPE.into());
                }
                state.local.clone()
            }
            _ => self.writable_name()?,
        };
        let len = src.remaining();
        if len > self.options.sndbuf().saturating_sub(DATAGRAM_RESERVE) {
            return Err(Errno::EMSGSIZE.into());
        }
        let target = match target {
            Some(target) => target,
            None => self.connected_target()?,
        };
        if target.kind != self.kind {
            return Err(Errno::EPROTOTYPE.into());
        }
        if !target.accepts_from(self) {
            return Err(Errno::EPERM.into());
        }
        if target.state.lock().shut_read {
            return Err(Errno::EPIPE.into());
        }
        if target.is_full_for(self) {
            target.block(self);
            // The reader may have made room before it could see us.
            if target.is_full_for(self) {
                return Err(Errno::EAGAIN.into());
            }
        }
        let rights = self.rights(out.files)?;
        let data = read_up_to(src, len)?;
        if data.len() < len {
            return Err(Errno::EFAULT.into());
        }
        let message = Message { data, taken: 0, peeked: false, from, cred: out.cred, rights };
        target.state.lock().queue.push(message);
        target.waiters.notify(Events::IN | Events::RDNORM);
        Ok(len)
    }

    /// The peer of a socket without an address in the call. Errors: ENOTCONN, EPIPE, ECONNREFUSED once where the peer is gone.
    fn connected_target(&self) -> Result<Arc<UnixSocket>> {
        if let Some(peer) = self.peer() {
            return Ok(peer);
        }
        let was_connected = matches!(self.state.lock().role, Role::Connected);
        match (self.kind, was_connected) {
            (_, false) => Err(Errno::ENOTCONN.into()),
            (Kind::Datagram, true) => {
                self.disconnect();
                Err(Errno::ECONNREFUSED.into())
            }
            (_, true) => Err(Errno::EPIPE.into()),
        }
    }

    /// Receives, as the kind of socket does. Errors: EAGAIN, ENOTCONN, EINVAL, EFAULT, a pending error.
    pub fn take_bytes(
        &self,
        dst: &mut dyn Sink,
        flags: u32,
        control_wanted: usize,
    ) -> Result<Received> {
        if flags & MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP.into());
        }
        if flags & MSG_ERRQUEUE != 0 {
            // Local sockets queue no errors.
            return Err(Errno::EAGAIN.into());
        }
        let reading = self.reading.lock();
        let (result, unwanted) = match (self.kind, flags & MSG_PEEK != 0) {
            (_, true) => (self.peek(dst, flags), Vec::new()),
            (Kind::Stream, false) => self.read_stream(dst, flags, control_wanted),
            (_, false) => self.read_datagram(dst, flags, control_wanted),
        };
        drop(reading);
        release(unwanted);
        if flags & MSG_PEEK == 0 && result.is_ok() {
            self.room_was_made();
        }
        result
    }

    /// What an empty queue answers: `Ok` is the end of the stream.
    fn nothing_to_read(&self, flags: u32) -> Result<Received> {
        let mut state = self.state.lock();
        if let Some(errno) = state.error.take() {
            return Err(errno.into());
        }
        if state.shut_read && (self.kind != Kind::Datagram || flags & MSG_DONTWAIT == 0) {
            return Ok(Received::default());
        }
        match (&state.role, self.kind) {
            (Role::Connected, _) | (_, Kind::Datagram) => Err(Errno::EAGAIN.into()),
            (_, Kind::Stream) => Err(Errno::EINVAL.into()),
            (_, Kind::SeqPacket) => Err(Errno::ENOTCONN.into()),
        }
    }

    /// Control messages for a message, given whether credentials are wanted.
    fn control(&self, cred: UCred, files: Vec<Arc<FileDescription>>) -> Vec<Control> {
        let mut control = Vec::new();
        if self.options.passes_credentials() {
            let UCred { pid, uid, gid } = cred;
            control.push(Control::Credentials { pid: pid as u32, uid, gid });
        }
        if !files.is_empty() {
            control.push(Control::Rights(files));
        }
        control
    }

    /// Consumes from a stream: over several messages, but never past one with files, nor over senders when credentials are told.
    fn read_stream(
        &self,
        dst: &mut dyn Sink,
        flags: u32,
        control_wanted: usize,
    ) -> (Result<Received>, Vec<Arc<FileDescription>>) {
        let mut received = Received::default();
        let mut files = Vec::new();
        let mut sender: Option<(UCred, Name)> = None;
        let mut failure = None;
        if self.state.lock().queue.is_empty() {
            return (self.nothing_to_read(flags), Vec::new());
        }
        while dst.room() > 0 && files.is_empty() {
            let Some(mut message) = self.state.lock().queue.hold() else { break };
            let mixes = sender.as_ref().is_some_and(|(cred, _)| *cred != message.cred);
            if mixes && self.options.passes_credentials() {
                self.state.lock().queue.finish(0, Some(message));
                break;
            }
            let wrote = dst.write(message.rest());
            let n = *wrote.as_ref().unwrap_or(&0);
            message.taken += n;
            if n > 0 {
                files = message.rights.take();
                sender.get_or_insert((message.cred, message.from.clone()));
            }
            received.len += n;
            self.move_peek_offset(|offset| offset.saturating_sub(n));
            let all = message.rest().is_empty();
            self.state.lock().queue.finish(n, (!all).then_some(message));
            if let Err(error) = wrote {
                failure = Some(error);
            }
            if !all {
                break;
            }
        }
        if let Some(error) = failure
            && received.len == 0
        {
            return (Err(error), files);
        }
        if let Some((cred, from)) = sender {
            received.from = from.encode_sender();
            let unwanted =
                if control_wanted == 0 { std::mem::take(&mut files) } else { Vec::new() };
            if control_wanted > 0 {
                received.control = self.control(cred, files);
            } else if !unwanted.is_empty() || self.options.passes_credentials() {
                received.flags |= MSG_CTRUNC;
            }
            return (Ok(received), unwanted);
        }
        (Ok(received), files)
    }

    /// Consumes one datagram.
    fn read_datagram(
        &self,
        dst: &mut dyn Sink,
        flags: u32,
        control_wanted: usize,
    ) -> (Result<Received>, Vec<Arc<FileDescription>>) {
        let Some(mut message) = self.state.lock().queue.hold() else {
            return (self.nothing_to_read(flags), Vec::new());
        };
        let full = message.rest().len();
        let wrote = if full == 0 { Ok(0) } else { dst.write(message.rest()) };
        self.state.lock().queue.finish(full, None);
        self.move_peek_offset(|offset| offset.saturating_sub(full));
        let files = message.rights.take();
        let n = match wrote {
            Ok(n) => n,
            Err(error) => return (Err(error), files),
        };
        let mut received = datagram_result(n, full, flags);
        received.from = message.from.encode_sender();
        if control_wanted == 0 {
            if !files.is_empty() || self.options.passes_credentials() {
                received.flags |= MSG_CTRUNC;
            }
            return (Ok(received), files);
        }
        received.control = self.control(message.cred, files);
        (Ok(received), Vec::new())
    }

    /// SO_PEEK_OFF: where the next look begins; None while it is off.
    fn peek_offset(&self) -> Option<usize> {
        let offset = self.options.number(SOL_SOCKET, SO_PEEK_OFF)?;
        usize::try_from(offset).ok()
    }

    /// A look moves the offset on, a read back.
    fn move_peek_offset(&self, change: impl FnOnce(usize) -> usize) {
        if let Some(offset) = self.peek_offset() {
            let offset = change(offset).min(i32::MAX as usize);
            self.options.put(SOL_SOCKET, SO_PEEK_OFF, offset as i64);
        }
    }

    /// Looks without consuming; files are duplicated.
    fn peek(&self, dst: &mut dyn Sink, flags: u32) -> Result<Received> {
        let looked = match self.kind {
            Kind::Stream => self.peek_stream(dst)?,
            _ => self.peek_datagram(dst, flags)?,
        };
        let Some((received, n)) = looked else { return self.nothing_to_read(flags) };
        self.move_peek_offset(|offset| offset.saturating_add(n));
        Ok(received)
    }

    /// The datagram at the offset, from there on, and how many bytes of it were looked at.
    fn peek_datagram(&self, dst: &mut dyn Sink, flags: u32) -> Result<Option<(Received, usize)>> {
        let offset = self.peek_offset();
        let mut state = self.state.lock();
        let found = match offset {
            Some(offset) => state.queue.at_offset(offset),
            None => state.queue.get(0).map(|message| (message, 0)),
        };
        let Some((message, skip)) = found else { return Ok(None) };
        let data = message.rest().get(skip..).unwrap_or_default().to_vec();
        let (cred, from) = (message.cred, message.from.clone());
        let files = message.rights.files().to_vec();
        drop(state);
        let n = if data.is_empty() { 0 } else { dst.write(&data)? };
        let mut received = datagram_result(n, data.len(), flags);
        received.from = from.encode_sender();
        received.control = self.control(cred, files);
        Ok(Some((received, n)))
    }

    /// Bytes of a stream from the offset on: over several messages, but never past one with files.
    fn peek_stream(&self, dst: &mut dyn Sink) -> Result<Option<(Received, usize)>> {
        let mut skip = self.peek_offset().unwrap_or(0);
        let mut received: Option<Received> = None;
        let mut total = 0;
        for index in 0.. {
            let copy = {
                let state = self.state.lock();
                let message = state.queue.get(index);
                message.map(|message| {
                    let rest = message.rest();
                    let data = rest.get(skip..).unwrap_or_default().to_vec();
                    let files = message.rights.files().to_vec();
                    (rest.len(), data, message.cred, message.from.clone(), files)
                })
            };
            let Some((len, data, cred, from, files)) = copy else { break };
            if len > 0 && data.is_empty() {
                skip -= len;
                continue;
            }
            skip = 0;
            let n = if data.is_empty() { 0 } else { dst.write(&data)? };
            total += n;
            let has_files = !files.is_empty();
            let first = received.get_or_insert_with(|| Received {
                from: from.encode_sender(),
                control: self.control(cred, files),
                ..Received::default()
            });
            first.len = total;
            if has_files || dst.room() == 0 || n < data.len() {
                break;
            }
        }
        Ok(received.map(|received| (received, total)))
    }

    /// Bytes for FIONREAD: the first datagram, all of what keeps an order.
    pub fn unread(&self) -> usize {
        let state = self.state.lock();
        if self.kind == Kind::Datagram { state.queue.first_len() } else { state.queue.bytes() }
    }

    /// Bytes for SIOCOUTQ: what the peer has not read.
    pub fn unsent(&self) -> usize {
        self.peer().map_or(0, |peer| peer.state.lock().queue.bytes())
    }
}

/// The result of taking `n` of `full` bytes.
fn datagram_result(n: usize, full: usize, flags: u32) -> Received {
    let cut = n < full;
    let len = if flags & MSG_TRUNC != 0 { full } else { n };
    Received { len, flags: if cut { MSG_TRUNC } else { 0 }, ..Received::default() }
}
