//! The tunables of the Internet layer, by Linux's names and with Linux's defaults (`Documentation/networking/ip-sysctl.rst`).
//! What Linux keeps per interface is a struct that exists once for each interface, once for "all" and once for "default".

use core::net::Ipv6Addr;

use super::Family;
use crate::time::Duration;

/// Which instance of a per-interface configuration is meant (`/proc/sys/net/ipv4/conf/...`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfTarget {
    /// `all`
    All,
    /// `default`: what a new interface begins with.
    Default,
    /// One interface.
    Nic(crate::link::NicId),
}

/// `net.ipv4.conf.*`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4Conf {
    /// Takes packets with a source address of this host.
    pub accept_local: bool,
    /// Follows ICMP redirects.
    pub accept_redirects: bool,
    /// Learns neighbours from gratuitous ARP: 0 no, 1 yes, 2 in the same subnet.
    pub arp_accept: u8,
    /// Which source address a question carries: 0 any, 1 of the target's subnet, 2 the best.
    pub arp_announce: u8,
    /// Answers only questions whose sender is routed over this interface.
    pub arp_filter: bool,
    /// Which questions are answered: 0 to 3 and 8.
    pub arp_ignore: u8,
    /// Announces addresses when the interface comes up or changes its address.
    pub arp_notify: bool,
    /// Ignores gratuitous ARP.
    pub drop_gratuitous_arp: bool,
    /// Ignores unicast IP packets in multicast or broadcast frames.
    pub drop_unicast_in_l2_multicast: bool,
    /// Speaks this version of IGMP only; 0 for what the querier speaks.
    pub force_igmp_version: u8,
    /// Forwards packets that come in here.
    pub forwarding: bool,
    /// How long after joining a v1 or v2 report is repeated, in milliseconds.
    pub igmpv2_unsolicited_report_interval: u32,
    /// How long after a change a v3 report is repeated, in milliseconds.
    pub igmpv3_unsolicited_report_interval: u32,
    /// Passes broadcasts to a subnet on; only where "all" agrees.
    pub bc_forwarding: bool,
    /// Counts and logs impossible addresses.
    pub log_martians: bool,
    /// Makes the next secondary address the primary one when that goes.
    pub promote_secondaries: bool,
    /// Answers questions for addresses that are routed elsewhere.
    pub proxy_arp: bool,
    /// Routes 127.0.0.0/8 as any other prefix.
    pub route_localnet: bool,
    /// Checks that a source is routed where it came from: 0 no, 1 over the same interface, 2 anywhere.
    pub rp_filter: u8,
    /// Follows only redirects to gateways that are known.
    pub secure_redirects: bool,
    /// Sends redirects when it forwards.
    pub send_redirects: bool,
    /// Takes all on the link as neighbours of one another, whatever their subnet.
    pub shared_media: bool,
}

impl Default for Ipv4Conf {
    fn default() -> Ipv4Conf {
        Ipv4Conf {
            accept_local: false,
            accept_redirects: true,
            arp_accept: 0,
            arp_announce: 0,
            arp_filter: false,
            arp_ignore: 0,
            arp_notify: false,
            drop_gratuitous_arp: false,
            drop_unicast_in_l2_multicast: false,
            force_igmp_version: 0,
            forwarding: false,
            igmpv2_unsolicited_report_interval: 10_000,
            igmpv3_unsolicited_report_interval: 1000,
            bc_forwarding: false,
            log_martians: false,
            promote_secondaries: false,
            proxy_arp: false,
            route_localnet: false,
            rp_filter: 0,
            secure_redirects: true,
            send_redirects: true,
            shared_media: true,
        }
    }
}

