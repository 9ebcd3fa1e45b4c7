//! A local socket as the kernel sees it: the file and the socket traits over the mechanism.

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_abi::UserAddr;
use sentry_abi::socket::*;
use sentry_kernel::Result;
use sentry_kernel::cred::Capabilities;
use sentry_kernel::file::{FileDescription, FileKind, FileOps, WriteAt, Written};
use sentry_kernel::io::{Sink, Source};
use sentry_kernel::socket::{Control, Received, SendMessage, Shutdown, SockAddr, Socket};
use sentry_kernel::task::CurrentTask;
use sentry_kernel::wait::{Events, WaitQueue};

use super::address::Name;
use super::paths;
use super::socket::{Kind, Role, UnixSocket};
use super::transfer::Outgoing;
use crate::identity;
use crate::inet::netdev;
use crate::ioctl;
use crate::sockopt::value;

impl FileOps for UnixSocket {
    fn opened(&self, id: u64) {
        self.inode.open(id);
    }

    fn read(&self, _: u64, dst: &mut dyn Sink) -> Result<usize> {
        Ok(self.take_bytes(dst, 0, 0)?.len)
    }

    fn write(&self, _: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let out = Outgoing { cred: identity::current_or(self.owner), ..Outgoing::default() };
        let len = match self.kind {
            Kind::Stream => self.send_stream(src, out)?,
            _ => self.send_datagram(None, src, out)?,
        };
        Ok(Written { len, end: 0 })
    }

    fn readiness(&self) -> Events {
        self.events()
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.waiters)
    }

    fn ioctl(&self, task: &CurrentTask, request: u32, arg: UserAddr) -> Result<u64> {
        match request {
            FIONREAD => {
                if matches!(self.state.lock().role, Role::Listening(_)) {
                    return Err(Errno::EINVAL.into());
                }
                ioctl::write_int(task, arg, self.unread())
            }
            SIOCOUTQ => ioctl::write_int(task, arg, self.unsent()),
            // if_nametoindex(3) of the C library asks on a local socket.
            _ => match self.names.net() {
                Some(net) => netdev::ioctl(&net, task, request, arg),
                None => Err(Errno::ENOTTY.into()),
            },
        }
    }

    fn kind(&self) -> FileKind<'_> {
        FileKind::Socket(self)
    }
}

/// Splits a send's control messages. Errors: EINVAL for ones that this family does not know, EPERM for another's credentials.
fn outgoing(task: &CurrentTask, message: SendMessage) -> Result<Outgoing> {
    let own = identity::cred_of(task);
    let mut out = Outgoing { cred: own, files: Vec::new(), flags: message.flags };
    for control in message.control {
        match control {
            Control::Rights(files) => add_files(&mut out.files, files)?,
            Control::Credentials { pid, uid, gid } => {
                let creds = identity::credentials(task);
                let fine_pid = pid as i32 == own.pid || creds.has(Capabilities::SYS_ADMIN);
                let fine_uid = [creds.uid, creds.euid, creds.suid].contains(&uid)
                    || creds.has(Capabilities::SETUID);
                let fine_gid = [creds.gid, creds.egid, creds.sgid].contains(&gid)
                    || creds.has(Capabilities::SETGID);
                if !(fine_pid && fine_uid && fine_gid) {
                    return Err(Errno::EPERM.into());
                }
                if pid as i32 != own.pid && !identity::is_process(task, pid) {
                    return Err(Errno::ESRCH.into());
                }
                out.cred = UCred { pid: pid as i32, uid, gid };
            }
            // unix_sendmsg reads only SOL_SOCKET; Linux skips other levels in silence.
            Control::Raw { level, .. } if level != SOL_SOCKET => {}
            Control::Raw { .. } => return Err(Errno::EINVAL.into()),
        }
    }
    Ok(out)
}

fn add_files(to: &mut Vec<Arc<FileDescription>>, files: Vec<Arc<FileDescription>>) -> Result<()> {
    if to.len() + files.len() > SCM_MAX_FD as usize {
        return Err(Errno::EINVAL.into());
    }
    to.extend(files);
    Ok(())
}

