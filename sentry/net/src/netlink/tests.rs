//! Requests of programs against a namespace, without tasks.

use std::net::SocketAddr;
use std::sync::Arc;

use netstack::ip::Family;
use netstack::link::{MacAddr, NullLink};
use netstack::socket::SocketError;
use sentry_abi::Errno;
use sentry_abi::diag::*;
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET, SOCK_STREAM};
use sentry_kernel::cred::Credentials;
use sentry_kernel::time::{Clock, Instant};
use zerocopy::{FromBytes, IntoBytes};

use super::build::AckStyle;
use super::parse::{Attributes, Strictness};
use super::process::{self, Reply};
use super::table::{Context, PROTOCOLS, Protocol};
use crate::inet::InetSocket;
use crate::inet::endpoint::Endpoint;
use crate::netns::{Loopback, NetConfig, NetNamespace, NicLink, NicSetup};

struct StillClock;

impl Clock for StillClock {
    fn monotonic(&self) -> Instant {
        Instant(1)
    }

    fn realtime_ns(&self) -> i64 {
        1_700_000_000_000_000_000
    }
}

pub(super) fn namespace() -> Arc<NetNamespace> {
    NetNamespace::new(NetConfig {
        loopback: Loopback::Up,
        nics: vec![NicSetup {
            name: "eth0".into(),
            link: NicLink::Other(Arc::new(NullLink)),
            mac: MacAddr([2, 0, 0, 0, 0, 9]),
            addresses: vec!["10.9.0.2/24".parse().unwrap()],
            mtu: 1500,
        }],
        routes: Vec::new(),
        seed: [3; 32],
        clock: Arc::new(StillClock),
    })
    .unwrap()
}

/// A program that asks.
pub(super) struct Asker {
    pub net: Arc<NetNamespace>,
    pub creds: Arc<Credentials>,
    pub strictness: Strictness,
    pub style: AckStyle,
}

impl Asker {
    pub fn user() -> Asker {
        let creds = Arc::new(Credentials::user(1000, 1000, Arc::from([])));
        let (strictness, style) = (Strictness::Liberal, AckStyle::default());
        Asker { net: namespace(), creds, strictness, style }
    }

    pub fn root() -> Asker {
        Asker { creds: Arc::new(Credentials::root()), ..Asker::user() }
    }

    /// The replies to one message: type, flags, what follows the header.
    pub fn ask(
        &self,
        protocol: i32,
        kind: u16,
        flags: u16,
        body: &[u8],
    ) -> Vec<(u16, u16, Vec<u8>)> {
        let len = (16 + body.len()) as u32;
        let header = NlMsgHdr { len, kind, flags: flags | NLM_F_REQUEST, seq: 7, pid: 1 };
        self.ask_bytes(protocol, &[header.as_bytes(), body].concat())
    }

    pub fn ask_bytes(&self, protocol: i32, bytes: &[u8]) -> Vec<(u16, u16, Vec<u8>)> {
        let cx = Context {
            net: &self.net,
            now: self.net.now(),
            creds: &self.creds,
            strictness: self.strictness,
        };
        let row: &Protocol = PROTOCOLS.iter().find(|row| row.number == protocol).unwrap();
        let mut datagrams = Vec::new();
        for reply in process::datagram(row, &cx, bytes, self.style, false) {
            match reply {
                Reply::Now(bytes) => datagrams.push(bytes),
                Reply::Dump(all) => datagrams.extend(all),
            }
        }
        let mut out = Vec::new();
        for datagram in datagrams {
            let mut rest = datagram.as_slice();
            while let Ok((header, _)) = NlMsgHdr::read_from_prefix(rest) {
                assert_eq!(header.seq, 7);
                let len = header.len as usize;
                out.push((header.kind, header.flags, rest[16..len].to_vec()));
                rest = &rest[len.next_multiple_of(4).min(rest.len())..];
            }
        }
        out
    }
}

fn attribute(body: &[u8], fixed: usize, kind: u16) -> Option<Vec<u8>> {
    let all = Attributes::parse(&body[fixed..], 0, &[], Strictness::Liberal).unwrap();
    all.find(kind).map(|attribute| attribute.value.to_vec())
}

/// The errno of an error message that comes alone.
pub(super) fn errno(answer: &[(u16, u16, Vec<u8>)]) -> i32 {
    assert_eq!(answer.len(), 1);
    assert_eq!(answer[0].0, NLMSG_ERROR);
    -i32::from_ne_bytes(answer[0].2[..4].try_into().unwrap())
}