/// `net.ipv6.conf.*`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6Conf {
    /// 0 or less: no duplicate address detection; 1: yes; 2: a duplicate link-local address also ends IPv6 on the interface.
    pub accept_dad: i32,
    /// Takes router advertisements: 0 no, 1 unless it forwards, 2 always.
    pub accept_ra: u8,
    /// Learns default routers from them.
    pub accept_ra_defrtr: bool,
    /// Takes them also from this host's own link-local addresses.
    pub accept_ra_from_local: bool,
    /// The least hop limit taken from them.
    pub accept_ra_min_hop_limit: u8,
    /// Ignores parts whose lifetime is shorter, in seconds.
    pub accept_ra_min_lft: u32,
    /// Learns the MTU from them.
    pub accept_ra_mtu: bool,
    /// Learns prefixes from them.
    pub accept_ra_pinfo: bool,
    /// The longest prefix of a route information option.
    pub accept_ra_rt_info_max_plen: u8,
    /// The shortest prefix of a route information option.
    pub accept_ra_rt_info_min_plen: u8,
    /// Heeds router preferences.
    pub accept_ra_rtr_pref: bool,
    /// Follows redirects.
    pub accept_redirects: bool,
    /// Learns neighbours from advertisements nobody asked for: 0 no, 1 when it forwards, 2 also of the same subnet.
    pub accept_untracked_na: u8,
    /// How interface identifiers are made: 0 EUI-64, 1 no link-local address, 2 stable and private, 3 the same with a random secret.
    pub addr_gen_mode: u8,
    /// Forms addresses from advertised prefixes.
    pub autoconf: bool,
    /// How often a new address is probed.
    pub dad_transmits: u8,
    /// Speaks no IPv6.
    pub disable_ipv6: bool,
    /// Ignores unicast IP packets in multicast frames.
    pub drop_unicast_in_l2_multicast: bool,
    /// Ignores neighbour advertisements nobody asked for.
    pub drop_unsolicited_na: bool,
    /// Probes carry a nonce, so that a loop on the link is no conflict (RFC 7527).
    pub enhanced_dad: bool,
    /// Speaks this version of MLD only; 0 for what the querier speaks.
    pub force_mld_version: u8,
    /// Forwards packets that come in here: it is a router.
    pub forwarding: bool,
    /// The hop limit of packets that go out here.
    pub hop_limit: u8,
    /// Tells the link-layer address also to who asked by unicast.
    pub force_tllao: bool,
    /// The traffic class of messages of neighbour discovery.
    pub ndisc_tclass: u8,
    /// Keeps static addresses when the interface goes down.
    pub keep_addr_on_down: bool,
    /// The most addresses formed from prefixes; 0 for any number.
    pub max_addresses: u32,
    /// How much the end of a temporary address is shifted at random, at most, in seconds.
    pub max_desync_factor: u32,
    /// How long after joining a v1 report is repeated, in milliseconds.
    pub mldv1_unsolicited_report_interval: u32,
    /// How long after a change a v2 report is repeated, in milliseconds.
    pub mldv2_unsolicited_report_interval: u32,
    /// The largest IPv6 packet; 0 for the interface's own MTU.
    pub mtu: u32,
    /// Announces addresses when the interface comes up or changes its address.
    pub ndisc_notify: bool,
    /// Uses addresses before their detection is over (RFC 4429).
    pub optimistic_dad: bool,
    /// Answers solicitations for proxied addresses.
    pub proxy_ndp: bool,
    /// The metric of default routes from advertisements.
    pub ra_defrtr_metric: u32,
    /// How often another temporary address is tried.
    pub regen_max_retry: u8,
    /// How long before the end of a temporary address the next is made, at least, in seconds.
    pub regen_min_advance: u32,
    /// How long after the interface comes up a router is asked for, in seconds.
    pub router_solicitation_delay: u32,
    /// The time between two questions, in seconds.
    pub router_solicitation_interval: u32,
    /// The longest time between two questions, in seconds.
    pub router_solicitation_max_interval: u32,
    /// How often routers are asked for; below 0 without end.
    pub router_solicitations: i32,
    /// The secret of stable private addresses.
    pub stable_secret: Option<Ipv6Addr>,
    /// The last 64 bits of the addresses that are made of routers' prefixes (`ip token`); the unspecified address for none.
    pub token: Ipv6Addr,
    /// Ignores fragmented neighbour discovery (RFC 6980).
    pub suppress_frag_ndisc: bool,
    /// How long a temporary address is preferred, in seconds.
    pub temp_prefered_lft: u32,
    /// How long a temporary address is valid, in seconds.
    pub temp_valid_lft: u32,
    /// Temporary addresses: 0 or less none, 1 made, 2 and preferred.
    pub use_tempaddr: i32,
    /// An optimistic address may be a source.
    pub use_optimistic: bool,
    /// Only addresses of the outgoing interface are sources.
    pub use_oif_addrs_only: bool,
}

