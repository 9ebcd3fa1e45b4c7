//! Options of a TCP socket.

use super::TcpSocket;
use super::endpoint::{Inner, Role};
use super::splice::OtherEnd;
use crate::ip::route::Scope;
use crate::socket::{
    IpOption, IpOptionKind, OptionError, OptionKind, OptionValue, SocketOption, SocketOptionKind,
    TcpOption, TcpOptionKind,
};
use crate::time::{Duration, Instant};
use crate::transport::tcp::{Info, Settings, congestion};
use crate::wire::ipv4_options::Options;

/// Linux's bounds of TCP_MAXSEG (TCP_MIN_MSS, MAX_TCP_WINDOW).
const MAX_SEGMENT: core::ops::RangeInclusive<u16> = 88..=32_767;
/// Linux's bounds of TCP_KEEPIDLE and TCP_KEEPINTVL in seconds, and of the counts.
const KEEP_SECONDS: core::ops::RangeInclusive<u64> = 1..=32_767;
const COUNTS: core::ops::RangeInclusive<u8> = 1..=127;

/// The least TCP_WINDOW_CLAMP: half of Linux's SOCK_MIN_RCVBUF.
const WINDOW_CLAMP_MIN: usize = 1152;

/// Linux's TCP_TIMEOUT_MIN: two ticks.
const TIMEOUT_MIN: Duration = Duration::from_millis(8);
/// The most that TCP_RTO_MIN_US may be (Linux's TCP_RTO_MIN).
const RTO_MIN_MAX: Duration = Duration::from_millis(200);
/// The most that TCP_DELACK_MAX_US may be, and what it is (Linux's TCP_DELACK_MAX).
const DELAYED_ACK_MAX: Duration = Duration::from_millis(200);
/// Linux's bounds of TCP_RTO_MAX_MS.
const RTO_MAX: core::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(120);

impl TcpSocket {
    /// Sets an option.
    pub fn set_option(
        &self,
        now: Instant,
        value: impl Into<OptionValue>,
    ) -> Result<(), OptionError> {
        let endpoint = &self.0;
        let mut inner = endpoint.inner.lock();
        match value.into() {
            OptionValue::SocketOption(SocketOption::Stamping(stamping)) => {
                inner.set_stamping(stamping)?;
            }
            OptionValue::SocketOption(SocketOption::ReceiveLowWater(bytes)) => {
                let most = endpoint.host.shared().tcp.config().receive_buffer_max;
                inner.set_low_water(bytes, most);
            }
            OptionValue::SocketOption(value) => set_socket(&mut inner, now, value)?,
            OptionValue::IpOption(value) => set_ip(&mut inner, value)?,
            OptionValue::DatagramOption(_) => return Err(OptionError::NotSupported),
            OptionValue::TcpOption(value) => match endpoint.set_fast_open(&mut inner, value) {
                Some(done) => done?,
                None => set_tcp(&mut inner, now, value)?,
            },
        }
        // The way to the other end may be another now.
        inner.other_end = OtherEnd::Unknown;
        drop(inner);
        endpoint.flush(now);
        Ok(())
    }

    /// Reads an option.
    pub fn option(
        &self,
        now: Instant,
        kind: impl Into<OptionKind>,
    ) -> Result<OptionValue, OptionError> {
        let inner = self.0.inner.lock();
        match kind.into() {
            OptionKind::SocketOption(kind) => self.socket_option(&inner, kind).map(Into::into),
            OptionKind::IpOption(IpOptionKind::Mtu) => {
                let flow = inner.flow().ok_or(OptionError::NotConnected)?;
                let query = inner.query(flow);
                let route = self.0.host.route(now, &query);
                let mtu = route.map_err(|_| OptionError::NotConnected)?.mtu;
                Ok(IpOption::Mtu(mtu).into())
            }
            OptionKind::IpOption(kind) => ip_option(&inner, kind).map(Into::into),
            OptionKind::DatagramOption(_) => Err(OptionError::NotSupported),
            OptionKind::TcpOption(kind) => self.tcp_option(&inner, kind).map(Into::into),
        }
    }

