//! Neighbour discovery messages (RFC 4861), without the ICMPv6 header in front of them: the four bytes of the
//! header that belong to the type, then the body.

use core::net::Ipv6Addr;
use core::time::Duration;

use super::ethernet::MacAddr;
use super::{be16, be32};

/// Option: source link-layer address.
const OPTION_SOURCE: u8 = 1;
/// Option: target link-layer address.
const OPTION_TARGET: u8 = 2;
/// Option: prefix information.
const OPTION_PREFIX: u8 = 3;
/// Option: MTU.
const OPTION_MTU: u8 = 5;
/// Option: a nonce (RFC 3971).
const OPTION_NONCE: u8 = 14;
/// Option: a route (RFC 4191).
const OPTION_ROUTE: u8 = 24;

/// A neighbour solicitation: who has the target?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighbourSolicit {
    /// The address in question.
    pub target: Ipv6Addr,
    /// The link-layer address of who asks.
    pub source: Option<MacAddr>,
    /// Tells one's own question that came back (RFC 7527).
    pub nonce: Option<[u8; 6]>,
}

/// A neighbour advertisement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighbourAdvert {
    /// Whether the sender is a router.
    pub router: bool,
    /// Whether it answers a solicitation.
    pub solicited: bool,
    /// Whether it replaces what a cache holds.
    pub override_cached: bool,
    /// The address it is about.
    pub target: Ipv6Addr,
    /// Its link-layer address.
    pub link_address: Option<MacAddr>,
}

/// A router advertisement.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RouterAdvert {
    /// The hop limit hosts should use; 0 for unspecified.
    pub hop_limit: u8,
    /// How long the sender serves as default router; zero for not at all.
    pub lifetime: Duration,
    /// How much it wants to (RFC 4191).
    pub preference: Preference,
    /// How long a neighbour that answered counts as reachable; zero for unspecified.
    pub reachable: Duration,
    /// The time between two questions; zero for unspecified.
    pub retrans: Duration,
    /// The router's link-layer address.
    pub source: Option<MacAddr>,
    /// The link's MTU.
    pub mtu: Option<u32>,
    /// Prefixes.
    pub prefixes: Vec<Prefix>,
    /// Routes through the sender.
    pub routes: Vec<RouteInformation>,
}

/// How much a router wants to be used (RFC 4191 section 2.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Preference {
    /// Only when there is nothing else.
    Low,
    /// As any other.
    #[default]
    Medium,
    /// Before others.
    High,
}

/// A route of a router advertisement (RFC 4191 section 2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteInformation {
    /// The prefix.
    pub prefix: Ipv6Addr,
    /// Its length in bits.
    pub len: u8,
    /// How much the router wants to be used for it; None for the reserved value, with which it is to be ignored.
    pub preference: Option<Preference>,
    /// How long it holds.
    pub lifetime: Duration,
}

impl Preference {
    /// From the two bits of a flags byte; None for the reserved value.
    fn of(flags: u8) -> Option<Preference> {
        match flags >> 3 & 3 {
            0 => Some(Preference::Medium),
            1 => Some(Preference::High),
            3 => Some(Preference::Low),
            _ => None,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Preference::Medium => 0,
            Preference::High => 1 << 3,
            Preference::Low => 3 << 3,
        }
    }
}

/// A prefix of a router advertisement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    /// The prefix.
    pub prefix: Ipv6Addr,
    /// Its length in bits.
    pub len: u8,
    /// Whether its addresses are neighbours.
    pub on_link: bool,
    /// Whether hosts may form addresses from it.
    pub autonomous: bool,
    /// How long it is valid.
    pub valid: Duration,
    /// How long addresses from it are preferred.
    pub preferred: Duration,
}

/// A redirect: another first hop is better.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Redirect {
    /// The better first hop: a router's link-local address, or the destination when it is a neighbour.
    pub target: Ipv6Addr,
    /// The destination that is redirected.
    pub destination: Ipv6Addr,
    /// The target's link-layer address.
    pub link_address: Option<MacAddr>,
}

/// Option: the packet that was redirected.
const OPTION_REDIRECTED: u8 = 4;

impl Redirect {
    /// Reads the body after the ICMPv6 header.
    pub fn parse(body: &[u8]) -> Option<Redirect> {
        let (target, destination) = (address_at(body, 0)?, address_at(body, 16)?);
        let mut link_address = None;
        each_option(body.get(32..)?, &mut |kind, option| {
            if kind == OPTION_TARGET {
                link_address = mac_of(option);
            }
        })?;
        Some(Redirect { target, destination, link_address })
    }

