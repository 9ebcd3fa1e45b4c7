//! The hosts and links of a scenario, with addresses and routes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netstack::ip::IpCidr;
use netstack::ip::conf::ConfTarget;
use netstack::ip::conf::Tunables;
use netstack::ip::route::Route;
use netstack::link::NicId;
use netstack::link::fault::{EcnFault, Faults};
use netstack::sim::{HostId, SegmentId, Sim};
use netstack::time::Instant;

use super::plan::{Link, Outage, Plan, Version};
use crate::sysctl;

/// More hosts on a link, links, or flows than this are a mistake.
const MOST: usize = 200;
/// IPv6 does not work below this (RFC 8200 section 5).
const LEAST_MTU: u32 = 1280;
const MOST_MTU: u32 = 65_535;

/// A link, built.
pub(super) struct BuiltLink {
    pub segment: SegmentId,
    faults: Faults,
    down: Vec<Outage>,
    is_down: bool,
    hosts: Vec<usize>,
}

/// A host, built: its interface on each of its links.
struct BuiltHost {
    id: HostId,
    router: bool,
    links: BTreeMap<usize, NicId>,
}

/// All of it.
pub(super) struct World {
    pub sim: Sim,
    pub links: Vec<BuiltLink>,
    names: BTreeMap<String, usize>,
    hosts: Vec<BuiltHost>,
}

/// The name of a link.
pub(super) fn name_of(link: &Link) -> String {
    link.name.clone().unwrap_or_else(|| link.between.join("-"))
}

/// Whether a plan makes sense. Errors: what does not.
pub(super) fn check(plan: &Plan) -> Result<(), String> {
    let ends = plan.link.iter().map(|link| link.between.len());
    let counts = [plan.host.len(), plan.link.len(), plan.flow.len()];
    if counts.into_iter().chain(ends).any(|count| count > MOST) {
        return Err(format!("more than {MOST} hosts, links or flows"));
    }
    let mut linked = BTreeSet::new();
    let mut names = BTreeSet::new();
    for link in &plan.link {
        let name = name_of(link);
        let hosts: BTreeSet<&String> = link.between.iter().collect();
        if hosts.len() < 2 || hosts.len() < link.between.len() {
            return Err(format!("link {name}: it must be between two or more different hosts"));
        }
        if !(LEAST_MTU..=MOST_MTU).contains(&link.mtu) {
            return Err(format!("link {name}: an mtu is {LEAST_MTU} to {MOST_MTU}"));
        }
        if link.burst == 0 || link.burst > 1 && link.loss.0 >= 1.0 {
            return Err(format!(
                "link {name}: burst is a number of frames, with a loss below 100%"
            ));
        }
        if link.down.iter().any(|outage| outage.from >= outage.until) {
            return Err(format!("link {name}: an outage ends before it begins"));
        }
        linked.extend(hosts);
        if !names.insert(name.clone()) {
            return Err(format!("two links are called {name}: give one a name"));
        }
    }
    let stray = plan.host.iter().find(|host| !linked.contains(&host.name));
    if let Some(host) = stray {
        return Err(format!("host {} is on no link", host.name));
    }
    for flow in &plan.flow {
        let stray = [&flow.from, &flow.to].into_iter().find(|host| !linked.contains(host));
        if let Some(host) = stray {
            return Err(format!("a flow names {host}, which is on no link"));
        }
        if flow.times == 0 {
            return Err("a flow of no connection".into());
        }
    }
    Ok(())
}

fn faults(link: &Link) -> Faults {
    Faults {
        delay: link.delay.0,
        jitter: link.jitter.0,
        loss_ppm: link.loss.ppm(),
        loss_burst: link.burst,
        duplicate_ppm: link.duplicate.ppm(),
        reorder_ppm: link.reorder.ppm(),
        reorder_delay: link.reorder_by.0,
        corrupt_ppm: link.corrupt.ppm(),
        rate: link.rate.map(|rate| rate.0 as u64),
        queue: link.queue.0,
        mark_above: link.mark_above.map(|span| span.0),
        ecn: if link.bleach { EcnFault::Bleach } else { EcnFault::None },
    }
}

/// The address of the `place`th host of a link: 10.1.0.1/24 and fd00:1::1/64 are the first of the first.
fn address(link: usize, place: usize, version: Version) -> IpAddr {
    let (link, place) = (link as u16 + 1, place as u16 + 1);
    match version {
        Version::V4 => Ipv4Addr::new(10, link as u8, 0, place as u8).into(),
        Version::V6 => Ipv6Addr::new(0xfd00, link, 0, 0, 0, 0, 0, place).into(),
    }
}

fn prefix(version: Version) -> u8 {
    match version {
        Version::V4 => 24,
        Version::V6 => 64,
    }
}

const VERSIONS: [Version; 2] = [Version::V4, Version::V6];

