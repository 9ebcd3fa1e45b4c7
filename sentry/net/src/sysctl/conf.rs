//! What there is once for each interface, for `all` and for `default`: net.ipv4.conf, net.ipv6.conf and the neighbours'.

use core::time::Duration;

use netstack::ip::Family;
use netstack::ip::conf::{ConfTarget, Ipv4Conf, Ipv6Conf, NeighConf};
use sentry_abi::Errno;
use sentry_kernel::Result;

use super::row::{At, Number, Row, number, shown, text};

const INT: (i64, i64) = (i32::MIN as i64, i32::MAX as i64);
const ANY: (i64, i64) = (0, i32::MAX as i64);
const BYTE: (i64, i64) = (0, 255);
/// Ticks of the user's clock a second (USER_HZ), in which Linux counts some times.
const TICKS: u64 = 100;
const PACKET_COST: i64 = crate::netlink::PACKET_COST as i64;

impl At<'_> {
    fn v4(&self) -> Result<Ipv4Conf> {
        Ok(self.net.stack().ipv4_conf(self.target).map_err(|_| Errno::ENOENT)?)
    }

    fn edit_v4(&self, edit: impl FnOnce(&mut Ipv4Conf)) -> Result<()> {
        Ok(self.net.stack().edit_ipv4_conf(self.target, edit).map_err(|_| Errno::ENOENT)?)
    }

    fn v6(&self) -> Result<Ipv6Conf> {
        Ok(self.net.stack().ipv6_conf(self.target).map_err(|_| Errno::ENOENT)?)
    }

    fn edit_v6(&self, edit: impl FnOnce(&mut Ipv6Conf)) -> Result<()> {
        Ok(self.net.stack().edit_ipv6_conf(self.target, edit).map_err(|_| Errno::ENOENT)?)
    }

    fn neighbours(&self, family: Family) -> Result<NeighConf> {
        Ok(self.net.stack().neigh_conf(self.target, family).map_err(|_| Errno::ENOENT)?)
    }

    fn edit_neighbours(&self, family: Family, edit: impl FnOnce(&mut NeighConf)) -> Result<()> {
        let edited = self.net.stack().edit_neigh_conf(self.target, family, edit);
        Ok(edited.map_err(|_| Errno::ENOENT)?)
    }
}

macro_rules! v4 {
    ($field:ident, $bounds:expr) => {
        number(
            concat!("ipv4/conf/*/", stringify!($field)),
            $bounds,
            |at| Ok(at.v4()?.$field.number()),
            |at, n| at.edit_v4(|own| own.$field = Number::of(n)),
        )
    };
}

macro_rules! v6 {
    ($field:ident, $bounds:expr) => {
        number(
            concat!("ipv6/conf/*/", stringify!($field)),
            $bounds,
            |at| Ok(at.v6()?.$field.number()),
            |at, n| at.edit_v6(|own| own.$field = Number::of(n)),
        )
    };
}

/// net.ipv4.conf: flags take any number, as on Linux; what is not zero is on.
pub const IPV4_ROWS: &[Row] = &[
    v4!(accept_local, INT),
    v4!(accept_redirects, INT),
    v4!(arp_accept, (0, 2)),
    v4!(arp_announce, (0, 2)),
    v4!(arp_filter, INT),
    v4!(arp_ignore, (0, 8)),
    v4!(arp_notify, INT),
    v4!(bc_forwarding, INT),
    v4!(drop_gratuitous_arp, INT),
    v4!(drop_unicast_in_l2_multicast, INT),
    v4!(force_igmp_version, (0, 3)),
    v4!(forwarding, INT),
    v4!(igmpv2_unsolicited_report_interval, ANY),
    v4!(igmpv3_unsolicited_report_interval, ANY),
    v4!(log_martians, INT),
    shown("ipv4/conf/*/mc_forwarding", |_| Ok("0".into())).note("no multicast router runs"),
    v4!(promote_secondaries, INT),
    v4!(proxy_arp, INT),
    v4!(route_localnet, INT),
    v4!(rp_filter, (0, 2)),
    v4!(secure_redirects, INT),
    v4!(send_redirects, INT),
    v4!(shared_media, INT),
];

