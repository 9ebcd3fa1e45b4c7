//! Silences the host's stack on interfaces that a packet socket serves: a table of nftables at their ingress, which drops all
//! that comes in after the packet socket has seen it. The addresses stay where they are, for whoever looks.
//!
//! The table belongs to our netlink socket (NFT_TABLE_F_OWNER, Linux 5.12): it goes with the socket, however the process ends,
//! and nobody else can change it meanwhile.

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use crate::netlink::{
    Message, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, Request, Socket, attribute, find, text,
};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_GETTABLE: u16 = 1;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_DELCHAIN: u16 = 5;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFT_TABLE_F_OWNER: u32 = 2;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_HOOK_DEV: u16 = 3;
const NF_NETDEV_INGRESS: u32 = 0;
const NF_DROP: u32 = 0;
/// After every other chain at the ingress, which thus still counts what it counts.
const PRIORITY: i32 = i32::MAX;
const NFPROTO_NETDEV: u8 = 5;
const NESTED: u16 = 0x8000;
/// The table's name: a namespace has one stack beside the host's.
pub(crate) const TABLE: &str = "netcell";

/// The silence on the interfaces of a namespace. It ends when this is dropped.
pub struct Silence(Socket);

/// struct nfgenmsg
pub(crate) const GENERIC: usize = 4;

/// struct nfgenmsg of a request
fn generic(family: u8, resource: u16) -> Vec<u8> {
    let [high, low] = resource.to_be_bytes();
    vec![family, 0, high, low]
}

fn name(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn kind(message: u16) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | message
}

/// Names the chain of an interface.
fn chain(ifindex: u32) -> Vec<u8> {
    let mut body = generic(NFPROTO_NETDEV, 0);
    attribute(&mut body, NFTA_CHAIN_TABLE, &name(TABLE));
    attribute(&mut body, NFTA_CHAIN_NAME, &name(&format!("in{ifindex}")));
    body
}

impl Silence {
    /// Makes the table in the caller's namespace, with no interface yet. Errors: EPERM where another stack has it or without
    /// CAP_NET_ADMIN, EOPNOTSUPP and others where the kernel lacks nftables or owners of tables.
    pub fn new() -> Result<Silence, Errno> {
        let mut silence = Silence(Socket::open(SockProtocol::NetlinkNetFilter)?);
        let mut body = generic(NFPROTO_NETDEV, 0);
        attribute(&mut body, NFTA_TABLE_NAME, &name(TABLE));
        attribute(&mut body, NFTA_TABLE_FLAGS, &NFT_TABLE_F_OWNER.to_be_bytes());
        silence.change(NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, body)?;
        Ok(silence)
    }

    /// Whether a stack has the table in the caller's namespace.
    pub fn is_there() -> bool {
        let Ok(mut socket) = Socket::open(SockProtocol::NetlinkNetFilter) else { return false };
        let tables = socket.dump(kind(NFT_MSG_GETTABLE), &generic(NFPROTO_NETDEV, 0));
        let named = |message: &Message| {
            let attributes = message.body().get(GENERIC..).unwrap_or_default();
            find(attributes, NFTA_TABLE_NAME).is_some_and(|name| text(name) == TABLE)
        };
        tables.is_ok_and(|tables| tables.iter().any(named))
    }

    /// Silences one more interface of this namespace. What the kernel sends through it is not touched.
    pub fn add(&mut self, ifindex: u32, device: &str) -> Result<(), Errno> {
        let mut hook = Vec::new();
        attribute(&mut hook, NFTA_HOOK_HOOKNUM, &NF_NETDEV_INGRESS.to_be_bytes());
        attribute(&mut hook, NFTA_HOOK_PRIORITY, &PRIORITY.to_be_bytes());
        attribute(&mut hook, NFTA_HOOK_DEV, &name(device));
        let mut body = chain(ifindex);
        attribute(&mut body, NFTA_CHAIN_HOOK | NESTED, &hook);
        attribute(&mut body, NFTA_CHAIN_POLICY, &NF_DROP.to_be_bytes());
        attribute(&mut body, NFTA_CHAIN_TYPE, &name("filter"));
        self.change(NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL, body)
    }

    /// Lets the host's stack hear an interface again; one that is gone took its chain with it (ENOENT).
    pub fn remove(&mut self, ifindex: u32) -> Result<(), Errno> {
        let body = chain(ifindex);
        self.change(NFT_MSG_DELCHAIN, 0, body)
    }

    /// Changes of nftables go in a batch, which is one transaction.
    fn change(&mut self, message: u16, flags: u16, body: Vec<u8>) -> Result<(), Errno> {
        let edge = |kind| Request { kind, flags: 0, body: generic(0, NFNL_SUBSYS_NFTABLES) };
        self.0.batch(&[
            edge(NFNL_MSG_BATCH_BEGIN),
            Request { kind: kind(message), flags: flags | NLM_F_ACK, body },
            edge(NFNL_MSG_BATCH_END),
        ])
    }
}
