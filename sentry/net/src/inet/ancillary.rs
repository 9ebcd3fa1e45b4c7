//! Control messages of internet sockets: what a send asks for (ip(7), ipv6(7), RFC 3542), and what is told with a message.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netstack::ip::{Family, IpOutput, RouteQuery};
use netstack::link::NicId;
use netstack::socket::datagram::{Ancillary, Received as Told};
use netstack::socket::options::{Asks, Stamping};
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{Readiness, SocketOption};
use netstack::wire::ipv4_options::Options;
use sentry_abi::Errno;
use sentry_abi::in_::*;
use sentry_abi::socket::*;
use sentry_abi::tcp::{TCP_CM_INQ, TCP_INQ};
use sentry_kernel::Result;
use sentry_kernel::cred::{Capabilities, Credentials};
use sentry_kernel::socket::Control;
use zerocopy::IntoBytes;

use super::endpoint::Endpoint;
use super::sockaddr;
use super::socket::InetSocket;
use crate::sockopt::common::TimeStamps;
use crate::sockopt::{headers, value};

/// Who asks with a message's control messages, and of which level they are read: Linux passes over those of the other.
pub(super) struct Asking<'a> {
    pub socket: &'a InetSocket,
    pub creds: Option<&'a Credentials>,
    pub level: Family,
}

/// An int and nothing else. Errors: EINVAL.
fn exact_int(data: &[u8]) -> Result<i32> {
    Ok(i32::from_ne_bytes(data.try_into().map_err(|_| Errno::EINVAL)?))
}

/// An int that fits a byte and is at least `least`. Errors: EINVAL.
fn byte(number: i32, least: u8) -> Result<u8> {
    let byte = u8::try_from(number).ok().filter(|byte| *byte >= least);
    byte.ok_or_else(|| Errno::EINVAL.into())
}

fn index(number: i32) -> Option<NicId> {
    u32::try_from(number).ok().filter(|n| *n != 0).map(NicId)
}

