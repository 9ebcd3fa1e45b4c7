//! What has to be known of a capture before the first frame is played.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::Role;
use super::lives::Key;
use super::player::Ends;
use crate::capture::Reader;
use crate::flows::{Detail, Flow, Opening, Protocol, Summary};
use crate::keyed::Set;
use crate::packet::{Endpoint, TcpOptions};

/// What takes longer than a first time-out (RFC 6298: one second) was no way, but a loss.
const FARTHEST: Duration = Duration::from_secs(1);
/// Who answers sooner was captured where it is.
const NEAREST: Duration = Duration::from_millis(1);
/// Frames between two looks for flows that are over.
const STRIDE: u64 = 4096;

/// What the first flow says that says anything, with its number.
type First<T> = Option<(u64, T)>;

fn first<T: Copy>(known: &mut First<T>, flow: &Flow, said: Option<T>) {
    if let Some(said) = said
        && known.is_none_or(|(number, _)| flow.number < number)
    {
        *known = Some((flow.number, said));
    }
}

/// What a SYN offers besides its segment size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// RFC 7323, 3
    pub timestamps: bool,
    /// RFC 2018
    pub sack: bool,
    /// RFC 7323, 2: the shift of windows.
    pub shift: Option<u8>,
}

impl Offer {
    /// The shift of a kernel of which none is known.
    const SHIFT: u8 = 7;

    /// That of a SYN.
    pub fn of(options: &TcpOptions) -> Self {
        Self {
            timestamps: options.timestamps.is_some(),
            sack: options.sack_permitted,
            shift: options.window_scale,
        }
    }
}

/// What has to be known before the first frame.
#[derive(Default)]
pub struct Plan {
    /// Endpoints of ours that accepted a connection, and when the first began.
    pub listens: BTreeMap<Endpoint, Duration>,
    /// Whether our side agreed to timestamps, SACK and window scaling when it was called, and to which shift.
    timestamps: First<bool>,
    sack: First<bool>,
    window_scaling: First<bool>,
    window_scale: First<u8>,
    /// How far our hosts were from the point of capture: there and back.
    away: BTreeMap<IpAddr, Duration>,
    /// The largest segment that it offered to take, by family.
    mss: BTreeMap<bool, First<u16>>,
    pub left_out: Vec<(u64, &'static str)>,
    /// Connections of ours whose program let its window close, with the largest window of each before that, in bytes.
    pub slow: BTreeMap<Ends, u32>,
    /// Endpoints of ours that took no datagram.
    pub closed: BTreeSet<Endpoint>,
    /// Echoes that our side never answered: our address, theirs, the identifier.
    pub silent_echoes: BTreeSet<(IpAddr, IpAddr, u16)>,
    /// Whether frames stand twice in the capture: no host sends a packet twice with one identification.
    pub is_captured_twice: bool,
    /// Calls that our side never answered, and not later, either: the stack would.
    pub silent: BTreeSet<Ends>,
    /// Ends of which the other calls were answered; while the capture is read.
    answered: Set<Key>,
}

impl Plan {
    pub fn of(reader: &mut Reader, roles: &[Role]) -> Self {
        let (mut plan, mut summary) = (Self::default(), Summary::passing(Detail::Outline));
        // What cannot be read is told by the second pass.
        while let Ok(Some(frame)) = reader.next() {
            summary.add(&frame);
            if summary.frames.is_multiple_of(STRIDE) {
                summary.take_finished().iter().for_each(|flow| plan.flow(flow, roles));
            }
        }
        summary.take_all().iter().for_each(|flow| plan.flow(flow, roles));
        let answered = std::mem::take(&mut plan.answered);
        plan.silent.retain(|ends| !answered.contains(&Key(*ends)));
        plan.away.retain(|_, away| *away >= NEAREST);
        plan.left_out.sort_unstable();
        plan
    }

