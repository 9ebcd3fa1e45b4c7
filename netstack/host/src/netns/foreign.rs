//! Rules of a namespace that would be lost on a stack beside the host's: what the host's own stack is told to drop, to redirect or
//! to rewrite there. Filters at the egress of a device are not among them: the host applies these to packet sockets too.

use std::collections::BTreeSet;
use std::fs;
use std::mem::size_of;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::read::LinkInfo;
use super::silence::{GENERIC, TABLE};
use crate::loopback::DockerResolver;
use crate::netlink::{self, Socket};

const NFT_MSG_GETCHAIN: u16 = 10 << 8 | 4;
const NFT_MSG_GETRULE: u16 = 10 << 8 | 7;
/// NFTA_CHAIN_TABLE, NFTA_RULE_TABLE
const NFTA_TABLE: u16 = 1;
const NFTA_CHAIN_POLICY: u16 = 5;
const NF_DROP: u32 = 0;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
/// NFTA_PAYLOAD_BASE, _OFFSET, _LEN; NFT_PAYLOAD_NETWORK_HEADER
const PAYLOAD_BASE: u16 = 2;
const PAYLOAD_OFFSET: u16 = 3;
const PAYLOAD_LEN: u16 = 4;
const NETWORK_HEADER: u32 = 1;
/// NFTA_CMP_OP, _DATA; NFTA_DATA_VALUE; NFT_CMP_EQ
const CMP_OP: u16 = 2;
const CMP_DATA: u16 = 3;
const DATA_VALUE: u16 = 1;
const CMP_EQ: u32 = 0;
/// Where an IPv4 header has its addresses.
const SOURCE_AT: u32 = 12;
const DESTINATION_AT: u32 = 16;
/// Docker's resolver.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const RTM_GETTFILTER: u16 = 46;
/// The ingress of qdiscs "ingress" and "clsact" as a parent of filters.
const TC_INGRESS: u32 = 0xffff_fff2;
/// struct tcmsg
const TCMSG: usize = 20;
/// IPT_SO_GET_INFO and IP6T_SO_GET_INFO
const GET_INFO: libc::c_int = 64;

/// Where rules stand, in words for people, such as `table ip nat of nftables`. Ordered, each once.
pub type Foreign = BTreeSet<String>;

/// What was found.
#[derive(Default)]
pub(crate) struct Found {
    /// Rules that would be lost.
    pub(crate) foreign: Foreign,
    /// Whether there are Docker's for its resolver, which stay of use ([`crate::loopback`]).
    pub(crate) resolver: DockerResolver,
}

/// Looks in the caller's namespace. `links` are the interfaces that are taken.
pub(crate) fn find<'a>(links: impl Iterator<Item = &'a LinkInfo>) -> Found {
    let mut found = Found::default();
    nftables(&mut found);
    legacy(&mut found.foreign);
    for link in links {
        if has_ingress_filters(link.ifindex) {
            found.foreign.insert(format!("tc filters at the ingress of {}", link.name));
        }
    }
    found
}

/// Whether a rule is about 127.0.0.11 alone: it looks at nothing but fields of packets before it compares an address with that one, and
/// ends where it is another.
fn is_of_resolver(rule: &[u8]) -> bool {
    let mut loads_address = false;
    let expressions = netlink::find(rule, NFTA_RULE_EXPRESSIONS).unwrap_or_default();
    for (_, element) in netlink::attributes(expressions) {
        let name = netlink::find(element, NFTA_EXPR_NAME).map(netlink::text).unwrap_or_default();
        let data = netlink::find(element, NFTA_EXPR_DATA).unwrap_or_default();
        let word = |kind| netlink::find(data, kind).and_then(|value| value.first_chunk());
        let word = |kind| word(kind).map(|bytes: &[u8; 4]| u32::from_be_bytes(*bytes));
        match name.as_str() {
            "meta" => loads_address = false,
            "payload" => {
                let place = (word(PAYLOAD_BASE), word(PAYLOAD_OFFSET), word(PAYLOAD_LEN));
                loads_address = [SOURCE_AT, DESTINATION_AT]
                    .iter()
                    .any(|at| place == (Some(NETWORK_HEADER), Some(*at), Some(4)));
            }
            "cmp" => {
                let told = netlink::find(data, CMP_DATA).unwrap_or_default();
                let value = netlink::find(told, DATA_VALUE).unwrap_or_default();
                let equal = word(CMP_OP) == Some(CMP_EQ);
                if loads_address && equal && value == RESOLVER.octets() {
                    return true;
                }
            }
            _ => return false,
        }
    }
    false
}

