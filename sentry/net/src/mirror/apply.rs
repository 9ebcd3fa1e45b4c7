//! Brings a stack from one view of a namespace to the next: what the host took away goes, what it has is there afterwards.

use std::collections::HashMap;
use std::sync::Arc;

use netstack::ip::neigh::Neighbour;
use netstack::ip::route::{Protocol, Route};
use netstack::ip::{Address, AddressFlags, IpCidr};
use netstack::link::NicId;
use netstack::stack::{AddressError, RouteError, Stack};
use netstack::time::Instant;

use super::view::{self, View};
use crate::netns::NetNamespace;

/// Lifetimes that differ by less are the same, told at another moment: in nanoseconds.
const MOMENT_NS: u64 = 2_000_000_000;

/// IFAPROT_KERNEL_RA: an address that a router advertisement made.
const BY_ADVERTISEMENT: u8 = 2;

/// Applies what `new` has and `old` had not, and the other way round. What cannot be done is told to `problems`.
pub fn apply(net: &Arc<NetNamespace>, old: &View, new: &View, problems: &mut Vec<String>) {
    let stack = net.stack();
    links(stack, old, new, problems);
    let before = Known::new(&stack.routes());
    addresses(stack, old, new, problems);
    // Routes that came with the addresses, and that the host does not have (any more).
    let mut made = view::of_stack(net).routes;
    made.retain(|route| route.protocol == Protocol::KERNEL && !before.has(route));
    rules(stack, old, new, problems);
    routes(stack, (&old.routes, &made), &new.routes, problems);
    neighbours(net, old, new, problems);
}

fn links(stack: &Stack, old: &View, new: &View, problems: &mut Vec<String>) {
    for link in &new.links {
        let was = old.links.iter().find(|other| other.id == link.id);
        let mut changed = Ok(());
        if was.is_none_or(|was| was.mtu != link.mtu) {
            changed = stack.set_nic_mtu(link.id, link.mtu);
        }
        if was.is_none_or(|was| was.state != link.state) {
            changed = changed.and(stack.set_nic_state(link.id, link.state));
        }
        if let Err(error) = changed {
            problems.push(format!("a change of interface {} has no effect: {error}", link.id.0));
        }
    }
}

/// Whether two views tell of the same address in all that cannot be changed while it is there.
fn same_address(a: &(NicId, Address), b: &(NicId, Address)) -> bool {
    let key = |(nic, own): &(NicId, Address)| {
        let flags = own.flags & AddressFlags::NOPREFIXROUTE;
        (*nic, own.cidr, own.peer, own.broadcast, own.label.clone(), own.scope, flags, own.metric)
    };
    key(a) == key(b)
}

/// Whether two moments, told at different times, are one.
fn same_moment(a: Option<Instant>, b: Option<Instant>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.nanos().abs_diff(b.nanos()) < MOMENT_NS,
        (a, b) => a == b,
    }
}

/// Assigns an address for which the host has asked whether somebody has it. Where it still asks it hears no answer any more, so
/// that the stack asks.
fn assign(stack: &Stack, nic: NicId, address: &Address) -> Result<(), AddressError> {
    let flags = address.flags - AddressFlags::TENTATIVE;
    if address.ip().is_ipv4() || flags != address.flags {
        return stack.assign_address(nic, Address { flags, ..address.clone() });
    }
    let unasked = Address { flags: flags | AddressFlags::NODAD, ..address.clone() };
    stack.assign_address(nic, unasked)?;
    stack.change_address(nic, address.ip(), |there| there.flags = flags)
}

fn addresses(stack: &Stack, old: &View, new: &View, problems: &mut Vec<String>) {
    for gone in &old.addresses {
        // What routers advertise the stack hears itself, and the host no more: there it ends.
        if gone.1.made_by == BY_ADVERTISEMENT {
            continue;
        }
        if !new.addresses.iter().any(|own| same_address(own, gone)) {
            // It may have ended, or gone with the first address of its subnet.
            let _ = stack.remove_address(gone.0, gone.1.cidr);
        }
    }
    for own in &new.addresses {
        let (nic, address) = own;
        let was = old.addresses.iter().find(|was| same_address(was, own));
        match assign(stack, *nic, address) {
            Ok(()) => {}
            Err(AddressError::Exists) => {
                let lives = |was: &&(NicId, Address)| {
                    same_moment(was.1.valid_until, address.valid_until)
                        && same_moment(was.1.preferred_until, address.preferred_until)
                };
                if was.filter(lives).is_none() {
                    // It is there, as was just told.
                    let _ = stack.change_address(*nic, address.ip(), |there| {
                        (there.valid_until, there.preferred_until) =
                            (address.valid_until, address.preferred_until);
                    });
                }
            }
            Err(error) => {
                problems.push(format!("the address {} has no effect: {error}", address.cidr));
            }
        }
    }
}

