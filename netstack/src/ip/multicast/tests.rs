//! Tests of the groups of an interface.

use super::*;
use crate::rng::seed_from;

const CONF: GroupConf = GroupConf {
    robustness: 2,
    interval: Duration::from_secs(1),
    old_interval: Duration::from_secs(10),
    forced: 0,
    link_local: true,
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn filter(mode: FilterMode, sources: &[&str]) -> SourceFilter {
    SourceFilter { mode, sources: sources.iter().map(|at| ip(at)).collect() }
}

fn record(kind: RecordType, group: &str, sources: &[&str]) -> Record {
    Record { kind, group: ip(group), sources: sources.iter().map(|at| ip(at)).collect() }
}

fn groups() -> Groups {
    Groups::new(Rng::new(&seed_from(1), 0))
}

/// Everything that is told within a minute from `from` on.
fn told(groups: &mut Groups, from: u64) -> Vec<Record> {
    let limit = Instant::from_secs(from + 60);
    let mut now = Instant::from_secs(from);
    let mut records = Vec::new();
    while let Some(at) = groups.next_deadline().filter(|at| *at <= limit) {
        now = now.max(at);
        for report in groups.on_timer(now, Family::V4, &CONF) {
            match report {
                Report::Records(_, more) => records.extend(more),
                other => records.push(record(
                    match other {
                        Report::Leave(_) => RecordType::ChangeToInclude,
                        _ => RecordType::ModeIsExclude,
                    },
                    "0.0.0.0",
                    &[],
                )),
            }
        }
    }
    records
}

const GROUP: &str = "239.1.2.3";

#[test]
fn members_are_merged_and_changes_told_as_often_as_the_network_needs() {
    use FilterMode::{Exclude, Include};
    let mut groups = groups();
    let a = filter(Include, &["10.0.0.1", "10.0.0.2"]);
    let b = filter(Include, &["10.0.0.2", "10.0.0.3"]);
    let c = filter(Exclude, &["10.0.0.2", "10.0.0.9"]);
    let group = ip(GROUP);
    groups.change(group, (None, Some(&a)), &CONF);
    let allow = record(RecordType::AllowNewSources, GROUP, &["10.0.0.1", "10.0.0.2"]);
    assert_eq!(told(&mut groups, 1), [allow.clone(), allow]);
    groups.change(group, (None, Some(&b)), &CONF);
    assert_eq!(
        told(&mut groups, 100)[0],
        record(RecordType::AllowNewSources, GROUP, &["10.0.0.3"])
    );
    assert!(groups.hears(group, ip("10.0.0.3")) && !groups.hears(group, ip("10.0.0.9")));
    // Exclude wins, less what somebody includes.
    groups.change(group, (None, Some(&c)), &CONF);
    let change = record(RecordType::ChangeToExclude, GROUP, &["10.0.0.9"]);
    assert_eq!(told(&mut groups, 200), [change.clone(), change]);
    assert!(groups.hears(group, ip("10.0.0.2")) && groups.hears(group, ip("1.2.3.4")));
    groups.change(group, (Some(&c), None), &CONF);
    let back = record(RecordType::ChangeToInclude, GROUP, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    assert_eq!(told(&mut groups, 300)[0], back);
    groups.change(group, (Some(&a), None), &CONF);
    assert_eq!(
        told(&mut groups, 400)[0],
        record(RecordType::BlockOldSources, GROUP, &["10.0.0.1"])
    );
    groups.change(group, (Some(&b), None), &CONF);
    told(&mut groups, 500);
    assert!(groups.groups.is_empty() && !groups.is_member(group));
}

#[test]
fn questions_are_answered_once_and_only_about_what_was_asked() {
    let mut groups = groups();
    groups.change(ip(GROUP), (None, Some(&SourceFilter::any())), &CONF);
    groups.change(ip("224.0.0.1"), (None, Some(&SourceFilter::any())), &CONF);
    assert_eq!(told(&mut groups, 1).len(), 2, "all-systems is never told");
    let ask = |group: Option<&str>, sources: &[&str]| Query {
        version: 3,
        max_response: Duration::from_secs(10),
        group: group.map(ip),
        sources: sources.iter().map(|at| ip(at)).collect(),
        robustness: 3,
        interval: Duration::from_secs(125),
    };
    let now = Instant::from_secs(100);
    groups.asked(now, Family::V4, &ask(None, &[]), &CONF);
    groups.asked(now, Family::V4, &ask(Some(GROUP), &[]), &CONF);
    let at = groups.next_deadline().unwrap();
    assert!(at > now && at <= now + Duration::from_secs(10));
    let records = told(&mut groups, 100);
    assert_eq!(records[0], record(RecordType::ModeIsExclude, GROUP, &[]));
    assert!(records.len() <= 2);
    groups.asked(Instant::from_secs(200), Family::V4, &ask(Some(GROUP), &["10.0.0.5"]), &CONF);
    let heard = record(RecordType::ModeIsInclude, GROUP, &["10.0.0.5"]);
    assert_eq!(told(&mut groups, 200), [heard]);
    groups.asked(Instant::from_secs(300), Family::V4, &ask(Some("239.9.9.9"), &[]), &CONF);
    assert!(told(&mut groups, 300).is_empty());
    // The querier's robustness is taken over.
    groups.change(ip("239.7.7.7"), (None, Some(&SourceFilter::any())), &CONF);
    assert_eq!(told(&mut groups, 400).len(), 3);
}

#[test]
fn the_number_of_groups_is_bounded() {
    let mut groups = groups();
    let added = (0..5000u32).filter(|n| {
        let group = IpAddr::V4((0xef00_0000 + n).into());
        groups.change(group, (None, Some(&SourceFilter::any())), &CONF)
    });
    assert_eq!(added.count(), MAX_GROUPS);
}
