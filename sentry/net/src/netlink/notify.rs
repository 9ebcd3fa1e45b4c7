//! Notifications: what changes in the stack goes to the groups of rtnetlink (rtnetlink(7); `ip monitor`).

use std::sync::{Arc, Weak};

use netstack::ip::Family;
use netstack::stack::{Change, Observer, Presence, Stack};
use netstack::time::Instant;
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET, AF_INET6};

use super::build::Message;
use super::bus::Bus;
use super::route::{addr, link, neigh, routes, rule, tables};
use crate::netns::NetNamespace;

/// Turns the stack's changes into messages.
pub struct Notifier {
    net: Weak<NetNamespace>,
}

impl Notifier {
    /// Lets the listeners of a namespace hear of its changes from now on.
    pub fn attach(net: &Arc<NetNamespace>) {
        net.stack().observe(Arc::new(Notifier { net: Arc::downgrade(net) }));
    }
}

/// RTM_NEW* or the RTM_DEL* that follows it.
fn kind(new: u16, presence: Presence) -> u16 {
    match presence {
        Presence::New => new,
        Presence::Deleted => new + 1,
    }
}

fn group(family: Family, v4: u32, v6: u32) -> u32 {
    match family {
        Family::V4 => v4,
        Family::V6 => v6,
    }
}

fn send(bus: &Bus, group: u32, make: impl FnOnce() -> Option<Message>) {
    bus.notify(NETLINK_ROUTE, group, || make().map(|message| message.finish(0)));
}

fn tell(stack: &Stack, bus: &Bus, now: Instant, change: &Change) {
    // Nobody asked: sequence number and port id are 0.
    let header = NlMsgHdr::default();
    match change {
        Change::Link(presence, nic) => send(bus, RTNLGRP_LINK, || {
            Some(link::message(stack, &header, kind(RTM_NEWLINK, *presence), nic, 0))
        }),
        Change::Address(presence, id, own) => {
            let family = Family::of(own.ip());
            send(bus, group(family, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR), || {
                let nics = stack.nics();
                let nic = nics.iter().find(|nic| nic.id == *id)?;
                Some(addr::message(&header, now, kind(RTM_NEWADDR, *presence), nic, own))
            });
        }
        Change::Route(presence, route) => {
            let family = Family::of(route.dst.address());
            send(bus, group(family, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE), || {
                let loopback = routes::loopback_of(stack);
                let kind = kind(RTM_NEWROUTE, *presence);
                Some(routes::message(now, &header, kind, route, loopback))
            });
        }
        Change::Rule(presence, own) => {
            send(bus, group(own.family, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE), || {
                let resolved = rule::is_resolved(&stack.rules(own.family), own);
                Some(rule::message(&header, kind(RTM_NEWRULE, *presence), own, resolved))
            });
        }
        Change::Neighbour(presence, nic, neighbour) => send(bus, RTNLGRP_NEIGH, || {
            Some(neigh::message(&header, now, kind(RTM_NEWNEIGH, *presence), *nic, neighbour))
        }),
        Change::Tunables(nic) => {
            let index = nic.0 as i32;
            for (family, group) in
                [(AF_INET, RTNLGRP_IPV4_NETCONF), (AF_INET6, RTNLGRP_IPV6_NETCONF)]
            {
                send(bus, group, || tables::configuration(stack, &header, family, index));
            }
        }
    }
}

impl Observer for Notifier {
    fn changed(&self, change: &Change) {
        if let Some(net) = self.net.upgrade() {
            tell(net.stack(), net.netlink(), net.now(), change);
        }
    }
}