    /// The body after the ICMPv6 header, with the packet in question as far as it is given.
    pub fn body(&self, packet: &[u8]) -> Vec<u8> {
        let mut body = [self.target.octets(), self.destination.octets()].concat();
        if let Some(mac) = self.link_address {
            body.extend_from_slice(&mac_option(OPTION_TARGET, mac));
        }
        // Whole units of eight bytes, of which the length field counts at most 255.
        let packet = &packet[..packet.len().min(254 * 8) & !7];
        body.extend_from_slice(&[
            OPTION_REDIRECTED,
            (packet.len() / 8 + 1) as u8,
            0,
            0,
            0,
            0,
            0,
            0,
        ]);
        body.extend_from_slice(packet);
        body
    }
}

/// Walks options; None when one has length zero or exceeds the message (RFC 4861 section 6.1: such a message is discarded).
fn each_option(mut bytes: &[u8], seen: &mut dyn FnMut(u8, &[u8])) -> Option<()> {
    while let [kind, len, ..] = *bytes {
        let len = usize::from(len) * 8;
        if len == 0 || len > bytes.len() {
            return None;
        }
        let (option, rest) = bytes.split_at(len);
        seen(kind, option);
        bytes = rest;
    }
    bytes.is_empty().then_some(())
}

fn mac_of(option: &[u8]) -> Option<MacAddr> {
    option.get(2..)?.first_chunk::<6>().copied().map(MacAddr)
}

fn address_at(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    bytes.get(at..)?.first_chunk::<16>().copied().map(Ipv6Addr::from)
}

fn mac_option(kind: u8, mac: MacAddr) -> [u8; 8] {
    let [a, b, c, d, e, f] = mac.0;
    [kind, 1, a, b, c, d, e, f]
}

impl NeighbourSolicit {
    /// Reads the body after the ICMPv6 header.
    pub fn parse(body: &[u8]) -> Option<NeighbourSolicit> {
        let target = address_at(body, 0)?;
        let (mut source, mut nonce) = (None, None);
        each_option(body.get(16..)?, &mut |kind, option| match kind {
            OPTION_SOURCE => source = mac_of(option),
            OPTION_NONCE => nonce = option.get(2..).and_then(|at| at.first_chunk().copied()),
            _ => {}
        })?;
        (!target.is_multicast()).then_some(NeighbourSolicit { target, source, nonce })
    }

    /// The body after the ICMPv6 header.
    pub fn body(&self) -> Vec<u8> {
        let mut body = self.target.octets().to_vec();
        if let Some(mac) = self.source {
            body.extend_from_slice(&mac_option(OPTION_SOURCE, mac));
        }
        if let Some(nonce) = self.nonce {
            body.extend_from_slice(&mac_option(OPTION_NONCE, MacAddr(nonce)));
        }
        body
    }
}

impl NeighbourAdvert {
    /// Reads the four bytes of the header and the body.
    pub fn parse(rest: [u8; 4], body: &[u8]) -> Option<NeighbourAdvert> {
        let target = address_at(body, 0)?;
        let mut link_address = None;
        each_option(body.get(16..)?, &mut |kind, option| {
            if kind == OPTION_TARGET {
                link_address = mac_of(option);
            }
        })?;
        (!target.is_multicast()).then_some(NeighbourAdvert {
            router: rest[0] & 0x80 != 0,
            solicited: rest[0] & 0x40 != 0,
            override_cached: rest[0] & 0x20 != 0,
            target,
            link_address,
        })
    }

    /// The four bytes of the header.
    pub fn rest(&self) -> [u8; 4] {
        let flags = u8::from(self.router) << 7
            | u8::from(self.solicited) << 6
            | u8::from(self.override_cached) << 5;
        [flags, 0, 0, 0]
    }

    /// The body after the ICMPv6 header.
    pub fn body(&self) -> Vec<u8> {
        let mut body = self.target.octets().to_vec();
        if let Some(mac) = self.link_address {
            body.extend_from_slice(&mac_option(OPTION_TARGET, mac));
        }
        body
    }
}

