//! The table of netlink protocols and their messages: what is answered, by whom, and how well (`docs/compat/netlink.md`).

use std::fmt::Write as _;
use std::sync::Arc;

use netstack::stack::Stack;
use netstack::time::Instant;
use sentry_abi::Errno;
use sentry_abi::diag::*;
use sentry_abi::netlink::*;
use sentry_kernel::cred::{Capabilities, Credentials};

use super::build::{DumpEnd, Message};
use super::parse::{Refusal, Request, Strictness};
use super::{diag, generic, route};
use crate::netns::NetNamespace;

/// What a request is answered from.
pub struct Context<'a> {
    /// The namespace.
    pub net: &'a Arc<NetNamespace>,
    /// The stack's time.
    pub now: Instant,
    /// Who asks.
    pub creds: &'a Credentials,
    /// NETLINK_GET_STRICT_CHK
    pub strictness: Strictness,
}

impl Context<'_> {
    /// The stack.
    pub fn stack(&self) -> &Arc<Stack> {
        self.net.stack()
    }

    /// CAP_NET_ADMIN
    pub fn is_admin(&self) -> bool {
        self.creds.has(Capabilities::NET_ADMIN)
    }
}

/// A dump in the making.
#[derive(Default)]
pub struct Dump {
    /// Its messages.
    pub messages: Vec<Message>,
    /// NLM_F_DUMP_FILTERED where the request narrowed it.
    pub flags: u16,
}

/// Does what a request says, and answers with messages that come before the acknowledgment.
pub type Doit = fn(&Context<'_>, &Request<'_>) -> Result<Vec<Message>, Refusal>;
/// Lists.
pub type Dumpit = fn(&Context<'_>, &Request<'_>, &mut Dump) -> Result<(), Refusal>;

/// How well a message is supported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Support {
    /// As on Linux.
    Full,
    /// With the gaps that the note names.
    Partial,
    /// Answered with the error that Linux has for a kernel without it.
    Refused,
}

/// A message type.
pub struct Row {
    /// Its number.
    pub kind: u16,
    /// Its name in Linux's headers.
    pub name: &'static str,
    /// How well it is supported.
    pub support: Support,
    /// What is missing, or how it is answered.
    pub note: &'static str,
    /// For one object.
    pub doit: Option<Doit>,
    /// For all.
    pub dumpit: Option<Dumpit>,
}

macro_rules! rows {
    ($($name:ident $support:ident $note:literal, $doit:expr, $dumpit:expr;)*) => {
        &[$(Row {
            kind: $name,
            name: stringify!($name),
            support: Support::$support,
            note: $note,
            doit: $doit,
            dumpit: $dumpit,
        },)*]
    };
}

/// A netlink protocol.
pub struct Protocol {
    /// NETLINK_*
    pub number: i32,
    /// Its name.
    pub name: &'static str,
    /// How many multicast groups it has.
    pub groups: u32,
    /// What it is for, for the page.
    pub note: &'static str,
    /// Whether programs without CAP_NET_ADMIN may send to others than the kernel.
    pub peers: Peers,
    /// Its messages.
    pub rows: &'static [Row],
    /// The way of a request through the rows.
    pub dispatch: fn(&Protocol, &Context<'_>, &Request<'_>) -> Result<Answer, Refusal>,
}

/// To whom programs without privilege may send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peers {
    /// The kernel.
    Kernel,
    /// Each other; no kernel listens.
    Anybody,
}

/// What becomes of a request.
pub enum Answer {
    /// Messages, then an acknowledgment where one is asked for.
    Messages(Vec<Message>),
    /// A listing that ends with NLMSG_DONE.
    Dump(Vec<Message>, DumpEnd),
}

