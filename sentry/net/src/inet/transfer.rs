//! Bytes and messages through internet sockets, with the control messages of ip(7) and ipv6(7).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netstack::buffer::Fault;
use netstack::ip::Family;
use netstack::link::NicId;
use netstack::socket::datagram::{Ancillary, Asks, Received as Told};
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{Readiness, RecvFlags, SendFlags};
use netstack::wire::ipv4_options::Options;
use sentry_abi::Errno;
use sentry_abi::in_::*;
use sentry_abi::socket::*;
use sentry_abi::tcp::{TCP_CM_INQ, TCP_INQ};
use sentry_kernel::io::{Sink, Source};
use sentry_kernel::socket::{Control, Received, SendMessage};
use sentry_kernel::{Error, Result};
use zerocopy::IntoBytes;

use super::endpoint::Endpoint;
use super::sockaddr;
use super::socket::InetSocket;
use crate::errno;
use crate::sockopt::common::TimeStamps;
use crate::sockopt::value;

/// The kernel's source as the stack wants it; remembers the error behind a fault.
pub(crate) struct FromProgram<'a> {
    pub(crate) inner: &'a mut dyn Source,
    pub(crate) error: Option<Error>,
}

impl netstack::buffer::Source for FromProgram<'_> {
    fn remaining(&self) -> usize {
        self.inner.remaining()
    }

    fn read(&mut self, dst: &mut [u8]) -> Result<usize, Fault> {
        self.inner.read(dst).map_err(|error| {
            self.error = Some(error);
            Fault
        })
    }
}

/// The kernel's sink as the stack wants it.
pub(crate) struct ToProgram<'a> {
    pub(crate) inner: &'a mut dyn Sink,
    pub(crate) error: Option<Error>,
}

impl netstack::buffer::Sink for ToProgram<'_> {
    fn room(&self) -> usize {
        self.inner.room()
    }

    fn write(&mut self, src: &[u8]) -> Result<usize, Fault> {
        self.inner.write(src).map_err(|error| {
            self.error = Some(error);
            Fault
        })
    }
}

/// What a send's control messages ask for. Errors: EINVAL for broken ones and unknown ones of the IP levels.
fn ancillary(control: &[Control]) -> Result<Ancillary> {
    let mut out = Ancillary::default();
    let byte = |data: &[u8]| -> Result<Option<u8>> {
        Ok(Some(u8::try_from(value::int_or_byte(data)?).map_err(|_| Errno::EINVAL)?))
    };
    for message in control {
        let Control::Raw { level, kind, data } = message else {
            return Err(Errno::EINVAL.into());
        };
        match (*level, *kind) {
            (SOL_IP, IP_PKTINFO) => {
                let info: InPktInfo = value::object(data)?;
                let src = Ipv4Addr::from(info.spec_dst);
                out.src = (!src.is_unspecified()).then_some(IpAddr::V4(src));
                out.nic = index(info.ifindex);
            }
            (SOL_IPV6, IPV6_PKTINFO) => {
                let info: In6PktInfo = value::object(data)?;
                let src = Ipv6Addr::from(info.addr);
                out.src = (!src.is_unspecified()).then_some(IpAddr::V6(src));
                out.nic = index(info.ifindex);
            }
            (SOL_IP, IP_TTL) | (SOL_IPV6, IPV6_HOPLIMIT) => out.ttl = byte(data)?,
            (SOL_IP, IP_TOS) | (SOL_IPV6, IPV6_TCLASS) => out.tos = byte(data)?,
            (SOL_IPV6, IPV6_DONTFRAG) => {
                out.dont_fragment = match value::int(data)? {
                    0 => Some(false),
                    1 => Some(true),
                    _ => return Err(Errno::EINVAL.into()),
                }
            }
            (SOL_IPV6, IPV6_FLOWINFO) => {
                out.flow_info = u32::from_be_bytes(value::object(data)?);
            }
            (SOL_UDP, UDP_SEGMENT) => match data.as_slice() {
                [low, high] => out.segment = Some(u16::from_ne_bytes([*low, *high])),
                _ => return Err(Errno::EINVAL.into()),
            },
            (SOL_IP, IP_RETOPTS) => out.options = Some(Options::parse(data).ok_or(Errno::EINVAL)?),
            (SOL_IP | SOL_IPV6 | SOL_UDP, _) => return Err(Errno::EINVAL.into()),
            // Other levels are not ours; Linux skips them.
            _ => {}
        }
    }
    Ok(out)
}