#[test]
fn dumps_list_links_addresses_and_routes_and_end_with_done() {
    let user = Asker::user();
    let ask = |kind, body: &[u8]| user.ask(NETLINK_ROUTE, kind, NLM_F_DUMP, body);
    let links = ask(RTM_GETLINK, &[0; 16]);
    let kinds: Vec<_> = links.iter().map(|(kind, ..)| *kind).collect();
    assert_eq!(kinds, [RTM_NEWLINK, RTM_NEWLINK, NLMSG_DONE]);
    assert!(links.iter().all(|(_, flags, _)| *flags == NLM_F_MULTI));
    assert_eq!(attribute(&links[1].2, 16, IFLA_IFNAME).unwrap(), b"eth0\0");
    let addresses = ask(RTM_GETADDR, &[AF_INET as u8]);
    assert_eq!(addresses.len(), 3);
    assert_eq!(attribute(&addresses[1].2, 8, IFA_LOCAL).unwrap(), [10, 9, 0, 2]);
}

#[test]
fn one_link_by_name_and_errors_as_messages() {
    let user = Asker::user();
    let mut body = vec![0; 16];
    body.extend_from_slice(&[9, 0, 3, 0]);
    body.extend_from_slice(b"eth0\0\0\0\0");
    let found = user.ask(NETLINK_ROUTE, RTM_GETLINK, NLM_F_ACK, &body);
    assert_eq!((found[0].0, found[1].0), (RTM_NEWLINK, NLMSG_ERROR));
    assert_eq!((found[1].1, &found[1].2[..4]), (NLM_F_CAPPED, &[0; 4][..]));
    let error = |kind, body: &[u8]| errno(&user.ask(NETLINK_ROUTE, kind, 0, body));
    body[20] = b'x';
    assert_eq!(error(RTM_GETLINK, &body), Errno::ENODEV.number());
    assert_eq!(error(RTM_NEWADDR, &[0; 8]), Errno::EPERM.number());
    assert_eq!(error(RTM_GETSTATS + 200, &[0; 16]), Errno::EOPNOTSUPP.number());
    assert_eq!(error(RTM_GETLINK, &[0; 16]), Errno::EINVAL.number());
}

#[test]
fn a_strict_request_is_held_to_its_header_and_told_why() {
    let mut user = Asker::user();
    user.strictness = Strictness::Strict;
    user.style.extended = true;
    let mut body = vec![0; 16];
    body[4] = 2;
    let answer = user.ask(NETLINK_ROUTE, RTM_GETLINK, NLM_F_DUMP, &body);
    assert_eq!((answer[0].0, answer[0].1), (NLMSG_DONE, NLM_F_MULTI | NLM_F_ACK_TLVS));
    assert_eq!(answer[0].2[..4], (-Errno::EINVAL.number()).to_ne_bytes());
    let text = attribute(&answer[0].2, 4, NLMSGERR_ATTR_MSG).unwrap();
    assert_eq!(text, b"Filter by device index not supported for link dumps\0");
    // An address dump of one interface is marked as narrowed.
    let mut body = vec![0; 8];
    body[4] = 2;
    let answer = user.ask(NETLINK_ROUTE, RTM_GETADDR, NLM_F_DUMP, &body);
    assert!(answer.iter().all(|(_, flags, _)| *flags == NLM_F_MULTI | NLM_F_DUMP_FILTERED));
    assert!(answer.len() >= 3);
}

#[test]
fn what_is_no_request_is_acknowledged_and_skipped() {
    let user = Asker::user();
    let header = NlMsgHdr { len: 16, kind: RTM_GETLINK, flags: NLM_F_ACK, seq: 7, pid: 1 };
    let silent = NlMsgHdr { flags: 0, ..header };
    let bytes = [header.as_bytes(), silent.as_bytes(), &[3, 0]].concat();
    let answers = user.ask_bytes(NETLINK_ROUTE, &bytes);
    assert_eq!(errno(&answers), 0);
}

#[test]
fn sock_diag_refuses_what_linux_refuses() {
    let user = Asker::user();
    let ask = |flags, body: &[u8]| user.ask(NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, flags, body);
    for (family, wanted) in [(40u8, Errno::ENOENT), (200, Errno::EINVAL)] {
        let body = [&[family][..], &[0; 55]].concat();
        assert_eq!(errno(&ask(NLM_F_DUMP, &body)), wanted.number());
    }
    let dccp = [&[AF_INET as u8, 33][..], &[0; 54]].concat();
    assert_eq!(errno(&ask(NLM_F_DUMP, &dccp)), Errno::ENOENT.number());
    let short = [AF_INET as u8, 6, 0];
    assert_eq!(errno(&ask(NLM_F_DUMP, &short)), Errno::EINVAL.number());
    let tcp = [&[AF_INET as u8, 6][..], &[0; 54]].concat();
    assert_eq!(errno(&ask(0, &tcp)), Errno::ENOENT.number());
    let answer = user.ask(NETLINK_SOCK_DIAG, SOCK_DESTROY, 0, &tcp);
    assert_eq!(errno(&answer), Errno::ENOENT.number());
    // A filter that is no program.
    let filtered = [&tcp[..], &[8, 0, 1, 0, 77, 4, 4, 0]].concat();
    assert_eq!(errno(&ask(NLM_F_DUMP, &filtered)), Errno::EINVAL.number());
}

