//! Packets and ICMP errors come in.

use parking_lot::MutexGuard;

use super::endpoint::{Connecting, Holder, Inner, Keep, Role, TcpEndpoint};
use super::listing::Listing;
use super::remnant::redirect;
use super::request::ToListener;
use super::wire::{self, Arrived, Flow};
use crate::buffer::PacketBuffer;
use crate::ip::{Cast, IpInfo};
use crate::socket::SocketError;
use crate::time::Instant;
use crate::transport::judge::judge;
use crate::transport::tcp::{Challenge, Disposition, DropReason, Error, Report, Seq, StateName};
use crate::transport::{Endpoint, IcmpError};
use crate::wire::tcp::HEADER_LEN;

impl Endpoint for TcpEndpoint {
    fn unfinished(&self) -> usize {
        let inner = self.inner.lock();
        match (&inner.role, inner.holder) {
            (Role::Stream(connection), Holder::Nobody) => match connection.state_name() {
                // The FIN counts as one.
                StateName::FinWait1 | StateName::Closing | StateName::LastAck => {
                    connection.send_queued() + 1
                }
                _ => 0,
            },
            _ => 0,
        }
    }

    fn stream(&self) -> Option<std::sync::Arc<TcpEndpoint>> {
        self.me.upgrade()
    }

    fn listing(&self) -> Option<Listing> {
        self.listed_unheld()
    }

    fn destroy(&self, now: Instant) -> bool {
        self.destroy_unheld(now)
    }

    fn deliver(&self, now: Instant, info: &IpInfo, mut packet: PacketBuffer) {
        let mut parsed = wire::parse(&*self.host, info, &mut packet);
        let Some(arrived) = &mut parsed else { return };
        // RFC 9293 section 3.9.2.2: "A TCP implementation MUST reject as an error ... a SYN that is addressed
        // to a broadcast or multicast address"; nothing else of TCP is for many, either.
        if info.cast != Cast::Unicast {
            self.host.shared().stats.tcp.in_errs.inc();
            return;
        }
        let inner = self.inner.lock();
        if !inner.has_place() {
            // It left its place after this packet had found it there.
            drop(inner);
            return redirect(&*self.host, now, info, arrived.flow, packet);
        }
        let least = inner.socket.min_hops[usize::from(info.dst.is_ipv6())];
        if info.ttl < least {
            // RFC 5082 section 3: "non-trusted" packets from farther away are dropped.
            return self.host.shared().stats.tcp_ext.tcp_min_ttl_drop.inc();
        }
        if let Some(filter) = &inner.socket.filter {
            let kept = judge(&*self.host, filter, (info, &[]), &packet) as usize;
            if kept == 0 {
                return;
            }
            // It may shorten the segment, though not its header (Linux's tcp_filter).
            let header_len = packet.len().saturating_sub(arrived.segment.payload.len());
            arrived.segment.payload.truncate(kept.saturating_sub(header_len));
        }
        match &inner.role {
            Role::Idle => drop(inner),
            Role::Listener(_) => {
                drop(inner);
                if let Some(arrived) = parsed {
                    self.on_listener(ToListener { now, info, arrived, packet });
                }
            }
            Role::Stream(_) => self.on_segment(now, info, inner, arrived, packet),
        }
    }

    fn icmp_error(&self, now: Instant, error: &IcmpError) {
        let Some(seq) = quoted_seq(error) else { return };
        let report = match error.mtu {
            Some(mtu) => {
                let headers = HEADER_LEN + if error.local.is_ipv4() { 20 } else { 40 };
                Report::PacketTooBig { mss: (mtu as usize).saturating_sub(headers) }
            }
            None => Report::Unreachable(meaning(error.error)),
        };
        let mut inner = self.inner.lock();
        if error.mtu.is_some() && wire::ignores_path(inner.socket.ip) {
            return;
        }
        let ours = inner.flow() == Some(Flow { local: error.local, remote: error.remote });
        if let Role::Stream(connection) = &mut inner.role
            && ours
        {
            connection.on_report(seq, report);
        }
        drop(inner);
        self.flush(now);
    }

