//! The options of message sockets.

use core::net::IpAddr;

use super::{Datagram, Kind};
use crate::filter::Program;
use crate::ip::{Family, RouteQuery, SourcePreference};
use crate::link::NicId;
use crate::socket::options::{
    Asks, IpOption, IpOptionKind, Level, MtuDiscover, OptionError, OptionKind, OptionValue,
    SocketOption, SocketOptionKind, Stamping,
};
use crate::time::Instant;
use crate::wire::ipv4_options::Options;

/// The default size of a receive or send buffer (`rmem_default`, `wmem_default`).
const DEFAULT_BUFFER: usize = 212_992;

pub(super) struct Settings {
    pub reuse_address: bool,
    pub reuse_port: bool,
    pub broadcast: bool,
    pub keep_alive: bool,
    pub receive_buffer: usize,
    pub send_buffer: usize,
    pub receive_low_water: usize,
    pub device: Option<NicId>,
    pub priority: u32,
    pub mark: u32,
    pub uid: u32,
    pub dont_route: bool,
    pub timestamp: bool,
    pub no_check: bool,
    pub ttl: Option<u8>,
    pub tos: u8,
    pub traffic_class: u8,
    pub v6_only: bool,
    pub header_included: bool,
    pub mtu_discover: MtuDiscover,
    pub header_options: Options,
    pub multicast_ttl: u8,
    pub multicast_loop: bool,
    pub multicast_nic: Option<NicId>,
    pub bind_no_port: bool,
    pub free_bind: bool,
    pub port_range: Option<(u16, u16)>,
    pub checksum_offset: Option<u16>,
    pub icmp_filter: u32,
    pub icmp6_filter: [u32; 8],
    pub filter: Option<Program>,
    pub chooser: Option<Program>,
    pub cork: bool,
    pub segment: u16,
    pub coalesce: bool,
    pub no_check6_send: bool,
    pub no_check6_receive: bool,
    pub multicast_all: bool,
    pub peek_offset: Option<u32>,
    pub send_flow: bool,
    pub auto_flow_label: bool,
    pub dont_fragment: bool,
    pub unicast_nic: Option<NicId>,
    pub message_nic: Option<NicId>,
    pub sources: SourcePreference,
    pub largest_packet: Option<u32>,
    pub asks: AskedFor,
    pub stamping: Stamping,
}

/// What a socket wants to be told with each message, by the level at which it asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AskedFor {
    /// SOL_SOCKET
    pub socket: Asks,
    /// IPPROTO_IP: of messages over IPv4.
    pub ip: Asks,
    /// IPPROTO_IPV6
    pub ipv6: Asks,
}

impl AskedFor {
    pub(super) fn at(&mut self, level: Level) -> &mut Asks {
        match level {
            Level::Socket => &mut self.socket,
            Level::Ip => &mut self.ip,
            Level::Ipv6 => &mut self.ipv6,
        }
    }

    /// What is asked for of traffic with an address.
    pub(super) fn of(&self, address: IpAddr) -> Asks {
        if address.is_ipv4() { self.ip } else { self.ipv6 }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            reuse_address: false,
            reuse_port: false,
            broadcast: false,
            keep_alive: false,
            receive_buffer: DEFAULT_BUFFER,
            send_buffer: DEFAULT_BUFFER,
            receive_low_water: 1,
            device: None,
            priority: 0,
            mark: 0,
            uid: 0,
            dont_route: false,
            timestamp: false,
            no_check: false,
            ttl: None,
            tos: 0,
            traffic_class: 0,
            v6_only: false,
            header_included: false,
            mtu_discover: MtuDiscover::Want,
            header_options: Options::NONE,
            multicast_ttl: 1,
            multicast_loop: true,
            multicast_nic: None,
            bind_no_port: false,
            free_bind: false,
            port_range: None,
            checksum_offset: None,
            icmp_filter: 0,
            icmp6_filter: [0; 8],
            filter: None,
            chooser: None,
            cork: false,
            segment: 0,
            coalesce: false,
            no_check6_send: false,
            no_check6_receive: false,
            multicast_all: true,
            peek_offset: None,
            send_flow: false,
            // Linux's auto_flowlabels is 1: on where a socket does not say otherwise.
            auto_flow_label: true,
            dont_fragment: false,
            unicast_nic: None,
            message_nic: None,
            sources: SourcePreference::Default,
            largest_packet: None,
            asks: AskedFor::default(),
            stamping: Stamping::empty(),
        }
    }
}