    /// TCP_INFO; None before a connection.
    pub fn info(&self) -> Option<Info> {
        match &self.0.inner.lock().role {
            Role::Stream(connection) => Some(connection.info()),
            Role::Idle | Role::Listener(_) => None,
        }
    }

    fn socket_option(
        &self,
        inner: &Inner,
        kind: SocketOptionKind,
    ) -> Result<SocketOption, OptionError> {
        let settings = inner.settings();
        let config = self.0.host.shared().tcp.config();
        let info = match &inner.role {
            Role::Stream(connection) => Some(connection.info()),
            Role::Idle | Role::Listener(_) => None,
        };
        Ok(match kind {
            SocketOptionKind::ReuseAddress => {
                SocketOption::ReuseAddress(inner.socket.reuse_address)
            }
            SocketOptionKind::ReusePort => SocketOption::ReusePort(inner.socket.reuse_port),
            SocketOptionKind::Broadcast => SocketOption::Broadcast(inner.socket.broadcast),
            SocketOptionKind::KeepAlive => SocketOption::KeepAlive(settings.keep_alive),
            SocketOptionKind::OobInline => SocketOption::OobInline(settings.oob_inline),
            SocketOptionKind::ReceiveBuffer => SocketOption::ReceiveBuffer(
                info.map_or(settings.receive_buffer.unwrap_or(config.receive_buffer), |info| {
                    info.receive_capacity
                }),
            ),
            SocketOptionKind::SendBuffer => SocketOption::SendBuffer(
                info.map_or(settings.send_buffer.unwrap_or(config.send_buffer), |info| {
                    info.send_capacity
                }),
            ),
            SocketOptionKind::ReceiveLowWater => {
                SocketOption::ReceiveLowWater(inner.socket.receive_low_water)
            }
            SocketOptionKind::PeekOffset => SocketOption::PeekOffset(inner.socket.peek_offset),
            SocketOptionKind::MaxPacingRate => {
                SocketOption::MaxPacingRate(settings.max_pacing_rate.unwrap_or(u64::MAX))
            }
            SocketOptionKind::Linger => SocketOption::Linger(settings.linger),
            SocketOptionKind::BindToDevice => SocketOption::BindToDevice(inner.socket.nic),
            _ => return Err(OptionError::NotSupported),
        })
    }

    // tidy: table
    fn tcp_option(&self, inner: &Inner, kind: TcpOptionKind) -> Result<TcpOption, OptionError> {
        let settings = inner.settings();
        let config = self.0.host.shared().tcp.config();
        let info = match &inner.role {
            Role::Stream(connection) => Some(connection.info()),
            Role::Idle | Role::Listener(_) => None,
        };
        Ok(match kind {
            TcpOptionKind::NoDelay => TcpOption::NoDelay(settings.no_delay),
            TcpOptionKind::Cork => TcpOption::Cork(settings.cork),
            TcpOptionKind::QuickAck => TcpOption::QuickAck(info.is_none_or(|info| info.quick_ack)),
            TcpOptionKind::MaxSegment => TcpOption::MaxSegment(match info {
                Some(info) => info.mss.min(usize::from(u16::MAX)) as u16,
                None => settings.max_segment.unwrap_or(536),
            }),
            TcpOptionKind::KeepIdle => {
                TcpOption::KeepIdle(settings.keep_idle.unwrap_or(config.keep_idle))
            }
            TcpOptionKind::KeepInterval => {
                TcpOption::KeepInterval(settings.keep_interval.unwrap_or(config.keep_interval))
            }
            TcpOptionKind::KeepCount => {
                TcpOption::KeepCount(settings.keep_count.unwrap_or(config.keep_count).min(255) as u8)
            }
            TcpOptionKind::SynCount => {
                TcpOption::SynCount(settings.syn_count.unwrap_or(config.syn_retries).min(127) as u8)
            }
            TcpOptionKind::Linger2 => {
                TcpOption::Linger2(Some(settings.fin_timeout.unwrap_or(config.fin_timeout)))
            }
            TcpOptionKind::DeferAccept => {
                TcpOption::DeferAccept(settings.defer_accept.unwrap_or_default())
            }
            TcpOptionKind::UserTimeout => {
                TcpOption::UserTimeout(settings.user_timeout.unwrap_or_default())
            }
            TcpOptionKind::Congestion => TcpOption::Congestion(match info {
                Some(info) => info.congestion,
                None => settings.congestion.unwrap_or(config.congestion),
            }),
            TcpOptionKind::NotSentLowWater => TcpOption::NotSentLowWater(
                inner
                    .socket
                    .not_sent_low_water
                    .map_or(0, |bytes| bytes.min(u32::MAX as usize) as u32),
            ),
            TcpOptionKind::WindowClamp => {
                let clamp =
                    info.map_or(settings.window_clamp.unwrap_or(0), |info| info.window_clamp);
                TcpOption::WindowClamp(u32::try_from(clamp).unwrap_or(u32::MAX))
            }
            TcpOptionKind::RtoMin => TcpOption::RtoMin(settings.rto_min.unwrap_or(config.rto_min)),
            TcpOptionKind::RtoMax => TcpOption::RtoMax(settings.rto_max.unwrap_or(config.rto_max)),
            TcpOptionKind::ThinLinearTimeouts => {
                TcpOption::ThinLinearTimeouts(settings.thin_linear_timeouts)
            }
            TcpOptionKind::DelayedAckMax => {
                TcpOption::DelayedAckMax(settings.delayed_ack_max.unwrap_or(DELAYED_ACK_MAX))
            }
            TcpOptionKind::FastOpen => {
                TcpOption::FastOpen(u32::try_from(inner.socket.fast_open_queue).unwrap_or(u32::MAX))
            }
            TcpOptionKind::FastOpenConnect => {
                TcpOption::FastOpenConnect(inner.socket.fast_open_connect)
            }
            TcpOptionKind::FastOpenNoCookie => {
                TcpOption::FastOpenNoCookie(inner.socket.fast_open_no_cookie)
            }
            TcpOptionKind::FastOpenKey => TcpOption::FastOpenKey(
                inner
                    .socket
                    .fast_open_keys
                    .unwrap_or_else(|| self.0.host.shared().tcp.fast_open.keys()),
            ),
        })
    }
}

