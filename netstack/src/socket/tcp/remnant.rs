//! The endpoint of a connection in TIME-WAIT: it answers old segments and makes way for a new connection.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::wire::{self, Flow};
use crate::buffer::PacketBuffer;
use crate::ip::{IpInfo, PROTO_TCP};
use crate::time::Instant;
use crate::transport::tcp::{Remnant, RemnantDisposition};
use crate::transport::{Endpoint, Host, IcmpError, OnTimer, PortLease, Registration, TimerHandle};

/// A remnant in the demux, which is all that keeps it.
pub(super) struct RemnantEndpoint {
    host: Arc<dyn Host>,
    flow: Flow,
    place: Registration,
    timer: TimerHandle,
    inner: Mutex<Inner>,
}

struct Inner {
    remnant: Remnant,
    lease: Option<PortLease>,
}

impl RemnantEndpoint {
    /// Takes over the place of a connection in the demux, and its port.
    pub(super) fn take_over(
        host: &Arc<dyn Host>,
        flow: Flow,
        place: Registration,
        lease: Option<PortLease>,
        remnant: Remnant,
    ) {
        let expires = remnant.expires();
        let endpoint = Arc::new_cyclic(|me: &Weak<RemnantEndpoint>| RemnantEndpoint {
            host: host.clone(),
            flow,
            place,
            timer: host.shared().timers.timer(me.clone()),
            inner: Mutex::new(Inner { remnant, lease }),
        });
        if host.shared().demux.replace(&place, endpoint.clone()) {
            host.shared().stats.tcp_ext.tw.inc();
            host.shared().timers.arm(&endpoint.timer, Some(expires));
        } else {
            endpoint.vanish();
        }
    }

    fn vanish(&self) {
        let shared = self.host.shared();
        shared.timers.arm(&self.timer, None);
        shared.demux.remove(&self.place);
        let lease = self.inner.lock().lease.take();
        if let Some(lease) = lease {
            shared.ports.release(&lease);
        }
    }
}

impl Endpoint for RemnantEndpoint {
    fn deliver(&self, now: Instant, info: &IpInfo, packet: PacketBuffer) {
        let copy = packet.clone();
        let Some(arrived) = wire::parse(&*self.host, info, packet) else { return };
        let mut inner = self.inner.lock();
        let disposition = inner.remnant.on_segment(now, &arrived.segment);
        let expires = inner.remnant.expires();
        drop(inner);
        match disposition {
            RemnantDisposition::Ignore => {}
            RemnantDisposition::Send(segment) => {
                self.host.shared().timers.arm(&self.timer, Some(expires));
                wire::emit_stray(&*self.host, now, self.flow, segment);
            }
            RemnantDisposition::Ended => {
                self.host.shared().stats.tcp_ext.tw_killed.inc();
                self.vanish();
            }
            RemnantDisposition::Reopen(_) => {
                self.host.shared().stats.tcp_ext.tw_recycled.inc();
                self.vanish();
                hand_to_listener(&*self.host, now, info, self.flow, copy);
            }
        }
    }

    fn icmp_error(&self, _now: Instant, _error: &IcmpError) {}
}

impl OnTimer for RemnantEndpoint {
    fn on_timer(&self, _now: Instant) {
        self.vanish();
    }
}

/// Gives the SYN of a successor to whoever listens, or refuses it.
pub(super) fn hand_to_listener(
    host: &dyn Host,
    now: Instant,
    info: &IpInfo,
    flow: Flow,
    packet: PacketBuffer,
) {
    let listener = host.shared().demux.listener(PROTO_TCP, flow.local, flow.remote, info.nic);
    match listener {
        Some(listener) => listener.deliver(now, info, packet),
        None => wire::refuse(host, now, info, packet),
    }
}