    /// Takes in what a flow tells. They come in the order in which they ended.
    fn flow(&mut self, flow: &Flow, roles: &[Role]) {
        let Some(side) = (0..2).find(|side| roles.iter().any(|r| r.plays(flow.ends[*side]))) else {
            return;
        };
        let ends = (flow.ends[side], flow.ends[1 - side]);
        match flow.opening() == Opening::Unanswered && side == 1 {
            true => self.silent.insert(ends),
            false => self.answered.insert(Key(ends)),
        };
        let is_silent = flow.halves[side].segments == 0;
        if flow.protocol == Protocol::Udp && is_silent && flow.icmp_errors > 0 {
            self.closed.insert(flow.ends[side]);
        }
        let why = match (flow.protocol, flow.opening()) {
            _ if ends.0.0 == ends.1.0 => Some("a host talks to itself"),
            (Protocol::Echo, _) if side == 0 => Some("our side's echo requests are not played"),
            (Protocol::Echo, _) if is_silent => {
                let [(theirs, id), (ours, _)] = flow.ends;
                self.silent_echoes.insert((ours, theirs, id));
                Some("its echo requests were not answered in the record")
            }
            (Protocol::Udp | Protocol::Echo, _) => return,
            (_, Opening::Midstream | Opening::None) => Some("its beginning is not in the capture"),
            (_, Opening::Unanswered) if side == 1 => Some("its SYN was not answered in the record"),
            _ if roles.iter().any(|r| r.plays(flow.ends[1 - side])) => {
                Some("both sides are played")
            }
            _ => None,
        };
        if let Some(why) = why {
            self.left_out.push((flow.number, why));
            return;
        }
        let half = &flow.halves[side];
        self.is_captured_twice |= half.duplicates > 0;
        if let Some(window) = half.window_before_closed {
            let window = u32::try_from(window).unwrap_or(u32::MAX);
            let known = self.slow.entry(ends).or_default();
            *known = window.max(*known);
        }
        if side == 1 && half.syns > 0 {
            let from = self.listens.entry(flow.ends[1]).or_insert(flow.start);
            *from = flow.start.min(*from);
        }
        let other = flow.halves[1 - side].syn_options;
        let rtt = flow.halves[1 - side].rtt;
        if rtt.samples > 0 && rtt.min < FARTHEST {
            let away = self.away.entry(ends.0.0).or_insert(rtt.min);
            *away = rtt.min.min(*away);
        }
        let Some(options) = half.syn_options else { return };
        let mine = Offer::of(&options);
        // An answer offers only what was offered. Where nobody called, calls tell.
        let offered = if side == 0 { mine } else { Offer::of(&other.unwrap_or_default()) };
        let said = |is_offered: bool, says: bool| Some(says).filter(|_| is_offered || side == 0);
        first(&mut self.timestamps, flow, said(offered.timestamps, mine.timestamps));
        first(&mut self.sack, flow, said(offered.sack, mine.sack));
        let scaling = said(offered.shift.is_some(), mine.shift.is_some());
        first(&mut self.window_scaling, flow, scaling);
        first(&mut self.window_scale, flow, mine.shift);
        let is_v6 = flow.ends[0].0.is_ipv6();
        first(self.mss.entry(is_v6).or_default(), flow, options.mss);
    }

    /// How long after its capture a segment arrived at our host, and its answer was captured.
    pub fn away(&self, host: IpAddr) -> Duration {
        self.away.get(&host).copied().unwrap_or_default()
    }

    /// What our side answers when it is called.
    pub fn answer(&self) -> Offer {
        let is = |said: First<bool>| said.is_none_or(|(_, is)| is);
        let shift = self.window_scale.map_or(Offer::SHIFT, |(_, shift)| shift);
        Offer {
            timestamps: is(self.timestamps),
            sack: is(self.sack),
            shift: Some(shift).filter(|_| is(self.window_scaling)),
        }
    }

    /// The MTU behind the segment sizes that were offered.
    pub fn mtu(&self) -> u32 {
        let of = |(v6, mss): (&bool, &First<u16>)| {
            mss.map(|(_, mss)| u32::from(mss) + if *v6 { 60 } else { 40 })
        };
        // A program may have asked for small segments (TCP_MAXSEG); IPv6 wants links of 1,280 bytes.
        let least = if self.mss.contains_key(&true) { 1280 } else { 296 };
        self.mss.iter().filter_map(of).max().unwrap_or(1500).clamp(least, 65_535)
    }
}