/// The body of a router solicitation.
pub fn router_solicit_body(source: Option<MacAddr>) -> Vec<u8> {
    source.map(|mac| mac_option(OPTION_SOURCE, mac).to_vec()).unwrap_or_default()
}

impl RouterAdvert {
    /// Reads the four bytes of the header and the body.
    pub fn parse(rest: [u8; 4], body: &[u8]) -> Option<RouterAdvert> {
        let lifetime = u16::from_be_bytes([rest[2], rest[3]]);
        let mut advert = RouterAdvert {
            hop_limit: rest[0],
            lifetime: Duration::from_secs(u64::from(lifetime)),
            // RFC 4191 section 2.2: "the reserved value ... MUST be treated as if it were 00".
            preference: Preference::of(rest[1]).unwrap_or_default(),
            reachable: Duration::from_millis(u64::from(be32(body, 0)?)),
            retrans: Duration::from_millis(u64::from(be32(body, 4)?)),
            ..RouterAdvert::default()
        };
        each_option(body.get(8..)?, &mut |kind, option| match kind {
            OPTION_SOURCE => advert.source = mac_of(option),
            OPTION_MTU => advert.mtu = be32(option, 4),
            OPTION_PREFIX => advert.prefixes.extend(prefix_of(option)),
            OPTION_ROUTE => advert.routes.extend(route_of(option)),
            _ => {}
        })?;
        Some(advert)
    }

    /// The four bytes of the header.
    pub fn rest(&self) -> [u8; 4] {
        let lifetime = u16::try_from(self.lifetime.as_secs()).unwrap_or(u16::MAX).to_be_bytes();
        [self.hop_limit, self.preference.bits(), lifetime[0], lifetime[1]]
    }

    /// The body after the ICMPv6 header.
    pub fn body(&self) -> Vec<u8> {
        let mut body = [millis(self.reachable), millis(self.retrans)].concat();
        if let Some(mac) = self.source {
            body.extend_from_slice(&mac_option(OPTION_SOURCE, mac));
        }
        if let Some(mtu) = self.mtu {
            body.extend_from_slice(&[OPTION_MTU, 1, 0, 0]);
            body.extend_from_slice(&mtu.to_be_bytes());
        }
        for prefix in &self.prefixes {
            let flags = u8::from(prefix.on_link) << 7 | u8::from(prefix.autonomous) << 6;
            body.extend_from_slice(&[OPTION_PREFIX, 4, prefix.len, flags]);
            body.extend_from_slice(&seconds(prefix.valid).to_be_bytes());
            body.extend_from_slice(&seconds(prefix.preferred).to_be_bytes());
            body.extend_from_slice(&[0; 4]);
            body.extend_from_slice(&prefix.prefix.octets());
        }
        for route in &self.routes {
            let bits = route.preference.map_or(2 << 3, Preference::bits);
            body.extend_from_slice(&[OPTION_ROUTE, 3, route.len, bits]);
            body.extend_from_slice(&seconds(route.lifetime).to_be_bytes());
            body.extend_from_slice(&route.prefix.octets());
        }
        body
    }
}

fn millis(duration: Duration) -> [u8; 4] {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).to_be_bytes()
}

/// RFC 4191 section 2.3: the prefix takes 0, 8 or 16 bytes, as many as its length needs.
fn route_of(option: &[u8]) -> Option<RouteInformation> {
    let (len, flags) = (*option.get(2)?, *option.get(3)?);
    let bytes = option.get(8..)?;
    if len > 128 || usize::from(len) > bytes.len() * 8 {
        return None;
    }
    let mut prefix = [0; 16];
    let known = bytes.len().min(16);
    prefix[..known].copy_from_slice(&bytes[..known]);
    let lifetime = Duration::from_secs(u64::from(be32(option, 4)?));
    let preference = Preference::of(flags);
    Some(RouteInformation { prefix: prefix.into(), len, preference, lifetime })
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

fn prefix_of(option: &[u8]) -> Option<Prefix> {
    let head = be16(option, 2)?.to_be_bytes();
    let lifetime = |at| Some(Duration::from_secs(u64::from(be32(option, at)?)));
    let prefix = Prefix {
        prefix: address_at(option, 16)?,
        len: head[0],
        on_link: head[1] & 0x80 != 0,
        autonomous: head[1] & 0x40 != 0,
        valid: lifetime(4)?,
        preferred: lifetime(8)?,
    };
    (prefix.len <= 128).then_some(prefix)
}
