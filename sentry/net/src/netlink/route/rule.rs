//! RTM_*RULE: which table answers for which packet (net/core/fib_rules.c).

use core::net::IpAddr;

use netstack::ip::rule::RuleAction;
use netstack::ip::{Family, IpCidr, Rule};
use netstack::stack::RuleError;
use sentry_abi::Errno;
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET, AF_INET6, AF_UNSPEC};

use super::super::build::Message;
use super::super::parse::{self, Attribute, Attributes, Refusal, Request, Shape, Strictness};
use super::super::table::{Context, Dump};
use super::bytes_of;

const POLICY: &[parse::Rule] = &[
    (FRA_DST, Shape::Address),
    (FRA_SRC, Shape::Address),
    (FRA_IIFNAME, Shape::Text(15)),
    (FRA_OIFNAME, Shape::Text(15)),
    (FRA_GOTO, Shape::Number(4)),
    (FRA_PRIORITY, Shape::Number(4)),
    (FRA_FWMARK, Shape::Number(4)),
    (FRA_FWMASK, Shape::Number(4)),
    (FRA_TABLE, Shape::Number(4)),
    (FRA_SUPPRESS_PREFIXLEN, Shape::Number(4)),
    (FRA_SUPPRESS_IFGROUP, Shape::Number(4)),
    (FRA_UID_RANGE, Shape::AtLeast(8)),
    (FRA_PROTOCOL, Shape::Number(1)),
    (FRA_IP_PROTO, Shape::Number(1)),
    (FRA_SPORT_RANGE, Shape::AtLeast(4)),
    (FRA_DPORT_RANGE, Shape::AtLeast(4)),
];
const FIB_RULE_INVERT: u32 = 2;
const FIB_RULE_UNRESOLVED: u32 = 4;

/// RTM_NEWRULE or RTM_DELRULE of a rule (fib_nl_fill_rule). `resolved` tells whether a rule has the priority that it goes to.
pub fn message(header: &NlMsgHdr, kind: u16, rule: &Rule, resolved: bool) -> Message {
    let (action, table) = match rule.action {
        RuleAction::Lookup(table) => (FR_ACT_TO_TBL, table),
        RuleAction::Goto(_) => (FR_ACT_GOTO, 0),
        RuleAction::Nop => (FR_ACT_NOP, 0),
        RuleAction::Blackhole => (FR_ACT_BLACKHOLE, 0),
        RuleAction::Unreachable => (FR_ACT_UNREACHABLE, 0),
        RuleAction::Prohibit => (FR_ACT_PROHIBIT, 0),
    };
    let unresolved = matches!(rule.action, RuleAction::Goto(_)) && !resolved;
    let fixed = FibRuleHdr {
        family: if rule.family == Family::V4 { AF_INET as u8 } else { AF_INET6 as u8 },
        dst_len: rule.to.map_or(0, |to| to.prefix_len()),
        src_len: rule.from.map_or(0, |from| from.prefix_len()),
        tos: rule.tos,
        table: u8::try_from(table).unwrap_or(RT_TABLE_COMPAT),
        res1: 0,
        res2: 0,
        action,
        flags: (if rule.invert { FIB_RULE_INVERT } else { 0 })
            | (if unresolved { FIB_RULE_UNRESOLVED } else { 0 }),
    };
    let mut message = Message::new(kind, header, &fixed);
    message.number(FRA_TABLE, table);
    let suppress = rule.suppress_prefixlength.map_or(u32::MAX, u32::from);
    message.number(FRA_SUPPRESS_PREFIXLEN, suppress);
    message.byte(FRA_PROTOCOL, rule.made_by);
    if let Some(name) = &rule.iif {
        message.string(FRA_IIFNAME, name);
    }
    if let Some(name) = &rule.oif {
        message.string(FRA_OIFNAME, name);
    }
    if rule.priority != 0 {
        message.number(FRA_PRIORITY, rule.priority);
    }
    if let Some((mark, mask)) = rule.mark {
        if mark != 0 {
            message.number(FRA_FWMARK, mark);
        }
        message.number(FRA_FWMASK, mask);
    }
    if let RuleAction::Goto(target) = rule.action {
        message.number(FRA_GOTO, target);
    }
    if let Some((first, last)) = rule.uids {
        message.object(FRA_UID_RANGE, &[first, last]);
    }
    if let Some(protocol) = rule.protocol {
        message.byte(FRA_IP_PROTO, protocol);
    }
    for (kind, range) in [(FRA_SPORT_RANGE, rule.sport), (FRA_DPORT_RANGE, rule.dport)] {
        if let Some((first, last)) = range {
            message.object(kind, &[first, last]);
        }
    }
    for (kind, prefix) in [(FRA_DST, rule.to), (FRA_SRC, rule.from)] {
        if let Some(prefix) = prefix.filter(|prefix| prefix.prefix_len() > 0) {
            message.attribute(kind, &bytes_of(prefix.address()));
        }
    }
    message
}

/// Whether the rule that a rule goes to is there.
pub fn is_resolved(rules: &[Rule], rule: &Rule) -> bool {
    match rule.action {
        RuleAction::Goto(target) => rules.iter().any(|other| other.priority == target),
        _ => true,
    }
}