/// net.ipv6.conf.
pub const IPV6_ROWS: &[Row] = &[
    v6!(accept_dad, INT),
    v6!(accept_ra, (0, 2)),
    v6!(accept_ra_defrtr, INT),
    v6!(accept_ra_from_local, INT),
    v6!(accept_ra_min_hop_limit, BYTE),
    v6!(accept_ra_min_lft, ANY),
    v6!(accept_ra_mtu, INT),
    v6!(accept_ra_pinfo, INT),
    v6!(accept_ra_rt_info_max_plen, (0, 128)),
    v6!(accept_ra_rt_info_min_plen, (0, 128)),
    v6!(accept_ra_rtr_pref, INT),
    v6!(accept_redirects, INT),
    v6!(accept_untracked_na, (0, 2)),
    v6!(addr_gen_mode, (0, 3)),
    v6!(autoconf, INT),
    v6!(dad_transmits, BYTE),
    v6!(disable_ipv6, INT),
    v6!(drop_unicast_in_l2_multicast, INT),
    v6!(drop_unsolicited_na, INT),
    v6!(enhanced_dad, INT),
    v6!(force_mld_version, (0, 2)),
    v6!(force_tllao, INT),
    v6!(forwarding, INT),
    v6!(hop_limit, (1, 255)),
    v6!(keep_addr_on_down, INT),
    v6!(max_addresses, ANY),
    v6!(max_desync_factor, ANY),
    v6!(mldv1_unsolicited_report_interval, ANY),
    v6!(mldv2_unsolicited_report_interval, ANY),
    shown("ipv6/conf/*/mc_forwarding", |_| Ok("0".into())).note("no multicast router runs"),
    number("ipv6/conf/*/mtu", (MIN_V6, i32::MAX as i64), mtu_v6, set_mtu_v6),
    v6!(ndisc_notify, INT),
    v6!(ndisc_tclass, BYTE),
    v6!(optimistic_dad, INT),
    v6!(proxy_ndp, INT),
    v6!(ra_defrtr_metric, ANY),
    v6!(regen_max_retry, BYTE),
    v6!(regen_min_advance, ANY),
    v6!(router_solicitation_delay, ANY),
    v6!(router_solicitation_interval, ANY),
    v6!(router_solicitation_max_interval, ANY),
    v6!(router_solicitations, INT),
    text(
        "ipv6/conf/*/stable_secret",
        // "EIO: it was never set."
        |at| Ok(at.v6()?.stable_secret.ok_or(Errno::EIO)?.to_string()),
        |at, text| {
            let secret = text.parse().map_err(|_| Errno::EIO)?;
            at.edit_v6(|own| own.stable_secret = Some(secret))
        },
    )
    .private(),
    v6!(suppress_frag_ndisc, INT),
    v6!(temp_prefered_lft, ANY),
    v6!(temp_valid_lft, ANY),
    v6!(use_tempaddr, INT),
    v6!(use_oif_addrs_only, INT),
    v6!(use_optimistic, INT),
];

/// The least MTU of IPv6 (RFC 8200 section 5).
const MIN_V6: i64 = 1280;

/// The interface's IPv6 MTU; of "all" and "default" the least.
fn mtu_v6(at: &At<'_>) -> Result<i64> {
    let own = at.v6()?.mtu.number();
    let ConfTarget::Nic(id) = at.target else { return Ok(own.max(MIN_V6)) };
    let nics = at.net.stack().nics();
    let link = nics.iter().find(|nic| nic.id == id).ok_or(Errno::ENOENT)?.mtu.number();
    Ok(if own == 0 { link } else { own.min(link) })
}

/// Errors: EINVAL for more than the interface's own (addrconf_sysctl_mtu).
fn set_mtu_v6(at: &At<'_>, mtu: i64) -> Result<()> {
    if let ConfTarget::Nic(id) = at.target {
        let nics = at.net.stack().nics();
        let link = nics.iter().find(|nic| nic.id == id).ok_or(Errno::ENOENT)?.mtu.number();
        if mtu > link {
            return Err(Errno::EINVAL.into());
        }
    }
    at.edit_v6(|own| own.mtu = Number::of(mtu))
}

