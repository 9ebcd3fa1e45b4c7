//! The arguments of a system call, decoded.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::libc;

use super::{
    Descriptor, Descriptors, Effect, EpollChange, Prepared, Socket, Told, address, option_bytes,
    value,
};
use crate::script::flow;
use crate::script::kernel::{Handle, Nonblocking, SystemCall};
use crate::script::syntax::{Call, Expr, IpVersion, Settings};

/// Bytes of one call, at most.
const MAX_LEN: i64 = 16 << 20;

/// The pieces of a message, and its destination.
type Message<'a> = (Vec<(&'a Expr, usize)>, Option<&'a Expr>);

/// Decodes arguments.
pub struct Arguments<'a> {
    /// The call.
    pub call: &'a Call,
    /// The settings.
    pub settings: &'a Settings,
    /// The port that `connect(…, ..., …)` and others mean.
    pub descriptors: &'a Descriptors,
}

impl Arguments<'_> {
    fn at(&self, n: usize) -> Told<&Expr> {
        let count = self.call.arguments.len();
        self.call
            .arguments
            .get(n)
            .ok_or_else(|| format!("{} has only {count} arguments", self.call.name))
    }

    fn number(&self, n: usize) -> Told<i64> {
        value(self.at(n)?)
            .ok_or_else(|| format!("argument {} of {} is no number", n + 1, self.call.name))
    }

    fn int(&self, n: usize) -> Told<i32> {
        i32::try_from(self.number(n)?).map_err(|_| format!("argument {} is too large", n + 1))
    }

    fn flags(&self, n: usize) -> Told<i32> {
        if self.call.arguments.len() > n { self.int(n) } else { Ok(0) }
    }

    fn socket(&self, n: usize) -> Told<&Socket> {
        let fd = self.number(n)?;
        self.descriptors.socket(fd).ok_or_else(|| format!("{fd} is no socket of this script"))
    }

    fn len(&self, n: usize) -> Told<usize> {
        let len = self.number(n)?;
        let fits = (0..=MAX_LEN).contains(&len);
        fits.then_some(len as usize)
            .ok_or_else(|| format!("{len} bytes: 0 to {MAX_LEN} are possible"))
    }

    fn address(&self, n: usize, default: (IpAddr, u16)) -> Told<SocketAddr> {
        let found = match self.at(n)? {
            Expr::Ellipsis => SocketAddr::from(default),
            expr => address(expr)?,
        };
        Ok(match (self.settings.version, found.ip()) {
            (IpVersion::Mapped, IpAddr::V4(v4)) => (v4.to_ipv6_mapped(), found.port()).into(),
            _ => found,
        })
    }

    /// The family of `socket(..., …)`.
    fn family(&self) -> Told<i32> {
        match (self.at(0)?, self.settings.version) {
            (Expr::Ellipsis, IpVersion::V4) => Ok(libc::AF_INET),
            (Expr::Ellipsis, _) => Ok(libc::AF_INET6),
            _ => self.int(0),
        }
    }

    /// The bytes of a write: the script's own, or so many of the pattern, which goes on where the last write ended.
    fn bytes(&self, text: &Expr, len: usize, written: u64) -> Told<Vec<u8>> {
        match text {
            Expr::Text(text) if text.len() >= len => Ok(text[..len].to_vec()),
            Expr::Text(text) => Err(format!("the text has {} bytes and not {len}", text.len())),
            Expr::Ellipsis => Ok(flow::payload(written, len)),
            _ => Err("the bytes are ... or a text".into()),
        }
    }

    /// The pieces of an array of struct iovec: `[{..., 1000}, {"text", 4}]`.
    fn pieces<'b>(&self, list: &'b Expr) -> Told<Vec<(&'b Expr, usize)>> {
        let what = || "an array of struct iovec is written [{..., 1000}, …]".to_owned();
        let Expr::List(list) = list else { return Err(what()) };
        let mut pieces = Vec::new();
        for piece in list {
            let Expr::Struct(members) = piece else { return Err(what()) };
            let [(_, bytes), (_, len)] = &members[..] else { return Err(what()) };
            let len = value(len).filter(|len| (0..=MAX_LEN).contains(len)).ok_or_else(what)?;
            pieces.push((bytes, len as usize));
        }
        Ok(pieces)
    }

    /// The buffers of a struct msghdr, and its name.
    fn message(&self, n: usize) -> Told<Message<'_>> {
        let Expr::Struct(members) = self.at(n)? else {
            return Err(
                "a message is {msg_name(…)=…, msg_iov(1)=[{..., 1000}], msg_flags=0}".into()
            );
        };
        let member =
            |name: &str| members.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        if let Some(Expr::List(control)) = member("msg_control")
            && !control.is_empty()
        {
            return Err("msg_control is not read here".into());
        }
        let pieces = self.pieces(member("msg_iov").ok_or("this message has no msg_iov")?)?;
        Ok((pieces, member("msg_name").filter(|name| **name != Expr::Ellipsis)))
    }

    fn send(&self, bytes: Vec<u8>, flags: i32, to: Option<SocketAddr>) -> Told<Prepared> {
        let socket = self.socket(0)?;
        let call = SystemCall::Send(socket.handle, bytes, flags, to);
        Ok(Prepared { call, fd: self.number(0)?, effect: Effect::Written })
    }

    fn send_pieces(
        &self,
        pieces: &[(&Expr, usize)],
        flags: i32,
        to: Option<SocketAddr>,
    ) -> Told<Prepared> {
        let mut all = Vec::new();
        let written = self.socket(0)?.written;
        for (text, len) in pieces {
            let bytes = self.bytes(text, *len, written + all.len() as u64)?;
            all.extend(bytes);
            if all.len() as i64 > MAX_LEN {
                return Err(format!("more than {MAX_LEN} bytes in one call"));
            }
        }
        self.send(all, flags, to)
    }

    fn receive(&self, len: usize, flags: i32) -> Told<Prepared> {
        let call = SystemCall::Receive(self.socket(0)?.handle, len, flags);
        Ok(Prepared { call, fd: self.number(0)?, effect: Effect::None })
    }

    fn timeout(&self, n: usize) -> Told<Option<Duration>> {
        Ok(u64::try_from(self.number(n)?).ok().map(Duration::from_millis))
    }

    /// `[{fd=4, events=POLLIN, revents=POLLIN}]` or one without brackets: number, events, and what is to come.
    fn polled(&self, n: usize, wanted: &str) -> Told<Vec<(i64, i64, i64)>> {
        let one;
        let list: &[Expr] = match self.at(n)? {
            Expr::List(list) => list,
            single => {
                one = [single.clone()];
                &one
            }
        };
        let mut found = Vec::new();
        for entry in list {
            let Expr::Struct(members) = entry else {
                return Err(
                    "what is polled is written {fd=4, events=POLLIN, revents=POLLIN}".into()
                );
            };
            let member = |name: &str| {
                let found = members.iter().find(|(known, _)| known == name);
                found.and_then(|(_, expr)| value(expr)).ok_or_else(|| format!("{name} is missing"))
            };
            found.push((member("fd")?, member("events")?, member(wanted)?));
        }
        Ok(found)
    }

    /// The call with its arguments.
    // tidy: table
    pub fn prepare(&self) -> Told<Prepared> {
        let settings = self.settings;
        let connect_to = (settings.remote, settings.connect_port);
        let plain = |call, fd| Prepared { call, fd, effect: Effect::None };
        Ok(match self.call.name.as_str() {
            "socket" => {
                let kind = self.int(1)?;
                let call = SystemCall::Socket(self.family()?, kind, self.int(2)?);
                let kind = kind & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
                Prepared { call, fd: -1, effect: Effect::NewSocket(kind) }
            }
            "bind" => {
                let to = self.address(1, (settings.local, settings.bind_port))?;
                plain(SystemCall::Bind(self.socket(0)?.handle, to), self.number(0)?)
            }
            "listen" => {
                plain(SystemCall::Listen(self.socket(0)?.handle, self.int(1)?), self.number(0)?)
            }
            "accept" | "accept4" => {
                let socket = self.socket(0)?;
                let call = SystemCall::Accept(socket.handle, self.flags(3)?);
                Prepared { call, fd: self.number(0)?, effect: Effect::NewSocket(socket.kind) }
            }
            "connect" => {
                let to = self.address(1, connect_to)?;
                plain(SystemCall::Connect(self.socket(0)?.handle, to), self.number(0)?)
            }
            "read" => self.receive(self.len(2)?, 0)?,
            "recv" => self.receive(self.len(2)?, self.int(3)?)?,
            "recvfrom" => self.receive(self.len(2)?, self.int(3)?)?,
            "readv" => {
                self.receive(self.pieces(self.at(1)?)?.iter().map(|piece| piece.1).sum(), 0)?
            }
            "recvmsg" => {
                let (pieces, _) = self.message(1)?;
                self.receive(pieces.iter().map(|piece| piece.1).sum(), self.int(2)?)?
            }
            "write" => self.send_pieces(&[(self.at(1)?, self.len(2)?)], 0, None)?,
            "send" => self.send_pieces(&[(self.at(1)?, self.len(2)?)], self.int(3)?, None)?,
            "sendto" => {
                let to = match self.at(4)? {
                    // A null pointer, as for send(2).
                    Expr::Names(names) if names[..] == ["NULL"] => None,
                    Expr::Number(0) => None,
                    _ => Some(self.address(4, connect_to)?),
                };
                self.send_pieces(&[(self.at(1)?, self.len(2)?)], self.int(3)?, to)?
            }
            "writev" => self.send_pieces(&self.pieces(self.at(1)?)?, 0, None)?,
            "sendmsg" => {
                let (pieces, name) = self.message(1)?;
                let to = name.map(address).transpose()?;
                self.send_pieces(&pieces, self.int(2)?, to)?
            }
            "shutdown" => {
                plain(SystemCall::Shutdown(self.socket(0)?.handle, self.int(1)?), self.number(0)?)
            }
            "close" => {
                let call = SystemCall::Close(self.socket(0)?.handle);
                Prepared { call, fd: self.number(0)?, effect: Effect::Closed }
            }
            "setsockopt" => {
                let bytes = option_bytes(self.at(3)?, self.len(4)?)?;
                let call = SystemCall::SetOption(
                    self.socket(0)?.handle,
                    self.int(1)?,
                    self.int(2)?,
                    bytes,
                );
                plain(call, self.number(0)?)
            }
            "getsockopt" => {
                let room = match self.at(4)? {
                    Expr::List(list) => list.first().and_then(value),
                    expr => value(expr),
                };
                let room = room
                    .filter(|room| (0..=1024).contains(room))
                    .ok_or("the room is written [4]")?;
                let (level, name) = (self.int(1)?, self.int(2)?);
                let call =
                    SystemCall::GetOption(self.socket(0)?.handle, level, name, room as usize);
                Prepared { call, fd: self.number(0)?, effect: Effect::Value }
            }
            "fcntl" => match self.int(1)? {
                libc::F_GETFL => {
                    plain(SystemCall::GetFlags(self.socket(0)?.handle), self.number(0)?)
                }
                libc::F_SETFL => {
                    let on = self.int(2)? & libc::O_NONBLOCK != 0;
                    let on = if on { Nonblocking::On } else { Nonblocking::Off };
                    plain(SystemCall::SetNonblocking(self.socket(0)?.handle, on), self.number(0)?)
                }
                _ => return Err("fcntl knows F_GETFL and F_SETFL here".into()),
            },
            "ioctl" => {
                let request = u64::try_from(self.number(1)?).map_err(|_| "no request")?;
                let call = SystemCall::Ioctl(self.socket(0)?.handle, request);
                Prepared { call, fd: self.number(0)?, effect: Effect::Number }
            }
            "poll" => {
                let polled = self.polled(0, "revents")?;
                if self.number(1)? != polled.len() as i64 {
                    return Err(format!("poll is given {} entries", polled.len()));
                }
                let polled = polled.iter().map(|(fd, events, _)| (*fd, *events as i16));
                let call = SystemCall::Poll(self.handles(polled)?, self.timeout(2)?);
                Prepared { call, fd: -1, effect: Effect::Polled }
            }
            "epoll_wait" => {
                let Some(Descriptor::Epoll(list)) = self.descriptors.get(self.number(0)?) else {
                    return Err("this is no descriptor of epoll".into());
                };
                let most = usize::try_from(self.number(2)?).ok().filter(|most| *most > 0);
                let most = most.ok_or("epoll_wait wants to give one event at least")?;
                let list = self.handles(list.iter().map(|(fd, events, _)| (*fd, *events)))?;
                let call = SystemCall::Poll(list, self.timeout(3)?);
                Prepared { call, fd: self.number(0)?, effect: Effect::Waited(most) }
            }
            other => {
                return Err(format!(
                    "{other} is no system call of scripts here; those are accept accept4 bind close connect epoll_create epoll_create1 \
                     epoll_ctl epoll_wait fcntl getsockopt ioctl listen poll read readv recv recvfrom recvmsg send sendmsg sendto \
                     setsockopt shutdown socket write writev"
                ));
            }
        })
    }

    fn handles(&self, list: impl Iterator<Item = (i64, i16)>) -> Told<Vec<(Handle, i16)>> {
        let handle = |(fd, events)| {
            let socket = self.descriptors.socket(fd);
            let socket = socket.ok_or_else(|| format!("{fd} is no socket of this script"))?;
            Ok((socket.handle, events))
        };
        list.map(handle).collect()
    }

    /// epoll_create(2) and epoll_ctl(2) concern the script's own lists: the change, and its result.
    pub fn epoll(&self) -> Option<Told<(i64, EpollChange)>> {
        Some(match self.call.name.as_str() {
            "epoll_create" | "epoll_create1" => Ok((-1, EpollChange::Create)),
            "epoll_ctl" => self.epoll_ctl(),
            "close" => match self.number(0).ok().and_then(|fd| self.descriptors.get(fd)) {
                Some(Descriptor::Epoll(_)) => self.number(0).map(|fd| (fd, EpollChange::Close)),
                _ => return None,
            },
            _ => return None,
        })
    }

    fn epoll_ctl(&self) -> Told<(i64, EpollChange)> {
        let (list, fd) = (self.number(0)?, self.number(2)?);
        if self.int(1)? == libc::EPOLL_CTL_DEL {
            return Ok((list, EpollChange::Delete(fd)));
        }
        let Expr::Struct(members) = self.at(3)? else {
            return Err("the event is written {events=EPOLLIN, fd=4}".into());
        };
        let member = |name: &str| {
            members.iter().find(|(known, _)| known == name).and_then(|(_, expr)| value(expr))
        };
        let events = member("events").ok_or("events is missing")?;
        let data = member("fd").or(member("ptr")).or(member("u32")).or(member("u64")).unwrap_or(fd);
        let kept =
            i16::try_from(events).map_err(|_| "only level-triggered events are told here")?;
        Ok((list, EpollChange::Set(fd, kept, data)))
    }
}