/// A request for TCP sockets of IPv4 in all states.
fn tcp_request(id: InetDiagSockId) -> Vec<u8> {
    let states = u32::MAX;
    let (family, protocol) = (AF_INET as u8, 6);
    InetDiagReqV2 { family, protocol, ext: 0xff, raw_protocol: 0, states, id }.as_bytes().to_vec()
}

#[test]
fn streams_are_listed_found_by_cookie_and_ended_by_an_administrator() {
    let root = Asker::root();
    let tcp = || {
        let endpoint = Endpoint::Tcp(root.net.stack().tcp_socket(Family::V4));
        InetSocket::new(&root.net, Family::V4, endpoint, (SOCK_STREAM, 6))
    };
    let (listener, client) = (tcp(), tcp());
    let now = root.net.now();
    let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let of = |socket: &Arc<InetSocket>| socket.endpoint().tcp().unwrap().clone();
    of(&listener).bind(address).unwrap();
    of(&listener).listen(3).unwrap();
    of(&client).connect(now, address).unwrap();
    let ask =
        |who: &Asker, kind, flags, id| who.ask(NETLINK_SOCK_DIAG, kind, flags, &tcp_request(id));
    let dump = || {
        let all = ask(&root, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, InetDiagSockId::default());
        let read = |body: &Vec<u8>| InetDiagMsg::read_from_prefix(body).unwrap().0;
        all[..all.len() - 1].iter().map(|(_, _, body)| read(body)).collect::<Vec<_>>()
    };
    let mut states: Vec<_> = dump().iter().map(|row| row.state).collect();
    states.sort_unstable();
    // The listener, the client, and the server's end that waits to be accepted.
    assert_eq!(states, [1, 1, 10]);
    let listens = *dump().iter().find(|row| row.state == 10).unwrap();
    assert_eq!((listens.rqueue, listens.wqueue), (1, 3));
    let found = ask(&root, SOCK_DIAG_BY_FAMILY, 0, listens.id);
    assert_eq!(found[0].0, SOCK_DIAG_BY_FAMILY);
    assert!(attribute(&found[0].2, 72, INET_DIAG_SKMEMINFO).is_some());
    let stale = InetDiagSockId { cookie: [1, 99], ..listens.id };
    assert_eq!(errno(&ask(&root, SOCK_DIAG_BY_FAMILY, 0, stale)), Errno::ESTALE.number());

    let user = Asker { net: root.net.clone(), ..Asker::user() };
    let row = *dump().iter().find(|row| row.id.dport == 80u16.to_be_bytes()).unwrap();
    assert_eq!(errno(&ask(&user, SOCK_DESTROY, 0, row.id)), Errno::EPERM.number());
    assert_eq!(errno(&ask(&root, SOCK_DESTROY, NLM_F_ACK, row.id)), 0);
    assert_eq!(of(&client).take_error(), Some(SocketError::ConnectionAborted));
    assert_eq!(dump().iter().filter(|row| row.state == 1).count(), 0);
}

#[test]
fn the_controller_knows_itself_alone() {
    let user = Asker::user();
    let ask = |name: &[u8]| {
        let mut body = vec![CTRL_CMD_GETFAMILY, 1, 0, 0, 4 + name.len() as u8, 0, 2, 0];
        body.extend_from_slice(name);
        body.resize(body.len().next_multiple_of(4), 0);
        user.ask(NETLINK_GENERIC, GENL_ID_CTRL, 0, &body)
    };
    let found = ask(b"nlctrl\0");
    assert_eq!(attribute(&found[0].2, 4, CTRL_ATTR_FAMILY_ID).unwrap(), [16, 0]);
    assert_eq!(errno(&ask(b"nl80211\0")), Errno::ENOENT.number());
}

