//! Connections in TIME-WAIT, and in FIN-WAIT-2 without a program: they answer old segments from the table of remnants
//! and make way for new connections.

use std::sync::{Arc, Weak};

use super::endpoint::{Holder, Inner, TcpEndpoint};
use super::wire::{self, Flow};
use crate::buffer::PacketBuffer;
use crate::ip::{Cast, IpInfo, PROTO_TCP};
use crate::time::Instant;
use crate::transport::tcp::{Awaits, Remnant, RemnantDisposition};
use crate::transport::{Host, OnTimer, Timer};

/// Ages the table of remnants.
struct Reaper {
    host: Weak<dyn Host>,
    timer: Timer,
    me: Weak<Reaper>,
}

impl OnTimer for Reaper {
    fn timer(&self) -> &Timer {
        &self.timer
    }

    fn handle(&self) -> Weak<dyn OnTimer> {
        self.me.clone()
    }

    fn on_timer(&self, now: Instant) {
        let Some(host) = self.host.upgrade() else { return };
        let shared = host.shared();
        let (leases, next) = shared.tcp.time_wait.expire(now);
        leases.iter().for_each(|lease| shared.ports.release(lease));
        if let Some(next) = next {
            arm(&host, next);
        }
    }
}

fn arm(host: &Arc<dyn Host>, at: Instant) {
    let shared = host.shared();
    let reaper = shared.tcp.time_wait.reaper(|| {
        let host = Arc::downgrade(host);
        Arc::new_cyclic(|me| Reaper { host, timer: Timer::default(), me: me.clone() })
    });
    shared.timers.arm_earlier(&*reaper, at);
}

impl TcpEndpoint {
    /// A connection has nothing more to do but to wait: a remnant takes its flow over, and a share of its port. The
    /// socket is closed from here on.
    pub(super) fn leave_remnant(&self, inner: &mut Inner, flow: Flow, remnant: &Remnant) {
        let shared = self.host.shared();
        let keeps = inner.bound && inner.holder == Holder::Program;
        let lease = match keeps {
            true => inner.lease.as_ref().and_then(|lease| shared.ports.share(lease)),
            false => inner.lease.take(),
        };
        let most = shared.tcp.config().max_time_wait;
        let kept = (remnant, self.family);
        match shared.tcp.time_wait.insert(&flow.key(), kept, lease, most) {
            Ok((deadline, old)) => {
                shared.stats.tcp_ext.tw.inc();
                old.iter().for_each(|lease| shared.ports.release(lease));
                arm(&self.host, deadline);
            }
            Err(_) => {
                shared.stats.tcp_ext.tcp_time_wait_overflow.inc();
                lease.iter().for_each(|lease| shared.ports.release(lease));
            }
        }
    }
}

/// Gives a packet to the remnant of its flow; what belongs to none, or opens a new connection, comes back.
pub fn pass_remnant(
    host: &dyn Host,
    now: Instant,
    info: &IpInfo,
    mut packet: PacketBuffer,
    flow: (core::net::SocketAddr, core::net::SocketAddr),
) -> Option<PacketBuffer> {
    let shared = host.shared();
    let flow = Flow { local: flow.0, remote: flow.1 };
    let key = flow.key();
    if shared.tcp.time_wait.with(now, &key, |_| ()).is_none() {
        return Some(packet);
    }
    let arrived = wire::parse(host, info, &mut packet)?;
    if info.cast != Cast::Unicast {
        return None;
    }
    let config = shared.tcp.config();
    let outcome = shared.tcp.time_wait.with(now, &key, |remnant| {
        if remnant.awaits == Awaits::Silence && remnant.is_old(now, &arrived.segment) {
            shared.stats.tcp_ext.paws_timewait.inc();
        }
        let disposition = remnant.on_segment(now, &arrived.segment, &config);
        (disposition, remnant.acknowledgment(now))
    });
    let Some((disposition, acknowledgment)) = outcome else { return Some(packet) };
    match disposition {
        RemnantDisposition::Ignore => {}
        RemnantDisposition::Send(segment) => wire::emit_stray(host, now, flow, segment),
        RemnantDisposition::Ended => forget(host, now, flow),
        RemnantDisposition::Reset(reset) => {
            forget(host, now, flow);
            if let Some(reset) = reset {
                wire::emit_stray(host, now, flow, reset);
            }
        }
        RemnantDisposition::Reopen => {
            let listener = shared.demux.listener(PROTO_TCP, flow.local, flow.remote, info.nic);
            if listener.is_some() {
                // The listener finds the remnant again, and begins beyond it.
                return Some(packet);
            }
            wire::emit_stray(host, now, flow, acknowledgment);
        }
    }
    None
}

/// Forgets the remnant of a flow.
pub(super) fn forget(host: &dyn Host, now: Instant, flow: Flow) {
    let shared = host.shared();
    if let Some((_, Some(lease))) = shared.tcp.time_wait.remove(now, &flow.key()) {
        shared.ports.release(&lease);
    }
}

/// Gives a segment to whoever it is for now, once its connection is gone from its place: a remnant, a listener, or
/// nobody.
pub(super) fn redirect(
    host: &dyn Host,
    now: Instant,
    info: &IpInfo,
    flow: Flow,
    packet: PacketBuffer,
) {
    let rest = pass_remnant(host, now, info, packet, (flow.local, flow.remote));
    let Some(packet) = rest else { return };
    let listener = host.shared().demux.listener(PROTO_TCP, flow.local, flow.remote, info.nic);
    match listener {
        Some(listener) => listener.deliver(now, info, packet),
        None => wire::refuse(host, now, info, packet),
    }
}