fn index(number: i32) -> Option<NicId> {
    u32::try_from(number).ok().filter(|n| *n != 0).map(NicId)
}

fn raw(level: i32, kind: i32, data: Vec<u8>) -> Control {
    Control::Raw { level, kind, data }
}

/// When a message came, by the wall clock in nanoseconds, in the layout that is asked for.
pub(crate) fn stamp(asked: TimeStamps, wall_ns: i64) -> Control {
    let (sec, nsec) = (wall_ns.div_euclid(1_000_000_000), wall_ns.rem_euclid(1_000_000_000));
    let (kind, fraction) = match (asked.nanoseconds, asked.new) {
        (true, false) => (SCM_TIMESTAMPNS, nsec),
        (true, true) => (SO_TIMESTAMPNS_NEW, nsec),
        (false, false) => (SCM_TIMESTAMP, nsec / 1000),
        (false, true) => (SO_TIMESTAMP_NEW, nsec / 1000),
    };
    raw(SOL_SOCKET, kind, [sec, fraction].as_bytes().to_vec())
}

impl InetSocket {
    /// connect(2) with AF_UNSPEC: a stream is reset, a datagram socket forgets its peer.
    pub(super) fn disconnect(&self) -> Result<()> {
        match &self.endpoint {
            Endpoint::Tcp(socket) => socket.disconnect(self.net.now()),
            Endpoint::Udp(socket) => socket.disconnect(self.net.now()),
            Endpoint::Ping(socket) => socket.disconnect(self.net.now()),
            Endpoint::Raw(socket) => socket.disconnect(self.net.now()),
        }
        Ok(())
    }

    /// Sends: bytes of a stream or one message.
    pub(super) fn give(&self, src: &mut dyn Source, message: SendMessage) -> Result<usize> {
        let now = self.net.now();
        let mut source = FromProgram { inner: src, error: None };
        let mut flags = SendFlags::empty();
        flags.set(SendFlags::MORE, message.flags & MSG_MORE != 0);
        flags.set(SendFlags::OOB, message.flags & MSG_OOB != 0);
        flags.set(SendFlags::DONT_ROUTE, message.flags & MSG_DONTROUTE != 0);
        let sent = match &self.endpoint {
            Endpoint::Tcp(socket) if message.flags & MSG_FASTOPEN != 0 => {
                let to = message.to.as_ref().ok_or(Errno::EINVAL)?;
                let to = sockaddr::decode(self.family, to)?;
                socket.fast_open(now, &mut source, to, flags)
            }
            // As on Linux, the address of a connected stream's send is not looked at.
            Endpoint::Tcp(socket) => socket.send(now, &mut source, flags),
            _ if flags.contains(SendFlags::OOB) => return Err(Errno::EOPNOTSUPP.into()),
            datagrams => {
                let to = message.to.as_ref();
                let to = to.map(|to| sockaddr::decode_destination(self.family, to)).transpose()?;
                let mut extra = ancillary(&message.control)?;
                extra.more = flags.contains(SendFlags::MORE);
                if let (Family::V6, Some(to)) = (self.family, &message.to)
                    && extra.flow_info == 0
                    && to.0.len() >= size_of::<SockAddrIn6>()
                {
                    let info = to.0.get(4..8).and_then(|bytes| bytes.first_chunk::<4>());
                    extra.flow_info = info.map_or(0, |bytes| u32::from_be_bytes(*bytes));
                }
                match datagrams {
                    Endpoint::Udp(socket) => socket.send_to(now, &mut source, to, &extra),
                    Endpoint::Ping(socket) => socket.send_to(now, &mut source, to, &extra),
                    Endpoint::Raw(socket) => socket.send_to(now, &mut source, to, &extra),
                    Endpoint::Tcp(_) => return Err(Errno::EINVAL.into()),
                }
            }
        };
        sent.map_err(|error| source.error.take().unwrap_or_else(|| errno::of_send(error)))
    }