impl Inner {
    fn settings(&self) -> &Settings {
        match &self.role {
            Role::Stream(connection) => connection.settings(),
            Role::Idle | Role::Listener(_) => &self.settings,
        }
    }

    /// SO_RCVLOWAT. As on Linux, at most half of what the receive buffer is or may become.
    fn set_low_water(&mut self, bytes: usize, buffer_max: usize) {
        let most = self.settings().receive_buffer.unwrap_or(buffer_max) / 2;
        let bytes = bytes.min(most).max(1);
        self.socket.receive_low_water = bytes;
        if let Role::Stream(connection) = &mut self.role {
            connection.want_at_least(bytes);
        }
        self.news = true;
    }

    fn configure(&mut self, now: Instant, change: impl FnOnce(&mut Settings)) {
        match &mut self.role {
            Role::Stream(connection) => connection.configure(now, change),
            Role::Idle | Role::Listener(_) => change(&mut self.settings),
        }
    }
}

fn set_socket(inner: &mut Inner, now: Instant, value: SocketOption) -> Result<(), OptionError> {
    match value {
        SocketOption::ReuseAddress(on) => inner.socket.reuse_address = on,
        SocketOption::ReusePort(on) => inner.socket.reuse_port = on,
        SocketOption::Broadcast(on) => inner.socket.broadcast = on,
        SocketOption::KeepAlive(on) => inner.configure(now, |settings| settings.keep_alive = on),
        SocketOption::OobInline(on) => inner.configure(now, |settings| settings.oob_inline = on),
        SocketOption::ReceiveBuffer(bytes) => {
            inner.configure(now, |settings| settings.receive_buffer = Some(bytes));
        }
        SocketOption::SendBuffer(bytes) => {
            inner.configure(now, |settings| settings.send_buffer = Some(bytes));
        }
        // They need more than the settings.
        SocketOption::ReceiveLowWater(_) | SocketOption::Stamping(_) => {}
        SocketOption::PeekOffset(offset) => inner.socket.peek_offset = offset,
        SocketOption::Linger(time) => inner.configure(now, |settings| settings.linger = time),
        SocketOption::MaxPacingRate(rate) => {
            let rate = (rate != u64::MAX).then_some(rate.max(1));
            inner.configure(now, |settings| settings.max_pacing_rate = rate);
        }
        SocketOption::BindToDevice(nic) => inner.socket.nic = nic,
        SocketOption::Mark(mark) => inner.socket.ip.mark = mark,
        SocketOption::Owner(uid) => inner.socket.ip.uid = uid,
        SocketOption::DontRoute(on) => {
            inner.socket.ip.scope = if on { Scope::LINK } else { Scope::UNIVERSE };
        }
        SocketOption::Timestamp(on) => inner.keep_arrivals(on),
        SocketOption::Priority(_) | SocketOption::NoCheck(_) => {
            return Err(OptionError::NotSupported);
        }
    }
    Ok(())
}

