//! One entry of the neighbour cache and its transitions.

use core::net::IpAddr;
use std::collections::VecDeque;

use super::{Action, Claim, Claimed, Neighbour, Probe, Resolution, State};
use crate::buffer::PacketBuffer;
use crate::ip::conf::NeighConf;
use crate::link::MacAddr;
use crate::time::{Duration, Instant};

/// What a waiting packet costs besides its bytes.
pub(super) const OVERHEAD: usize = 512;
/// How often progress of a transport is noted: a stream confirms its neighbour with every acknowledgment.
const CONFIRM_EVERY: Duration = Duration::from_millis(100);

/// The tunables, with the reachable time that is drawn for now.
pub(super) struct Timing {
    pub conf: NeighConf,
    pub reachable: Duration,
}

/// Whether an entry stays after its deadline.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Kept,
    Forgotten,
}

pub(super) struct Entry {
    pub state: State,
    pub mac: MacAddr,
    // When the state changes by itself; Stale and those set by hand have none.
    pub deadline: Option<Instant>,
    pub probes: u32,
    pub used: Instant,
    pub confirmed: Instant,
    pub updated: Instant,
    pub router: bool,
    waiting: VecDeque<PacketBuffer>,
    waiting_cost: usize,
}

impl Entry {
    pub fn new(now: Instant) -> Entry {
        Entry {
            state: State::Failed,
            mac: MacAddr::ZERO,
            deadline: None,
            probes: 0,
            used: now,
            confirmed: Instant::ZERO,
            updated: Instant::ZERO,
            router: false,
            waiting: VecDeque::new(),
            waiting_cost: 0,
        }
    }

    pub fn show(&self, address: IpAddr) -> Neighbour {
        let known = !matches!(self.state, State::Incomplete | State::Failed);
        Neighbour {
            address,
            mac: Some(self.mac).filter(|_| known),
            state: self.state,
            router: self.router,
            proxy: false,
            probes: self.probes,
            used: self.used,
            confirmed: self.confirmed,
            updated: self.updated,
        }
    }

    /// The address, where using it changes nothing else.
    pub fn known(&mut self, now: Instant) -> Option<MacAddr> {
        let known = matches!(
            self.state,
            State::Reachable | State::Delay | State::Probe | State::Permanent | State::NoArp
        );
        known.then(|| {
            self.used = now;
            self.mac
        })
    }

    /// Whether a confirmation says anything new: not of what is unknown or was set by hand, nor so short a time after another.
    pub fn heeds_confirmation(&self, now: Instant) -> bool {
        match self.state {
            State::Reachable => now.since(self.confirmed) >= CONFIRM_EVERY,
            State::Stale | State::Delay | State::Probe => true,
            State::Failed | State::Incomplete | State::Permanent | State::NoArp => false,
        }
    }

    pub fn look_up(
        &mut self,
        now: Instant,
        address: IpAddr,
        packet: PacketBuffer,
        timing: &Timing,
    ) -> Resolution {
        if let Some(mac) = self.known(now) {
            return Resolution::Send(mac, packet);
        }
        self.used = now;
        match self.state {
            State::Stale => {
                // RFC 4861 section 7.3.3: "The first time a node sends a packet to a neighbor whose entry is
                // STALE, the sender changes the state to DELAY".
                self.state = State::Delay;
                self.deadline = Some(now + timing.conf.delay_first_probe_time);
                Resolution::Send(self.mac, packet)
            }
            State::Failed => {
                self.state = State::Incomplete;
                self.probes = 1;
                self.deadline = Some(now + timing.conf.retrans_time);
                self.wait(packet, timing);
                let src = self.source();
                Resolution::Waiting(Some(Probe { address, mac: None, src }))
            }
            // Only an incomplete entry is left: `known` took the others.
            _ => {
                self.wait(packet, timing);
                Resolution::Waiting(None)
            }
        }
    }

    pub fn learn(&mut self, now: Instant, mac: MacAddr, timing: &Timing) -> Vec<PacketBuffer> {
        let by_hand = matches!(self.state, State::Permanent | State::NoArp);
        let same = self.mac == mac && !matches!(self.state, State::Failed | State::Incomplete);
        if !by_hand && !same && !self.is_locked(now, timing) {
            self.mac = mac;
            self.state = State::Stale;
            self.deadline = None;
        }
        self.take_waiting()
    }

    /// Whether a known address changed too short a time ago to change again (ARP's `locktime`).
    fn is_locked(&self, now: Instant, timing: &Timing) -> bool {
        let known = !matches!(self.state, State::Failed | State::Incomplete);
        known && now.since(self.updated) < timing.conf.locktime && self.updated != Instant::ZERO
    }