impl Default for Ipv6Conf {
    fn default() -> Ipv6Conf {
        Ipv6Conf {
            accept_dad: 1,
            accept_ra: 1,
            accept_ra_defrtr: true,
            accept_ra_from_local: false,
            accept_ra_min_hop_limit: 1,
            accept_ra_min_lft: 0,
            accept_ra_mtu: true,
            accept_ra_pinfo: true,
            accept_ra_rt_info_max_plen: 0,
            accept_ra_rt_info_min_plen: 0,
            accept_ra_rtr_pref: true,
            accept_redirects: true,
            accept_untracked_na: 0,
            addr_gen_mode: 0,
            autoconf: true,
            dad_transmits: 1,
            disable_ipv6: false,
            drop_unicast_in_l2_multicast: false,
            drop_unsolicited_na: false,
            enhanced_dad: true,
            force_mld_version: 0,
            forwarding: false,
            hop_limit: 64,
            force_tllao: false,
            ndisc_tclass: 0,
            keep_addr_on_down: false,
            max_addresses: 16,
            max_desync_factor: 600,
            mldv1_unsolicited_report_interval: 10_000,
            mldv2_unsolicited_report_interval: 1000,
            mtu: 0,
            ndisc_notify: false,
            optimistic_dad: false,
            proxy_ndp: false,
            ra_defrtr_metric: 1024,
            regen_max_retry: 3,
            regen_min_advance: 2,
            router_solicitation_delay: 1,
            router_solicitation_interval: 4,
            router_solicitation_max_interval: 3600,
            router_solicitations: -1,
            stable_secret: None,
            token: Ipv6Addr::UNSPECIFIED,
            suppress_frag_ndisc: true,
            temp_prefered_lft: 86_400,
            temp_valid_lft: 604_800,
            use_tempaddr: 0,
            use_optimistic: false,
            use_oif_addrs_only: false,
        }
    }
}

impl Ipv6Conf {
    /// Whether an interface takes router advertisements (Linux's ipv6_accept_ra).
    pub fn takes_adverts(&self) -> bool {
        if self.forwarding { self.accept_ra == 2 } else { self.accept_ra > 0 }
    }

    /// An interface that says nothing by itself: no detection, no question for routers, and deaf to their answers.
    pub fn quiet() -> Ipv6Conf {
        Ipv6Conf { dad_transmits: 0, accept_ra: 0, router_solicitations: 0, ..Ipv6Conf::default() }
    }
}

/// `net.ipv4.neigh.*` and `net.ipv6.neigh.*`: the neighbours of one interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighConf {
    /// How long a confirmation holds, on average.
    pub base_reachable_time: Duration,
    /// How long a stale entry is used before it is probed.
    pub delay_first_probe_time: Duration,
    /// How long an entry nobody uses is kept.
    pub gc_stale_time: Duration,
    /// How long an entry does not change its address again (ARP).
    pub locktime: Duration,
    /// How often everybody is asked again when the known address is silent.
    pub mcast_resolicit: u32,
    /// How often everybody is asked.
    pub mcast_solicit: u32,
    /// The longest time before a proxied question is answered.
    pub proxy_delay: Duration,
    /// The time between questions.
    pub retrans_time: Duration,
    /// How often the known address is asked.
    pub ucast_solicit: u32,
    /// How many bytes wait for one address.
    pub unres_qlen_bytes: usize,
}

impl Default for NeighConf {
    fn default() -> NeighConf {
        NeighConf {
            base_reachable_time: Duration::from_secs(30),
            delay_first_probe_time: Duration::from_secs(5),
            gc_stale_time: Duration::from_secs(60),
            locktime: Duration::ZERO,
            mcast_resolicit: 0,
            mcast_solicit: 3,
            proxy_delay: Duration::from_millis(800),
            retrans_time: Duration::from_secs(1),
            ucast_solicit: 3,
            unres_qlen_bytes: 212_992,
        }
    }
}

impl NeighConf {
    /// Those of IPv4.
    pub fn v4() -> NeighConf {
        NeighConf { locktime: Duration::from_secs(1), ..NeighConf::default() }
    }
}

/// `net.ipv4.neigh.default.gc_*`: the bounds of all neighbour entries of a family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighGc {
    /// How often entries are looked through.
    pub gc_interval: Duration,
    /// With fewer entries nothing is thrown away.
    pub gc_thresh1: usize,
    /// With more entries those are thrown away that were not used for 5 seconds.
    pub gc_thresh2: usize,
    /// There are never more.
    pub gc_thresh3: usize,
}