impl Asking<'_> {
    fn may(&self, any_of: &[Capabilities]) -> bool {
        self.creds.is_some_and(|creds| any_of.iter().any(|cap| creds.has(*cap)))
    }

    /// Reads them. Errors: EINVAL for broken and unknown ones, EPERM.
    pub(super) fn read(&self, control: &[Control]) -> Result<Ancillary> {
        let mut out = Ancillary::default();
        let stream = matches!(self.socket.endpoint, Endpoint::Tcp(_));
        for message in control {
            // Descriptors and credentials are no error, and nobody takes them.
            let Control::Raw { level, kind, data } = message else { continue };
            match (*level, self.level) {
                (SOL_SOCKET, _) => self.of_socket(*kind, data, &mut out)?,
                (_, _) if stream => {}
                (SOL_UDP, _) if matches!(self.socket.endpoint, Endpoint::Udp(_)) => {
                    out.segment = Some(match (*kind, data.as_slice()) {
                        (UDP_SEGMENT, [low, high]) => u16::from_ne_bytes([*low, *high]),
                        _ => return Err(Errno::EINVAL.into()),
                    });
                }
                (SOL_IP, Family::V4) => of_ip(*kind, data, &mut out)?,
                // An IPv6 socket that speaks IPv4 may give its source in either layout.
                (SOL_IPV6, Family::V4) if self.socket.family == Family::V6 => {
                    self.mapped(*kind, data, &mut out)?;
                }
                (SOL_IPV6, Family::V6) => self.of_ipv6(*kind, data, &mut out)?,
                // Other levels are not ours; Linux skips them.
                _ => {}
            }
        }
        Ok(out)
    }

    /// SOL_SOCKET (Linux's __sock_cmsg_send).
    fn of_socket(&self, kind: i32, data: &[u8], out: &mut Ancillary) -> Result<()> {
        const RECORDS: u32 = SOF_TIMESTAMPING_TX_HARDWARE
            | SOF_TIMESTAMPING_TX_SOFTWARE
            | SOF_TIMESTAMPING_TX_SCHED
            | SOF_TIMESTAMPING_TX_ACK
            | SOF_TIMESTAMPING_TX_COMPLETION;
        let raw_or_admin = &[Capabilities::NET_RAW, Capabilities::NET_ADMIN];
        match kind {
            SO_MARK if !self.may(raw_or_admin) => return Err(Errno::EPERM.into()),
            SO_MARK => out.mark = Some(exact_int(data)? as u32),
            SO_PRIORITY => {
                let priority = exact_int(data)?;
                if !(0..=6).contains(&priority) && !self.may(raw_or_admin) {
                    return Err(Errno::EPERM.into());
                }
                out.priority = Some(priority as u32);
            }
            SO_TIMESTAMPING_OLD | SO_TIMESTAMPING_NEW => {
                let flags = exact_int(data)? as u32;
                if flags & !RECORDS != 0 {
                    return Err(Errno::EINVAL.into());
                }
                out.stamping = Some(stamping(flags));
            }
            SCM_TS_OPT_ID => {
                let numbers = self.socket.stamping_flags() & SOF_TIMESTAMPING_OPT_ID != 0;
                if !numbers || matches!(self.socket.endpoint, Endpoint::Tcp(_)) {
                    return Err(Errno::EINVAL.into());
                }
                out.stamp_id = Some(exact_int(data)? as u32);
            }
            // The time at which to send: only queueing disciplines that are not here look at it.
            SCM_TXTIME if self.socket.options.number(SOL_SOCKET, SO_TXTIME).is_some() => {
                value::object::<[u8; 8]>(data)?;
            }
            SCM_RIGHTS | SCM_CREDENTIALS => {}
            _ => return Err(Errno::EINVAL.into()),
        }
        Ok(())
    }

    fn mapped(&self, kind: i32, data: &[u8], out: &mut Ancillary) -> Result<()> {
        if kind != IPV6_PKTINFO {
            return Ok(());
        }
        let info: In6PktInfo = value::object(data)?;
        let src = Ipv6Addr::from(info.addr).to_ipv4_mapped().ok_or(Errno::EINVAL)?;
        out.src = (!src.is_unspecified()).then_some(IpAddr::V4(src));
        out.nic = index(info.ifindex);
        Ok(())
    }

    /// IPPROTO_IPV6 (Linux's ip6_datagram_send_ctl).
    fn of_ipv6(&self, kind: i32, data: &[u8], out: &mut Ancillary) -> Result<()> {
        match kind {
            IPV6_PKTINFO | IPV6_2292PKTINFO => {
                let info: In6PktInfo = value::object(data)?;
                let src = Ipv6Addr::from(info.addr);
                let stack = self.socket.net.stack();
                out.nic = index(info.ifindex);
                if let Some(nic) = out.nic
                    && !stack.nics().iter().any(|known| known.id == nic)
                {
                    return Err(Errno::ENODEV.into());
                }
                let free = self.socket.options.is_on(SOL_IPV6, IPV6_FREEBIND);
                if !src.is_unspecified() && !free && self.socket.nic_of(src.into()).is_none() {
                    return Err(Errno::EINVAL.into());
                }
                out.src = (!src.is_unspecified()).then_some(IpAddr::V6(src));
            }
            IPV6_HOPLIMIT | IPV6_2292HOPLIMIT => {
                out.ttl = match exact_int(data)? {
                    -1 => None,
                    hops => Some(byte(hops, 0)?),
                };
            }
            // -1 is not the default here, but all bits (Linux 6.18).
            IPV6_TCLASS => {
                out.tos = Some(match exact_int(data)? {
                    -1 => u8::MAX,
                    class => byte(class, 0)?,
                });
            }
            IPV6_DONTFRAG => {
                out.dont_fragment = match exact_int(data)? {
                    0 => Some(false),
                    1 => Some(true),
                    _ => return Err(Errno::EINVAL.into()),
                }
            }
            IPV6_FLOWINFO => out.flow_info = u32::from_be_bytes(value::object(data)?),
            IPV6_HOPOPTS | IPV6_2292HOPOPTS | IPV6_DSTOPTS | IPV6_2292DSTOPTS
            | IPV6_RTHDRDSTOPTS => self.header(kind, data, out)?,
            // Routing headers: as in a kernel without mobility and segment routing.
            _ => return Err(Errno::EINVAL.into()),
        }
        Ok(())
    }

    /// An extension header of this message.
    fn header(&self, kind: i32, data: &[u8], out: &mut Ancillary) -> Result<()> {
        let headers = out.headers.get_or_insert_default();
        let again = match kind {
            IPV6_HOPOPTS | IPV6_2292HOPOPTS => headers.hop_by_hop.is_some(),
            IPV6_2292DSTOPTS => headers.destination.is_some(),
            _ => false,
        };
        let whole = headers::whole(data).filter(|_| !again).ok_or(Errno::EINVAL)?;
        if !self.may(&[Capabilities::NET_RAW]) {
            return Err(Errno::EPERM.into());
        }
        match kind {
            IPV6_HOPOPTS | IPV6_2292HOPOPTS => headers.hop_by_hop = Some(whole),
            // These stand before a routing header, and none is sent.
            IPV6_RTHDRDSTOPTS => {}
            _ => headers.destination = Some(whole),
        }
        Ok(())
    }
}

