//! Rules: which table answers for which packet (`ip rule`, `linux/fib_rules.h`).

use super::cidr::IpCidr;
use super::route::{TABLE_DEFAULT, TABLE_LOCAL, TABLE_MAIN};
use super::{Family, Flow};

/// What a rule does with a packet it matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RuleAction {
    /// Asks a table (`FR_ACT_TO_TBL`).
    Lookup(u32),
    /// Goes on with the first rule of this priority (`FR_ACT_GOTO`); without one it does nothing.
    Goto(u32),
    /// Nothing (`FR_ACT_NOP`).
    Nop,
    /// Drops in silence (`FR_ACT_BLACKHOLE`).
    Blackhole,
    /// Refuses: network unreachable (`FR_ACT_UNREACHABLE`).
    Unreachable,
    /// Refuses: prohibited (`FR_ACT_PROHIBIT`).
    Prohibit,
}

/// A rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// The family it is for.
    pub family: Family,
    /// Rules are asked by rising priority.
    pub priority: u32,
    /// What it does.
    pub action: RuleAction,
    /// Only packets from here.
    pub from: Option<IpCidr>,
    /// Only packets to here.
    pub to: Option<IpCidr>,
    /// Only packets that came on this interface; `lo` for those of this host.
    pub iif: Option<String>,
    /// Only packets of sockets bound to this interface.
    pub oif: Option<String>,
    /// Only packets whose mark, with a mask, is this: (mark, mask).
    pub mark: Option<(u32, u32)>,
    /// Only this type of service; 0 for any.
    pub tos: u8,
    /// Only this protocol.
    pub protocol: Option<u8>,
    /// Only source ports from the first to the second.
    pub sport: Option<(u16, u16)>,
    /// Only destination ports from the first to the second.
    pub dport: Option<(u16, u16)>,
    /// Only sockets of users from the first to the second.
    pub uids: Option<(u32, u32)>,
    /// Whether it matches what it would not.
    pub invert: bool,
    /// Goes on when the route found is no longer than this prefix length.
    pub suppress_prefixlength: Option<u8>,
    /// Who made it: an `RTPROT_` number.
    pub made_by: u8,
}

impl Rule {
    /// A rule that sends every packet to a table.
    pub fn lookup(family: Family, priority: u32, table: u32) -> Rule {
        Rule {
            family,
            priority,
            action: RuleAction::Lookup(table),
            from: None,
            to: None,
            iif: None,
            oif: None,
            mark: None,
            tos: 0,
            protocol: None,
            sport: None,
            dport: None,
            uids: None,
            invert: false,
            suppress_prefixlength: None,
            made_by: 2,
        }
    }

    /// Whether every packet is meant.
    fn selects_all(&self) -> bool {
        let addresses = self.from.is_none() && self.to.is_none();
        let links = self.iif.is_none() && self.oif.is_none();
        let marks = self.mark.is_none() && self.tos == 0 && self.uids.is_none();
        let ports = self.protocol.is_none() && self.sport.is_none() && self.dport.is_none();
        addresses && links && marks && ports && !self.invert
    }

    /// Whether a packet is meant.
    fn matches(&self, packet: &Asked<'_>) -> bool {
        let within = |prefix: &Option<IpCidr>, address: Option<core::net::IpAddr>| {
            // An unspecified source lies in no prefix but the whole family's.
            prefix.as_ref().is_none_or(|prefix| {
                prefix.prefix_len() == 0 || address.is_some_and(|address| prefix.contains(address))
            })
        };
        let port = |range: Option<(u16, u16)>, port: u16| {
            range.is_none_or(|(first, last)| (first..=last).contains(&port))
        };
        let flow = packet.flow;
        let fits = self.iif.as_deref().is_none_or(|name| packet.iif == name)
            && self.oif.as_deref().is_none_or(|name| packet.oif == Some(name))
            && self.mark.is_none_or(|(mark, mask)| (flow.mark ^ mark) & mask == 0)
            && (self.tos == 0 || self.tos == flow.tos & !3)
            && within(&self.from, packet.src)
            && within(&self.to, Some(packet.dst))
            && self.protocol.is_none_or(|protocol| protocol == flow.protocol)
            && port(self.sport, flow.sport)
            && port(self.dport, flow.dport)
            && self.uids.is_none_or(|(first, last)| (first..=last).contains(&flow.uid));
        fits != self.invert
    }
}

