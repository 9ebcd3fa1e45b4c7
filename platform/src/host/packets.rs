//! Local sockets of packets (SOCK_SEQPACKET), by a path, with a descriptor beside a packet where one is to be handed over.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, SockFlag,
    SockType, UnixAddr, accept4, bind, connect, getsockopt, listen, recvmsg, sendmsg, shutdown,
    socket, socketpair, sockopt,
};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;
/// Descriptors beside a packet at most; more are closed.
pub const DESCRIPTORS_MAX: usize = 4;

fn fresh() -> Result<OwnedFd, Errno> {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
}

/// Takes a descriptor over that the kernel has just made for this process.
fn owned(descriptor: RawFd) -> OwnedFd {
    // SAFETY: accept4 and recvmsg have made it, and nobody else knows of it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Accepts connections.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Listens at a path that does not exist yet. Errors: EADDRINUSE, ENAMETOOLONG, those of bind(2).
    pub fn new(path: &Path) -> Result<Self, Errno> {
        let listener = fresh()?;
        bind(listener.as_raw_fd(), &UnixAddr::new(path)?)?;
        listen(&listener, Backlog::new(BACKLOG)?)?;
        Ok(Self(listener))
    }

    /// The next connection.
    pub fn accept(&self) -> Result<Connection, Errno> {
        loop {
            match accept4(self.0.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
                Err(Errno::EINTR | Errno::ECONNABORTED) => {}
                other => return other.map(|descriptor| Connection(owned(descriptor))),
            }
        }
    }
}

/// A packet that came.
#[derive(Debug)]
pub struct Packet {
    /// Its bytes that fit.
    pub len: usize,
    /// Whether there were more.
    pub is_cut: bool,
    /// The descriptors beside it, at most [`DESCRIPTORS_MAX`].
    pub descriptors: Vec<OwnedFd>,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Connection(OwnedFd);

impl Connection {
    /// Connects. Errors: ENOENT, ECONNREFUSED where nobody listens any more.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let connection = fresh()?;
        connect(connection.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Self(connection))
    }

    /// The user at the other end (SO_PEERCRED).
    pub fn peer_uid(&self) -> Result<u32, Errno> {
        getsockopt(&self.0, sockopt::PeerCredentials).map(|peer| peer.uid())
    }

    /// Both ends of a connection.
    pub fn pair() -> Result<(Self, Self), Errno> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self(one), Self(other)))
    }

    /// Lets the programs that this process starts have it, under the number that this returns: until it is dropped.
    pub fn leave_open(&self) -> Result<RawFd, Errno> {
        fcntl(&self.0, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(self.0.as_raw_fd())
    }

    /// Takes over what the process that started this one has left open under `number`. Errors: EBADF, ENOTSOCK where nothing of the
    /// kind is there.
    pub fn inherited(number: RawFd) -> Result<Self, Errno> {
        if number <= 2 {
            return Err(Errno::EBADF);
        }
        // SAFETY: the number is only used to ask for a copy, which fails where nothing is open under it.
        let there = unsafe { BorrowedFd::borrow_raw(number) };
        let own = fcntl(there, FcntlArg::F_DUPFD_CLOEXEC(3)).map(owned)?;
        if getsockopt(&own, sockopt::SockType)? != SockType::SeqPacket {
            return Err(Errno::ENOTSOCK);
        }
        nix::unistd::close(number)?;
        Ok(Self(own))
    }

    /// Sends a packet, and descriptors beside it.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let descriptors: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let control = if descriptors.is_empty() { &[][..] } else { &rights };
        let parts = [IoSlice::new(bytes)];
        sendmsg::<()>(self.0.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None).map(drop)
    }

    /// Waits for a packet; None where the other end has gone.
    pub fn receive(&self, bytes: &mut [u8]) -> Result<Option<Packet>, Errno> {
        let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]);
        let mut parts = [IoSliceMut::new(bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let received = loop {
            let descriptor = self.0.as_raw_fd();
            match recvmsg::<()>(descriptor, &mut parts, Some(&mut space), flags) {
                Err(Errno::EINTR) => {}
                Err(Errno::ECONNRESET) => return Ok(None),
                other => break other?,
            }
        };
        let mut descriptors = Vec::new();
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(came) = message {
                descriptors.extend(came.into_iter().map(owned));
            }
        }
        let is_cut = received.flags.contains(MsgFlags::MSG_TRUNC);
        let len = received.bytes;
        let packet = Packet { len, is_cut, descriptors };
        Ok((len > 0).then_some(packet))
    }

    /// Neither sends nor receives any more, here and in other threads.
    pub fn close(&self) -> Result<(), Errno> {
        shutdown(self.0.as_raw_fd(), Shutdown::Both)
    }

    /// Sends no more.
    pub fn end(&self) -> Result<(), Errno> {
        shutdown(self.0.as_raw_fd(), Shutdown::Write)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