impl UnixSocket {
    /// With SO_PASSCRED a socket that speaks gets a name first (unix(7)).
    fn autobind_for_credentials(&self) -> Result<()> {
        if self.options.passes_credentials() { self.autobind() } else { Ok(()) }
    }

    /// SOL_SOCKET options that only this family answers.
    fn own_option(&self, name: i32) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        Some(match name {
            SO_ERROR => value::from_int(state.error.take().map_or(0, Errno::number)),
            SO_ACCEPTCONN => value::from_flag(matches!(state.role, Role::Listening(_))),
            SO_PEERCRED => {
                let none = UCred { pid: 0, uid: u32::MAX, gid: u32::MAX };
                value::from_object(&state.peer_cred.unwrap_or(none))
            }
            _ => return None,
        })
    }
}

impl Socket for UnixSocket {
    fn identity(&self) -> (i32, i32, i32) {
        (AF_UNIX, self.kind.number(), 0)
    }

    fn bind(&self, task: &CurrentTask, addr: &SockAddr) -> Result<()> {
        match Name::decode(addr)? {
            Name::Path(path) => paths::bind(task, self, path),
            name => self.bind_abstract(name),
        }
    }

    fn connect(&self, task: &CurrentTask, addr: &SockAddr) -> Result<()> {
        if i32::from(addr.family()?) == AF_UNSPEC && self.kind == Kind::Datagram {
            self.disconnect();
            return Ok(());
        }
        let target = paths::find(task, self, Name::decode(addr)?)?;
        self.autobind_for_credentials()?;
        match self.kind {
            Kind::Datagram => self.connect_datagrams(&target),
            _ => self.connect_to(&target, identity::peer_cred_of(task)),
        }
    }

    fn listen(&self, backlog: i32) -> Result<()> {
        self.start_listening(backlog)
    }

    fn accept(&self) -> Result<(Arc<dyn Socket>, SockAddr)> {
        let (socket, name) = self.take_connection()?;
        Ok((socket, name.encode()))
    }

    fn send(
        &self,
        task: &CurrentTask,
        src: &mut dyn Source,
        mut message: SendMessage,
    ) -> Result<usize> {
        let to = message.to.take();
        let out = outgoing(task, message)?;
        if self.kind == Kind::Stream {
            if to.is_some() {
                let connected = matches!(self.state.lock().role, Role::Connected);
                let errno = if connected { Errno::EISCONN } else { Errno::EOPNOTSUPP };
                return Err(errno.into());
            }
            return self.send_stream(src, out);
        }
        self.autobind_for_credentials()?;
        let target = match to {
            Some(addr) if self.kind == Kind::Datagram => {
                Some(paths::find(task, self, Name::decode(&addr)?)?)
            }
            _ => None,
        };
        self.send_datagram(target, src, out)
    }

    fn receive(
        &self,
        _: &CurrentTask,
        dst: &mut dyn Sink,
        flags: u32,
        control_wanted: usize,
    ) -> Result<Received> {
        self.take_bytes(dst, flags, control_wanted)
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        self.shut(how)
    }

    fn local_address(&self) -> Result<SockAddr> {
        Ok(self.state.lock().local.encode())
    }

    fn peer_address(&self) -> Result<SockAddr> {
        let state = self.state.lock();
        match state.role {
            Role::Connected => Ok(state.peer_name.encode()),
            _ => Err(Errno::ENOTCONN.into()),
        }
    }

    fn set_option(&self, task: &CurrentTask, level: i32, name: i32, value: &[u8]) -> Result<()> {
        if level != SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP.into());
        }
        self.options.set(&identity::credentials(task), name, value)
    }

    fn option(&self, _: &CurrentTask, level: i32, name: i32, room: &[u8]) -> Result<Vec<u8>> {
        if level != SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP.into());
        }
        match self.own_option(name) {
            Some(value) => Ok(value),
            None => self.options.option(name, room),
        }
    }

    fn timeouts_ns(&self) -> (Option<u64>, Option<u64>) {
        self.options.timeouts_ns()
    }
}
