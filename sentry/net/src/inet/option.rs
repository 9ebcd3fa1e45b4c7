//! Options of internet sockets: which level's table answers, and what the tables ask of a socket.

use core::net::IpAddr;

use netstack::ip::Family;
use netstack::link::NicId;
use netstack::socket::{OptionError, OptionKind, OptionValue, SocketOption, SocketOptionKind};
use sentry_abi::Errno;
use sentry_abi::socket::*;
use sentry_kernel::Result;
use sentry_kernel::cred::Credentials;
use sentry_kernel::task::CurrentTask;

use super::endpoint::Endpoint;
use super::sockaddr;
use super::socket::InetSocket;
use crate::errno;
use crate::sockopt::row::{self, Row};
use crate::sockopt::{Common, Target, filter, ip, ipv6, raw, socket, tcp, udp};

impl Target for InetSocket {
    fn options(&self) -> &Common {
        &self.options
    }

    fn inet(&self) -> Option<&InetSocket> {
        Some(self)
    }
}

impl InetSocket {
    /// The interface that has an address.
    pub(crate) fn nic_of(&self, address: IpAddr) -> Option<NicId> {
        let nics = self.net.stack().nics();
        let has = |cidr: &netstack::ip::IpCidr| cidr.address() == address;
        nics.iter().find(|nic| nic.addresses.iter().any(has)).map(|nic| nic.id)
    }

    /// Sets an option of the endpoint.
    pub(crate) fn tell(&self, value: OptionValue) -> Result<()> {
        self.endpoint.set_option(self.net.now(), value).map_err(errno::of_option)
    }

    /// Reads an option of the endpoint.
    pub(crate) fn ask(&self, kind: OptionKind) -> Result<OptionValue, OptionError> {
        self.endpoint.option(self.net.now(), kind)
    }

    /// AF_INET or AF_INET6.
    pub(crate) fn domain(&self) -> i32 {
        match self.family {
            Family::V4 => AF_INET,
            Family::V6 => AF_INET6,
        }
    }

    /// Bytes that wait to be read, and that the peer has not acknowledged.
    pub(crate) fn queued(&self) -> (usize, usize) {
        match &self.endpoint {
            Endpoint::Tcp(socket) => socket.queued(),
            Endpoint::Udp(socket) => (socket.next_len(), 0),
            Endpoint::Ping(socket) => (socket.next_len(), 0),
            Endpoint::Raw(socket) => (socket.next_len(), 0),
        }
    }

    /// The peer's address in the family's layout. Errors: ENOTCONN.
    pub(crate) fn peer_name(&self) -> Result<Vec<u8>> {
        let peer = self.endpoint.peer_addr().ok_or(Errno::ENOTCONN)?;
        let portless = matches!(self.endpoint, Endpoint::Raw(_) | Endpoint::Ping(_));
        // Linux takes a socket without a peer's port for one without a peer, whatever it is (inet_getname).
        if portless && peer.port() == 0 {
            return Err(Errno::ENOTCONN.into());
        }
        Ok(sockaddr::encode(self.family, peer).0)
    }

    /// What Linux has as inet_num: the local port, or a raw socket's protocol.
    pub(crate) fn own_number(&self) -> u16 {
        match self.endpoint {
            Endpoint::Raw(_) => self.protocol as u16,
            _ => self.endpoint.local_addr().port(),
        }
    }

    /// The most that SO_RCVLOWAT of a stream can be: half of what its receive buffer may grow to.
    pub(crate) fn low_water_max(&self) -> i64 {
        let locked = self.options.number(SOL_SOCKET, SO_RCVBUF).is_some();
        let most = match self.ask(SocketOptionKind::ReceiveBuffer.into()) {
            Ok(OptionValue::SocketOption(SocketOption::ReceiveBuffer(bytes))) if locked => bytes,
            _ => self.net.stack().tcp_config().receive_buffer_max,
        };
        i64::try_from(most / 2).unwrap_or(i64::MAX)
    }