/// IPPROTO_IP (Linux's ip_cmsg_send).
fn of_ip(kind: i32, data: &[u8], out: &mut Ancillary) -> Result<()> {
    match kind {
        IP_PKTINFO if data.len() == size_of::<InPktInfo>() => {
            let info: InPktInfo = value::object(data)?;
            let src = Ipv4Addr::from(info.spec_dst);
            out.src = (!src.is_unspecified()).then_some(IpAddr::V4(src));
            out.nic = index(info.ifindex);
        }
        IP_TTL => out.ttl = Some(byte(exact_int(data)?, 1)?),
        IP_TOS => {
            out.tos = Some(match data {
                [tos] => *tos,
                _ => byte(exact_int(data)?, 0)?,
            });
        }
        // Which protocol a raw socket of IPPROTO_RAW would be of; ours is told by the header.
        IP_PROTOCOL => drop(byte(exact_int(data)?, 1)?),
        IP_RETOPTS => out.options = Some(Options::parse(data).ok_or(Errno::EINVAL)?),
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(())
}

/// The stack's part of SOF_TIMESTAMPING_* flags.
pub(crate) fn stamping(flags: u32) -> Stamping {
    let rows = [
        (SOF_TIMESTAMPING_TX_SCHED, Stamping::SCHEDULED),
        (SOF_TIMESTAMPING_TX_SOFTWARE, Stamping::SENT),
        (SOF_TIMESTAMPING_TX_ACK, Stamping::ACKNOWLEDGED),
        (SOF_TIMESTAMPING_OPT_ID, Stamping::NUMBERED),
        (SOF_TIMESTAMPING_OPT_ID_TCP, Stamping::FROM_WRITTEN),
        (SOF_TIMESTAMPING_OPT_TSONLY, Stamping::TIME_ONLY),
    ];
    let met = rows.iter().filter(|(flag, _)| flags & flag != 0);
    met.fold(Stamping::empty(), |all, (_, to)| all | *to)
}

/// The times that a send's control messages ask for.
pub(super) fn stamping_of(control: &[Control]) -> Option<Stamping> {
    control.iter().find_map(|message| match message {
        Control::Raw { level: SOL_SOCKET, kind, data }
            if matches!(*kind, SO_TIMESTAMPING_OLD | SO_TIMESTAMPING_NEW) =>
        {
            exact_int(data).ok().map(|flags| stamping(flags as u32))
        }
        _ => None,
    })
}

pub(super) fn raw(level: i32, kind: i32, data: Vec<u8>) -> Control {
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
    /// SO_TIMESTAMPING
    pub(super) fn stamping_flags(&self) -> u32 {
        self.options.number(SOL_SOCKET, SO_TIMESTAMPING_OLD).unwrap_or(0) as u32
    }

    /// Begins to tell times as the options that it has from its listener say.
    pub(super) fn begin_times(&self) -> Result<()> {
        let flags = self.stamping_flags();
        if flags != 0 {
            self.tell(SocketOption::Stamping(stamping(flags)).into())?;
        }
        if self.options.time_stamps().wanted || flags & SOF_TIMESTAMPING_SOFTWARE != 0 {
            self.tell(SocketOption::Timestamp(true).into())?;
        }
        Ok(())
    }

    /// The times of a message in all layouts that are asked for (Linux's __sock_recv_timestamp).
    pub(super) fn time_stamps(&self, wall_ns: i64, of_queue: OfQueue, out: &mut Vec<Control>) {
        let asked = self.options.time_stamps();
        if asked.wanted {
            out.push(stamp(asked, wall_ns));
        }
        let flags = self.stamping_flags();
        let received = flags & SOF_TIMESTAMPING_RX_SOFTWARE != 0
            || flags & SOF_TIMESTAMPING_OPT_RX_FILTER == 0;
        if flags & SOF_TIMESTAMPING_SOFTWARE != 0 && (received || of_queue == OfQueue::Errors) {
            let (sec, nsec) =
                (wall_ns.div_euclid(1_000_000_000), wall_ns.rem_euclid(1_000_000_000));
            let kind = if asked.new { SO_TIMESTAMPING_NEW } else { SO_TIMESTAMPING_OLD };
            // struct scm_timestamping: by software, unused, by hardware.
            out.push(raw(SOL_SOCKET, kind, [sec, nsec, 0, 0, 0, 0].as_bytes().to_vec()));
        }
    }

    /// What a stream tells with bytes: when the last of them came, and how many are left.
    pub(super) fn stream_control(&self, socket: &TcpSocket) -> Vec<Control> {
        let mut out = Vec::new();
        if let Some(at) = socket.last_read_at() {
            self.time_stamps(self.net.wall_ns(at), OfQueue::Messages, &mut out);
        }
        out.extend(self.unread(socket));
        out
    }

    /// tcp(7), TCP_INQ: how much is left to be read. At the end of the stream one, so that the reader comes again.
    fn unread(&self, socket: &TcpSocket) -> Option<Control> {
        if !self.options.is_on(SOL_TCP, TCP_INQ) {
            return None;
        }
        let left = match socket.unread() {
            0 if socket.readiness().contains(Readiness::RDHUP) => 1,
            left => i32::try_from(left).unwrap_or(i32::MAX),
        };
        Some(raw(SOL_TCP, TCP_CM_INQ, value::from_int(left)))
    }

    /// The control messages that the socket's options ask for, in Linux's order.
    pub(super) fn control(&self, told: &Told) -> Vec<Control> {
        let mut out = Vec::new();
        self.time_stamps(self.net.wall_ns(told.timestamp), OfQueue::Messages, &mut out);
        let asks = told.asks.socket;
        let rows = [
            (Asks::DROPS, SO_RXQ_OVFL, told.drops, told.drops > 0),
            (Asks::MARK, SO_MARK, told.mark, true),
            (Asks::PRIORITY, SO_PRIORITY, told.priority, true),
        ];
        for (ask, kind, number, there) in rows {
            if asks.contains(ask) && there {
                out.push(raw(SOL_SOCKET, kind, number.to_ne_bytes().to_vec()));
            }
        }
        if let Some(size) = told.segment {
            out.push(raw(SOL_UDP, UDP_GRO, value::from_int(i32::from(size))));
        }
        if self.family == Family::V6 {
            self.control_v6(told, &mut out);
        }
        if told.dst.is_ipv4() {
            control_v4(told, self.answering(told), &mut out);
        }
        out
    }

    /// The address from which a message would be answered: the one it came to, or for a group or a broadcast the one that faces its
    /// sender (Linux's fib_compute_spec_dst).
    fn answering(&self, told: &Told) -> IpAddr {
        let stack = self.net.stack();
        if !told.asks.ip.contains(Asks::PACKET_INFO) || stack.is_local(told.dst) {
            return told.dst;
        }
        let from = netstack::socket::from_mapped(told.from).ip();
        let back = stack.route(self.net.now(), &RouteQuery::to(from));
        back.map_or(told.dst, |route| route.src)
    }

    /// What ipv6(7) tells with a message; of one over IPv4 only where it came to.
    fn control_v6(&self, told: &Told, out: &mut Vec<Control>) {
        let asks = told.asks.ipv6;
        let addr = sockaddr::octets6(told.dst);
        let info = In6PktInfo { addr, ifindex: told.nic.0 as i32 }.as_bytes().to_vec();
        let mut push = |ask, kind, data: &[u8]| {
            if asks.contains(ask) {
                out.push(raw(SOL_IPV6, kind, data.to_vec()));
            }
        };
        push(Asks::PACKET_INFO, IPV6_PKTINFO, &info);
        if told.dst.is_ipv4() {
            return;
        }
        let hops = i32::from(told.ttl).to_ne_bytes();
        push(Asks::TTL, IPV6_HOPLIMIT, &hops);
        push(Asks::TOS, IPV6_TCLASS, &i32::from(told.tos).to_ne_bytes());
        if told.flow_info != 0 {
            push(Asks::FLOW, IPV6_FLOWINFO, &told.flow_info.to_be_bytes());
        }
        let headers = headers::list(told.extensions.as_ref());
        for (kind, bytes) in &headers {
            match *kind {
                headers::HOP_BY_HOP => push(Asks::HOP_OPTIONS, IPV6_HOPOPTS, bytes),
                headers::DESTINATION => push(Asks::DESTINATION_OPTIONS, IPV6_DSTOPTS, bytes),
                _ => push(Asks::ROUTING, IPV6_RTHDR, bytes),
            }
        }
        push(Asks::OLD_PACKET_INFO, IPV6_2292PKTINFO, &info);
        push(Asks::OLD_TTL, IPV6_2292HOPLIMIT, &hops);
        for (kind, bytes) in &headers {
            match *kind {
                headers::HOP_BY_HOP => push(Asks::OLD_HOP_OPTIONS, IPV6_2292HOPOPTS, bytes),
                headers::DESTINATION => {
                    push(Asks::OLD_DESTINATION_OPTIONS, IPV6_2292DSTOPTS, bytes);
                }
                _ => push(Asks::OLD_ROUTING, IPV6_2292RTHDR, bytes),
            }
        }
        let link_local = matches!(told.dst, IpAddr::V6(dst) if dst.is_unicast_link_local());
        let original = SockAddrIn6 {
            family: AF_INET6 as u16,
            port: told.local_port.to_be_bytes(),
            addr,
            scope_id: if link_local { told.nic.0 } else { 0 },
            ..SockAddrIn6::default()
        };
        push(Asks::ORIGINAL, IPV6_RECVORIGDSTADDR, original.as_bytes());
        if told.largest_fragment > 0 {
            push(Asks::FRAGMENT, IPV6_RECVFRAGSIZE, &told.largest_fragment.to_ne_bytes());
        }
    }
}

/// Which queue of a socket something was taken from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OfQueue {
    /// That of messages.
    Messages,
    /// That of errors.
    Errors,
}