    /// Receives: bytes of a stream or one message.
    pub(super) fn take(&self, dst: &mut dyn Sink, flags: u32) -> Result<Received> {
        if flags & MSG_ERRQUEUE != 0 {
            return self.take_error_report(dst);
        }
        let now = self.net.now();
        let mut sink = ToProgram { inner: dst, error: None };
        let mut asked = RecvFlags::empty();
        asked.set(RecvFlags::PEEK, flags & MSG_PEEK != 0);
        asked.set(RecvFlags::OOB, flags & MSG_OOB != 0);
        let told = match &self.endpoint {
            Endpoint::Tcp(socket) => {
                asked.set(RecvFlags::TRUNC, flags & MSG_TRUNC != 0);
                let len = socket.recv(now, &mut sink, asked);
                return match len {
                    Ok(len) => Ok(Received {
                        len,
                        control: self.unread(socket),
                        flags: flags & MSG_OOB,
                        ..Received::default()
                    }),
                    Err(error) => Err(sink.error.take().unwrap_or_else(|| errno::of_recv(error))),
                };
            }
            _ if asked.contains(RecvFlags::OOB) => return Err(Errno::EOPNOTSUPP.into()),
            Endpoint::Udp(socket) => socket.recv_from(now, &mut sink, asked),
            Endpoint::Ping(socket) => socket.recv_from(now, &mut sink, asked),
            Endpoint::Raw(socket) => socket.recv_from(now, &mut sink, asked),
        };
        let told =
            told.map_err(|error| sink.error.take().unwrap_or_else(|| errno::of_recv(error)))?;
        let cut = told.len < told.full_len;
        Ok(Received {
            len: if flags & MSG_TRUNC != 0 { told.full_len } else { told.len },
            from: Some(sockaddr::encode(self.family, told.from)),
            control: self.control(&told),
            flags: if cut { MSG_TRUNC } else { 0 },
        })
    }

    /// tcp(7), TCP_INQ: how much is left to be read. At the end of the stream one, so that the reader comes again.
    fn unread(&self, socket: &TcpSocket) -> Vec<Control> {
        if !self.options.is_on(SOL_TCP, TCP_INQ) {
            return Vec::new();
        }
        let left = match socket.unread() {
            0 if socket.readiness().contains(Readiness::RDHUP) => 1,
            left => i32::try_from(left).unwrap_or(i32::MAX),
        };
        vec![raw(SOL_TCP, TCP_CM_INQ, value::from_int(left))]
    }

    /// The oldest report of the error queue (IP_RECVERR): the message's start, where it went, and what became of it. Errors: EAGAIN.
    fn take_error_report(&self, dst: &mut dyn Sink) -> Result<Received> {
        let report = match &self.endpoint {
            Endpoint::Tcp(_) => None,
            Endpoint::Udp(socket) => socket.recv_error(),
            Endpoint::Ping(socket) => socket.recv_error(),
            Endpoint::Raw(socket) => socket.recv_error(),
        };
        let report = report.ok_or(Errno::EAGAIN)?;
        let len = if report.payload.is_empty() { 0 } else { dst.write(&report.payload)? };
        let v4 = self.family == Family::V4;
        let (kind, code) = report.icmp.unwrap_or_default();
        let error = SockExtendedErr {
            errno: errno::of_socket(report.error).number() as u32,
            origin: match (report.icmp, report.offender) {
                (None, _) => SO_EE_ORIGIN_LOCAL,
                (Some(_), IpAddr::V4(_)) => SO_EE_ORIGIN_ICMP,
                (Some(_), IpAddr::V6(_)) => SO_EE_ORIGIN_ICMP6,
            },
            kind,
            code,
            info: report.mtu.unwrap_or(0),
            ..SockExtendedErr::default()
        };
        let mut data = error.as_bytes().to_vec();
        let offender = core::net::SocketAddr::new(report.offender, 0);
        let mut offender = sockaddr::encode(self.family, offender).0;
        if report.icmp.is_none() {
            // Nobody's address: family AF_UNSPEC.
            offender.fill(0);
        }
        data.extend_from_slice(&offender);
        let (level, name) = if v4 { (SOL_IP, IP_RECVERR) } else { (SOL_IPV6, IPV6_RECVERR) };
        let cut = if len < report.payload.len() { MSG_TRUNC } else { 0 };
        Ok(Received {
            len,
            from: Some(sockaddr::encode(self.family, report.destination)),
            control: vec![raw(level, name, data)],
            flags: MSG_ERRQUEUE | cut,
        })
    }

    /// The control messages that the socket's options ask for, in Linux's order.
    fn control(&self, told: &Told) -> Vec<Control> {
        let mut out = Vec::new();
        self.time_stamp(told, &mut out);
        if told.asks.contains(Asks::DROPS) && told.drops > 0 {
            out.push(raw(SOL_SOCKET, SO_RXQ_OVFL, told.drops.to_ne_bytes().to_vec()));
        }
        if let Some(size) = told.segment {
            out.push(raw(SOL_UDP, UDP_GRO, value::from_int(i32::from(size))));
        }
        match self.family {
            Family::V4 => control_v4(told, &mut out),
            Family::V6 => control_v6(told, &mut out),
        }
        out
    }