impl Default for NeighGc {
    fn default() -> NeighGc {
        NeighGc {
            gc_interval: Duration::from_secs(30),
            gc_thresh1: 128,
            gc_thresh2: 512,
            gc_thresh3: 1024,
        }
    }
}

/// Reassembly of one family (`ipfrag_*`, `ip6frag_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragConf {
    /// Bytes that unfinished datagrams may hold.
    pub high_thresh: usize,
    /// Bytes below which none gives way; kept for who reads it, as on Linux since 4.17.
    pub low_thresh: usize,
    /// How long fragments wait for the rest.
    pub time: Duration,
    /// How many other fragments of the same source may come between two of a datagram (IPv4); 0 for any number.
    pub max_dist: u32,
}

/// What holds for the whole stack (`net.ipv4.*`, `net.ipv6.*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IpConf {
    /// `ip_default_ttl`
    pub ip_default_ttl: u8,
    /// `ip_forward_use_pmtu`
    pub ip_forward_use_pmtu: bool,
    /// `ip_nonlocal_bind`
    pub ip_nonlocal_bind: bool,
    /// `ipv6/ip_nonlocal_bind`
    pub ip6_nonlocal_bind: bool,
    /// `fib_multipath_hash_policy` of both families: 0 addresses, 1 and ports.
    pub fib_multipath_hash_policy: [u8; 2],
    /// `fib_multipath_use_neigh`
    pub fib_multipath_use_neigh: bool,
    /// `ip_no_pmtu_disc`: 1 sockets let routers cut; 2 what routers say of MTUs is not believed; 3 only by TCP.
    pub ip_no_pmtu_disc: u8,
    /// `route/min_pmtu`: the least MTU that routers can impose.
    pub min_pmtu: u32,
    /// `route/mtu_expires` of both families: how long what they say holds.
    pub mtu_expires: [Duration; 2],
    /// `ipfrag_*`
    pub ipfrag: FragConf,
    /// `ip6frag_*`
    pub ip6frag: FragConf,
    /// `icmp_echo_ignore_all`
    pub icmp_echo_ignore_all: bool,
    /// `icmp_echo_ignore_broadcasts`
    pub icmp_echo_ignore_broadcasts: bool,
    /// `ipv6/icmp/echo_ignore_all`
    pub icmp6_echo_ignore_all: bool,
    /// `ipv6/icmp/echo_ignore_multicast`
    pub icmp6_echo_ignore_multicast: bool,
    /// `ipv6/icmp/echo_ignore_anycast`
    pub icmp6_echo_ignore_anycast: bool,
    /// `ipv6/anycast_src_echo_reply`: an echo to an anycast address is answered from it.
    pub anycast_src_echo_reply: bool,
    /// `icmp_errors_use_inbound_ifaddr`
    pub icmp_errors_use_inbound_ifaddr: bool,
    /// `icmp_ratelimit`: the least time between two messages to one host, in milliseconds.
    pub icmp_ratelimit: u32,
    /// `icmp_ratemask`: to which types that applies.
    pub icmp_ratemask: u32,
    /// `ipv6/icmp/ratelimit`, in milliseconds.
    pub icmp6_ratelimit: u32,
    /// `ipv6/icmp/ratemask`
    pub icmp6_ratemask: [u64; 4],
    /// `icmp_msgs_per_sec`: to all hosts together.
    pub icmp_msgs_per_sec: u32,
    /// `icmp_msgs_burst`
    pub icmp_msgs_burst: u32,
    /// `igmp_max_memberships` of one socket.
    pub igmp_max_memberships: u32,
    /// `igmp_max_msf`: sources of one membership.
    pub igmp_max_msf: u32,
    /// `igmp_qrv`: how often reports are repeated.
    pub igmp_qrv: u8,
    /// `igmp_link_local_mcast_reports`
    pub igmp_link_local_mcast_reports: bool,
    /// Whether groups of the link's scope are told of in IPv6 too; Linux has this for IPv4 alone.
    pub mld_link_local_mcast_reports: bool,
    /// `mld_max_msf`
    pub mld_max_msf: u32,
    /// `mld_qrv`
    pub mld_qrv: u8,
    /// `max_hbh_opts_number`: below 0 none but padding is known.
    pub max_hbh_opts_number: i32,
    /// `max_hbh_length`: bytes of the header.
    pub max_hbh_length: i32,
    /// `max_dst_opts_number`
    pub max_dst_opts_number: i32,
    /// `max_dst_opts_length`
    pub max_dst_opts_length: i32,
    /// The bounds of IPv4 neighbours.
    pub neigh_gc_v4: NeighGc,
    /// The bounds of IPv6 neighbours.
    pub neigh_gc_v6: NeighGc,
    /// How many rate-limited hosts are remembered; not Linux's name (it keeps them with its peers).
    pub icmp_peers: usize,
}