/// What rules are asked about: a packet, and the names of its interfaces.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its source, when that is known.
    pub src: Option<core::net::IpAddr>,
    /// Its destination.
    pub dst: core::net::IpAddr,
    /// The interface it came on; `lo` when this host makes it.
    pub iif: &'a str,
    /// The interface its socket is bound to.
    pub oif: Option<&'a str>,
    /// What else tells it apart.
    pub flow: Flow,
}

/// The rules of both families.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    v4: Vec<Rule>,
    v6: Vec<Rule>,
}

impl Default for Rules {
    /// Linux's: local, main, and for IPv4 default.
    fn default() -> Rules {
        let rule = |family, priority, table| Rule::lookup(family, priority, table);
        Rules {
            v4: vec![
                rule(Family::V4, 0, TABLE_LOCAL),
                rule(Family::V4, 32_766, TABLE_MAIN),
                rule(Family::V4, 32_767, TABLE_DEFAULT),
            ],
            v6: vec![rule(Family::V6, 0, TABLE_LOCAL), rule(Family::V6, 32_766, TABLE_MAIN)],
        }
    }
}

impl Rules {
    /// Whether a rule asks for the protocol or the ports of packets.
    pub fn ask_ports(&self, family: Family) -> bool {
        let asks =
            |rule: &Rule| rule.protocol.is_some() || rule.sport.is_some() || rule.dport.is_some();
        self.list(family).iter().any(asks)
    }

    /// Whether the table "local" is asked first about every packet of a family, as it is unless somebody changed that.
    pub fn ask_local_first(&self, family: Family) -> bool {
        let first = self.list(family).first();
        first.is_some_and(|rule| {
            rule.action == RuleAction::Lookup(TABLE_LOCAL)
                && rule.suppress_prefixlength.is_none()
                && rule.selects_all()
        })
    }

