//! Multicast groups on the stack's side: IGMP and MLD messages in and out, and what sockets ask for.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::sync::atomic::Ordering;
use std::sync::Arc;

use super::Stack;
use super::nic::Nic;
use super::nic::NicState;
use super::receive::Rx;
use super::redirect::link_local_of;
use super::topology::{ALL_NODES, ALL_NODES_LOCAL, Topology, solicited_node};
use crate::buffer::{Chain, PacketBuffer};
use crate::ip::multicast::{GroupConf, GroupListing, Report, SourceFilter};
use crate::ip::{
    Address, Cast, Family, Fragment, IpError, IpInfo, IpMeta, PROTO_ICMPV6, RouteInfo, RouteQuery,
};
use crate::link::{MacAddr, NicId, NicKind};
use crate::time::{Duration, Instant};
use crate::transport::icmp_echo::encapsulate;
use crate::wire::checksum;
use crate::wire::group::{Query, Record, igmp, mld, report_body};
use crate::wire::icmp::Icmp;
use crate::wire::ipv4_options::Options;
use crate::wire::ipv6::{self, Ipv6, NEXT_HOP_BY_HOP};

/// Internet group management.
pub(super) const PROTO_IGMP: u8 = 2;
/// All hosts on the link (RFC 1112 section 4).
const ALL_SYSTEMS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// Where reports of IGMPv3 go.
const IGMPV3_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
/// Where leaves of IGMPv2 go.
const ALL_ROUTERS_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
/// Where reports of MLDv2 go.
const MLDV2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// Where a Done of MLDv1 goes.
const ALL_ROUTERS_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// RFC 3376 section 4: every message has precedence "Internetwork Control".
const TOS: u8 = 0xc0;
/// The router alert option of IPv4 (RFC 2113).
const ROUTER_ALERT_V4: [u8; 4] = [148, 4, 0, 0];
/// A hop-by-hop header with the router alert for MLD (RFC 2711), before ICMPv6.
const ROUTER_ALERT_V6: [u8; 8] = [PROTO_ICMPV6, 0, 5, 2, 0, 0, 1, 0];
/// A message of group management is small; what lies beyond is not read.
const MAX_BODY: usize = 1500;

impl Topology {
    /// What an interface's tunables say of group management.
    pub(super) fn group_conf(&self, nic: NicId, family: Family) -> GroupConf {
        let (ip, own) = (&self.tunables().ip, self.of_nic(nic));
        let millis = |n: u32| Duration::from_millis(u64::from(n));
        match family {
            Family::V4 => GroupConf {
                robustness: ip.igmp_qrv,
                interval: millis(own.ipv4.igmpv3_unsolicited_report_interval),
                old_interval: millis(own.ipv4.igmpv2_unsolicited_report_interval),
                forced: match self.tunables().ipv4_all.force_igmp_version {
                    0 => own.ipv4.force_igmp_version,
                    all => all,
                },
                link_local: ip.igmp_link_local_mcast_reports,
            },
            Family::V6 => GroupConf {
                robustness: ip.mld_qrv,
                interval: millis(own.ipv6.mldv2_unsolicited_report_interval),
                old_interval: millis(own.ipv6.mldv1_unsolicited_report_interval),
                forced: own.ipv6.force_mld_version,
                link_local: ip.mld_link_local_mcast_reports,
            },
        }
    }

    /// Joins the groups that everybody belongs to: all hosts, all nodes.
    pub(super) fn join_first_groups(&self, nic: &Nic) {
        let all: [IpAddr; 3] = [ALL_SYSTEMS.into(), ALL_NODES.into(), ALL_NODES_LOCAL.into()];
        let mut groups = nic.groups.lock();
        for group in all {
            let conf = self.group_conf(nic.id, Family::of(group));
            groups.change(group, (None, Some(&SourceFilter::any())), &conf);
        }
    }