impl Default for IpConf {
    fn default() -> IpConf {
        let frag = |secs, max_dist| FragConf {
            high_thresh: 4 << 20,
            low_thresh: 3 << 20,
            time: Duration::from_secs(secs),
            max_dist,
        };
        IpConf {
            ip_default_ttl: 64,
            ip_forward_use_pmtu: false,
            ip_nonlocal_bind: false,
            ip6_nonlocal_bind: false,
            fib_multipath_hash_policy: [0, 0],
            fib_multipath_use_neigh: false,
            ip_no_pmtu_disc: 0,
            min_pmtu: 552,
            mtu_expires: [Duration::from_secs(600); 2],
            ipfrag: frag(30, 64),
            ip6frag: frag(60, 0),
            icmp_echo_ignore_all: false,
            icmp_echo_ignore_broadcasts: true,
            icmp6_echo_ignore_all: false,
            icmp6_echo_ignore_multicast: false,
            icmp6_echo_ignore_anycast: false,
            anycast_src_echo_reply: false,
            icmp_errors_use_inbound_ifaddr: false,
            icmp_ratelimit: 1000,
            // Destination unreachable, source quench, time exceeded, parameter problem.
            icmp_ratemask: 0x1818,
            // Linux 6.18; it was a second before.
            icmp6_ratelimit: 100,
            // All errors but Packet Too Big.
            icmp6_ratemask: [!(1 << 2), u64::MAX, 0, 0],
            icmp_msgs_per_sec: 1000,
            icmp_msgs_burst: 50,
            igmp_max_memberships: 20,
            igmp_max_msf: 10,
            igmp_qrv: 2,
            igmp_link_local_mcast_reports: true,
            mld_link_local_mcast_reports: true,
            mld_max_msf: 64,
            mld_qrv: 2,
            max_hbh_opts_number: 8,
            max_hbh_length: i32::MAX,
            max_dst_opts_number: 8,
            max_dst_opts_length: i32::MAX,
            neigh_gc_v4: NeighGc::default(),
            neigh_gc_v6: NeighGc::default(),
            icmp_peers: 4096,
        }
    }
}

/// The tunables of one interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NicTunables {
    /// `net.ipv4.conf.NAME`
    pub ipv4: Ipv4Conf,
    /// `net.ipv6.conf.NAME`
    pub ipv6: Ipv6Conf,
    /// `net.ipv4.neigh.NAME`
    pub neigh_v4: NeighConf,
    /// `net.ipv6.neigh.NAME`
    pub neigh_v6: NeighConf,
}

impl Default for NicTunables {
    fn default() -> NicTunables {
        NicTunables {
            ipv4: Ipv4Conf::default(),
            ipv6: Ipv6Conf::default(),
            neigh_v4: NeighConf::v4(),
            neigh_v6: NeighConf::default(),
        }
    }
}

impl NicTunables {
    /// The neighbours of a family.
    pub fn neigh(&self, family: Family) -> &NeighConf {
        match family {
            Family::V4 => &self.neigh_v4,
            Family::V6 => &self.neigh_v6,
        }
    }
}

impl Tunables {
    /// Those of a stack that says nothing by itself: for simulations that look at every frame.
    pub fn quiet() -> Tunables {
        let mut tunables = Tunables::default();
        tunables.ip.mld_link_local_mcast_reports = false;
        tunables.default.ipv6 = Ipv6Conf::quiet();
        tunables
    }
}

/// All tunables of a stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tunables {
    /// What has one value.
    pub ip: IpConf,
    /// `net.ipv4.conf.all`
    pub ipv4_all: Ipv4Conf,
    /// `net.ipv6.conf.all`
    pub ipv6_all: Ipv6Conf,
    /// What new interfaces begin with.
    pub default: NicTunables,
}

impl Default for Tunables {
    fn default() -> Tunables {
        Tunables {
            ip: IpConf::default(),
            ipv4_all: Ipv4Conf::default(),
            ipv6_all: Ipv6Conf { accept_dad: 0, ..Ipv6Conf::default() },
            default: NicTunables::default(),
        }
    }
}