// tidy: table
const ROUTE: &[Row] = rows! {
    RTM_NEWLINK Partial "up, down, MTU, token and way of making identifiers of what is there; making an interface, another address, name, queue or master are EOPNOTSUPP: the interfaces belong to who started the sandbox", Some(route::link::add), None;
    RTM_DELLINK Partial "EOPNOTSUPP for every interface, ENODEV for what is none", Some(route::link::remove), None;
    RTM_GETLINK Partial "of IFLA_AF_SPEC and of AF_INET6 the flags, token and way of making identifiers of IPv6 alone", Some(route::link::one), Some(route::link::all);
    RTM_SETLINK Partial "as RTM_NEWLINK", Some(route::link::set), None;
    RTM_NEWADDR Partial "no IFA_ANYCAST, no IFA_TARGET_NETNSID", Some(route::addr::add), None;
    RTM_DELADDR Full "", Some(route::addr::remove), None;
    RTM_GETADDR Partial "dumps alone; no IFA_TARGET_NETNSID", None, Some(route::addr::all);
    RTM_NEWROUTE Partial "all types, scopes, tables, metrics and ways; no encapsulation, no next-hop objects (RTA_NH_ID), no gateway of the other family, RTAX_FEATURES, RTAX_REORDERING and a lock of RTAX_CC_ALGO are EOPNOTSUPP; RTAX_SSTHRESH, RTAX_CWND, RTAX_RTT and RTAX_RTTVAR are of the cache of metrics, which is not there", Some(route::routes::add), None;
    RTM_DELROUTE Partial "as RTM_NEWROUTE", Some(route::routes::remove), None;
    RTM_GETROUTE Partial "exceptions of paths (RTM_F_CLONED) are not listed", Some(route::way::one), Some(route::routes::all);
    RTM_NEWNEIGH Partial "no NTF_USE, NTF_EXT_LEARNED, NTF_MANAGED", Some(route::neigh::add), None;
    RTM_DELNEIGH Full "", Some(route::neigh::remove), None;
    RTM_GETNEIGH Full "", Some(route::neigh::one), Some(route::neigh::all);
    RTM_NEWRULE Partial "no FRA_TUN_ID, FRA_L3MDEV, FRA_FLOW, FRA_SUPPRESS_IFGROUP", Some(route::rule::add), None;
    RTM_DELRULE Partial "as RTM_NEWRULE", Some(route::rule::remove), None;
    RTM_GETRULE Full "", None, Some(route::rule::all);
    RTM_GETQDISC Partial "noqueue on every interface; no statistics", None, Some(route::tables::disciplines);
    RTM_GETTCLASS Partial "there are none; dumps alone", None, Some(route::tables::none);
    RTM_GETTFILTER Partial "there are none; dumps alone", None, Some(route::tables::none);
    RTM_GETNEXTHOP Partial "there are none, and none can be made; dumps alone", None, Some(route::tables::none);
    RTM_GETNEIGHTBL Partial "no NDTA_STATS", None, Some(route::tables::neighbour_tables);
    RTM_SETNEIGHTBL Partial "parameters; the bounds (NDTA_THRESH*) through /proc/sys", Some(route::tables::set_neighbour_table), None;
    RTM_GETADDRLABEL Partial "dumps alone", None, Some(route::tables::labels);
    RTM_GETNETCONF Partial "no multicast forwarding, so that it is always off", Some(route::tables::one_configuration), Some(route::tables::configurations);
    RTM_GETNSID Full "there is one namespace, which has no id", Some(route::tables::namespace_id), Some(route::tables::none);
};

const SOCK_DIAG: &[Row] = rows! {
    TCPDIAG_GETSOCK Refused "the interface before Linux 3.3: EOPNOTSUPP, upon which tools read /proc/net/tcp", None, None;
    DCCPDIAG_GETSOCK Refused "no DCCP: ENOENT, as without the module", None, None;
    SOCK_DIAG_BY_FAMILY Partial "AF_INET, AF_INET6 (TCP, UDP, UDP-Lite is empty, raw), AF_UNIX, AF_NETLINK; ENOENT for other families, as without their modules", Some(diag::one), Some(diag::all);
    SOCK_DESTROY Partial "TCP; EOPNOTSUPP for the rest", Some(diag::destroy), None;
};

