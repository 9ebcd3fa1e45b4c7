//! MSG_ERRQUEUE: reports of earlier sends as recv(2) tells them (ip(7) IP_RECVERR, linux/errqueue.h).

use core::net::{IpAddr, SocketAddr};

use netstack::ip::Family;
use netstack::socket::error_queue::{Carrier, Progress, Stamp};
use netstack::socket::options::Asks;
use netstack::socket::{ErrorReport, Report};
use sentry_abi::Errno;
use sentry_abi::in_::*;
use sentry_abi::socket::*;
use sentry_kernel::Result;
use sentry_kernel::io::Sink;
use sentry_kernel::socket::{Control, Received};
use zerocopy::IntoBytes;

use super::ancillary::{OfQueue, raw};
use super::endpoint::Endpoint;
use super::sockaddr;
use super::socket::InetSocket;
use crate::errno;

impl InetSocket {
    /// The oldest report of the error queue. Errors: EAGAIN.
    pub(super) fn take_report(&self, dst: &mut dyn Sink) -> Result<Received> {
        let report = match &self.endpoint {
            Endpoint::Tcp(socket) => socket.recv_report(),
            Endpoint::Udp(socket) => socket.recv_report(),
            Endpoint::Ping(socket) => socket.recv_report(),
            Endpoint::Raw(socket) => socket.recv_report(),
        };
        match report.ok_or(Errno::EAGAIN)? {
            Report::Error(report) => self.tell_error(&report, dst),
            Report::Copied { first, last } => {
                let error = SockExtendedErr {
                    origin: SO_EE_ORIGIN_ZEROCOPY,
                    code: SO_EE_CODE_ZEROCOPY_COPIED,
                    info: first,
                    data: last,
                    ..SockExtendedErr::default()
                };
                Ok(Received {
                    control: vec![self.extended(error, None)],
                    flags: MSG_ERRQUEUE,
                    ..Received::default()
                })
            }
            Report::Stamped(stamp) => self.tell_stamp(&stamp, dst),
        }
    }

    /// struct sock_extended_err with the address of who caused it; without one it is of AF_UNSPEC.
    fn extended(&self, error: SockExtendedErr, offender: Option<IpAddr>) -> Control {
        let address = offender.unwrap_or(self.family.unspecified());
        let mut address = sockaddr::encode(self.family, SocketAddr::new(address, 0)).0;
        if offender.is_none() {
            address.fill(0);
        }
        let mut data = error.as_bytes().to_vec();
        data.extend_from_slice(&address);
        match self.family {
            Family::V4 => raw(SOL_IP, IP_RECVERR, data),
            Family::V6 => raw(SOL_IPV6, IPV6_RECVERR, data),
        }
    }