    /// The rules of a family, as they are asked.
    pub fn list(&self, family: Family) -> &[Rule] {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn list_mut(&mut self, family: Family) -> &mut Vec<Rule> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    /// Adds a rule after those of its priority. Answers whether there was none like it.
    pub fn add(&mut self, rule: Rule) -> bool {
        let rules = self.list_mut(rule.family);
        if rules.contains(&rule) {
            return false;
        }
        let at = rules.partition_point(|old| old.priority <= rule.priority);
        rules.insert(at, rule);
        true
    }

    /// The priority of a rule that comes without one (`fib_default_rule_pref`): just before the second of the list.
    pub fn default_priority(&self, family: Family) -> u32 {
        self.list(family).get(1).map_or(0, |second| second.priority.saturating_sub(1))
    }

    /// Removes the first rule of a family that `gone` picks.
    pub fn remove_first(
        &mut self,
        family: Family,
        gone: impl FnMut(&Rule) -> bool,
    ) -> Option<Rule> {
        let rules = self.list_mut(family);
        let at = rules.iter().position(gone)?;
        Some(rules.remove(at))
    }

    /// Shows the rules that match a packet in their order, until one answers.
    pub fn walk<'a, R>(
        &'a self,
        packet: &Asked<'_>,
        mut judge: impl FnMut(&'a Rule) -> Option<R>,
    ) -> Option<R> {
        let rules = self.list(Family::of(packet.dst));
        let mut at = 0;
        while let Some(rule) = rules.get(at) {
            at += 1;
            if !rule.matches(packet) {
                continue;
            }
            match rule.action {
                // Only forwards, so that rules never run in a circle.
                RuleAction::Goto(target) => {
                    let first = rules.partition_point(|rule| rule.priority < target);
                    if rules.get(first).is_some_and(|rule| rule.priority == target) && first >= at {
                        at = first;
                    }
                }
                RuleAction::Nop => {}
                _ => {
                    if let Some(answer) = judge(rule) {
                        return Some(answer);
                    }
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(src: Option<&str>) -> Asked<'static> {
        let dst = "192.0.2.1".parse().unwrap();
        let src = src.map(|src| src.parse().unwrap());
        Asked { src, dst, iif: "lo", oif: None, flow: Flow::default() }
    }

    fn priorities(rules: &Rules, packet: &Asked<'_>) -> Vec<u32> {
        let mut seen = Vec::new();
        rules.walk(packet, |rule| -> Option<()> {
            seen.push(rule.priority);
            None
        });
        seen
    }

    #[test]
    fn every_selector_selects() {
        let base = Rule::lookup(Family::V4, 100, 7);
        let flow =
            Flow { mark: 0x15, tos: 0x10, protocol: 6, sport: 1000, dport: 80, uid: 7, label: 0 };
        let packet = Asked { flow, oif: Some("eth1"), ..asked(Some("10.1.2.3")) };
        let cidr = |text: &str| Some(text.parse::<IpCidr>().unwrap());
        let pairs = [
            (
                Rule { from: cidr("10.1.0.0/16"), ..base.clone() },
                Rule { from: cidr("10.2.0.0/16"), ..base.clone() },
            ),
            (
                Rule { to: cidr("192.0.2.0/24"), ..base.clone() },
                Rule { to: cidr("192.0.3.0/24"), ..base.clone() },
            ),
            (
                Rule { iif: Some("lo".into()), ..base.clone() },
                Rule { iif: Some("eth0".into()), ..base.clone() },
            ),
            (
                Rule { oif: Some("eth1".into()), ..base.clone() },
                Rule { oif: Some("eth0".into()), ..base.clone() },
            ),
            (
                Rule { mark: Some((5, 0xf)), ..base.clone() },
                Rule { mark: Some((5, 0xff)), ..base.clone() },
            ),
            (Rule { tos: 0x10, ..base.clone() }, Rule { tos: 8, ..base.clone() }),
            (
                Rule { protocol: Some(6), ..base.clone() },
                Rule { protocol: Some(17), ..base.clone() },
            ),
            (
                Rule { sport: Some((999, 1000)), ..base.clone() },
                Rule { sport: Some((1, 999)), ..base.clone() },
            ),
            (
                Rule { dport: Some((80, 80)), ..base.clone() },
                Rule { dport: Some((81, 90)), ..base.clone() },
            ),
            (
                Rule { uids: Some((0, 7)), ..base.clone() },
                Rule { uids: Some((8, 9)), ..base.clone() },
            ),
        ];
        for (yes, no) in pairs {
            assert!(yes.matches(&packet), "{yes:?}");
            assert!(!no.matches(&packet), "{no:?}");
            assert!(!Rule { invert: true, ..yes }.matches(&packet));
            assert!(Rule { invert: true, ..no }.matches(&packet));
        }
    }

    #[test]
    fn goto_goes_forward_only_and_nop_does_nothing() {
        let mut rules = Rules::default();
        let rule = |priority, action| Rule { action, ..Rule::lookup(Family::V4, priority, 0) };
        assert!(rules.add(rule(10, RuleAction::Goto(30))));
        assert!(rules.add(rule(20, RuleAction::Prohibit)));
        assert!(rules.add(rule(30, RuleAction::Nop)));
        assert!(rules.add(rule(40, RuleAction::Goto(10))));
        assert!(!rules.add(rule(40, RuleAction::Goto(10))));
        assert_eq!(priorities(&rules, &asked(None)), [0, 32_766, 32_767]);
        assert!(rules.remove_first(Family::V4, |rule| rule.priority == 10).is_some());
        assert_eq!(priorities(&rules, &asked(None)), [0, 20, 32_766, 32_767]);
        assert_eq!(rules.default_priority(Family::V4), 19);
        assert_eq!(Rules::default().default_priority(Family::V6), 32_765);
    }
}
