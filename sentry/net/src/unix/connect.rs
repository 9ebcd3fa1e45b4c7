//! Names and connections of local sockets: bind, connect, listen, accept.

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_abi::socket::{SOMAXCONN, UCred};
use sentry_kernel::Result;
use sentry_kernel::vfs::Path;
use sentry_kernel::wait::Events;

use super::address::Name;
use super::names::Key;
use super::socket::{Kind, Listener, Role, UnixSocket, wake_all};
use crate::sockopt::Common;

impl UnixSocket {
    /// Binds to an abstract name, or to a free one for [`Name::Unnamed`]. Errors: EINVAL where it is bound, EADDRINUSE.
    pub fn bind_abstract(&self, name: Name) -> Result<()> {
        match name {
            Name::Unnamed => self.autobind(),
            Name::Abstract(bytes) => {
                if self.state.lock().local != Name::Unnamed {
                    return Err(Errno::EINVAL.into());
                }
                let key = Key::Abstract(bytes.clone());
                self.names.bind(key.clone(), &self.me)?;
                self.take_name(Name::Abstract(bytes), key, None)
            }
            Name::Path(_) => Err(Errno::EINVAL.into()),
        }
    }

    /// Binds to the inode that the VFS made at `path`, named as the program spelled it. Errors: EINVAL, EADDRINUSE.
    pub fn bind_path(&self, spelled: Vec<u8>, path: Path) -> Result<()> {
        let attributes = path.dentry.inode().attributes()?;
        let key = Key::Inode(attributes.dev, attributes.ino);
        self.names.bind(key.clone(), &self.me)?;
        self.take_name(Name::Path(spelled), key, Some(path))
    }

    fn take_name(&self, name: Name, key: Key, path: Option<Path>) -> Result<()> {
        let lost = {
            let mut state = self.state.lock();
            if state.local == Name::Unnamed {
                (state.local, state.key, state.path) = (name, Some(key), path);
                None
            } else {
                Some(key)
            }
        };
        match lost {
            None => Ok(()),
            Some(key) => {
                // Another thread bound it meanwhile.
                self.names.unbind(&key, &self.me);
                Err(Errno::EINVAL.into())
            }
        }
    }

    /// Gives a free abstract name, if there is none yet.
    pub fn autobind(&self) -> Result<()> {
        if self.state.lock().local != Name::Unnamed {
            return Ok(());
        }
        let (name, key) = self.names.bind_automatic(&self.me)?;
        // A thread that was faster has named it, which is as good.
        let _ = self.take_name(name, key, None);
        Ok(())
    }

    /// listen(2). Errors: EOPNOTSUPP, EINVAL without a name or where connected.
    pub fn start_listening(&self, backlog: i32) -> Result<()> {
        if self.kind == Kind::Datagram {
            return Err(Errno::EOPNOTSUPP.into());
        }
        // Linux takes the number as unsigned, so that -1 is the most.
        let backlog = (backlog as u32).min(SOMAXCONN as u32) as usize;
        let waiting = {
            let mut state = self.state.lock();
            if state.local == Name::Unnamed {
                return Err(Errno::EINVAL.into());
            }
            match &mut state.role {
                Role::Listening(listener) => {
                    listener.backlog = backlog;
                    std::mem::take(&mut listener.waiting)
                }
                Role::Idle => {
                    state.role = Role::Listening(Listener { backlog, ..Listener::default() });
                    Vec::new()
                }
                Role::Connected => return Err(Errno::EINVAL.into()),
            }
        };
        wake_all(waiting);
        Ok(())
    }