impl World {
    /// Builds what a checked plan describes. Errors: a host refuses a setting.
    pub(super) fn build(plan: &Plan, seed: u64) -> Result<World, String> {
        let mut world = World {
            sim: Sim::new(seed),
            links: Vec::new(),
            names: BTreeMap::new(),
            hosts: Vec::new(),
        };
        for (number, link) in plan.link.iter().enumerate() {
            let faults = faults(link);
            let segment = world.sim.add_segment(faults);
            let mut hosts = Vec::new();
            for (place, name) in link.between.iter().enumerate() {
                let host = world.host(name);
                let addresses = VERSIONS
                    .map(|version| IpCidr::new(address(number, place, version), prefix(version)));
                let id = world.hosts[host].id;
                let nic = world.sim.attach(id, segment, link.mtu, &addresses);
                world.hosts[host].links.insert(number, nic);
                hosts.push(host);
            }
            let down = link.down.clone();
            world.links.push(BuiltLink { segment, faults, down, is_down: false, hosts });
        }
        for host in &plan.host {
            let Some(at) = world.names.get(&host.name).copied() else { continue };
            let stack = world.sim.stack(world.hosts[at].id).clone();
            if host.router {
                world.hosts[at].router = true;
                let v4 = stack.edit_ipv4_conf(ConfTarget::All, |conf| conf.forwarding = true);
                let v6 = stack.edit_ipv6_conf(ConfTarget::All, |conf| conf.forwarding = true);
                v4.and(v6).map_err(|error| format!("host {}: {error}", host.name))?;
            }
            for (name, value) in &host.sysctl {
                let path = if name.contains('/') { name.clone() } else { name.replace('.', "/") };
                sysctl::set(&stack, &path, &value.to_string())
                    .map_err(|error| format!("host {}: {error}", host.name))?;
            }
        }
        world.route().map(|()| world)
    }

    /// The number of a host, which is made where it is new.
    fn host(&mut self, name: &str) -> usize {
        if let Some(number) = self.names.get(name) {
            return *number;
        }
        let id = self.sim.add_host_with(Tunables::quiet());
        self.hosts.push(BuiltHost { id, router: false, links: BTreeMap::new() });
        self.names.insert(name.to_owned(), self.hosts.len() - 1);
        self.hosts.len() - 1
    }

    /// Gives every host a route to every link, by the fewest routers.
    fn route(&mut self) -> Result<(), String> {
        for host in 0..self.hosts.len() {
            for (link, via, first) in self.ways(host) {
                let nic = self.hosts[host].links[&first];
                let place = self.place(first, via);
                for version in VERSIONS {
                    let dst = IpCidr::new(address(link, 0, version), prefix(version)).network();
                    let route = Route::new(dst, Some(address(first, place, version)), nic);
                    let stack = self.sim.stack(self.hosts[host].id);
                    stack.add_route(route).map_err(|error| format!("a route to {dst}: {error}"))?;
                }
            }
        }
        Ok(())
    }

    /// The links that a host is not on: each with the router on the way, and the link to that router.
    fn ways(&self, host: usize) -> Vec<(usize, usize, usize)> {
        let mut known: BTreeSet<usize> = self.hosts[host].links.keys().copied().collect();
        // Links that are reached, each with the first router and the link to it.
        let mut queue: VecDeque<(usize, Option<(usize, usize)>)> =
            known.iter().map(|link| (*link, None)).collect();
        let mut ways = Vec::new();
        while let Some((link, first)) = queue.pop_front() {
            for router in self.links[link].hosts.iter().filter(|at| **at != host) {
                if !self.hosts[*router].router {
                    continue;
                }
                let first = first.unwrap_or((*router, link));
                for further in self.hosts[*router].links.keys() {
                    if known.insert(*further) {
                        ways.push((*further, first.0, first.1));
                        queue.push_back((*further, Some(first)));
                    }
                }
            }
        }
        ways
    }

    fn place(&self, link: usize, host: usize) -> usize {
        self.links[link].hosts.iter().position(|at| *at == host).unwrap_or_default()
    }

    /// A host by its name.
    pub(super) fn id(&self, name: &str) -> HostId {
        self.hosts[self.names[name]].id
    }

    /// The address of a host as another reaches it: on a link that both are on, or on its first.
    pub(super) fn address_of(&self, name: &str, from: &str, version: Version) -> IpAddr {
        let (host, from) = (self.names[name], self.names[from]);
        let links = &self.hosts[host].links;
        let shared = links.keys().find(|link| self.hosts[from].links.contains_key(link));
        let link = shared.or(links.keys().next()).copied().unwrap_or_default();
        address(link, self.place(link, host), version)
    }

    /// Lets outages begin and end; gives when the next does.
    pub(super) fn outages(&mut self, start: Instant, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for link in &mut self.links {
            let times = |outage: &Outage| (start + outage.from.0, start + outage.until.0);
            let down = link.down.iter().map(times).any(|(from, until)| from <= now && now < until);
            if down != link.is_down {
                link.is_down = down;
                let faults = match down {
                    true => Faults { loss_ppm: 1_000_000, loss_burst: 1, ..link.faults },
                    false => link.faults,
                };
                self.sim.set_faults(link.segment, faults);
            }
            let edges = link.down.iter().map(times).flat_map(|(from, until)| [from, until]);
            next = edges.filter(|at| *at > now).chain(next).min();
        }
        next
    }
}