    pub fn claim(&mut self, now: Instant, claim: Claim, timing: &Timing) -> Claimed {
        let locked = self.is_locked(now, timing) && !claim.gratuitous;
        let override_cached = claim.override_cached && !locked;
        match self.state {
            State::Permanent | State::NoArp => {}
            State::Incomplete | State::Failed => {
                self.mac = claim.mac;
                self.confirm(now, claim.solicited, timing);
            }
            _ if self.mac == claim.mac && claim.solicited => self.confirm(now, true, timing),
            _ if self.mac == claim.mac => {}
            _ if override_cached => {
                self.mac = claim.mac;
                self.confirm(now, claim.solicited, timing);
            }
            // "If the Override flag is clear and the supplied link-layer address differs ... If the state
            // of the entry is REACHABLE, set it to STALE, but do not update the entry in any other way."
            State::Reachable if !claim.override_cached => {
                self.state = State::Stale;
                self.deadline = None;
            }
            _ => {}
        }
        // "If the IsRouter flag ... changes from TRUE to FALSE as a result of this update, the node MUST remove that router
        // from the Default Router List".
        let left_routing = self.router && claim.router == Some(false);
        self.router = claim.router.unwrap_or(self.router);
        Claimed { mac: self.mac, waiting: self.take_waiting(), left_routing }
    }

    pub fn set(&mut self, now: Instant, wanted: &Neighbour, timing: &Timing) -> Vec<PacketBuffer> {
        self.mac = wanted.mac.unwrap_or(self.mac);
        self.state = wanted.state;
        self.router |= wanted.router;
        self.probes = 0;
        self.deadline = match wanted.state {
            State::Reachable => Some(now + timing.reachable),
            State::Delay => Some(now + timing.conf.delay_first_probe_time),
            State::Probe | State::Incomplete => Some(now),
            State::Failed => Some(now + timing.conf.gc_stale_time),
            State::Stale | State::Permanent | State::NoArp => None,
        };
        match wanted.state {
            State::Incomplete | State::Failed => Vec::new(),
            _ => self.take_waiting(),
        }
    }

    fn wait(&mut self, packet: PacketBuffer, timing: &Timing) {
        self.waiting_cost += packet.len() + OVERHEAD;
        self.waiting.push_back(packet);
        while self.waiting_cost > timing.conf.unres_qlen_bytes
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.waiting_cost -= oldest.len() + OVERHEAD;
        }
    }

    /// The IPv4 source of the first packet that waits.
    fn source(&self) -> Option<IpAddr> {
        let mut octets = [0; 4];
        let first = self.waiting.front()?;
        let v4 = first.head().first().is_some_and(|byte| byte >> 4 == 4);
        (v4 && first.copy_at(12, &mut octets)).then(|| IpAddr::from(octets))
    }

    fn take_waiting(&mut self) -> Vec<PacketBuffer> {
        self.waiting_cost = 0;
        core::mem::take(&mut self.waiting).into()
    }

    pub fn confirm(&mut self, now: Instant, solicited: bool, timing: &Timing) {
        self.probes = 0;
        (self.state, self.deadline) = match solicited {
            true => (State::Reachable, Some(now + timing.reachable)),
            false => (State::Stale, None),
        };
        if solicited {
            self.confirmed = now;
        }
    }

    pub fn on_deadline(
        &mut self,
        now: Instant,
        address: IpAddr,
        timing: &Timing,
        actions: &mut Vec<Action>,
    ) -> Fate {
        let conf = &timing.conf;
        match self.state {
            State::Reachable => {
                self.state = State::Stale;
                self.deadline = None;
            }
            State::Delay => {
                self.state = State::Probe;
                self.probes = 0;
                self.ask(now, address, timing, actions);
            }
            State::Incomplete if self.probes < conf.mcast_solicit => {
                self.ask(now, address, timing, actions);
            }
            State::Probe
                if self.probes < conf.ucast_solicit.saturating_add(conf.mcast_resolicit) =>
            {
                self.ask(now, address, timing, actions);
            }
            State::Incomplete | State::Probe => {
                self.state = State::Failed;
                self.deadline = Some(now + conf.gc_stale_time);
                actions.push(Action::Failed(address, self.take_waiting()));
            }
            State::Failed => return Fate::Forgotten,
            State::Stale | State::Permanent | State::NoArp => self.deadline = None,
        }
        Fate::Kept
    }

    /// Asks once more: the known address first, then everybody.
    fn ask(&mut self, now: Instant, address: IpAddr, timing: &Timing, actions: &mut Vec<Action>) {
        let direct = self.state == State::Probe && self.probes < timing.conf.ucast_solicit;
        self.probes += 1;
        self.deadline = Some(now + timing.conf.retrans_time);
        let (mac, src) = (Some(self.mac).filter(|_| direct), self.source());
        actions.push(Action::Probe(Probe { address, mac, src }));
    }
}
