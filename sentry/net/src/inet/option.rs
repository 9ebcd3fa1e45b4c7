//! Options of internet sockets: the tables of `sockopt` over the endpoint, with what only this family knows.

use core::net::IpAddr;
use core::time::Duration;

use netstack::ip::Family;
use netstack::link::NicId;
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{
    IpOption, OptionError, OptionKind, OptionValue, SocketOption, SocketOptionKind,
};
use netstack::transport::tcp::StateName;
use sentry_abi::Errno;
use sentry_abi::if_::IFNAMSIZ;
use sentry_abi::in_::{ICMP_FILTER, IP_HDRINCL, IP_MULTICAST_IF, IPV6_CHECKSUM};
use sentry_abi::socket::*;
use sentry_abi::tcp::{TCP_INFO, TCPI_OPT_SACK, TCPI_OPT_TIMESTAMPS, TCPI_OPT_WSCALE, TcpInfo};
use sentry_kernel::Result;
use sentry_kernel::cred::Credentials;

use super::endpoint::Endpoint;
use super::socket::InetSocket;
use crate::errno;
use crate::sockopt::{ip, ipv6, socket::Values, tcp, value};

/// What of the common options the stack has to know.
fn for_stack(name: i32, values: &Values) -> Option<SocketOption> {
    let linger = (values.linger.onoff != 0)
        .then(|| Duration::from_secs(u64::try_from(values.linger.linger).unwrap_or(0)));
    Some(match name {
        SO_REUSEADDR => SocketOption::ReuseAddress(values.reuse_address),
        SO_REUSEPORT => SocketOption::ReusePort(values.reuse_port),
        SO_BROADCAST => SocketOption::Broadcast(values.broadcast),
        SO_KEEPALIVE => SocketOption::KeepAlive(values.keep_alive),
        SO_OOBINLINE => SocketOption::OobInline(values.oob_inline),
        SO_RCVBUF | SO_RCVBUFFORCE => SocketOption::ReceiveBuffer(values.rcvbuf),
        SO_SNDBUF | SO_SNDBUFFORCE => SocketOption::SendBuffer(values.sndbuf),
        SO_RCVLOWAT => SocketOption::ReceiveLowWater(usize::try_from(values.rcvlowat).unwrap_or(1)),
        SO_LINGER => SocketOption::Linger(linger),
        SO_PRIORITY => SocketOption::Priority(values.priority as u32),
        SO_MARK => SocketOption::Mark(values.mark as u32),
        SO_DONTROUTE => SocketOption::DontRoute(values.dont_route),
        SO_NO_CHECK => SocketOption::NoCheck(values.no_check),
        SO_TIMESTAMP_OLD | SO_TIMESTAMPNS_OLD => {
            SocketOption::Timestamp(values.timestamp || values.timestamp_ns)
        }
        _ => return None,
    })
}

impl InetSocket {
    /// The interface that has an address.
    pub(super) fn nic_of(&self, address: IpAddr) -> Option<NicId> {
        let nics = self.net.stack().nics();
        let has = |cidr: &netstack::ip::IpCidr| cidr.address() == address;
        nics.iter().find(|nic| nic.addresses.iter().any(has)).map(|nic| nic.id)
    }

    fn set(&self, value: impl Into<OptionValue>) -> Result<()> {
        self.endpoint.set_option(self.net.now(), value.into()).map_err(errno::of_option)
    }

    fn get(&self, kind: impl Into<OptionKind>) -> Result<OptionValue, OptionError> {
        self.endpoint.option(self.net.now(), kind.into())
    }

    fn is_raw(&self) -> bool {
        matches!(self.endpoint, Endpoint::Raw(_))
    }

    /// Whether IPPROTO_IP options apply: always to IPv4, and to IPv6 sockets that may speak it.
    fn has_ip_level(&self) -> bool {
        self.family == Family::V4 || !self.is_raw()
    }