/// A number of a family's neighbours.
macro_rules! count {
    ($path:literal, $family:expr, $field:ident) => {
        number(
            $path,
            ANY,
            |at| Ok(at.neighbours($family)?.$field.number()),
            |at, n| at.edit_neighbours($family, |own| own.$field = Number::of(n)),
        )
    };
}

/// A time of a family's neighbours, in parts of a second of which there are `$parts`.
macro_rules! time {
    ($path:literal, $family:expr, $field:ident, $parts:expr) => {
        number(
            $path,
            ANY,
            |at| Ok(parts(at.neighbours($family)?.$field, $parts)),
            |at, n| at.edit_neighbours($family, |own| own.$field = of_parts(n, $parts)),
        )
    };
}

/// The same queue counted in full packets (proc_unres_qlen).
macro_rules! queue {
    ($path:literal, $family:expr) => {
        number(
            $path,
            (0, i32::MAX as i64 / PACKET_COST),
            |at| Ok(at.neighbours($family)?.unres_qlen_bytes.number() / PACKET_COST),
            |at, n| {
                at.edit_neighbours($family, |own| {
                    own.unres_qlen_bytes = Number::of(n * PACKET_COST)
                })
            },
        )
    };
}

fn parts(time: Duration, a_second: u64) -> i64 {
    i64::try_from(time.as_micros() / u128::from(1_000_000 / a_second)).unwrap_or(i64::MAX)
}

fn of_parts(count: i64, a_second: u64) -> Duration {
    Duration::from_micros(u64::try_from(count).unwrap_or(0).saturating_mul(1_000_000 / a_second))
}

/// net.ipv4.neigh and net.ipv6.neigh.
pub const NEIGHBOUR_ROWS: &[Row] = &[
    count!("ipv4/neigh/*/mcast_resolicit", Family::V4, mcast_resolicit),
    count!("ipv4/neigh/*/mcast_solicit", Family::V4, mcast_solicit),
    count!("ipv4/neigh/*/ucast_solicit", Family::V4, ucast_solicit),
    queue!("ipv4/neigh/*/unres_qlen", Family::V4),
    count!("ipv4/neigh/*/unres_qlen_bytes", Family::V4, unres_qlen_bytes),
    time!("ipv4/neigh/*/base_reachable_time", Family::V4, base_reachable_time, 1),
    time!("ipv4/neigh/*/base_reachable_time_ms", Family::V4, base_reachable_time, 1000),
    time!("ipv4/neigh/*/delay_first_probe_time", Family::V4, delay_first_probe_time, 1),
    time!("ipv4/neigh/*/gc_stale_time", Family::V4, gc_stale_time, 1),
    time!("ipv4/neigh/*/locktime", Family::V4, locktime, TICKS),
    time!("ipv4/neigh/*/retrans_time", Family::V4, retrans_time, TICKS),
    time!("ipv4/neigh/*/retrans_time_ms", Family::V4, retrans_time, 1000),
    count!("ipv6/neigh/*/mcast_resolicit", Family::V6, mcast_resolicit),
    count!("ipv6/neigh/*/mcast_solicit", Family::V6, mcast_solicit),
    count!("ipv6/neigh/*/ucast_solicit", Family::V6, ucast_solicit),
    queue!("ipv6/neigh/*/unres_qlen", Family::V6),
    count!("ipv6/neigh/*/unres_qlen_bytes", Family::V6, unres_qlen_bytes),
    time!("ipv6/neigh/*/base_reachable_time", Family::V6, base_reachable_time, 1),
    time!("ipv6/neigh/*/base_reachable_time_ms", Family::V6, base_reachable_time, 1000),
    time!("ipv6/neigh/*/delay_first_probe_time", Family::V6, delay_first_probe_time, 1),
    time!("ipv6/neigh/*/gc_stale_time", Family::V6, gc_stale_time, 1),
    time!("ipv6/neigh/*/locktime", Family::V6, locktime, TICKS),
    time!("ipv6/neigh/*/retrans_time", Family::V6, retrans_time, TICKS),
    time!("ipv6/neigh/*/retrans_time_ms", Family::V6, retrans_time, 1000),
];
