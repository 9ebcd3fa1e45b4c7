//! struct sockaddr_un: unnamed, by path, abstract (unix(7), "Address format").

use sentry_abi::Errno;
use sentry_abi::socket::AF_UNIX;
use sentry_abi::un::{SUN_PATH_OFFSET, UNIX_PATH_MAX};
use sentry_kernel::Result;
use sentry_kernel::socket::SockAddr;

/// The name of a local socket.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Name {
    /// None: not bound.
    #[default]
    Unnamed,
    /// A path as the program gave it, without a zero byte.
    Path(Vec<u8>),
    /// Bytes after the leading zero byte; they may hold zeros.
    Abstract(Vec<u8>),
}

impl Name {
    /// Reads an address. One of the family alone is [`Name::Unnamed`]. Errors: EINVAL for another family or a wrong length.
    pub fn decode(addr: &SockAddr) -> Result<Name> {
        if i32::from(addr.family()?) != AF_UNIX || addr.0.len() > SUN_PATH_OFFSET + UNIX_PATH_MAX {
            return Err(Errno::EINVAL.into());
        }
        let path = addr.0.get(SUN_PATH_OFFSET..).unwrap_or_default();
        Ok(match path {
            [] => Name::Unnamed,
            [0, rest @ ..] => Name::Abstract(rest.to_vec()),
            _ => Name::Path(path.split(|b| *b == 0).next().unwrap_or_default().to_vec()),
        })
    }

    /// The address as programs see it; a path ends with a zero byte.
    pub fn encode(&self) -> SockAddr {
        let mut bytes = (AF_UNIX as u16).to_ne_bytes().to_vec();
        match self {
            Name::Unnamed => {}
            Name::Path(path) => {
                bytes.extend_from_slice(path);
                bytes.push(0);
            }
            Name::Abstract(name) => {
                bytes.push(0);
                bytes.extend_from_slice(name);
            }
        }
        SockAddr(bytes)
    }

    /// The address of a sender: nothing for an unnamed one.
    pub fn encode_sender(&self) -> Option<SockAddr> {
        (*self != Name::Unnamed).then(|| self.encode())
    }
}
