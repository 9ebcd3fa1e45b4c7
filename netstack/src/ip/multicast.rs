//! The multicast groups of one interface (RFC 3376 section 3, RFC 3810 section 4): what the sockets want together, and what the
//! routers are told of it. A pure state machine for both families: reports come out as values.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use super::Family;
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::wire::group::{Query, Record, RecordType};

/// How long a querier of IGMPv1 is believed to be there (`IGMP_V1_Router_Present_Timeout`).
const V1_PRESENT: Duration = Duration::from_secs(400);
/// How many groups one interface may belong to: a socket may have 20, but there are many sockets.
const MAX_GROUPS: usize = 4096;

/// Which sources are heard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum FilterMode {
    /// Those that are named.
    #[default]
    Include,
    /// All but those.
    Exclude,
}

/// What one socket, or an interface as a whole, wants of a group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SourceFilter {
    /// Whether the sources are the ones that are heard.
    pub mode: FilterMode,
    /// The sources.
    pub sources: BTreeSet<IpAddr>,
}

impl SourceFilter {
    /// Every source: what a plain join wants.
    pub fn any() -> SourceFilter {
        SourceFilter { mode: FilterMode::Exclude, sources: BTreeSet::new() }
    }

    /// Only one source.
    pub fn only(source: IpAddr) -> SourceFilter {
        SourceFilter { mode: FilterMode::Include, sources: [source].into() }
    }

    /// Whether a source is heard.
    pub fn hears(&self, source: IpAddr) -> bool {
        self.sources.contains(&source) == (self.mode == FilterMode::Include)
    }

    /// Whether nothing is: no membership.
    pub fn is_nothing(&self) -> bool {
        self.mode == FilterMode::Include && self.sources.is_empty()
    }
}

/// How often each source is wanted and not wanted.
#[derive(Clone, Copy, Default)]
struct Counts {
    include: usize,
    exclude: usize,
}

#[derive(Default)]
struct Group {
    // How many belong to it, in whichever mode.
    users: usize,
    // Members in Exclude mode, and what members say of each source.
    excluders: usize,
    counts: BTreeMap<IpAddr, Counts>,
    // How often the change of mode is still told, and that of each source.
    mode_left: u8,
    sources_left: BTreeMap<IpAddr, u8>,
    // When to answer a question about this group, and which sources it asked for.
    answer_at: Option<Instant>,
    asked: BTreeSet<IpAddr>,
    // Whether we were the last to report it to an old querier.
    last_reporter: bool,
}

impl Group {
    /// RFC 3376 section 3.2: what the members want together.
    fn merged(&self) -> SourceFilter {
        if self.excluders == 0 {
            let wanted = self.counts.iter().filter(|(_, counts)| counts.include > 0);
            let sources = wanted.map(|(source, _)| *source).collect();
            return SourceFilter { mode: FilterMode::Include, sources };
        }
        let refused = self
            .counts
            .iter()
            .filter(|(_, counts)| counts.exclude == self.excluders && counts.include == 0);
        let sources = refused.map(|(source, _)| *source).collect();
        SourceFilter { mode: FilterMode::Exclude, sources }
    }

    fn count(&mut self, filter: &SourceFilter, more: fn(usize) -> usize) {
        if filter.mode == FilterMode::Exclude {
            self.excluders = more(self.excluders);
        }
        for source in &filter.sources {
            let counts = self.counts.entry(*source).or_default();
            match filter.mode {
                FilterMode::Include => counts.include = more(counts.include),
                FilterMode::Exclude => counts.exclude = more(counts.exclude),
            }
        }
        self.counts.retain(|_, counts| counts.include + counts.exclude > 0);
    }

    fn is_idle(&self) -> bool {
        self.users == 0
            && self.excluders == 0
            && self.counts.is_empty()
            && self.mode_left == 0
            && self.sources_left.is_empty()
    }

    /// The record of a State-Change Report, once (RFC 3376 section 5.1).
    fn change_records(&mut self, group: IpAddr) -> Vec<Record> {
        let now = self.merged();
        if self.mode_left > 0 {
            self.mode_left -= 1;
            let kind = match now.mode {
                FilterMode::Include => RecordType::ChangeToInclude,
                FilterMode::Exclude => RecordType::ChangeToExclude,
            };
            return vec![Record { kind, group, sources: now.sources.into_iter().collect() }];
        }
        let (allow, block): (Vec<_>, Vec<_>) =
            self.sources_left.keys().copied().partition(|source| now.hears(*source));
        self.sources_left.values_mut().for_each(|left| *left -= 1);
        self.sources_left.retain(|_, left| *left > 0);
        let record = |kind, sources: Vec<IpAddr>| Record { kind, group, sources };
        let records = [
            record(RecordType::AllowNewSources, allow),
            record(RecordType::BlockOldSources, block),
        ];
        records.into_iter().filter(|record| !record.sources.is_empty()).collect()
    }

