//! Sockets behind a trait: a family is a row of a registry, and system calls never know which one they talk to.

use std::sync::Arc;

use sentry_abi::Errno;

use crate::error::Result;
use crate::file::{FileDescription, FileOps};
use crate::io::{Sink, Source};
use crate::task::CurrentTask;

/// A socket address as the program gave it or shall see it: `sa_family` first, at most 128 bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SockAddr(pub Vec<u8>);

impl SockAddr {
    /// `sa_family`, or EINVAL for an address shorter than that.
    pub fn family(&self) -> Result<u16> {
        match self.0.get(..2) {
            Some(bytes) => Ok(u16::from_ne_bytes([bytes[0], bytes[1]])),
            None => Err(Errno::EINVAL.into()),
        }
    }
}

/// Which half shutdown(2) ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shutdown {
    /// SHUT_RD
    Read,
    /// SHUT_WR
    Write,
    /// SHUT_RDWR
    Both,
}

/// One control message (cmsg(3)).
#[derive(Clone)]
pub enum Control {
    /// SCM_RIGHTS: open files.
    Rights(Vec<Arc<FileDescription>>),
    /// SCM_CREDENTIALS: pid, uid, gid.
    Credentials {
        /// Process id in the sender's namespace.
        pid: u32,
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
    /// Any other, as bytes.
    Raw {
        /// cmsg_level
        level: i32,
        /// cmsg_type
        kind: i32,
        /// cmsg_data
        data: Vec<u8>,
    },
}

/// What sendmsg(2) gives besides the bytes.
#[derive(Default)]
pub struct SendMessage {
    /// Destination, where one was given.
    pub to: Option<SockAddr>,
    /// Control messages.
    pub control: Vec<Control>,
    /// MSG_* flags.
    pub flags: u32,
}

/// What recvmsg(2) returns besides the bytes.
#[derive(Default)]
pub struct Received {
    /// The call's result: bytes stored, or the full length where MSG_TRUNC was asked.
    pub len: usize,
    /// Sender, where the protocol tells one.
    pub from: Option<SockAddr>,
    /// Control messages.
    pub control: Vec<Control>,
    /// MSG_* flags of the result (MSG_TRUNC, MSG_EOR, …).
    pub flags: u32,
}

/// A socket. As in [`FileOps`], nothing blocks: EAGAIN (or EINPROGRESS from connect) tells the caller to wait on the wait queue.
pub trait Socket: FileOps {
    /// Domain, type and protocol: SO_DOMAIN, SO_TYPE, SO_PROTOCOL.
    fn identity(&self) -> (i32, i32, i32);

    /// bind(2)
    fn bind(&self, task: &CurrentTask, addr: &SockAddr) -> Result<()>;

    /// connect(2). EINPROGRESS where it goes on; when writable, a second call answers 0, EISCONN or the failure.
    fn connect(&self, task: &CurrentTask, addr: &SockAddr) -> Result<()>;

    /// listen(2)
    fn listen(&self, backlog: i32) -> Result<()> {
        let _ = backlog;
        Err(Errno::EOPNOTSUPP.into())
    }

    /// accept(2): the new socket as an open file, with its peer's address. Errors: EAGAIN, EINVAL, EOPNOTSUPP.
    fn accept(&self) -> Result<(Arc<dyn Socket>, SockAddr)> {
        Err(Errno::EOPNOTSUPP.into())
    }

    /// send(2), sendto(2), sendmsg(2). A partial count is fine for streams. Errors: EAGAIN, EPIPE (the caller raises SIGPIPE unless MSG_NOSIGNAL).
    fn send(&self, task: &CurrentTask, src: &mut dyn Source, message: SendMessage)
    -> Result<usize>;

    /// Told once at the end of a send on a stream that took bytes, with what it was asked beside them: what concerns the message as
    /// a whole (MSG_ZEROCOPY, times of sending) begins here.
    fn sent(&self, control: &[Control], flags: u32) {
        let _ = (control, flags);
    }

    /// recv(2), recvfrom(2), recvmsg(2) with MSG_* `flags`; `control_wanted` is the room for control messages in bytes. MSG_WAITALL is the caller's loop.
    fn receive(
        &self,
        task: &CurrentTask,
        dst: &mut dyn Sink,
        flags: u32,
        control_wanted: usize,
    ) -> Result<Received>;

    /// shutdown(2)
    fn shutdown(&self, how: Shutdown) -> Result<()>;

    /// getsockname(2)
    fn local_address(&self) -> Result<SockAddr>;

    /// getpeername(2)
    fn peer_address(&self) -> Result<SockAddr>;

    /// setsockopt(2) with the raw value. Errors: ENOPROTOOPT, EINVAL, EPERM.
    fn set_option(&self, task: &CurrentTask, level: i32, name: i32, value: &[u8]) -> Result<()>;

    /// getsockopt(2): the value, to be cut to the caller's length. `value` is what the caller's buffer holds (some options read it).
    fn option(&self, task: &CurrentTask, level: i32, name: i32, value: &[u8]) -> Result<Vec<u8>>;

    /// The filter that is attached, as an array of struct sock_filter (SO_GET_FILTER); empty without one.
    fn filter(&self) -> Vec<u8> {
        Vec::new()
    }

    /// The time-outs SO_RCVTIMEO and SO_SNDTIMEO in nanoseconds, for the caller's wait.
    fn timeouts_ns(&self) -> (Option<u64>, Option<u64>) {
        (None, None)
    }
}

/// A socket family: a row of the registry.
pub trait SocketFamily: Send + Sync {
    /// AF_* number.
    fn family(&self) -> i32;

    /// socket(2). `kind` is SOCK_* without flags. Errors: ESOCKTNOSUPPORT, EPROTONOSUPPORT, EPERM, EACCES.
    fn socket(&self, task: &CurrentTask, kind: i32, protocol: i32) -> Result<Arc<dyn Socket>>;

    /// socketpair(2). Errors: EOPNOTSUPP.
    fn pair(
        &self,
        task: &CurrentTask,
        kind: i32,
        protocol: i32,
    ) -> Result<(Arc<dyn Socket>, Arc<dyn Socket>)> {
        let _ = (task, kind, protocol);
        Err(Errno::EOPNOTSUPP.into())
    }
}