    /// Connects a stream or seqpacket socket to a listener.
    /// Errors: EISCONN, EINVAL, EPROTOTYPE, ECONNREFUSED, EAGAIN where the backlog is full (then we are told of room).
    pub fn connect_to(&self, listener: &Arc<UnixSocket>, who: UCred) -> Result<()> {
        match self.state.lock().role {
            Role::Connected => return Err(Errno::EISCONN.into()),
            Role::Listening(_) => return Err(Errno::EINVAL.into()),
            Role::Idle => {}
        }
        if listener.kind != self.kind {
            return Err(Errno::EPROTOTYPE.into());
        }
        let server_name = {
            let mut state = listener.state.lock();
            let refused = state.shut_read;
            let local = state.local.clone();
            match &mut state.role {
                Role::Listening(queue) if !refused => {
                    if queue.pending.len() > queue.backlog {
                        queue.waiting.retain(|w| w.strong_count() > 0 && !w.ptr_eq(&self.me));
                        queue.waiting.push(self.me.clone());
                        return Err(Errno::EAGAIN.into());
                    }
                }
                _ => return Err(Errno::ECONNREFUSED.into()),
            }
            local
        };
        let options = Common::inherit(&listener.options);
        let server = UnixSocket::with_options(&self.names, self.kind, listener.owner, options);
        let our_name = {
            let mut state = self.state.lock();
            if !matches!(state.role, Role::Idle) {
                return Err(Errno::EISCONN.into());
            }
            state.role = Role::Connected;
            state.peer = Arc::downgrade(&server);
            state.peer_name = server_name.clone();
            state.peer_cred = Some(listener.owner);
            (state.shut_read, state.shut_write) = (false, false);
            state.local.clone()
        };
        {
            let mut state = server.state.lock();
            state.role = Role::Connected;
            state.local = server_name;
            state.peer = self.me.clone();
            state.peer_name = our_name;
            state.peer_cred = Some(who);
        }
        let queued = match &mut listener.state.lock().role {
            Role::Listening(queue) => {
                queue.pending.push_back(server.clone());
                true
            }
            _ => false,
        };
        if !queued {
            // It stopped listening between the two looks.
            self.disconnect();
            return Err(Errno::ECONNREFUSED.into());
        }
        listener.waiters.notify(Events::IN | Events::RDNORM);
        self.waiters.notify(Events::OUT | Events::WRNORM);
        Ok(())
    }

    /// Connects a datagram socket: sets where sends go and from whom it receives. Errors: EPROTOTYPE, EPERM.
    pub fn connect_datagrams(&self, target: &Arc<UnixSocket>) -> Result<()> {
        if target.kind != Kind::Datagram {
            return Err(Errno::EPROTOTYPE.into());
        }
        if !target.accepts_from(self) {
            return Err(Errno::EPERM.into());
        }
        let peer_name = target.state.lock().local.clone();
        let mut state = self.state.lock();
        state.peer = Arc::downgrade(target);
        state.peer_name = peer_name;
        state.role = Role::Connected;
        Ok(())
    }

    /// connect(2) with AF_UNSPEC for datagram sockets, and the way back from a connection that failed.
    pub fn disconnect(&self) {
        let mut state = self.state.lock();
        state.role = Role::Idle;
        state.peer = std::sync::Weak::new();
        state.peer_name = Name::Unnamed;
        state.peer_cred = None;
        drop(state);
        self.waiters.notify(Events::OUT | Events::WRNORM);
    }

    /// Whether a datagram socket takes messages from `sender`: a connected one only from its peer.
    pub(super) fn accepts_from(&self, sender: &UnixSocket) -> bool {
        let state = self.state.lock();
        match state.role {
            Role::Connected => state.peer.ptr_eq(&sender.me),
            _ => true,
        }
    }

    /// accept(2). Errors: EOPNOTSUPP, EINVAL where it does not listen, EAGAIN.
    pub fn take_connection(&self) -> Result<(Arc<UnixSocket>, Name)> {
        if self.kind == Kind::Datagram {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let (server, waiting) = {
            let mut state = self.state.lock();
            let shut = state.shut_read;
            let Role::Listening(listener) = &mut state.role else {
                return Err(Errno::EINVAL.into());
            };
            match listener.pending.pop_front() {
                Some(server) => (server, std::mem::take(&mut listener.waiting)),
                None if shut => return Err(Errno::EINVAL.into()),
                None => return Err(Errno::EAGAIN.into()),
            }
        };
        wake_all(waiting);
        let name = server.state.lock().peer_name.clone();
        Ok((server, name))
    }
}