    /// The records of a Current-State Report (RFC 3376 section 5.2).
    fn current_record(&self, group: IpAddr) -> Option<Record> {
        let now = self.merged();
        let kind = match now.mode {
            FilterMode::Include => RecordType::ModeIsInclude,
            FilterMode::Exclude => RecordType::ModeIsExclude,
        };
        if self.asked.is_empty() {
            let sources = now.sources.iter().copied().collect();
            return (!now.is_nothing()).then_some(Record { kind, group, sources });
        }
        // "if the group record has INCLUDE mode: IS_IN (A*B) ... EXCLUDE: IS_IN (B-A)": those of the asked that are heard.
        let heard: Vec<IpAddr> =
            self.asked.iter().copied().filter(|source| now.hears(*source)).collect();
        let kind = RecordType::ModeIsInclude;
        (!heard.is_empty()).then_some(Record { kind, group, sources: heard })
    }
}

/// What is to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// A report of IGMPv3 or MLDv2 with these records, perhaps in several packets.
    Records(Family, Vec<Record>),
    /// An old report of a group, in this version.
    Old(IpAddr, u8),
    /// An old leave (IGMPv2) or done (MLDv1) of a group.
    Leave(IpAddr),
}

/// What a family's routers ask for, and the times that they set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupConf {
    /// How often a change is told, unless a querier says otherwise (`igmp_qrv`, `mld_qrv`).
    pub robustness: u8,
    /// The longest time between two tellings in the newest version.
    pub interval: Duration,
    /// The same in the old versions.
    pub old_interval: Duration,
    /// The only version that is spoken; 0 for what the querier speaks.
    pub forced: u8,
    /// Whether groups of the link's scope are told (`igmp_link_local_mcast_reports`).
    pub link_local: bool,
}

/// The routers of one family on the link.
#[derive(Default)]
struct Routers {
    robustness: u8,
    // Until when queriers of version 1 and 2 are believed to be there (MLD has only version 1).
    old_until: [Option<Instant>; 2],
    // When to answer a general query, and to tell changes again.
    answer_at: Option<Instant>,
    change_at: Option<Instant>,
}

/// A group in a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupListing {
    /// The group.
    pub address: IpAddr,
    /// How many belong to it.
    pub users: usize,
    /// The sources that somebody named, with how many include and exclude each.
    pub sources: Vec<(IpAddr, usize, usize)>,
    /// When a router's question about it is answered.
    pub answer_at: Option<Instant>,
    /// Whether this host was the last to report it to an old querier.
    pub last_reporter: bool,
}

/// The groups of an interface.
pub struct Groups {
    groups: BTreeMap<IpAddr, Group>,
    routers: [Routers; 2],
    rng: Rng,
}

impl Groups {
    /// None.
    pub fn new(rng: Rng) -> Groups {
        Groups { groups: BTreeMap::new(), routers: Default::default(), rng }
    }

    /// Whether anybody here wants a group.
    pub fn is_member(&self, group: IpAddr) -> bool {
        self.groups.get(&group).is_some_and(|group| !group.merged().is_nothing())
    }

    /// Whether anybody here wants what a source sends to a group.
    pub fn hears(&self, group: IpAddr, source: IpAddr) -> bool {
        self.groups.get(&group).is_some_and(|group| match group.counts.is_empty() {
            true => group.excluders > 0,
            false => group.merged().hears(source),
        })
    }

    /// The groups that anybody belongs to.
    pub fn list(&self) -> Vec<GroupListing> {
        let joined = self.groups.iter().filter(|(_, group)| group.users > 0);
        joined
            .map(|(address, group)| GroupListing {
                address: *address,
                users: group.users,
                sources: group
                    .counts
                    .iter()
                    .map(|(source, counts)| (*source, counts.include, counts.exclude))
                    .collect(),
                answer_at: group.answer_at,
                last_reporter: group.last_reporter,
            })
            .collect()
    }

    /// The version that is spoken: 3 for IGMP, 2 for MLD, less while an old querier is there.
    pub fn version(&self, now: Instant, family: Family, conf: &GroupConf) -> u8 {
        let newest = if family == Family::V4 { 3 } else { 2 };
        if conf.forced != 0 {
            return conf.forced.min(newest);
        }
        let here = |until: Option<Instant>| until.is_some_and(|until| until > now);
        match self.routers[family as usize].old_until {
            [v1, _] if here(v1) => 1,
            [_, v2] if here(v2) => 2,
            _ => newest,
        }
    }