/// All rules of a family or of both. Errors: EINVAL.
pub fn all(cx: &Context<'_>, request: &Request<'_>, dump: &mut Dump) -> Result<(), Refusal> {
    if cx.strictness == Strictness::Strict {
        let fixed: FibRuleHdr = request.fixed()?;
        let rest = (fixed.dst_len, fixed.src_len, fixed.tos, fixed.table, fixed.action);
        if rest != (0, 0, 0, 0, 0) || fixed.flags != 0 {
            let text = "Invalid values in header for fib rule dump request";
            return Err(Refusal::new(Errno::EINVAL, text));
        }
    }
    let families: &[Family] = match request.family() {
        AF_INET => &[Family::V4],
        AF_INET6 => &[Family::V6],
        AF_UNSPEC => &[Family::V4, Family::V6],
        _ => return Err(Errno::EAFNOSUPPORT.into()),
    };
    for family in families {
        let rules = cx.stack().rules(*family);
        dump.messages.extend(
            rules
                .iter()
                .map(|rule| message(&request.header, RTM_NEWRULE, rule, is_resolved(&rules, rule))),
        );
    }
    Ok(())
}

fn pair<T>(
    attribute: &Attribute<'_>,
    read: impl Fn(&[u8]) -> Option<T>,
    size: usize,
) -> Option<(T, T)> {
    Some((read(attribute.value.get(..size)?)?, read(attribute.value.get(size..size * 2)?)?))
}

fn ports(attributes: &Attributes<'_>, kind: u16) -> Result<Option<(u16, u16)>, Refusal> {
    let Some(attribute) = attributes.find(kind) else { return Ok(None) };
    let read = |bytes: &[u8]| bytes.first_chunk::<2>().map(|bytes| u16::from_ne_bytes(*bytes));
    match pair(attribute, read, 2) {
        Some((first, last)) if first != 0 && last < u16::MAX && first <= last => {
            Ok(Some((first, last)))
        }
        _ => {
            let text =
                if kind == FRA_SPORT_RANGE { "Invalid sport range" } else { "Invalid dport range" };
            Err(Refusal::new(Errno::EINVAL, text).at(attribute))
        }
    }
}

fn prefix(
    attributes: &Attributes<'_>,
    kind: u16,
    len: u8,
    family: Family,
) -> Result<Option<IpCidr>, Refusal> {
    let bits = if family == Family::V4 { 32 } else { 128 };
    match attributes.address(kind)? {
        // "from 0/0" is no condition.
        None if len == 0 => Ok(None),
        Some(address) if Family::of(address) == family && len <= bits => {
            Ok((len > 0).then(|| IpCidr::new(address, len)))
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

fn name(attributes: &Attributes<'_>, kind: u16) -> Option<String> {
    attributes.find(kind).map(|name| String::from_utf8_lossy(name.text()).into_owned())
}

/// What a request says of a rule (fib_nl2rule). Errors: EINVAL, EAFNOSUPPORT, EOPNOTSUPP.
pub fn rule<'a>(request: &Request<'a>) -> Result<(Rule, Attributes<'a>, FibRuleHdr), Refusal> {
    let fixed: FibRuleHdr = request.fixed()?;
    let family = match request.family() {
        AF_INET => Family::V4,
        AF_INET6 => Family::V6,
        _ => return Err(Errno::EAFNOSUPPORT.into()),
    };
    let attributes = request.attributes::<FibRuleHdr>(POLICY, Strictness::Liberal)?;
    for kind in [FRA_TUN_ID, FRA_L3MDEV, FRA_FLOW] {
        if let Some(attribute) = attributes.find(kind) {
            return Err(
                Refusal::new(Errno::EOPNOTSUPP, "Rule selector is not supported").at(attribute)
            );
        }
    }
    let table = attributes.number(FRA_TABLE).unwrap_or(u32::from(fixed.table));
    let goto = attributes.number(FRA_GOTO);
    let priority = attributes.number(FRA_PRIORITY).unwrap_or(0);
    let action = match (fixed.action, goto) {
        (FR_ACT_TO_TBL, _) => RuleAction::Lookup(table),
        (FR_ACT_GOTO, Some(target)) if target > priority => RuleAction::Goto(target),
        (FR_ACT_GOTO, Some(_)) => {
            return Err(Refusal::new(Errno::EINVAL, "Backward goto not supported"));
        }
        (FR_ACT_GOTO, None) => {
            return Err(Refusal::new(Errno::EINVAL, "Missing goto target for action goto"));
        }
        (FR_ACT_NOP, _) => RuleAction::Nop,
        (FR_ACT_BLACKHOLE, _) => RuleAction::Blackhole,
        (FR_ACT_UNREACHABLE, _) => RuleAction::Unreachable,
        (FR_ACT_PROHIBIT, _) => RuleAction::Prohibit,
        _ => return Err(Refusal::new(Errno::EINVAL, "Invalid action")),
    };
    let mark = attributes.number(FRA_FWMARK).unwrap_or(0);
    // A mark without a mask is compared whole.
    let mask = attributes.number(FRA_FWMASK).unwrap_or(if mark != 0 { u32::MAX } else { 0 });
    let word = |bytes: &[u8]| bytes.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes));
    let uids = attributes.find(FRA_UID_RANGE).and_then(|range| pair(range, word, 4));
    if uids.is_some_and(|(first, last)| first > last) {
        return Err(Refusal::new(Errno::EINVAL, "Invalid uid range"));
    }
    let suppress = attributes.number(FRA_SUPPRESS_PREFIXLEN).filter(|len| *len != u32::MAX);
    let rule = Rule {
        action,
        from: prefix(&attributes, FRA_SRC, fixed.src_len, family)?,
        to: prefix(&attributes, FRA_DST, fixed.dst_len, family)?,
        iif: name(&attributes, FRA_IIFNAME),
        oif: name(&attributes, FRA_OIFNAME),
        mark: (mask != 0).then_some((mark, mask)),
        tos: fixed.tos,
        protocol: attributes.number(FRA_IP_PROTO).map(|protocol| protocol as u8),
        sport: ports(&attributes, FRA_SPORT_RANGE)?,
        dport: ports(&attributes, FRA_DPORT_RANGE)?,
        uids,
        invert: fixed.flags & FIB_RULE_INVERT != 0,
        suppress_prefixlength: suppress.and_then(|len| u8::try_from(len).ok()),
        made_by: attributes.number(FRA_PROTOCOL).unwrap_or(0) as u8,
        ..Rule::lookup(family, priority, table)
    };
    Ok((rule, attributes, fixed))
}

