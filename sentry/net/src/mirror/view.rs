//! What stands in a namespace, as the stack's own values: read from rtnetlink's messages of the host, or from a stack.

use std::sync::Arc;

use core::time::Duration;

use netstack::ip::neigh::{Neighbour, State};
use netstack::ip::route::{Protocol, Route, RouteType, TABLE_LOCAL};
use netstack::ip::{Address, AddressFlags, Family, Rule};
use netstack::link::{MacAddr, NicId};
use netstack::stack::NicState;
use netstack_host::netns::Snapshot;
use sentry_abi::Errno;
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET, AF_INET6};
use sentry_kernel::cred::Credentials;
use zerocopy::FromBytes;

use crate::netlink::host::{self, Context, Refusal, Request, Strictness};
use crate::netns::NetNamespace;

/// struct rta_cacheinfo: where its hundredths of a second until the end stand.
const EXPIRES_AT: usize = 8;
/// Made by an ICMP redirect: the stack hears these itself.
const FLEETING: Protocol = Protocol::REDIRECT;

/// An interface as far as it changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkView {
    /// Its number.
    pub id: NicId,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Up or down.
    pub state: NicState,
}

/// What stands in a namespace. Loopback addresses, and the routes that come with addresses of the host itself, are left out: the
/// stack has its own.
#[derive(Clone, Default, Debug)]
pub struct View {
    /// The interfaces but loopback.
    pub links: Vec<LinkView>,
    /// Addresses, the first of a subnet first.
    pub addresses: Vec<(NicId, Address)>,
    /// Routes of all tables.
    pub routes: Vec<Route>,
    /// Rules by rising priority.
    pub rules: Vec<Rule>,
    /// Neighbours that were set by hand, and addresses that are answered for.
    pub neighbours: Vec<(NicId, Neighbour)>,
}

impl View {
    /// An interface is gone.
    pub fn forget(&mut self, nic: NicId) {
        self.links.retain(|link| link.id != nic);
        self.addresses.retain(|(id, _)| *id != nic);
        self.routes.retain(|route| !route.uses(nic));
        self.neighbours.retain(|(id, _)| *id != nic);
    }

    /// Takes what `other` says of some interfaces.
    pub fn adopt(&mut self, other: &View, nics: impl Iterator<Item = NicId>) {
        for nic in nics {
            self.links.extend(other.links.iter().filter(|link| link.id == nic));
            self.addresses.extend(other.addresses.iter().filter(|(id, _)| *id == nic).cloned());
            self.routes.extend(other.routes.iter().filter(|route| route.uses(nic)).cloned());
        }
    }
}

/// Whether a route is one that the stack makes and keeps by itself, or learns by itself.
fn is_own(route: &Route, loopback: Option<NicId>) -> bool {
    let kernel = route.protocol == Protocol::KERNEL;
    let on_loopback = loopback.is_some_and(|loopback| route.uses(loopback));
    kernel && (route.table == TABLE_LOCAL || on_loopback || route.hops.is_empty())
        || route.protocol == FLEETING
}

/// What the stack has.
pub fn of_stack(net: &Arc<NetNamespace>) -> View {
    let stack = net.stack();
    let loopback = host::loopback_of(stack);
    let nics = stack.nics();
    let links = nics.iter().filter(|nic| Some(nic.id) != loopback);
    let mut addresses = stack.addresses();
    addresses.retain(|(_, own)| !own.ip().is_loopback());
    for (id, own) in &mut addresses {
        unlabel(own, nics.iter().find(|nic| nic.id == *id).map(|nic| nic.name.as_str()));
    }
    let mut routes = stack.routes();
    routes.retain(|route| !is_own(route, loopback));
    let rules = [Family::V4, Family::V6].into_iter().flat_map(|family| stack.rules(family));
    let mut neighbours = stack.neighbours();
    neighbours.retain(|(_, neighbour)| neighbour.proxy || neighbour.state == State::Permanent);
    View {
        links: links.map(|nic| LinkView { id: nic.id, mtu: nic.mtu, state: nic.state }).collect(),
        addresses,
        routes,
        rules: rules.collect(),
        neighbours,
    }
}

/// An address without a label has that of its interface.
fn unlabel(own: &mut Address, nic: Option<&str>) {
    if own.label.as_deref() == nic {
        own.label = None;
    }
}

/// What the host tells; what the stack has no place for is told to `problems`.
pub fn parse(net: &Arc<NetNamespace>, snapshot: &Snapshot, problems: &mut Vec<String>) -> View {
    let creds = Credentials::root();
    let cx = Context { net, now: net.now(), creds: &creds, strictness: Strictness::Liberal };
    let nics = net.stack().nics();
    let here = |index: u32| nics.iter().any(|nic| nic.id == NicId(index));
    let links = snapshot.links.iter().filter(|link| !link.is_loopback() && here(link.ifindex));
    let state = |up| if up { NicState::Up } else { NicState::Down };
    let links = links.map(|link| LinkView {
        id: NicId(link.ifindex),
        mtu: link.mtu,
        state: state(link.up),
    });
    let mut read = Reader { cx, problems };
    View {
        links: links.collect(),
        addresses: read.all(&snapshot.addresses, "address", address),
        routes: read.all(&snapshot.routes, "route", route),
        rules: read.all(&snapshot.rules, "rule", rule),
        neighbours: read.all(&snapshot.neighbours, "neighbour", neighbour),
    }
}

fn is_internet(family: i32) -> bool {
    matches!(family, AF_INET | AF_INET6)
}

struct Reader<'a> {
    cx: Context<'a>,
    problems: &'a mut Vec<String>,
}