fn set_ip(inner: &mut Inner, value: IpOption) -> Result<(), OptionError> {
    match value {
        IpOption::Ttl(Some(0)) => return Err(OptionError::Invalid),
        IpOption::Ttl(ttl) => inner.socket.ip.ttl = ttl,
        // The ECN bits of a stream are TCP's.
        IpOption::Tos(tos) | IpOption::TrafficClass(tos) => inner.socket.ip.tos = tos & !3,
        IpOption::V6Only(on) => match inner.local {
            None => inner.socket.v6_only = on,
            Some(_) => return Err(OptionError::Invalid),
        },
        // None is what every connection has; segments with options are not made.
        IpOption::HeaderOptions(options) if options.is_empty() => {}
        IpOption::FreeBind(on) => inner.socket.free_bind = on,
        IpOption::Sources(preference) => inner.socket.ip.sources = preference,
        IpOption::MinTtl(least) => inner.socket.min_hops[0] = least,
        IpOption::MinHops(least) => inner.socket.min_hops[1] = least,
        IpOption::BindAddressNoPort(on) => inner.socket.bind_no_port = on,
        // As on Linux: an end of 0 is the stack's, and the ends are in order.
        IpOption::LocalPortRange((first, last)) if first != 0 && last != 0 && first > last => {
            return Err(OptionError::Invalid);
        }
        IpOption::LocalPortRange(range) => {
            inner.socket.port_range = (range != (0, 0)).then_some(range);
        }
        IpOption::MtuDiscover(mode) => inner.socket.ip.mtu_discover = mode,
        _ => return Err(OptionError::NotSupported),
    }
    Ok(())
}

fn ip_option(inner: &Inner, kind: IpOptionKind) -> Result<IpOption, OptionError> {
    Ok(match kind {
        IpOptionKind::Ttl => IpOption::Ttl(inner.socket.ip.ttl),
        IpOptionKind::Tos => IpOption::Tos(inner.socket.ip.tos),
        IpOptionKind::TrafficClass => IpOption::TrafficClass(inner.socket.ip.tos),
        IpOptionKind::V6Only => IpOption::V6Only(inner.socket.v6_only),
        IpOptionKind::HeaderOptions => IpOption::HeaderOptions(Options::NONE),
        IpOptionKind::FreeBind => IpOption::FreeBind(inner.socket.free_bind),
        IpOptionKind::Sources => IpOption::Sources(inner.socket.ip.sources),
        IpOptionKind::MinTtl => IpOption::MinTtl(inner.socket.min_hops[0]),
        IpOptionKind::MinHops => IpOption::MinHops(inner.socket.min_hops[1]),
        IpOptionKind::LocalPortRange => {
            IpOption::LocalPortRange(inner.socket.port_range.unwrap_or_default())
        }
        IpOptionKind::BindAddressNoPort => IpOption::BindAddressNoPort(inner.socket.bind_no_port),
        IpOptionKind::MtuDiscover => IpOption::MtuDiscover(inner.socket.ip.mtu_discover),
        _ => return Err(OptionError::NotSupported),
    })
}