    fn vouches_for(&self, error: &IcmpError) -> bool {
        let inner = self.inner.lock();
        let ours = inner.flow() == Some(Flow { local: error.local, remote: error.remote });
        match (&inner.role, quoted_seq(error)) {
            // IP_PMTUDISC_INTERFACE and OMIT: nobody's word on the path's MTU is heard.
            (Role::Stream(_), _) if error.mtu.is_some() && wire::is_deaf(inner.socket.ip) => false,
            (Role::Stream(connection), Some(seq)) => ours && connection.is_in_flight(seq),
            _ => false,
        }
    }
}

/// The sequence number of the segment that an error quotes.
fn quoted_seq(error: &IcmpError) -> Option<Seq> {
    let bytes = error.quoted.get(4..8)?.try_into().ok()?;
    Some(Seq(u32::from_be_bytes(bytes)))
}

fn meaning(error: SocketError) -> Error {
    match error {
        SocketError::ConnectionRefused => Error::Refused,
        SocketError::NetworkUnreachable => Error::NetworkUnreachable,
        SocketError::ProtocolUnreachable => Error::ProtocolUnreachable,
        SocketError::AccessDenied => Error::Prohibited,
        SocketError::Protocol => Error::Protocol,
        _ => Error::HostUnreachable,
    }
}

impl TcpEndpoint {
    /// A segment for a connection.
    pub(super) fn on_segment<'a>(
        &'a self,
        now: Instant,
        info: &IpInfo,
        mut inner: MutexGuard<'a, Inner>,
        arrived: &mut Arrived,
        packet: PacketBuffer,
    ) {
        inner.update_allowance();
        let Role::Stream(connection) = &mut inner.role else { return };
        let (received, acknowledged) = (connection.received(), connection.acknowledged());
        let state = connection.state_name();
        let disposition = connection.on_segment(now, &mut arrived.segment);
        let moved = connection.received() != received || connection.state_name() != state;
        let progress = moved || connection.acknowledged() != acknowledged;
        let waits = connection.may_coalesce();
        inner.news |= moved;
        inner.confirmed |= progress;
        if moved {
            inner.note_arrival(now);
        }
        self.count(state, &disposition);
        match disposition {
            Disposition::Established => {
                if state == StateName::SynSent {
                    self.learn_fast_open(now, &inner);
                }
                if inner.connecting == Connecting::No {
                    inner.connecting = Connecting::Told;
                }
                let parent = inner.parent.take();
                drop(inner);
                self.flush(now);
                if let Some(parent) = parent {
                    self.join(now, parent.upgrade());
                }
                return;
            }
            Disposition::SendReset(reset) => {
                drop(inner);
                wire::emit_stray(&*self.host, now, arrived.flow, *reset);
            }
            Disposition::Reopen => {
                if let Role::Stream(connection) = &mut inner.role {
                    connection.abort();
                }
                self.release(&mut inner, Keep::BoundPort);
                drop(inner);
                redirect(&*self.host, now, info, arrived.flow, packet);
            }
            Disposition::Accepted => return self.flush_in_burst(now, info.nic, inner, waits),
            Disposition::Ignored(_) | Disposition::Ended => return self.flush_with(now, inner),
        }
        self.flush(now);
    }

    fn count_challenge(&self, challenge: Challenge) {
        if challenge == Challenge::Sent {
            self.host.shared().stats.tcp_ext.tcp_challenge_ack.inc();
        }
    }

    fn count(&self, before: StateName, disposition: &Disposition) {
        let stats = &self.host.shared().stats;
        match disposition {
            Disposition::Ignored(DropReason::Paws) => stats.tcp_ext.paws_estab.inc(),
            Disposition::Ignored(DropReason::PawsOldAck) => stats.tcp_ext.paws_old_ack.inc(),
            Disposition::Ignored(DropReason::SynChallenged(challenge)) => {
                stats.tcp_ext.tcp_syn_challenge.inc();
                self.count_challenge(*challenge);
            }
            Disposition::Ignored(
                DropReason::Challenged(challenge) | DropReason::BadAck(challenge),
            ) => self.count_challenge(*challenge),
            Disposition::Ended if before == StateName::SynSent => stats.tcp.attempt_fails.inc(),
            Disposition::Ended
                if matches!(before, StateName::Established | StateName::CloseWait) =>
            {
                stats.tcp.estab_resets.inc();
            }
            Disposition::SendReset(_)
                if matches!(before, StateName::FinWait1 | StateName::FinWait2) =>
            {
                stats.tcp_ext.tcp_abort_on_data.inc();
            }
            _ => {}
        }
    }
}