fn rules(stack: &Stack, old: &View, new: &View, problems: &mut Vec<String>) {
    for gone in old.rules.iter().filter(|rule| !new.rules.contains(rule)) {
        let _ = stack.delete_rule(gone.family, |rule| rule == gone);
    }
    for rule in new.rules.iter().filter(|rule| !old.rules.contains(rule)) {
        if let Err(error) = stack.add_rule(rule.clone()) {
            let priority = rule.priority;
            problems.push(format!("the rule of priority {priority} has no effect: {error}"));
        }
    }
}

/// A route without what changes by itself.
fn timeless(route: &Route) -> Route {
    Route { expires: None, ..route.clone() }
}

/// Routes by what they are for, so that a long table is compared with another in one pass.
struct Known(HashMap<(u32, IpCidr), Vec<Route>>);

impl Known {
    fn new<'a>(routes: impl IntoIterator<Item = &'a Route>) -> Known {
        let mut all: HashMap<_, Vec<Route>> = HashMap::new();
        for route in routes {
            all.entry((route.table, route.dst)).or_default().push(timeless(route));
        }
        Known(all)
    }

    fn has(&self, route: &Route) -> bool {
        let same = self.0.get(&(route.table, route.dst));
        same.is_some_and(|same| same.contains(&timeless(route)))
    }
}

fn routes(
    stack: &Stack,
    (old, made): (&[Route], &[Route]),
    new: &[Route],
    problems: &mut Vec<String>,
) {
    let wanted = Known::new(new);
    // Routes by router advertisements end by themselves where the advertisements do: the stack hears these itself.
    let learned = |route: &Route| route.protocol == Protocol::RA;
    for gone in old.iter().chain(made) {
        if !wanted.has(gone) && !learned(gone) {
            // It may have gone with its interface or address.
            let same = |route: &Route| timeless(route) == timeless(gone);
            let _ = stack.delete_route(gone.table, gone.dst, same);
        }
    }
    let (before, there) = (Known::new(old), Known::new(&stack.routes()));
    let fresh = |route: &&Route| !there.has(route) && (!learned(route) || !before.has(route));
    // A gateway must be on a link: routes to links first, then once more those that lead over others.
    let (near, far): (Vec<&Route>, Vec<&Route>) =
        new.iter().filter(fresh).partition(|route| route.via().is_none());
    let mut left: Vec<&Route> = near.into_iter().chain(far).collect();
    loop {
        let count = left.len();
        let mut errors = Vec::new();
        left.retain(|route| match place(stack, route) {
            Ok(()) => false,
            Err(error) => {
                errors.push(format!("the route to {} has no effect: {error}", route.dst));
                true
            }
        });
        if left.is_empty() || left.len() == count {
            return problems.extend(errors);
        }
    }
}

fn place(stack: &Stack, route: &Route) -> Result<(), RouteError> {
    use netstack::ip::route::Placement;
    match stack.place_route(route.clone(), Placement::Append) {
        Ok(_) | Err(RouteError::Exists) => Ok(()),
        Err(error) => Err(error),
    }
}

fn neighbours(net: &Arc<NetNamespace>, old: &View, new: &View, problems: &mut Vec<String>) {
    let stack = net.stack();
    let key = |(nic, own): &(NicId, Neighbour)| (*nic, own.address, own.mac, own.proxy, own.router);
    let within = |all: &[(NicId, Neighbour)], one: &(NicId, Neighbour)| {
        all.iter().any(|other| key(other) == key(one))
    };
    for gone in old.neighbours.iter().filter(|gone| !within(&new.neighbours, gone)) {
        // With its interface it is gone already.
        let _ = match gone.1.proxy {
            true => stack.remove_proxy(gone.0, gone.1.address),
            false => stack.remove_neighbour(gone.0, gone.1.address),
        };
    }
    for own in new.neighbours.iter().filter(|own| !within(&old.neighbours, own)) {
        if let Err(error) = stack.set_neighbour(net.now(), own.0, own.1) {
            problems.push(format!("the neighbour {} has no effect: {error}", own.1.address));
        }
    }
}