/// How long timeouts and delays may be.
fn set_timeouts(inner: &mut Inner, now: Instant, value: TcpOption) -> Result<(), OptionError> {
    let some = |time: Duration| (!time.is_zero()).then_some(time);
    match value {
        TcpOption::DeferAccept(time) => {
            inner.configure(now, |settings| settings.defer_accept = some(time));
        }
        TcpOption::UserTimeout(time) => {
            inner.configure(now, |settings| settings.user_timeout = some(time));
        }
        TcpOption::RtoMin(time) if (TIMEOUT_MIN..=RTO_MIN_MAX).contains(&time) => {
            inner.configure(now, |settings| settings.rto_min = Some(time));
        }
        TcpOption::RtoMax(time) if RTO_MAX.contains(&time) => {
            inner.configure(now, |settings| settings.rto_max = Some(time));
        }
        TcpOption::DelayedAckMax(time) if (TIMEOUT_MIN..=DELAYED_ACK_MAX).contains(&time) => {
            inner.configure(now, |settings| settings.delayed_ack_max = Some(time));
        }
        TcpOption::ThinLinearTimeouts(on) => {
            inner.configure(now, |settings| settings.thin_linear_timeouts = on);
        }
        _ => return Err(OptionError::Invalid),
    }
    Ok(())
}

fn set_tcp(inner: &mut Inner, now: Instant, value: TcpOption) -> Result<(), OptionError> {
    let in_bounds = |time: Duration| match KEEP_SECONDS.contains(&time.as_secs()) {
        true => Ok(time),
        false => Err(OptionError::Invalid),
    };
    match value {
        TcpOption::NoDelay(on) => inner.configure(now, |settings| settings.no_delay = on),
        TcpOption::Cork(on) => inner.configure(now, |settings| settings.cork = on),
        TcpOption::QuickAck(on) => {
            if let Role::Stream(connection) = &mut inner.role {
                if on { connection.quick_ack() } else { connection.delayed_ack() }
            }
        }
        TcpOption::MaxSegment(0) => inner.configure(now, |settings| settings.max_segment = None),
        TcpOption::MaxSegment(bytes) if MAX_SEGMENT.contains(&bytes) => {
            inner.configure(now, |settings| settings.max_segment = Some(bytes));
        }
        TcpOption::KeepIdle(time) => {
            let time = in_bounds(time)?;
            inner.configure(now, |settings| settings.keep_idle = Some(time));
        }
        TcpOption::KeepInterval(time) => {
            let time = in_bounds(time)?;
            inner.configure(now, |settings| settings.keep_interval = Some(time));
        }
        TcpOption::KeepCount(count) if COUNTS.contains(&count) => {
            inner.configure(now, |settings| settings.keep_count = Some(u32::from(count)));
        }
        TcpOption::SynCount(count) if COUNTS.contains(&count) => {
            inner.configure(now, |settings| settings.syn_count = Some(u32::from(count)));
        }
        TcpOption::Linger2(time) => {
            inner.configure(now, |settings| settings.fin_timeout = time);
        }
        TcpOption::RtoMin(_)
        | TcpOption::RtoMax(_)
        | TcpOption::DelayedAckMax(_)
        | TcpOption::ThinLinearTimeouts(_)
        | TcpOption::DeferAccept(_)
        | TcpOption::UserTimeout(_) => return set_timeouts(inner, now, value),
        TcpOption::NotSentLowWater(bytes) => {
            inner.socket.not_sent_low_water = (bytes != 0).then_some(bytes as usize);
        }
        TcpOption::Congestion(name) => {
            let known = congestion::known(name.as_bytes()).ok_or(OptionError::NotFound)?;
            inner.configure(now, |settings| settings.congestion = Some(known));
        }
        // Linux: no clamp is the state before a connection alone.
        TcpOption::WindowClamp(0) if matches!(inner.role, Role::Stream(_)) => {
            return Err(OptionError::Invalid);
        }
        TcpOption::WindowClamp(bytes) => {
            let clamp = (bytes > 0).then_some((bytes as usize).max(WINDOW_CLAMP_MIN));
            inner.configure(now, |settings| settings.window_clamp = clamp);
        }
        // Those of fast open are set elsewhere.
        TcpOption::FastOpen(_)
        | TcpOption::FastOpenConnect(_)
        | TcpOption::FastOpenNoCookie(_)
        | TcpOption::FastOpenKey(_) => return Err(OptionError::NotSupported),
        TcpOption::MaxSegment(_) | TcpOption::KeepCount(_) | TcpOption::SynCount(_) => {
            return Err(OptionError::Invalid);
        }
    }
    Ok(())
}
