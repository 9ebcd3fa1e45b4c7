//! rtnetlink, blocking: one request, its answers. The socket belongs to the network namespace of the thread that opened it.

mod address;
mod link;
mod neighbour;
mod redirect;
mod route;

use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};

use crate::error::{CniError, Code};

pub(crate) use address::{Address, PrefixRoute};
pub(crate) use link::{Link, Mac, VethPeer};
pub(crate) use neighbour::Neighbour;
pub(crate) use route::Route;

/// The kernel sends no larger piece of a dump to a reader that offers this much (netlink_dump in net/netlink/af_netlink.c).
const RECEIVE_BYTES: usize = 64 << 10;
/// A dump is repeated so often where the table changes meanwhile.
const DUMP_TRIES: usize = 10;

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum RtnlError {
    /// The kernel, or the socket, says so.
    Refused(Errno),
    /// An answer that nobody understands.
    Undecodable(String),
}

impl fmt::Display for RtnlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(errno) => f.write_str(errno.desc()),
            Self::Undecodable(why) => write!(f, "rtnetlink: {why}"),
        }
    }
}

impl From<Errno> for RtnlError {
    fn from(errno: Errno) -> Self {
        Self::Refused(errno)
    }
}

impl RtnlError {
    /// Whether the kernel refused with this.
    pub(crate) fn is(&self, errno: Errno) -> bool {
        matches!(self, Self::Refused(it) if *it == errno)
    }

    /// As the plugin's error: what could not be done.
    pub(crate) fn doing(self, what: impl Into<String>) -> CniError {
        CniError::new(Code::Network, format!("cannot {}", what.into())).because(self)
    }
}

/// A socket of rtnetlink.
pub(crate) struct Rtnl {
    socket: OwnedFd,
    sequence: u32,
}

impl Rtnl {
    /// A socket in the network namespace of this thread.
    pub(crate) fn open() -> Result<Self, CniError> {
        let open = || {
            let kind = (SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute);
            let socket = socket(AddressFamily::Netlink, kind.0, kind.1, kind.2)?;
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
            Ok(Self { socket, sequence: 0 })
        };
        open().map_err(|e: Errno| RtnlError::from(e).doing("open an rtnetlink socket"))
    }

    /// Changes something: `flags` beside NLM_F_REQUEST and NLM_F_ACK.
    fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), RtnlError> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_ACK | flags).map(|_| ())
    }

    /// Asks for one object.
    fn one(&mut self, message: RouteNetlinkMessage) -> Result<RouteNetlinkMessage, RtnlError> {
        let mut answers = self.exchange(message, NLM_F_REQUEST | NLM_F_ACK)?.messages;
        answers.pop().ok_or_else(|| RtnlError::Undecodable("no answer".into()))
    }

    /// Asks for a whole table, again where it changed while it was read.
    fn dump(&mut self, message: RouteNetlinkMessage) -> Result<Dump, RtnlError> {
        for _ in 0..DUMP_TRIES {
            let dump = self.exchange(message.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
            if !dump.interrupted {
                return Ok(dump);
            }
        }
        Err(RtnlError::Refused(Errno::EINTR))
    }

    fn exchange(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<Dump, RtnlError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        (header.flags, header.sequence_number) = (flags, self.sequence);
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut answer = Dump::default();
        let mut buffer = vec![0; RECEIVE_BYTES];
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            if answer.take(&buffer[..length.min(RECEIVE_BYTES)], self.sequence)? {
                return Ok(answer);
            }
        }
    }
}

/// The answers to one request.
#[derive(Default)]
struct Dump {
    messages: Vec<RouteNetlinkMessage>,
    /// Objects that could not be decoded.
    undecodable: Vec<String>,
    /// The table changed while it was read.
    interrupted: bool,
}

impl Dump {
    /// Takes what one datagram holds. Whether that was the end.
    fn take(&mut self, mut bytes: &[u8], sequence: u32) -> Result<bool, RtnlError> {
        const HEADER_BYTES: usize = 16;
        while bytes.len() >= HEADER_BYTES {
            let length = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
            let Some(one) = bytes.get(..length).filter(|_| length >= HEADER_BYTES) else {
                return Err(RtnlError::Undecodable("a message of an impossible length".into()));
            };
            // NLMSG_ALIGN: the next message begins at a multiple of four.
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            let message = match NetlinkMessage::<RouteNetlinkMessage>::deserialize(one) {
                Ok(message) if message.header.sequence_number == sequence => message,
                Ok(_) => continue,
                Err(error) => {
                    self.undecodable.push(error.to_string());
                    continue;
                }
            };
            self.interrupted |= message.header.flags & netlink_packet_core::NLM_F_DUMP_INTR != 0;
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => self.messages.push(inner),
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) => {
                    return match error.code {
                        None => Ok(true),
                        Some(code) => Err(Errno::from_raw(code.get().wrapping_neg()).into()),
                    };
                }
                NetlinkPayload::Overrun(_) => return Err(Errno::ENOBUFS.into()),
                _ => {}
            }
        }
        Ok(false)
    }

    /// The objects, where all of them were understood.
    fn complete(self) -> Result<Vec<RouteNetlinkMessage>, RtnlError> {
        match self.undecodable.into_iter().next() {
            None => Ok(self.messages),
            Some(why) => Err(RtnlError::Undecodable(why)),
        }
    }
}