    /// setsockopt(2).
    pub(super) fn store(
        &self,
        creds: &Credentials,
        level: i32,
        name: i32,
        bytes: &[u8],
    ) -> Result<()> {
        match level {
            SOL_SOCKET => self.store_socket(creds, name, bytes),
            SOL_IP if self.has_ip_level() => {
                if name == IP_HDRINCL && !self.is_raw() {
                    return Err(Errno::ENOPROTOOPT.into());
                }
                self.set(ip::decode(name, bytes, &|address| self.nic_of(address))?)
            }
            SOL_IPV6 if self.family == Family::V6 => {
                if name == IPV6_CHECKSUM && !self.is_raw() {
                    return Err(Errno::ENOPROTOOPT.into());
                }
                self.set(ipv6::decode(name, bytes)?)
            }
            SOL_TCP if self.endpoint.tcp().is_some() => self.set(tcp::decode(name, bytes)?),
            SOL_RAW if self.is_raw() && name == ICMP_FILTER => {
                self.set(IpOption::IcmpFilter(value::int(bytes)? as u32))
            }
            SOL_RAW | SOL_ICMPV6 if self.is_raw() => Err(Errno::ENOPROTOOPT.into()),
            _ => Err(Errno::ENOPROTOOPT.into()),
        }
    }

    fn store_socket(&self, creds: &Credentials, name: i32, bytes: &[u8]) -> Result<()> {
        match name {
            SO_BINDTODEVICE => return self.bind_to_device(bytes),
            SO_BINDTOIFINDEX => {
                return self.set(SocketOption::BindToDevice(ip::nic(value::int(bytes)?)?));
            }
            // Credentials are of local sockets; Linux stores the flag and never shows any here.
            _ => self.options.set(creds, name, bytes)?,
        }
        match for_stack(name, &self.options.values()) {
            None => Ok(()),
            Some(option) => match self.endpoint.set_option(self.net.now(), option.into()) {
                // Stored for getsockopt(2); it means nothing to this kind of socket.
                Ok(()) | Err(OptionError::NotSupported) => Ok(()),
                Err(error) => Err(errno::of_option(error)),
            },
        }
    }

    fn bind_to_device(&self, bytes: &[u8]) -> Result<()> {
        let name = bytes.split(|b| *b == 0).next().unwrap_or_default();
        let nic = match name {
            b"" => None,
            _ if name.len() >= IFNAMSIZ => return Err(Errno::EINVAL.into()),
            _ => {
                let nics = self.net.stack().nics();
                let found = nics.iter().find(|nic| nic.name.as_bytes() == name);
                Some(found.ok_or(Errno::ENODEV)?.id)
            }
        };
        self.set(SocketOption::BindToDevice(nic))
    }

    /// What getsockopt(2) answers for a level that is not the socket's: the families do not agree, on Linux too.
    fn foreign_level(&self) -> Errno {
        if self.family == Family::V4 { Errno::EOPNOTSUPP } else { Errno::ENOPROTOOPT }
    }

    /// getsockopt(2).
    pub(super) fn load(&self, level: i32, name: i32) -> Result<Vec<u8>> {
        let found = match level {
            SOL_SOCKET => return self.load_socket(name),
            SOL_IP if name == IP_MULTICAST_IF && self.has_ip_level() => {
                // The interface's address is not told: Linux answers 0.0.0.0 where only an index was set.
                return Ok(vec![0; 4]);
            }
            SOL_IP if name == IP_HDRINCL && !self.is_raw() => return Ok(value::from_flag(false)),
            SOL_IP if self.has_ip_level() => self.get(ip::kind(name)?),
            SOL_IPV6 if self.family == Family::V6 => self.get(ipv6::kind(name)?),
            SOL_TCP => match self.endpoint.tcp() {
                Some(socket) if name == TCP_INFO => return Ok(value::from_object(&info(socket))),
                Some(_) => self.get(tcp::kind(name)?),
                None => return Err(self.foreign_level().into()),
            },
            SOL_RAW if self.is_raw() && name == ICMP_FILTER => {
                self.get(netstack::socket::options::IpOptionKind::IcmpFilter)
            }
            SOL_UDP if matches!(self.endpoint, Endpoint::Udp(_)) => {
                return Err(Errno::ENOPROTOOPT.into());
            }
            // Reading a level that the socket does not have is another error than setting it (ip_getsockopt).
            _ => return Err(self.foreign_level().into()),
        };
        Ok(match found.map_err(errno::of_option)? {
            OptionValue::IpOption(option) => ip::encode(&option),
            OptionValue::TcpOption(option) => tcp::encode(&option),
            OptionValue::SocketOption(_) => return Err(Errno::ENOPROTOOPT.into()),
        })
    }

