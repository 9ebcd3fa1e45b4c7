//! What has to be known of a capture before the first frame is played.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Role;
use super::player::Ends;
use crate::capture::Reader;
use crate::flows::{Opening, Protocol, Summary};
use crate::packet::{Endpoint, TcpOptions};

/// What has to be known before the first frame.
#[derive(Default)]
pub struct Plan {
    /// Endpoints of ours that accepted a connection, and when the first began.
    pub listens: BTreeMap<Endpoint, Duration>,
    /// What the side that we play offered.
    pub options: Option<TcpOptions>,
    /// The shift of its windows.
    pub window_scale: Option<u8>,
    /// The largest segment that it offered to take, by family.
    mss: BTreeMap<bool, u16>,
    pub left_out: Vec<(u64, &'static str)>,
    /// Calls that our side never answered, and not later, either: the stack would.
    pub silent: BTreeSet<Ends>,
}

impl Plan {
    pub fn of(reader: &mut Reader, roles: &[Role]) -> Self {
        let (mut plan, mut summary) = (Self::default(), Summary::new(usize::MAX));
        let mut answered = BTreeSet::new();
        // What cannot be read is told by the second pass.
        let _ = summary.read(reader);
        for flow in summary.flows() {
            let Some(side) = (0..2).find(|side| roles.iter().any(|r| r.plays(flow.ends[*side])))
            else {
                continue;
            };
            let ends = (flow.ends[side], flow.ends[1 - side]);
            let unanswered = flow.opening() == Opening::Unanswered && side == 1;
            if unanswered { &mut plan.silent } else { &mut answered }.insert(ends);
            let why = match (flow.protocol, flow.opening()) {
                (Protocol::Udp | Protocol::Echo, _) => Some("only TCP is replayed"),
                (_, Opening::Midstream | Opening::None) => {
                    Some("its beginning is not in the capture")
                }
                (_, Opening::Unanswered) if side == 1 => {
                    Some("its SYN was not answered in the record")
                }
                _ if roles.iter().any(|r| r.plays(flow.ends[1 - side])) => {
                    Some("both sides are played")
                }
                _ => None,
            };
            if let Some(why) = why {
                plan.left_out.push((flow.number, why));
                continue;
            }
            let half = &flow.halves[side];
            if side == 1 && half.syns > 0 {
                plan.listens.entry(flow.ends[1]).or_insert(flow.start);
            }
            let other = flow.halves[1 - side].syn_options;
            // An answer offers only what was offered.
            let telling =
                side == 0 || other.is_some_and(|o| o.timestamps.is_some() && o.sack_permitted);
            if let Some(options) = half.syn_options.filter(|_| telling) {
                plan.options.get_or_insert(options);
            }
            let shift = half.syn_options.and_then(|options| options.window_scale);
            plan.window_scale = plan.window_scale.or(shift);
            if let Some(mss) = half.syn_options.and_then(|options| options.mss) {
                plan.mss.entry(flow.ends[0].0.is_ipv6()).or_insert(mss);
            }
        }
        plan.silent.retain(|ends| !answered.contains(ends));
        plan
    }

    /// The MTU behind the segment sizes that were offered.
    pub fn mtu(&self) -> u32 {
        let of = |(v6, mss): (&bool, &u16)| u32::from(*mss) + if *v6 { 60 } else { 40 };
        self.mss.iter().map(of).max().unwrap_or(1500).clamp(1280, 65_535)
    }
}