    /// The message's start, where it went, and what became of it.
    fn tell_error(&self, report: &ErrorReport, dst: &mut dyn Sink) -> Result<Received> {
        let (kind, code) = report.icmp.unwrap_or_default();
        let extensions = report.extensions.map_or(0, |found| {
            let flags = if found.invalid { SO_EE_RFC4884_FLAG_INVALID } else { 0 };
            let data = SockEeDataRfc4884 { len: found.offset, flags, reserved: 0 };
            u32::from_ne_bytes(zerocopy::transmute!(data))
        });
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
            data: extensions,
            ..SockExtendedErr::default()
        };
        let mut control = Vec::new();
        if let Some(carrier) = &report.carrier {
            self.tell_carrier(carrier, &mut control);
        }
        let offender = report.icmp.map(|_| report.offender);
        control.push(self.extended(error, offender));
        let (len, cut) = copied(&report.payload, dst)?;
        Ok(Received {
            len,
            from: Some(sockaddr::encode(self.family, report.destination)),
            control,
            flags: MSG_ERRQUEUE | cut,
        })
    }

    /// What the socket's options tell of the packet that brought an error, as of any message.
    fn tell_carrier(&self, carrier: &Carrier, out: &mut Vec<Control>) {
        let Some(asks) = self.endpoint.datagram().map(|socket| socket.asked_for()) else { return };
        let (asks, rows) = match carrier.dst {
            IpAddr::V4(_) => {
                // Linux does not know by then which address of ours it was for.
                let info = InPktInfo {
                    ifindex: carrier.nic.0 as i32,
                    spec_dst: [0; 4],
                    addr: sockaddr::octets4(carrier.dst),
                };
                let rows = vec![
                    (Asks::PACKET_INFO, SOL_IP, IP_PKTINFO, info.as_bytes().to_vec()),
                    (Asks::TTL, SOL_IP, IP_TTL, int(carrier.ttl)),
                    (Asks::TOS, SOL_IP, IP_TOS, vec![carrier.tos]),
                ];
                (asks.ip, rows)
            }
            IpAddr::V6(dst) => {
                let info = In6PktInfo { addr: dst.octets(), ifindex: carrier.nic.0 as i32 };
                let info = info.as_bytes().to_vec();
                let mut rows = vec![
                    (Asks::PACKET_INFO, SOL_IPV6, IPV6_PKTINFO, info.clone()),
                    (Asks::TTL, SOL_IPV6, IPV6_HOPLIMIT, int(carrier.ttl)),
                    (Asks::TOS, SOL_IPV6, IPV6_TCLASS, int(carrier.tos)),
                    (Asks::OLD_PACKET_INFO, SOL_IPV6, IPV6_2292PKTINFO, info),
                    (Asks::OLD_TTL, SOL_IPV6, IPV6_2292HOPLIMIT, int(carrier.ttl)),
                ];
                if carrier.flow_info != 0 {
                    let flow = carrier.flow_info.to_be_bytes().to_vec();
                    rows.insert(3, (Asks::FLOW, SOL_IPV6, IPV6_FLOWINFO, flow));
                }
                (asks.ipv6, rows)
            }
        };
        let told = rows.into_iter().filter(|(ask, ..)| asks.contains(*ask));
        out.extend(told.map(|(_, level, kind, data)| raw(level, kind, data)));
    }

    /// When a send came how far, with its packet where that was asked for.
    fn tell_stamp(&self, stamp: &Stamp, dst: &mut dyn Sink) -> Result<Received> {
        let mut control = Vec::new();
        self.time_stamps(self.net.wall_ns(stamp.at), OfQueue::Errors, &mut control);
        let error = SockExtendedErr {
            errno: Errno::ENOMSG.number() as u32,
            origin: SO_EE_ORIGIN_TIMESTAMPING,
            info: match stamp.progress {
                Progress::Scheduled => SCM_TSTAMP_SCHED,
                Progress::Sent => SCM_TSTAMP_SND,
                Progress::Acknowledged => SCM_TSTAMP_ACK,
            },
            data: stamp.id,
            ..SockExtendedErr::default()
        };
        // Over IPv6 the packet tells who sent it.
        let src = stamp.packet.as_ref().map(|packet| packet.src).filter(IpAddr::is_ipv6);
        control.push(self.extended(error, src));
        let bytes = stamp.packet.as_ref().map_or(&[][..], |packet| &packet.bytes);
        let (len, cut) = copied(bytes, dst)?;
        Ok(Received { len, control, flags: MSG_ERRQUEUE | cut, from: None })
    }

    /// The MTU that an earlier message did not fit, with the address it went to (RFC 3542 section 11.3); it is told by a receive
    /// of its own, without bytes.
    pub(super) fn take_path_mtu(&self) -> Option<Received> {
        if self.family == Family::V4 {
            return None;
        }
        let (to, mtu) = self.endpoint.datagram()?.take_path_mtu()?;
        let to = sockaddr::encode(Family::V6, to).0;
        let data = [to.as_slice(), &mtu.to_ne_bytes()].concat();
        let control = vec![raw(SOL_IPV6, IPV6_PATHMTU, data)];
        Some(Received { control, ..Received::default() })
    }
}

fn int(number: u8) -> Vec<u8> {
    i32::from(number).to_ne_bytes().to_vec()
}

/// Copies what fits; gives how much, and MSG_TRUNC where that is not all.
fn copied(bytes: &[u8], dst: &mut dyn Sink) -> Result<(usize, u32)> {
    let len = if bytes.is_empty() { 0 } else { dst.write(bytes)? };
    Ok((len, if len < bytes.len() { MSG_TRUNC } else { 0 }))
}