    /// Takes a member's change: from what it wanted to what it wants now. False when there are too many groups. What must
    /// be told is told by the next `on_timer`, which is due at once.
    pub fn change(
        &mut self,
        group: IpAddr,
        (from, to): (Option<&SourceFilter>, Option<&SourceFilter>),
        conf: &GroupConf,
    ) -> bool {
        if self.groups.len() >= MAX_GROUPS && !self.groups.contains_key(&group) {
            return false;
        }
        let robustness = self.robustness(Family::of(group), conf);
        let told = is_told(group, conf);
        let entry = self.groups.entry(group).or_default();
        let before = entry.merged();
        if let Some(from) = from {
            entry.users = entry.users.saturating_sub(1);
            entry.count(from, |n| n.saturating_sub(1));
        }
        if let Some(to) = to {
            entry.users = entry.users.saturating_add(1);
            entry.count(to, |n| n.saturating_add(1));
        }
        let after = entry.merged();
        if told && before != after {
            if before.mode != after.mode {
                entry.mode_left = robustness;
                entry.sources_left.clear();
            } else {
                for source in before.sources.symmetric_difference(&after.sources) {
                    entry.sources_left.insert(*source, robustness);
                }
            }
            self.routers[Family::of(group) as usize].change_at = Some(Instant::ZERO);
        }
        if entry.is_idle() {
            self.groups.remove(&group);
        }
        true
    }

    fn robustness(&self, family: Family, conf: &GroupConf) -> u8 {
        match self.routers[family as usize].robustness {
            0 => conf.robustness.max(1),
            told => told,
        }
    }

    /// Tells every group anew: the interface came up.
    pub fn reannounce(&mut self, family: Family, conf: &GroupConf) {
        let robustness = self.robustness(family, conf);
        for (at, group) in &mut self.groups {
            if Family::of(*at) != family || !is_told(*at, conf) {
                continue;
            }
            let now = group.merged();
            match now.mode {
                FilterMode::Exclude => group.mode_left = robustness,
                FilterMode::Include => {
                    group.sources_left.extend(now.sources.iter().map(|at| (*at, robustness)));
                }
            }
        }
        self.routers[family as usize].change_at = Some(Instant::ZERO);
    }

    /// Forgets the routers and what was to be told: the interface went down.
    pub fn silence(&mut self) {
        self.routers = Default::default();
        for group in self.groups.values_mut() {
            (group.mode_left, group.answer_at) = (0, None);
            group.sources_left.clear();
        }
        self.groups.retain(|_, group| !group.is_idle());
    }

    /// Takes a router's question.
    pub fn asked(&mut self, now: Instant, family: Family, query: &Query, conf: &GroupConf) {
        let newest = if family == Family::V4 { 3 } else { 2 };
        let routers = &mut self.routers[family as usize];
        if query.version < newest {
            let lasts = match query.version {
                1 if family == Family::V4 => V1_PRESENT,
                // RFC 3376 section 8.12: "robustness variable times the query interval plus one query response interval".
                _ => query.interval * u32::from(routers.robustness.max(2)) + query.max_response,
            };
            let place = usize::from(query.version.clamp(1, 2) - 1);
            routers.old_until[place] = Some(now + lasts);
            // "cancels all pending responses" of the newer version.
            (routers.answer_at, routers.change_at) = (None, None);
        } else {
            routers.robustness = query.robustness;
        }
        let old = self.version(now, family, conf) < newest;
        let spread = query.max_response;
        match query.group {
            None if !old => {
                let at = self.random_by(now, spread);
                let pending = &mut self.routers[family as usize].answer_at;
                *pending = Some(pending.map_or(at, |earlier| earlier.min(at)));
            }
            None => {
                let told: Vec<IpAddr> = self.groups.keys().copied().collect();
                for group in told.into_iter().filter(|at| Family::of(*at) == family) {
                    if is_told(group, conf) {
                        self.answer_later(now, group, spread, &[]);
                    }
                }
            }
            Some(group) if is_told(group, conf) => {
                self.answer_later(now, group, spread, &query.sources);
            }
            Some(_) => {}
        }
    }

    fn random_by(&mut self, now: Instant, spread: Duration) -> Instant {
        let spread = u64::try_from(spread.as_micros()).unwrap_or(u64::MAX);
        now + Duration::from_micros(self.rng.below(spread.max(1)) + 1)
    }