const GENERIC: &[Row] = rows! {
    GENL_ID_CTRL Full "the controller itself (CTRL_CMD_GETFAMILY); no other family: ENOENT", Some(generic::one), Some(generic::all);
};

/// All protocols; any other is EPROTONOSUPPORT, as on a Linux without its module.
pub static PROTOCOLS: &[Protocol] = &[
    Protocol {
        number: NETLINK_ROUTE,
        name: "NETLINK_ROUTE",
        groups: 38,
        note: "rtnetlink(7)",
        peers: Peers::Kernel,
        rows: ROUTE,
        dispatch: route::dispatch,
    },
    Protocol {
        number: NETLINK_USERSOCK,
        name: "NETLINK_USERSOCK",
        groups: 32,
        note: "between programs",
        peers: Peers::Anybody,
        rows: &[],
        dispatch: refuse,
    },
    Protocol {
        number: NETLINK_SOCK_DIAG,
        name: "NETLINK_SOCK_DIAG",
        groups: 4,
        note: "sock_diag(7)",
        peers: Peers::Kernel,
        rows: SOCK_DIAG,
        dispatch: diag::dispatch,
    },
    Protocol {
        number: NETLINK_KOBJECT_UEVENT,
        name: "NETLINK_KOBJECT_UEVENT",
        groups: 1,
        note: "can be bound; no device ever comes or goes, so nothing is heard",
        peers: Peers::Kernel,
        rows: &[],
        dispatch: refuse,
    },
    Protocol {
        number: NETLINK_GENERIC,
        name: "NETLINK_GENERIC",
        groups: 32,
        note: "genetlink: the controller alone",
        peers: Peers::Kernel,
        rows: GENERIC,
        dispatch: generic::dispatch,
    },
];

impl Protocol {
    /// The row of a message type.
    pub fn row(&self, kind: u16) -> Option<&Row> {
        self.rows.iter().find(|row| row.kind == kind)
    }
}

/// uevent_net_rcv_skb: only for CAP_SYS_ADMIN, which has nothing to say here.
fn refuse(_: &Protocol, _: &Context<'_>, _: &Request<'_>) -> Result<Answer, Refusal> {
    Err(Errno::EPERM.into())
}

/// The compatibility page as Markdown.
pub fn page() -> String {
    let mut page = String::from("# Netlink\n\n");
    let _ = writeln!(
        page,
        "Generated from the table in `sentry/net/src/netlink/table.rs`; change it there, then run \
         `UPDATE=1 cargo test -p sentry-net netlink_page`.\n\n\
         Any other protocol answers EPROTONOSUPPORT to socket(2), any other message type of rtnetlink EOPNOTSUPP. \
         Acknowledgments (NLM_F_ACK), dumps, extended acknowledgments (NETLINK_EXT_ACK with words and offset), NETLINK_CAP_ACK, \
         NETLINK_GET_STRICT_CHK, groups and ENOBUFS are as on Linux."
    );
    for protocol in PROTOCOLS {
        let _ = writeln!(page, "\n## {}\n\n{}.", protocol.name, protocol.note);
        if protocol.rows.is_empty() {
            continue;
        }
        let _ = writeln!(page, "\n| message | number | support | note |\n|---|---|---|---|");
        for row in protocol.rows {
            let support = match row.support {
                Support::Full => "full",
                Support::Partial => "partial",
                Support::Refused => "refused",
            };
            let note = row.note.replace('|', "\\|");
            let _ = writeln!(page, "| `{}` | {} | {support} | {note} |", row.name, row.kind);
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_netlink_page_is_not_stale() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/compat/netlink.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(found == page(), "stale: run UPDATE=1 cargo test -p sentry-net netlink_page");
    }

    #[test]
    fn a_row_that_is_refused_has_no_handler_and_others_have_one() {
        for row in PROTOCOLS.iter().flat_map(|protocol| protocol.rows) {
            let has = row.doit.is_some() || row.dumpit.is_some();
            assert_eq!(has, row.support != Support::Refused, "{}", row.name);
        }
    }
}