/// RTM_NEWRULE. Errors: EEXIST.
pub fn add(cx: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    let (mut rule, attributes, _) = rule(request)?;
    if attributes.find(FRA_PRIORITY).is_none() {
        // fib_default_rule_pref: just before the second rule.
        let rules = cx.stack().rules(rule.family);
        rule.priority = rules.get(1).map_or(0, |second| second.priority.saturating_sub(1));
    }
    match cx.stack().add_rule(rule) {
        Ok(()) => Ok(Vec::new()),
        Err(RuleError::Exists) => Err(Errno::EEXIST.into()),
        Err(RuleError::NotFound) => Err(Errno::ENOENT.into()),
    }
}

/// RTM_DELRULE: the first that agrees with all that is told (rule_find). Errors: ENOENT.
pub fn remove(cx: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    // Without an action any will do; the fixed part then says 0.
    let action = request.fixed::<FibRuleHdr>()?.action;
    let mut patched = request.message.to_vec();
    if action == 0
        && let Some(byte) = patched.get_mut(size_of::<NlMsgHdr>() + 7)
    {
        *byte = FR_ACT_TO_TBL;
    }
    let body = patched.get(size_of::<NlMsgHdr>()..).unwrap_or_default();
    let whole = Request { header: request.header, message: &patched, body };
    let (wanted, attributes, fixed) = rule(&whole)?;
    let table = match wanted.action {
        RuleAction::Lookup(table) => table,
        _ => 0,
    };
    let told = |kind| attributes.find(kind).is_some();
    let any: IpAddr = wanted.family.unspecified();
    let same_prefix = |own: &Option<IpCidr>, wanted: &Option<IpCidr>| match wanted {
        None => true,
        Some(wanted) => own.unwrap_or(IpCidr::new(any, 0)) == *wanted,
    };
    let picked = |own: &Rule| {
        let same_action = match (own.action, wanted.action) {
            _ if action == 0 => true,
            (RuleAction::Lookup(own), RuleAction::Lookup(_)) => table == 0 || own == table,
            (own, wanted) => own == wanted,
        };
        same_action
            && (action != 0 || table == 0 || own.action == RuleAction::Lookup(table))
            && (!told(FRA_PRIORITY) || own.priority == wanted.priority)
            && (!told(FRA_IIFNAME) || own.iif == wanted.iif)
            && (!told(FRA_OIFNAME) || own.oif == wanted.oif)
            && (!told(FRA_FWMARK)
                || own.mark.map_or(0, |(mark, _)| mark) == wanted.mark.map_or(0, |(mark, _)| mark))
            && (!told(FRA_FWMASK)
                || own.mark.map(|(_, mask)| mask) == wanted.mark.map(|(_, mask)| mask))
            && (!told(FRA_UID_RANGE) || own.uids == wanted.uids)
            && (!told(FRA_PROTOCOL) || own.made_by == wanted.made_by)
            && (!told(FRA_IP_PROTO) || own.protocol == wanted.protocol)
            && (!told(FRA_SPORT_RANGE) || own.sport == wanted.sport)
            && (!told(FRA_DPORT_RANGE) || own.dport == wanted.dport)
            && (fixed.tos == 0 || own.tos == fixed.tos)
            && same_prefix(&own.from, &wanted.from)
            && same_prefix(&own.to, &wanted.to)
    };
    match cx.stack().delete_rule(wanted.family, picked) {
        Ok(_) => Ok(Vec::new()),
        Err(_) => Err(Errno::ENOENT.into()),
    }
}
