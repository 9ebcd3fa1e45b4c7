//! Follows a namespace that was taken: a thread there hears of changes, takes interfaces that come, and tells what stands there now.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::SockProtocol;

use super::Namespace;
use super::read::{self, LinkInfo, Snapshot};
use super::silence::Silence;
use super::take::{self, TakeError, TakenNic, Taking};
use crate::netlink::Socket;

/// RTMGRP_LINK, _NEIGH, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE, and the bit of RTNLGRP_IPV6_RULE.
const GROUPS: u32 = 1 | 4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 1 << 18;

/// Hears of changes from now on, in the caller's namespace.
pub(super) fn listen() -> Result<Socket, Errno> {
    Socket::listen(SockProtocol::NetlinkRoute, GROUPS)
}

/// Who is told of changes. Called on the thread that follows the namespace.
pub trait Follower: Send {
    /// What stands there now. `added` are the interfaces that came, `gone` the numbers of those that went (also of those that
    /// came again as others).
    fn changed(&mut self, snapshot: Snapshot, added: Vec<TakenNic>, gone: Vec<u32>);

    /// A change could not be followed: it has no effect.
    fn failed(&mut self, error: &TakeError);
}

/// What tells of changes in a namespace, and keeps the host's stack silent there.
pub struct Watch {
    pub(super) namespace: Namespace,
    pub(super) how: Taking,
    pub(super) silence: Silence,
    pub(super) notices: Socket,
    pub(super) taken: Vec<LinkInfo>,
}

/// A running thread that follows a namespace. It ends when this is dropped, and the host's stack then hears its interfaces again.
pub struct Following {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts to tell. Errors: no descriptor or thread is to be had.
    pub fn start(self, follower: Box<dyn Follower>) -> io::Result<Following> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let stop = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let of_thread = stop.clone();
        let thread = std::thread::Builder::new()
            .name("net namespace".into())
            .spawn(move || self.run(&of_thread, follower))?;
        Ok(Following { stop, thread: Some(thread) })
    }

    fn run(mut self, stop: &EventFd, mut follower: Box<dyn Follower>) {
        if let Err(errno) = self.namespace.enter() {
            // It was entered before, so that only a privilege that was given up can be the reason.
            follower.failed(&TakeError::Enter(errno));
        }
        loop {
            let mut fds = [
                PollFd::new(stop.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.notices.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                Err(errno) => return follower.failed(&TakeError::Read(errno)),
                Ok(_) => {}
            }
            if fds[0].any() == Some(true) {
                return;
            }
            if self.heard() {
                self.tell(&mut *follower);
            }
        }
    }

    /// Takes the notices that wait; answers whether there were any, or some were lost.
    fn heard(&self) -> bool {
        let mut any = false;
        loop {
            match self.notices.notices() {
                Ok(_) | Err(Errno::ENOBUFS) => any = true,
                Err(_) => return any,
            }
        }
    }

    fn tell(&mut self, follower: &mut dyn Follower) {
        let links = match read::links() {
            Ok(links) => links,
            Err(errno) => return follower.failed(&TakeError::Read(errno)),
        };
        let wanted = match take::wanted(&links, &self.how) {
            Ok(wanted) => wanted,
            Err(error) => return follower.failed(&error),
        };
        // An interface with another name or address is another one.
        let same =
            |a: &LinkInfo, b: &LinkInfo| (a.ifindex, &a.name, a.mac) == (b.ifindex, &b.name, b.mac);
        let stays = |old: &&LinkInfo| wanted.iter().any(|link| same(link, old));
        let gone: Vec<u32> =
            self.taken.iter().filter(|old| !stays(old)).map(|old| old.ifindex).collect();
        for ifindex in &gone {
            // With the interface its chain went too, where the kernel is older than Linux 6.16.
            let _ = self.silence.remove(*ifindex);
        }
        self.taken.retain(|old| !gone.contains(&old.ifindex));
        let mut added = Vec::new();
        for link in wanted {
            if self.taken.iter().any(|old| old.ifindex == link.ifindex) {
                continue;
            }
            match take::one(link, &self.how, &mut self.silence) {
                Ok(nic) => {
                    self.taken.push(nic.link.clone());
                    added.push(nic);
                }
                Err(error) => follower.failed(&error),
            }
        }
        match read::snapshot() {
            Ok(snapshot) => follower.changed(snapshot, added, gone),
            Err(errno) => follower.failed(&TakeError::Read(errno)),
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // It fails only where the counter is full, and then the thread wakes as well.
        let _ = self.stop.write(1);
        // Where the thread itself holds the last of what it tells, it cannot wait for its own end.
        let own = |thread: &JoinHandle<()>| thread.thread().id() == std::thread::current().id();
        if let Some(thread) = self.thread.take().filter(|thread| !own(thread)) {
            // A panic of the thread was reported by the panic hook.
            let _ = thread.join();
        }
    }
}