    fn load_socket(&self, name: i32) -> Result<Vec<u8>> {
        Ok(match name {
            SO_ERROR => {
                let pending = self.endpoint.take_error().map(errno::of_socket);
                value::from_int(pending.map_or(0, Errno::number))
            }
            SO_ACCEPTCONN => {
                let listens = self.endpoint.tcp().map(TcpSocket::state) == Some(StateName::Listen);
                value::from_flag(listens)
            }
            // What Linux tells of a peer that may be anywhere.
            SO_PEERCRED => value::from_object(&UCred { pid: 0, uid: u32::MAX, gid: u32::MAX }),
            SO_BINDTODEVICE => match self.get(SocketOptionKind::BindToDevice) {
                Ok(OptionValue::SocketOption(SocketOption::BindToDevice(Some(nic)))) => {
                    let nics = self.net.stack().nics();
                    let name =
                        nics.iter().find(|info| info.id == nic).map(|info| info.name.clone());
                    let mut bytes = name.unwrap_or_default().into_bytes();
                    bytes.push(0);
                    bytes
                }
                _ => Vec::new(),
            },
            SO_SNDBUF | SO_RCVBUF => self.buffer_size(name)?,
            _ => return self.options.option(name),
        })
    }

    /// The size of a buffer as the stack has it now, where it tunes it by itself.
    fn buffer_size(&self, name: i32) -> Result<Vec<u8>> {
        let kind = match name {
            SO_SNDBUF => SocketOptionKind::SendBuffer,
            _ => SocketOptionKind::ReceiveBuffer,
        };
        match self.get(kind) {
            Ok(OptionValue::SocketOption(
                SocketOption::SendBuffer(bytes) | SocketOption::ReceiveBuffer(bytes),
            )) => Ok(value::from_int(i32::try_from(bytes).unwrap_or(i32::MAX))),
            _ => self.options.option(name),
        }
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

/// struct tcp_info of a connection; counts of bytes in flight are told in segments, as Linux does.
fn info(socket: &TcpSocket) -> TcpInfo {
    let mut out = TcpInfo { state: socket.state() as u8, ..TcpInfo::default() };
    let Some(info) = socket.info() else { return out };
    let small = |n: u32| u8::try_from(n).unwrap_or(u8::MAX);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let segments = |bytes: usize| count(bytes.div_ceil(info.mss.max(1)));
    out.retransmits = small(info.retries);
    out.probes = small(info.probes);
    out.backoff = small(info.backoff);
    if info.timestamps {
        out.options |= TCPI_OPT_TIMESTAMPS;
    }
    if info.sack {
        out.options |= TCPI_OPT_SACK;
    }
    if info.send_shift > 0 || info.receive_shift > 0 {
        out.options |= TCPI_OPT_WSCALE;
    }
    out.wscale = (info.send_shift & 0xf) | (info.receive_shift << 4);
    out.rto = micros(info.rto);
    out.snd_mss = count(info.mss);
    out.rcv_mss = count(info.peer_mss);
    out.advmss = count(info.path_mss);
    out.unacked = segments(info.outstanding);
    out.sacked = segments(info.sacked);
    out.lost = segments(info.lost);
    out.rtt = micros(info.rtt);
    out.rttvar = micros(info.rtt_variation);
    out.snd_ssthresh = segments(info.ssthresh);
    out.snd_cwnd = segments(info.window);
    out.rcv_ssthresh = count(info.receive_window);
    out.rcv_space = count(info.receive_capacity);
    out.reordering = 3;
    out
}