    /// Joins and leaves the solicited-node groups of addresses that came and went (RFC 4291 section 2.8).
    pub(super) fn follow_addresses(&self, nic: &Nic, before: &[Address], after: &[Address]) {
        if nic.is_loopback() {
            // Nobody asks for neighbours there (Linux's addrconf_join_solict).
            return;
        }
        let conf = self.group_conf(nic.id, Family::V6);
        let any = SourceFilter::any();
        let only = |these: &[Address], those: &[Address]| -> Vec<Ipv6Addr> {
            let gone = these.iter().filter(|own| !those.iter().any(|other| other.ip() == own.ip()));
            gone.filter_map(|own| match own.ip() {
                IpAddr::V6(own) => Some(own),
                IpAddr::V4(_) => None,
            })
            .collect()
        };
        let mut groups = nic.groups.lock();
        for own in only(after, before) {
            groups.change(solicited_node(own).into(), (None, Some(&any)), &conf);
        }
        for own in only(before, after) {
            groups.change(solicited_node(own).into(), (Some(&any), None), &conf);
        }
        drop(groups);
        let mut autoconf = nic.autoconf.lock();
        only(before, after).into_iter().for_each(|own| autoconf.forget(own));
    }

    /// The interface came up: its groups are told anew. Or it went down: nothing is told.
    pub(super) fn regroup(&self, nic: &Nic, state: NicState) {
        let mut groups = nic.groups.lock();
        match state {
            NicState::Down => {
                groups.silence();
                nic.autoconf.lock().clear();
            }
            NicState::Up => {
                for family in [Family::V4, Family::V6] {
                    groups.reannounce(family, &self.group_conf(nic.id, family));
                }
                nic.announce.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// The groups of one interface, for listings.
#[derive(Clone, Debug)]
pub struct Memberships {
    /// The interface.
    pub nic: NicId,
    /// Its name.
    pub name: String,
    /// What it carries.
    pub kind: NicKind,
    /// The version of IGMP that is spoken.
    pub igmp_version: u8,
    /// The groups of both families, by address.
    pub groups: Vec<GroupListing>,
    /// The link-layer addresses that its device is told to listen to besides.
    pub listened: Vec<MacAddr>,
}

impl Stack {
    /// The multicast groups of all interfaces.
    pub fn memberships(&self, now: Instant) -> Vec<Memberships> {
        let topology = self.topology();
        let of_nic = |nic: &Arc<Nic>| {
            let conf = topology.group_conf(nic.id, Family::V4);
            let groups = nic.groups.lock();
            Memberships {
                nic: nic.id,
                name: nic.name.clone(),
                kind: nic.kind,
                igmp_version: groups.version(now, Family::V4, &conf),
                groups: groups.list(),
                listened: nic.listened.lock().iter().copied().collect(),
            }
        };
        topology.nics().map(of_nic).collect()
    }

    /// Changes what a socket wants of a group on an interface: from nothing or a filter to another or nothing. The interface
    /// hears what all sockets want together, and the link's routers are told.
    ///
    /// # Errors
    ///
    /// `NoDevice` without such an interface or a route to the group, `Invalid` when it is no group, `NoBuffers` when the
    /// interface belongs to too many.
    pub(super) fn change_groups(
        &self,
        now: Instant,
        (group, nic): (IpAddr, Option<NicId>),
        (from, to): (Option<&SourceFilter>, Option<&SourceFilter>),
    ) -> Result<NicId, IpError> {
        if !group.is_multicast() {
            return Err(IpError::Invalid);
        }
        let topology = self.topology();
        let id = match nic {
            Some(id) => id,
            None => {
                let query = RouteQuery::to(group);
                self.find_route(now, &topology, &query).map_err(|_| IpError::NoDevice)?.nic
            }
        };
        let nic = topology.nic(id).ok_or(IpError::NoDevice)?;
        let conf = topology.group_conf(id, Family::of(group));
        if !nic.groups.lock().change(group, (from, to), &conf) {
            return Err(IpError::NoBuffers);
        }
        self.tell_routers(now, &topology, nic);
        self.drain_looped(now);
        Ok(id)
    }

    /// Sends the reports that are due on an interface.
    pub(super) fn tell_routers(&self, now: Instant, topology: &Topology, nic: &Arc<Nic>) {
        for family in [Family::V4, Family::V6] {
            let conf = topology.group_conf(nic.id, family);
            let reports = nic.groups.lock().on_timer(now, family, &conf);
            if nic.is_up() && !nic.is_loopback() {
                reports.into_iter().for_each(|report| self.send_report(now, topology, nic, report));
            }
        }
        let deadline = nic.groups.lock().next_deadline();
        self.schedule(deadline);
    }

    fn send_report(&self, now: Instant, topology: &Topology, nic: &Arc<Nic>, report: Report) {
        match report {
            Report::Records(Family::V4, records) => {
                for records in packed(records, nic.mtu() as usize - 20 - 4 - 8) {
                    let body = report_body(&records);
                    self.send_igmp(now, topology, nic, (igmp::REPORT_V3, IGMPV3_ROUTERS), &body);
                }
            }
            Report::Records(Family::V6, records) => {
                for records in packed(records, nic.mtu_v6() as usize - 40 - 8 - 8) {
                    let body = report_body(&records);
                    self.send_mld(now, topology, nic, (mld::REPORT_V2, MLDV2_ROUTERS), &body);
                }
            }
            Report::Old(IpAddr::V4(group), version) => {
                let kind = if version == 1 { igmp::REPORT_V1 } else { igmp::REPORT_V2 };
                self.send_igmp(now, topology, nic, (kind, group), &group.octets());
            }
            Report::Leave(IpAddr::V4(group)) => {
                let to = (igmp::LEAVE, ALL_ROUTERS_V4);
                self.send_igmp(now, topology, nic, to, &group.octets());
            }
            Report::Old(IpAddr::V6(group), _) => {
                self.send_mld(now, topology, nic, (mld::REPORT, group), &old_body(group));
            }
            Report::Leave(IpAddr::V6(group)) => {
                let to = (mld::DONE, ALL_ROUTERS_V6);
                self.send_mld(now, topology, nic, to, &old_body(group));
            }
        }
    }

    /// Sends an IGMP message: hop limit 1, with a router alert.
    fn send_igmp(
        &self,
        now: Instant,
        topology: &Topology,
        nic: &Arc<Nic>,
        (kind, dst): (u8, Ipv4Addr),
        body: &[u8],
    ) {
        let scope = crate::ip::route::Scope::LINK;
        let src = topology.select_v4(nic.id, Ipv4Addr::UNSPECIFIED, scope);
        let src = src.filter(|src| topology.address_of(nic.id, *src).is_some());
        let src = src.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let mut message = [&[kind, 0, 0, 0], body].concat();
        let sum = checksum::of(&message).to_be_bytes();
        message[2..4].copy_from_slice(&sum);
        let options = Options::parse(&ROUTER_ALERT_V4).unwrap_or(Options::NONE);
        let meta = IpMeta {
            ttl: Some(1),
            tos: TOS,
            fragment: Fragment::Never,
            multicast_loop: false,
            options,
            ..IpMeta::new(PROTO_IGMP)
        };
        let route = link_route(nic, src, dst.into());
        let mut packet = PacketBuffer::from_slice(&message);
        self.add_header(now, topology, (&route, &meta), &mut packet);
        self.shared.stats.ip.out_requests.inc();
        // A full or broken link drops it; reports repeat themselves.
        let _ = self.emit(now, nic, &route, packet);
    }

    /// Sends an MLD message: from the link-local address, or from none while there is none (RFC 3810 section 5.2.13).
    fn send_mld(
        &self,
        now: Instant,
        topology: &Topology,
        nic: &Arc<Nic>,
        (kind, dst): (u8, Ipv6Addr),
        body: &[u8],
    ) {
        if topology.of_nic(nic.id).ipv6.disable_ipv6 {
            return;
        }
        let src = link_local_of(topology, nic.id).unwrap_or(Ipv6Addr::UNSPECIFIED);
        let (head, rest) = body.split_at(body.len().min(4));
        let mut four = [0; 4];
        four[..head.len()].copy_from_slice(head);
        let header = Icmp::new(kind, 0, four);
        let mut packet = encapsulate(header, src.into(), dst.into(), Chain::from(rest.to_vec()));
        packet.complete_checksum();
        packet.prepend_slice(&ROUTER_ALERT_V6);
        Ipv6 {
            traffic_class: 0,
            flow_label: 0,
            payload_len: packet.len() as u16,
            next_header: NEXT_HOP_BY_HOP,
            hop_limit: 1,
            src,
            dst,
        }
        .emit(packet.prepend::<{ ipv6::HEADER_LEN }>());
        self.shared.stats.icmp6.went(kind);
        self.shared.stats.ip6.out_requests.inc();
        let _ = self.emit(now, nic, &link_route(nic, src.into(), dst.into()), packet);
    }

    /// Takes an IGMP message; `packet` begins at its type.
    pub(super) fn receive_igmp(&self, rx: &Rx<'_>, info: &IpInfo, packet: &PacketBuffer) {
        let bytes = packet.to_vec_up_to(MAX_BODY);
        if packet.sum_from(0).finish() != 0 || rx.nic.is_loopback() {
            return;
        }
        match bytes.first() {
            Some(&igmp::QUERY) => {
                let query = Query::parse_igmp(&bytes);
                // RFC 2236 section 2.5 and RFC 3376 section 4.1.12: general queries go to all systems, others to their group.
                let query = query.filter(|query| {
                    query.group.is_none_or(|group| info.dst == group || info.cast == Cast::Unicast)
                });
                if let Some(query) = query {
                    self.asked(rx, Family::V4, &query);
                }
            }
            Some(&(igmp::REPORT_V1 | igmp::REPORT_V2)) => {
                if let Some(group) = bytes.get(4..8).and_then(|at| at.first_chunk::<4>()) {
                    rx.nic.groups.lock().heard_report(Ipv4Addr::from(*group).into());
                }
            }
            _ => {}
        }
    }

    /// Takes an MLD message; `body` begins after its checksum. Answers whether it was valid.
    pub(super) fn receive_mld(
        &self,
        rx: &Rx<'_>,
        info: &IpInfo,
        kind: u8,
        body: &[u8],
    ) -> Option<()> {
        let IpAddr::V6(src) = info.src else { return None };
        // RFC 3810 section 5.1.14: "the Source Address of the message is a link-local address" and the hop limit 1.
        if !src.is_unicast_link_local() || info.ttl != 1 {
            return None;
        }
        match kind {
            mld::QUERY => self.asked(rx, Family::V6, &Query::parse_mld(body)?),
            mld::REPORT => {
                let group = body.get(4..20)?.first_chunk::<16>()?;
                rx.nic.groups.lock().heard_report(Ipv6Addr::from(*group).into());
            }
            _ => {}
        }
        Some(())
    }

    fn asked(&self, rx: &Rx<'_>, family: Family, query: &Query) {
        let conf = rx.topology.group_conf(rx.nic.id, family);
        let mut groups = rx.nic.groups.lock();
        groups.asked(rx.now, family, query, &conf);
        let deadline = groups.next_deadline();
        drop(groups);
        self.schedule(deadline);
    }
}

/// The body of an old MLD message: four bytes of the header, then the group.
fn old_body(group: Ipv6Addr) -> Vec<u8> {
    [&[0; 4][..], &group.octets()].concat()
}

/// The way of a message that stays on the link.
fn link_route(nic: &Nic, src: IpAddr, dst: IpAddr) -> RouteInfo {
    let mtu = nic.mtu();
    let metrics = crate::ip::route::Metrics::default();
    let (next_hop, nic, max_gso, cast) = (dst, nic.id, 0, Cast::Multicast);
    let holds_back = false;
    RouteInfo { src, dst, next_hop, nic, mtu, link_mtu: mtu, max_gso, cast, holds_back, metrics }
}

/// Records in packets of at most `room` bytes. RFC 3376 section 4.2.16: a record of sources that are all but heard cannot be
/// split and is cut; the others are.
fn packed(records: Vec<Record>, room: usize) -> Vec<Vec<Record>> {
    use crate::wire::group::RecordType::{ChangeToExclude, ModeIsExclude};
    let mut packets: Vec<Vec<Record>> = Vec::new();
    let mut left = 0;
    for mut record in records {
        loop {
            let width = if record.group.is_ipv4() { 4 } else { 16 };
            let most = (room.saturating_sub(4 + width) / width).max(1);
            let rest = match record.sources.len() > most {
                true => record.sources.split_off(most),
                false => Vec::new(),
            };
            let (kind, group) = (record.kind, record.group);
            if packets.is_empty() || record.len() > left {
                packets.push(Vec::new());
                left = room;
            }
            left -= record.len().min(left);
            if let Some(packet) = packets.last_mut() {
                packet.push(record);
            }
            if rest.is_empty() || matches!(kind, ModeIsExclude | ChangeToExclude) {
                break;
            }
            record = Record { kind, group, sources: rest };
        }
    }
    packets
}