    /// RFC 3376 section 5.2: the earlier answer stands, and answers for all that was asked.
    fn answer_later(&mut self, now: Instant, group: IpAddr, spread: Duration, sources: &[IpAddr]) {
        let at = self.random_by(now, spread);
        let Some(group) = self.groups.get_mut(&group) else { return };
        match group.answer_at {
            Some(_) if sources.is_empty() || group.asked.is_empty() => group.asked.clear(),
            _ => group.asked.extend(sources),
        }
        group.answer_at = Some(group.answer_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Somebody else reported a group to an old querier: one report is enough (RFC 2236 section 3, RFC 2710 section 4).
    pub fn heard_report(&mut self, group: IpAddr) {
        if let Some(group) = self.groups.get_mut(&group) {
            (group.answer_at, group.last_reporter) = (None, false);
        }
    }

    /// What is due.
    pub fn on_timer(&mut self, now: Instant, family: Family, conf: &GroupConf) -> Vec<Report> {
        let newest = if family == Family::V4 { 3 } else { 2 };
        let version = self.version(now, family, conf);
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let mut reports = Vec::new();
        if due(self.routers[family as usize].change_at) {
            self.routers[family as usize].change_at = None;
            match version < newest {
                true => self.tell_old_changes(now, family, (version, conf), &mut reports),
                false => self.tell_changes(now, family, conf, &mut reports),
            }
        }
        let general = due(self.routers[family as usize].answer_at);
        if general {
            self.routers[family as usize].answer_at = None;
        }
        let mut records = Vec::new();
        for (at, group) in self.groups.iter_mut().filter(|(at, _)| Family::of(**at) == family) {
            let own = due(group.answer_at);
            if !own && !general {
                continue;
            }
            if general {
                group.asked.clear();
            }
            group.answer_at = None;
            if version < newest {
                group.last_reporter = true;
                reports.push(Report::Old(*at, version));
            } else if is_told(*at, conf) {
                records.extend(group.current_record(*at));
            }
            group.asked.clear();
        }
        if !records.is_empty() {
            reports.push(Report::Records(family, records));
        }
        reports
    }

    fn tell_changes(
        &mut self,
        now: Instant,
        family: Family,
        conf: &GroupConf,
        reports: &mut Vec<Report>,
    ) {
        let mut records = Vec::new();
        for (at, group) in self.groups.iter_mut().filter(|(at, _)| Family::of(**at) == family) {
            records.append(&mut group.change_records(*at));
        }
        if !records.is_empty() {
            reports.push(Report::Records(family, records));
        }
        self.tell_again(now, family, conf.interval);
    }

    /// Sees to the next telling, when there is something left to tell.
    fn tell_again(&mut self, now: Instant, family: Family, interval: Duration) {
        self.groups.retain(|_, group| !group.is_idle());
        let left = self.groups.iter().any(|(at, group)| {
            Family::of(*at) == family && (group.mode_left > 0 || !group.sources_left.is_empty())
        });
        if left {
            let at = self.random_by(now, interval);
            self.routers[family as usize].change_at = Some(at);
        }
    }

    /// To an old querier groups are told as wholes: a report for each that is wanted, a leave for each that is not.
    fn tell_old_changes(
        &mut self,
        now: Instant,
        family: Family,
        (version, conf): (u8, &GroupConf),
        reports: &mut Vec<Report>,
    ) {
        for (at, group) in self.groups.iter_mut().filter(|(at, _)| Family::of(**at) == family) {
            let most = group.sources_left.values().copied().max().unwrap_or(0).max(group.mode_left);
            if most == 0 {
                continue;
            }
            if group.merged().is_nothing() {
                // Version 1 of IGMP has no leave; others leave when they were the last to report.
                if group.last_reporter && (version == 2 || family == Family::V6) {
                    reports.push(Report::Leave(*at));
                }
                group.mode_left = 0;
            } else {
                group.last_reporter = true;
                group.mode_left = most - 1;
                reports.push(Report::Old(*at, version));
            }
            group.sources_left.clear();
        }
        self.tell_again(now, family, conf.old_interval);
    }

    /// When `on_timer` next has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let routers = self.routers.iter().flat_map(|at| [at.answer_at, at.change_at]);
        let groups = self.groups.values().map(|group| group.answer_at);
        routers.chain(groups).flatten().min()
    }
}

/// Whether routers are told of a group: not of those that everybody is in, or that mean nothing beyond the host.
fn is_told(group: IpAddr, conf: &GroupConf) -> bool {
    match group {
        IpAddr::V4(v4) => {
            let all_systems = v4.octets() == [224, 0, 0, 1];
            !all_systems && (conf.link_local || v4.octets()[..3] != [224, 0, 0])
        }
        IpAddr::V6(v6) => {
            // RFC 3810 section 6: "no MLD messages are ever sent regarding the link-scope all-nodes multicast address, or
            // any multicast address of scope 0 (reserved) or 1 (node-local)".
            let scope = v6.octets()[1] & 0x0f;
            let all_nodes = v6.segments() == [0xff02, 0, 0, 0, 0, 0, 0, 1];
            scope > 1 && !all_nodes && (conf.link_local || scope != 2)
        }
    }
}

#[cfg(test)]
mod tests;