impl Datagram {
    /// Sets an option.
    pub fn set_option(&self, now: Instant, value: OptionValue) -> Result<(), OptionError> {
        match value {
            OptionValue::SocketOption(value) => self.set_socket_option(value),
            OptionValue::IpOption(IpOption::JoinGroup(group)) => self.join(now, group),
            OptionValue::IpOption(IpOption::LeaveGroup(group)) => self.leave(now, group),
            OptionValue::IpOption(value) => self.set_ip_option(value),
            OptionValue::DatagramOption(value) => self.set_datagram_option(now, value),
            OptionValue::TcpOption(_) => Err(OptionError::NotSupported),
        }
    }

    fn set_socket_option(&self, value: SocketOption) -> Result<(), OptionError> {
        let mut state = self.state.lock();
        let settings = &mut state.settings;
        match value {
            SocketOption::ReuseAddress(on) => settings.reuse_address = on,
            SocketOption::ReusePort(on) => settings.reuse_port = on,
            SocketOption::Broadcast(on) => settings.broadcast = on,
            SocketOption::KeepAlive(on) => settings.keep_alive = on,
            SocketOption::ReceiveBuffer(bytes) => settings.receive_buffer = bytes,
            SocketOption::SendBuffer(bytes) => settings.send_buffer = bytes,
            SocketOption::ReceiveLowWater(bytes) => settings.receive_low_water = bytes.max(1),
            SocketOption::BindToDevice(nic) => {
                settings.device = nic;
                if !state.places.is_empty() {
                    return self.register(&mut state).map_err(|_| OptionError::InUse);
                }
            }
            SocketOption::Priority(priority) => settings.priority = priority,
            SocketOption::Mark(mark) => settings.mark = mark,
            SocketOption::Owner(uid) => settings.uid = uid,
            SocketOption::DontRoute(on) => settings.dont_route = on,
            SocketOption::Timestamp(on) => settings.timestamp = on,
            SocketOption::NoCheck(on) => settings.no_check = on,
            SocketOption::Stamping(stamping) => {
                // Numbers begin anew whenever they are switched on (sock_set_timestamping).
                let begins = stamping - settings.stamping;
                settings.stamping = stamping;
                if begins.contains(Stamping::NUMBERED) {
                    state.next_stamp = 0;
                }
            }
            // A message socket has nothing to linger for; urgent data and pacing are TCP's.
            SocketOption::Linger(_)
            | SocketOption::OobInline(_)
            | SocketOption::PeekOffset(_)
            | SocketOption::MaxPacingRate(_) => {
                return Err(OptionError::NotSupported);
            }
        }
        Ok(())
    }

    fn set_ip_option(&self, value: IpOption) -> Result<(), OptionError> {
        let raw = matches!(self.kind, Kind::Raw(_));
        let mut state = self.state.lock();
        let bound = state.lease.is_some();
        let settings = &mut state.settings;
        match value {
            IpOption::Ttl(Some(0)) => return Err(OptionError::Invalid),
            IpOption::Ttl(ttl) => settings.ttl = ttl,
            IpOption::Tos(tos) => settings.tos = tos,
            IpOption::TrafficClass(class) => settings.traffic_class = class,
            IpOption::V6Only(_) if bound || self.family == Family::V4 => {
                return Err(OptionError::Invalid);
            }
            IpOption::V6Only(on) => settings.v6_only = on,
            IpOption::HeaderIncluded(on) if raw => settings.header_included = on,
            IpOption::MtuDiscover(how) => settings.mtu_discover = how,
            IpOption::HeaderOptions(options) => settings.header_options = options,
            IpOption::MulticastTtl(ttl) => settings.multicast_ttl = ttl,
            IpOption::MulticastLoop(on) => settings.multicast_loop = on,
            IpOption::MulticastInterface(nic) => settings.multicast_nic = nic,
            IpOption::BindAddressNoPort(on) => settings.bind_no_port = on,
            IpOption::FreeBind(on) => settings.free_bind = on,
            IpOption::Sources(preference) => settings.sources = preference,
            IpOption::LocalPortRange((first, last)) if first != 0 && last != 0 && first > last => {
                return Err(OptionError::Invalid);
            }
            IpOption::LocalPortRange(range) => {
                settings.port_range = (range != (0, 0)).then_some(range);
            }
            IpOption::ChecksumOffset(offset) if raw => settings.checksum_offset = offset,
            IpOption::IcmpFilter(filter) if raw => settings.icmp_filter = filter,
            IpOption::HeaderIncluded(_)
            | IpOption::ChecksumOffset(_)
            | IpOption::IcmpFilter(_)
            | IpOption::MinTtl(_)
            | IpOption::MinHops(_)
            | IpOption::Mtu(_)
            | IpOption::JoinGroup(_)
            | IpOption::LeaveGroup(_) => return Err(OptionError::NotSupported),
        }
        Ok(())
    }