/// What ip(7) tells with a message.
fn control_v4(told: &Told, answering: IpAddr, out: &mut Vec<Control>) {
    let asks = told.asks.ip;
    let mut push = |ask, kind, data: &[u8]| {
        if asks.contains(ask) {
            out.push(raw(SOL_IP, kind, data.to_vec()));
        }
    };
    let addr = sockaddr::octets4(told.dst);
    let spec_dst = sockaddr::octets4(answering);
    let info = InPktInfo { ifindex: told.nic.0 as i32, spec_dst, addr };
    push(Asks::PACKET_INFO, IP_PKTINFO, info.as_bytes());
    push(Asks::TTL, IP_TTL, &i32::from(told.ttl).to_ne_bytes());
    push(Asks::TOS, IP_TOS, &[told.tos]);
    if !told.options.is_empty() {
        push(Asks::OPTIONS, IP_RECVOPTS, told.options.as_slice());
        push(Asks::RETURN_OPTIONS, IP_RETOPTS, told.options.echoed().as_slice());
    }
    let port = told.local_port.to_be_bytes();
    let original = SockAddrIn { family: AF_INET as u16, port, addr, zero: [0; 8] };
    push(Asks::ORIGINAL, IP_RECVORIGDSTADDR, original.as_bytes());
    if told.largest_fragment > 0 {
        push(Asks::FRAGMENT, IP_RECVFRAGSIZE, &told.largest_fragment.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::namespace;
    use super::*;
    use std::sync::Arc;

    fn read(family: Family, control: &[Control]) -> Result<Ancillary> {
        let net = namespace();
        let endpoint = Endpoint::Udp(net.stack().udp_socket(family));
        let socket = InetSocket::new(&net, family, endpoint, (SOCK_DGRAM, IPPROTO_UDP));
        Asking { socket: &socket, creds: Some(&Credentials::root()), level: family }.read(control)
    }

    #[test]
    fn control_messages_of_a_send_are_read_with_their_lengths_checked() {
        let info = InPktInfo { ifindex: 2, spec_dst: [10, 0, 0, 1], addr: [0; 4] };
        let control = [
            raw(SOL_IP, IP_PKTINFO, info.as_bytes().to_vec()),
            raw(SOL_IP, IP_TTL, value::from_int(3)),
            raw(SOL_IP, IP_TOS, vec![16]),
            raw(SOL_SOCKET, SO_MARK, value::from_int(9)),
            raw(12345, 1, vec![]),
            Control::Rights(Vec::new()),
        ];
        let told = read(Family::V4, &control).unwrap();
        assert_eq!(told.src, Some(IpAddr::from([10, 0, 0, 1])));
        assert_eq!((told.nic, told.ttl, told.tos), (Some(NicId(2)), Some(3), Some(16)));
        assert_eq!(told.mark, Some(9));
        for (family, broken) in [
            (Family::V4, raw(SOL_IP, IP_PKTINFO, vec![0; 11])),
            (Family::V4, raw(SOL_IP, IP_TTL, value::from_int(256))),
            (Family::V4, raw(SOL_IP, IP_TTL, vec![1])),
            (Family::V6, raw(SOL_IPV6, 9999, vec![])),
            (Family::V6, raw(SOL_IPV6, IPV6_HOPOPTS, vec![0; 7])),
            (Family::V6, raw(SOL_IPV6, IPV6_RTHDR, vec![0; 24])),
            (Family::V4, raw(SOL_SOCKET, SCM_TXTIME, vec![0; 8])),
        ] {
            assert!(read(family, &[broken]).unwrap_err().is(Errno::EINVAL));
        }
    }

    #[test]
    fn extension_headers_of_a_message_are_kept_whole() {
        let pad = vec![0, 0, 1, 4, 0, 0, 0, 0];
        let control = [
            raw(SOL_IPV6, IPV6_HOPOPTS, pad.clone()),
            raw(SOL_IPV6, IPV6_DSTOPTS, [pad.clone(), vec![7]].concat()),
        ];
        let told = read(Family::V6, &control).unwrap().headers.unwrap();
        let kept: Arc<[u8]> = pad.into();
        assert_eq!((told.hop_by_hop, told.destination), (Some(kept.clone()), Some(kept)));
        let twice = [control[0].clone(), control[0].clone()];
        assert!(read(Family::V6, &twice).unwrap_err().is(Errno::EINVAL));
    }
}