    /// SO_TIMESTAMP and SO_TIMESTAMPNS: when the message came, by the wall clock.
    fn time_stamp(&self, told: &Told, out: &mut Vec<Control>) {
        let asked = self.options.time_stamps();
        if asked.wanted {
            out.push(stamp(asked, self.net.wall_ns(told.timestamp)));
        }
    }
}

/// What ip(7) tells with a message.
fn control_v4(told: &Told, out: &mut Vec<Control>) {
    let mut push = |kind, data| out.push(raw(SOL_IP, kind, data));
    let asks = told.asks;
    let addr = sockaddr::octets4(told.dst);
    if asks.contains(Asks::PACKET_INFO) {
        let info = InPktInfo { ifindex: told.nic.0 as i32, spec_dst: addr, addr };
        push(IP_PKTINFO, info.as_bytes().to_vec());
    }
    if asks.contains(Asks::TTL) {
        push(IP_TTL, value::from_int(i32::from(told.ttl)));
    }
    if asks.contains(Asks::TOS) {
        push(IP_TOS, vec![told.tos]);
    }
    for (name, ask) in [(IP_RECVOPTS, Asks::OPTIONS), (IP_RETOPTS, Asks::RETURN_OPTIONS)] {
        if asks.contains(ask) && !told.options.is_empty() {
            push(name, told.options.as_slice().to_vec());
        }
    }
    if asks.contains(Asks::ORIGINAL) {
        let port = told.local_port.to_be_bytes();
        let original = SockAddrIn { family: AF_INET as u16, port, addr, zero: [0; 8] };
        push(IP_RECVORIGDSTADDR, original.as_bytes().to_vec());
    }
}

/// What ipv6(7) tells with a message.
fn control_v6(told: &Told, out: &mut Vec<Control>) {
    let mut push = |kind, data| out.push(raw(SOL_IPV6, kind, data));
    let asks = told.asks;
    let addr = sockaddr::octets6(told.dst);
    if asks.contains(Asks::PACKET_INFO) {
        let info = In6PktInfo { addr, ifindex: told.nic.0 as i32 };
        push(IPV6_PKTINFO, info.as_bytes().to_vec());
    }
    if asks.contains(Asks::TTL) {
        push(IPV6_HOPLIMIT, value::from_int(i32::from(told.ttl)));
    }
    if asks.contains(Asks::TOS) {
        push(IPV6_TCLASS, value::from_int(i32::from(told.tos)));
    }
    if asks.contains(Asks::FLOW) && told.flow_info != 0 {
        push(IPV6_FLOWINFO, told.flow_info.to_be_bytes().to_vec());
    }
    if asks.contains(Asks::ORIGINAL) {
        let link_local = matches!(told.dst, IpAddr::V6(dst) if dst.is_unicast_link_local());
        let original = SockAddrIn6 {
            family: AF_INET6 as u16,
            port: told.local_port.to_be_bytes(),
            addr,
            scope_id: if link_local { told.nic.0 } else { 0 },
            ..SockAddrIn6::default()
        };
        push(IPV6_RECVORIGDSTADDR, original.as_bytes().to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_messages_of_a_send_are_read_with_their_lengths_checked() {
        let info = InPktInfo { ifindex: 2, spec_dst: [10, 0, 0, 1], addr: [0; 4] };
        let control = [
            raw(SOL_IP, IP_PKTINFO, info.as_bytes().to_vec()),
            raw(SOL_IP, IP_TTL, value::from_int(3)),
            raw(SOL_IP, IP_TOS, vec![16]),
            raw(12345, 1, vec![]),
        ];
        let read = ancillary(&control).unwrap();
        assert_eq!(read.src, Some(IpAddr::from([10, 0, 0, 1])));
        assert_eq!((read.nic, read.ttl, read.tos), (Some(NicId(2)), Some(3), Some(16)));
        for broken in [
            raw(SOL_IP, IP_PKTINFO, vec![0; 11]),
            raw(SOL_IP, IP_TTL, value::from_int(256)),
            raw(SOL_IPV6, 9999, vec![]),
            Control::Rights(Vec::new()),
        ] {
            assert!(ancillary(&[broken]).unwrap_err().is(Errno::EINVAL));
        }
    }
}