/// A message body of a fixed part and attributes.
fn body(fixed: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = fixed.to_vec();
    for (kind, value) in attributes {
        bytes.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

#[test]
fn addresses_and_routes_are_added_shown_and_taken_away() {
    let root = Asker::root();
    let ask = |kind, flags, body: &[u8]| root.ask(NETLINK_ROUTE, kind, flags | NLM_F_ACK, body);
    let address = body(&[AF_INET as u8, 16, 0, 0, 2, 0, 0, 0], &[(IFA_LOCAL, &[10, 8, 0, 1])]);
    assert_eq!(errno(&ask(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &address)), 0);
    let again = errno(&ask(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &address));
    assert_eq!(again, Errno::EEXIST.number());
    // A way in two directions through neighbours of that address, into table 100.
    let mut hops = Vec::new();
    for last in [5, 6] {
        hops.extend_from_slice(&[16, 0, 0, last, 2, 0, 0, 0, 8, 0, 5, 0, 10, 8, 0, last]);
    }
    let route = body(
        &[AF_INET as u8, 16, 0, 0, 100, 4, 0, 1, 0, 0, 0, 0],
        &[(RTA_DST, &[10, 77, 0, 0]), (RTA_MULTIPATH, &hops), (RTA_PRIORITY, &[7, 0, 0, 0])],
    );
    assert_eq!(errno(&ask(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &route)), 0);
    let find = || {
        let all = root.ask(NETLINK_ROUTE, RTM_GETROUTE, NLM_F_DUMP, &[AF_INET as u8]);
        let of_table = |(kind, _, body): &(u16, u16, Vec<u8>)| {
            *kind == RTM_NEWROUTE && attribute(body, 12, RTA_TABLE) == Some(vec![100, 0, 0, 0])
        };
        all.into_iter().find(of_table)
    };
    let (_, _, shown) = find().unwrap();
    assert_eq!(attribute(&shown, 12, RTA_MULTIPATH).unwrap(), hops);
    assert_eq!(errno(&ask(RTM_DELROUTE, 0, &route)), 0);
    assert_eq!(errno(&ask(RTM_DELROUTE, 0, &route)), Errno::ESRCH.number());
    assert!(find().is_none());
    assert_eq!(errno(&ask(RTM_DELADDR, 0, &address)), 0);
    assert_eq!(errno(&ask(RTM_DELADDR, 0, &address)), Errno::EADDRNOTAVAIL.number());
    let user = Asker { net: root.net.clone(), ..Asker::user() };
    assert_eq!(errno(&user.ask(NETLINK_ROUTE, RTM_NEWADDR, 0, &address)), Errno::EPERM.number());
}

#[test]
fn hostile_requests_end_in_errors() {
    let root = Asker::root();
    // A way whose length lies, a nest cut short, a prefix too long, an unknown type.
    let route = |prefix, kind, attributes: &[(u16, &[u8])]| {
        let fixed = [AF_INET as u8, prefix, 0, 0, 254, 4, 0, kind, 0, 0, 0, 0];
        errno(&root.ask(NETLINK_ROUTE, RTM_NEWROUTE, NLM_F_CREATE, &body(&fixed, attributes)))
    };
    for len in [0u8, 7, 17, 255] {
        let hop = [len, 0, 0, 0, 2, 0, 0, 0, 8, 0, 5, 0, 10, 9, 0, 5];
        assert_eq!(route(16, 1, &[(RTA_MULTIPATH, &hop)]), Errno::EINVAL.number(), "{len}");
    }
    assert_eq!(route(16, 1, &[(RTA_METRICS, &[1])]), Errno::ERANGE.number());
    assert_eq!(route(33, 1, &[]), Errno::EINVAL.number());
    assert_eq!(route(16, 77, &[]), Errno::EINVAL.number());
    assert_eq!(route(16, 1, &[(RTA_DST, &[10, 1, 2, 3])]), Errno::EINVAL.number(), "host bits");
    // Every type with bodies of every small length: nothing but answers.
    for kind in 16..130u16 {
        for len in 0..40 {
            for fill in [0u8, 2, 10, 0xff] {
                root.ask(NETLINK_ROUTE, kind, NLM_F_ACK, &vec![fill; len]);
                root.ask(NETLINK_ROUTE, kind, NLM_F_DUMP, &vec![fill; len]);
            }
        }
    }
    for kind in [SOCK_DIAG_BY_FAMILY, SOCK_DESTROY] {
        for (family, len) in (0..64u8).flat_map(|family| (0..70).map(move |len| (family, len))) {
            let mut body = vec![0xff; len];
            if let Some(first) = body.first_mut() {
                *first = family;
            }
            root.ask(NETLINK_SOCK_DIAG, kind, NLM_F_DUMP, &body);
            root.ask(NETLINK_SOCK_DIAG, kind, 0, &body);
        }
    }
}