/// The name that nft(8) has for a family.
fn family(number: u8) -> &'static str {
    match number {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => "of an unknown family",
    }
}

/// Tables with a rule, or with a chain that drops what no rule takes. A kernel without nftables has none.
fn nftables(found: &mut Found) {
    let Ok(mut socket) = Socket::open(SockProtocol::NetlinkNetFilter) else { return };
    let mut dump = |kind| socket.dump(kind, &[0; GENERIC]).unwrap_or_default();
    let (rules, chains) = (dump(NFT_MSG_GETRULE), dump(NFT_MSG_GETCHAIN));
    let drops = |body: &[u8]| {
        let policy = netlink::find(body.get(GENERIC..).unwrap_or_default(), NFTA_CHAIN_POLICY);
        let policy = policy.and_then(|policy| policy.first_chunk());
        policy.is_some_and(|policy| u32::from_be_bytes(*policy) == NF_DROP)
    };
    let dropping = chains.iter().filter(|chain| drops(chain.body()));
    for message in rules.iter().chain(dropping) {
        let Some((generic, attributes)) = message.body().split_first_chunk::<GENERIC>() else {
            continue;
        };
        let Some(name) = netlink::find(attributes, NFTA_TABLE).map(netlink::text) else { continue };
        let family = family(generic[0]);
        if family == "ip" && is_of_resolver(attributes) {
            found.resolver = DockerResolver::Present;
            continue;
        }
        if (family, name.as_str()) != ("netdev", TABLE) {
            found.foreign.insert(format!("table {family} {name} of nftables"));
        }
    }
}

/// struct ipt_getinfo
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    name: [u8; 32],
    valid_hooks: u32,
    hook_entry: [u32; 5],
    underflow: [u32; 5],
    num_entries: u32,
    size: u32,
}

/// Tables of the old iptables with more entries than one a hook and the end, which an empty table has.
fn legacy(found: &mut Foreign) {
    let both = [
        ("ip_tables_names", AddressFamily::Inet, libc::SOL_IP, "iptables"),
        ("ip6_tables_names", AddressFamily::Inet6, libc::IPPROTO_IPV6, "ip6tables"),
    ];
    for (file, family, level, program) in both {
        // Only tables that are there: to ask for others would make them.
        let names = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        for name in names.lines() {
            let Some(info) = info(family, level, name) else { continue };
            if info.num_entries > info.valid_hooks.count_ones() + 1 {
                found.insert(format!("table {name} of {program} (legacy)"));
            }
        }
    }
}

fn info(family: AddressFamily, level: libc::c_int, name: &str) -> Option<Info> {
    let protocol = SockProtocol::Raw;
    let fd = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).ok()?;
    let mut info = Info {
        name: [0; 32],
        valid_hooks: 0,
        hook_entry: [0; 5],
        underflow: [0; 5],
        num_entries: 0,
        size: 0,
    };
    let bytes = info.name.get_mut(..name.len()).filter(|bytes| bytes.len() < 32)?;
    bytes.copy_from_slice(name.as_bytes());
    let mut len = size_of::<Info>() as libc::socklen_t;
    // SAFETY: the kernel reads and writes at most `len` bytes, the size of the plain numbers behind the pointer, which outlive
    // the call.
    let done = unsafe {
        libc::getsockopt(fd.as_raw_fd(), level, GET_INFO, (&raw mut info).cast(), &raw mut len)
    };
    (done == 0).then_some(info)
}

fn has_ingress_filters(ifindex: u32) -> bool {
    let Ok(mut socket) = Socket::open(SockProtocol::NetlinkRoute) else { return false };
    let mut request = [0; TCMSG];
    request[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    request[12..16].copy_from_slice(&TC_INGRESS.to_ne_bytes());
    // Without a qdisc there an error comes, and then there are no filters.
    socket.dump(RTM_GETTFILTER, &request).is_ok_and(|filters| !filters.is_empty())
}