    /// Reads an option.
    pub fn option(&self, now: Instant, kind: OptionKind) -> Result<OptionValue, OptionError> {
        match kind {
            OptionKind::SocketOption(kind) => self.socket_option(kind).map(OptionValue::from),
            OptionKind::IpOption(IpOptionKind::Mtu) => self.path_mtu(now).map(OptionValue::from),
            OptionKind::IpOption(kind) => self.ip_option(kind).map(OptionValue::from),
            OptionKind::DatagramOption(kind) => self.datagram_option(kind).map(OptionValue::from),
            OptionKind::TcpOption(_) => Err(OptionError::NotSupported),
        }
    }

    fn path_mtu(&self, now: Instant) -> Result<IpOption, OptionError> {
        let state = self.state.lock();
        let remote = state.remote.ok_or(OptionError::NotConnected)?;
        let flow = self.flow(&state, remote);
        let query = RouteQuery {
            src: Some(state.local.ip()),
            nic: state.settings.device,
            flow,
            ..RouteQuery::to(remote.ip())
        };
        drop(state);
        let route = self.host.route(now, &query).map_err(|_| OptionError::NotConnected)?;
        Ok(IpOption::Mtu(route.mtu))
    }

    fn socket_option(&self, kind: SocketOptionKind) -> Result<SocketOption, OptionError> {
        let state = self.state.lock();
        let settings = &state.settings;
        Ok(match kind {
            SocketOptionKind::ReuseAddress => SocketOption::ReuseAddress(settings.reuse_address),
            SocketOptionKind::ReusePort => SocketOption::ReusePort(settings.reuse_port),
            SocketOptionKind::Broadcast => SocketOption::Broadcast(settings.broadcast),
            SocketOptionKind::KeepAlive => SocketOption::KeepAlive(settings.keep_alive),
            SocketOptionKind::ReceiveBuffer => SocketOption::ReceiveBuffer(settings.receive_buffer),
            SocketOptionKind::SendBuffer => SocketOption::SendBuffer(settings.send_buffer),
            SocketOptionKind::ReceiveLowWater => {
                SocketOption::ReceiveLowWater(settings.receive_low_water)
            }
            SocketOptionKind::BindToDevice => SocketOption::BindToDevice(settings.device),
            SocketOptionKind::Priority => SocketOption::Priority(settings.priority),
            SocketOptionKind::Mark => SocketOption::Mark(settings.mark),
            SocketOptionKind::Owner => SocketOption::Owner(settings.uid),
            SocketOptionKind::DontRoute => SocketOption::DontRoute(settings.dont_route),
            SocketOptionKind::Timestamp => SocketOption::Timestamp(settings.timestamp),
            SocketOptionKind::NoCheck => SocketOption::NoCheck(settings.no_check),
            SocketOptionKind::Stamping => SocketOption::Stamping(settings.stamping),
            SocketOptionKind::Linger
            | SocketOptionKind::OobInline
            | SocketOptionKind::PeekOffset
            | SocketOptionKind::MaxPacingRate => {
                return Err(OptionError::NotSupported);
            }
        })
    }

    fn ip_option(&self, kind: IpOptionKind) -> Result<IpOption, OptionError> {
        let raw = matches!(self.kind, Kind::Raw(_));
        let state = self.state.lock();
        let settings = &state.settings;
        Ok(match kind {
            IpOptionKind::Ttl => IpOption::Ttl(settings.ttl),
            IpOptionKind::Tos => IpOption::Tos(settings.tos),
            IpOptionKind::TrafficClass => IpOption::TrafficClass(settings.traffic_class),
            IpOptionKind::V6Only => IpOption::V6Only(settings.v6_only),
            IpOptionKind::HeaderIncluded if raw => {
                IpOption::HeaderIncluded(settings.header_included)
            }
            IpOptionKind::MtuDiscover => IpOption::MtuDiscover(settings.mtu_discover),
            IpOptionKind::HeaderOptions => IpOption::HeaderOptions(settings.header_options),
            IpOptionKind::MulticastTtl => IpOption::MulticastTtl(settings.multicast_ttl),
            IpOptionKind::MulticastLoop => IpOption::MulticastLoop(settings.multicast_loop),
            IpOptionKind::MulticastInterface => {
                IpOption::MulticastInterface(settings.multicast_nic)
            }
            IpOptionKind::BindAddressNoPort => IpOption::BindAddressNoPort(settings.bind_no_port),
            IpOptionKind::LocalPortRange => {
                IpOption::LocalPortRange(settings.port_range.unwrap_or_default())
            }
            IpOptionKind::FreeBind => IpOption::FreeBind(settings.free_bind),
            IpOptionKind::Sources => IpOption::Sources(settings.sources),
            IpOptionKind::ChecksumOffset if raw => {
                IpOption::ChecksumOffset(settings.checksum_offset)
            }
            IpOptionKind::IcmpFilter if raw => IpOption::IcmpFilter(settings.icmp_filter),
            _ => return Err(OptionError::NotSupported),
        })
    }
}