    /// SO_MAX_PACING_RATE in bytes a second. Datagrams are not paced: on Linux neither, without the fq discipline.
    pub(crate) fn pace(&self, rate: u64) -> Result<()> {
        match self.endpoint {
            Endpoint::Tcp(_) => self.tell(SocketOption::MaxPacingRate(rate).into()),
            _ => Ok(()),
        }
    }

    fn is_raw(&self) -> bool {
        matches!(self.endpoint, Endpoint::Raw(_))
    }

    /// Whether IPPROTO_IP options apply: always to IPv4, and to IPv6 sockets that may speak it.
    fn has_ip_level(&self) -> bool {
        self.family == Family::V4 || !self.is_raw()
    }

    /// The table of a level beyond SOL_SOCKET, if the socket has that level.
    fn rows(&self, level: i32) -> Option<&'static [Row]> {
        match (level, &self.endpoint) {
            (SOL_IP, _) if self.has_ip_level() => Some(ip::ROWS),
            (SOL_IPV6, _) if self.family == Family::V6 => Some(ipv6::ROWS),
            (SOL_TCP, Endpoint::Tcp(_)) => Some(tcp::ROWS),
            (SOL_UDP, Endpoint::Udp(_)) => Some(udp::ROWS),
            (SOL_RAW, Endpoint::Raw(_)) if self.family == Family::V4 => Some(raw::ROWS),
            (SOL_ICMPV6, Endpoint::Raw(_)) if self.family == Family::V6 => Some(raw::ICMPV6_ROWS),
            _ => None,
        }
    }

    /// SO_ATTACH_FILTER and its kin. Errors: those of the filter's program, EPERM for a locked socket, ENOENT.
    pub(super) fn store_filter(&self, task: &CurrentTask, name: i32, bytes: &[u8]) -> Result<()> {
        match self.filter_lock.change(task, name, bytes)? {
            filter::Change::Attach(program) => self.endpoint.set_filter(Some(program)),
            filter::Change::Detach if self.endpoint.filter().is_none() => {
                return Err(Errno::ENOENT.into());
            }
            filter::Change::Detach => self.endpoint.set_filter(None),
            filter::Change::Choose(program) => {
                self.endpoint.set_chooser(program).map_err(errno::of_option)?;
            }
            filter::Change::None => {
                self.options.put(
                    SOL_SOCKET,
                    SO_LOCK_FILTER,
                    i64::from(self.filter_lock.is_locked()),
                );
            }
        }
        Ok(())
    }

    /// setsockopt(2).
    pub(super) fn store(
        &self,
        creds: &Credentials,
        level: i32,
        name: i32,
        bytes: &[u8],
    ) -> Result<()> {
        match (level, self.rows(level)) {
            (SOL_SOCKET, _) => socket::set(self, creds, name, bytes),
            (SOL_TCP, Some(_)) => tcp::set(self, creds, name, bytes),
            (SOL_UDP, Some(_)) => udp::set(self, creds, name, bytes),
            (_, Some(rows)) => row::set(rows, self, creds, (level, name), bytes),
            // rawv6_setsockopt reads the number before it looks at the option.
            (SOL_RAW, None) if self.is_raw() && bytes.len() < 4 => Err(Errno::EINVAL.into()),
            (_, None) => Err(Errno::ENOPROTOOPT.into()),
        }
    }

    /// getsockopt(2); `room` is what the caller's buffer holds.
    pub(super) fn load(&self, level: i32, name: i32, room: &[u8]) -> Result<Vec<u8>> {
        match (level, self.rows(level)) {
            (SOL_SOCKET, _) => row::get(socket::ROWS, self, (level, name), room),
            (_, Some(rows)) => row::get(rows, self, (level, name), room),
            // Reading a level that the socket does not have: the families do not agree, on Linux too (ip_getsockopt).
            (_, None) if self.family == Family::V4 => Err(Errno::EOPNOTSUPP.into()),
            (_, None) => Err(Errno::ENOPROTOOPT.into()),
        }
    }
}