impl Reader<'_> {
    /// Reads the messages of one kind; what is about an interface that the stack does not have is left out.
    fn all<T>(
        &mut self,
        messages: &[Vec<u8>],
        what: &str,
        read: impl Fn(&Context<'_>, &Request<'_>) -> Result<Option<T>, Refusal>,
    ) -> Vec<T> {
        let mut all = Vec::new();
        for bytes in messages {
            let Some((request, _)) = Request::next(bytes) else { continue };
            match read(&self.cx, &request) {
                Ok(found) => all.extend(found),
                Err(refusal) if refusal.errno == Errno::ENODEV => {}
                Err(refusal) => {
                    let why = refusal.message.map_or(refusal.errno.to_string(), str::to_owned);
                    self.problems.push(format!(
                        "a {what} of the network namespace has no effect inside: {why}"
                    ));
                }
            }
        }
        all
    }
}

fn address(cx: &Context<'_>, request: &Request<'_>) -> Result<Option<(NicId, Address)>, Refusal> {
    let fixed: IfAddrMsg = request.fixed()?;
    let host::Named { mut address, nic } = host::address(cx, request)?;
    let attributes = request.attributes::<IfAddrMsg>(&[], Strictness::Liberal)?;
    let told = attributes.number(IFA_FLAGS).unwrap_or(u32::from(fixed.flags));
    let told = AddressFlags::from_bits_truncate(told);
    let v6 = address.ip().is_ipv6();
    if address.ip().is_loopback() || (v6 && told.contains(AddressFlags::DADFAILED)) {
        return Ok(None);
    }
    if v6 {
        address.flags |= told & AddressFlags::TENTATIVE;
    }
    unlabel(&mut address, Some(&nic.name));
    Ok(Some((nic.id, address)))
}

/// The message without attributes of some numbers.
fn without(request: &Request<'_>, kinds: &[u16]) -> Vec<u8> {
    let start = size_of::<NlMsgHdr>() + size_of::<RtMsg>();
    let mut kept = request.message.get(..start).unwrap_or_default().to_vec();
    let mut rest = request.message.get(start..).unwrap_or_default();
    while let Ok((header, _)) = RtAttr::read_from_prefix(rest) {
        let whole = usize::from(header.len).next_multiple_of(4);
        let Some(attribute) = rest.get(..usize::from(header.len)).filter(|all| all.len() >= 4)
        else {
            break;
        };
        if !kinds.contains(&(header.kind & NLA_TYPE_MASK)) {
            kept.extend_from_slice(attribute);
            kept.resize(kept.len().next_multiple_of(4), 0);
        }
        rest = rest.get(whole..).unwrap_or_default();
    }
    kept
}

fn route(cx: &Context<'_>, request: &Request<'_>) -> Result<Option<Route>, Refusal> {
    let fixed: RtMsg = request.fixed()?;
    // Exceptions of paths are no routes; groups of routers and other families (MPLS) have none here.
    let family = request.family();
    if fixed.flags & RTM_F_CLONED != 0 || !is_internet(family) {
        return Ok(None);
    }
    // A route by the number of its ways tells the ways too.
    let bytes = without(request, &[RTA_NH_ID]);
    let body = bytes.get(size_of::<NlMsgHdr>()..).unwrap_or_default();
    let request = Request { header: request.header, message: &bytes, body };
    let mut route = host::route(cx, &request, family)?;
    let attributes = request.attributes::<RtMsg>(&[], Strictness::Liberal)?;
    let cache = attributes.find(RTA_CACHEINFO).map(|cache| cache.value).unwrap_or_default();
    let left = cache.get(EXPIRES_AT..).and_then(|bytes| bytes.first_chunk());
    let left = left.map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    if left > 0 && route.expires.is_none() {
        route.expires = Some(cx.now + Duration::from_millis(u64::from(left) * 10));
    }
    let refuses = !matches!(
        route.kind,
        RouteType::Unicast
            | RouteType::Local
            | RouteType::Broadcast
            | RouteType::Anycast
            | RouteType::Multicast
    );
    if refuses {
        route.hops.clear();
    }
    let topology = cx.stack().topology();
    if !route.hops.iter().all(|hop| topology.nic(hop.nic).is_some()) {
        return Ok(None);
    }
    let loopback = topology.nics().find(|nic| nic.is_loopback()).map(|nic| nic.id);
    Ok(Some(route).filter(|route| !is_own(route, loopback)))
}

fn rule(_: &Context<'_>, request: &Request<'_>) -> Result<Option<Rule>, Refusal> {
    // Multicast routing has rules of families of its own.
    match is_internet(request.family()) {
        true => host::rule(request).map(|(rule, ..)| Some(rule)),
        false => Ok(None),
    }
}

fn neighbour(
    cx: &Context<'_>,
    request: &Request<'_>,
) -> Result<Option<(NicId, Neighbour)>, Refusal> {
    let fixed: NdMsg = request.fixed()?;
    let proxy = fixed.flags & NTF_PROXY != 0;
    // What the host has learned is learned here too; entries of bridges are of another family.
    if !is_internet(request.family()) || !proxy && fixed.state & NUD_PERMANENT == 0 {
        return Ok(None);
    }
    let told = host::neighbour(cx, request)?;
    let mac = told.attributes.find(NDA_LLADDR).and_then(|mac| mac.value.first_chunk::<6>());
    let router = fixed.flags & NTF_ROUTER != 0;
    let new = Neighbour::new(told.address, mac.map(|mac| MacAddr(*mac)), State::Permanent);
    Ok(Some((told.nic.id, Neighbour { proxy, router, ..new })))
}
