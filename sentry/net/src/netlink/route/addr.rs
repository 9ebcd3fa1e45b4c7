//! RTM_*ADDR: addresses (net/ipv4/devinet.c, net/ipv6/addrconf.c).

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use netstack::ip::route::Scope;
use netstack::ip::{Address, AddressFlags, IpCidr};
use netstack::link::NicId;
use netstack::stack::{AddressError, NicInfo};
use netstack::time::Instant;
use sentry_abi::Errno;
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET, AF_INET6};

use super::super::build::Message;
use super::super::parse::{Attributes, Refusal, Request, Rule, Shape, Strictness};
use super::super::table::{Context, Dump};
use super::{asked, bytes_of, nic_by_index, number_of};

const POLICY: &[Rule] = &[
    (IFA_ADDRESS, Shape::Address),
    (IFA_LOCAL, Shape::Address),
    (IFA_BROADCAST, Shape::Address),
    (IFA_LABEL, Shape::Text(15)),
    (IFA_CACHEINFO, Shape::AtLeast(16)),
    (IFA_FLAGS, Shape::Number(4)),
    (IFA_RT_PRIORITY, Shape::Number(4)),
    (IFA_PROTO, Shape::Number(1)),
];
/// INFINITY_LIFE_TIME
const FOR_EVER: u32 = u32::MAX;
/// What a program may set of the flags of an IPv6 address (inet6_rtm_newaddr).
const SETTABLE: AddressFlags = AddressFlags::NODAD
    .union(AddressFlags::HOMEADDRESS)
    .union(AddressFlags::MANAGETEMPADDR)
    .union(AddressFlags::NOPREFIXROUTE)
    .union(AddressFlags::MCAUTOJOIN)
    .union(AddressFlags::OPTIMISTIC);

/// All addresses, or those of one interface where a strict request says so.
pub fn all(cx: &Context<'_>, request: &Request<'_>, dump: &mut Dump) -> Result<(), Refusal> {
    let mut only = 0;
    if cx.strictness == Strictness::Strict {
        let fixed: IfAddrMsg = request.fixed()?;
        if (fixed.prefixlen, fixed.flags, fixed.scope) != (0, 0, 0) {
            let text = "Invalid values in header for address dump request";
            return Err(Refusal::new(Errno::EINVAL, text));
        }
        only = fixed.index;
        if only != 0 {
            dump.flags = NLM_F_DUMP_FILTERED;
            nic_by_index(cx, only)?;
        }
    }
    let nics = cx.stack().nics();
    let mut all = cx.stack().addresses();
    all.retain(|(nic, own)| (only == 0 || nic.0 == only) && asked(request.family(), own.ip()));
    // IPv4 comes first, then interface by interface: primary addresses before secondary ones; of IPv6 the widest scope first,
    // and the newest of a scope.
    all.reverse();
    let rank = |own: &Address| match own.ip() {
        IpAddr::V4(_) => u8::from(own.flags.contains(AddressFlags::SECONDARY)),
        IpAddr::V6(_) => own.scope.0,
    };
    all.sort_by_key(|(nic, own)| (own.ip().is_ipv6(), *nic, rank(own)));
    let v4 = all.iter().take_while(|(_, own)| own.ip().is_ipv4()).count();
    // The oldest of IPv4 first: sorting kept the order that was turned around.
    all[..v4].reverse();
    all[..v4].sort_by_key(|(nic, own)| (*nic, rank(own)));
    for (id, own) in &all {
        if let Some(nic) = nics.iter().find(|nic| nic.id == *id) {
            dump.messages.push(message(&request.header, cx.now, RTM_NEWADDR, nic, own));
        }
    }
    Ok(())
}

/// Seconds until a moment; for ever where there is none.
fn seconds_until(now: Instant, at: Option<Instant>) -> u32 {
    let Some(at) = at else { return FOR_EVER };
    let left = at.nanos().saturating_sub(now.nanos()) / 1_000_000_000;
    u32::try_from(left).unwrap_or(FOR_EVER - 1)
}

/// RTM_NEWADDR or RTM_DELADDR of an address (inet_fill_ifaddr, inet6_fill_ifaddr).
pub fn message(
    header: &NlMsgHdr,
    now: Instant,
    kind: u16,
    nic: &NicInfo,
    own: &Address,
) -> Message {
    let address = own.ip();
    // IPv4 and the loopback address are never probed for duplicates, of which Linux makes no words.
    let hidden = match address {
        IpAddr::V6(v6) if !v6.is_loopback() => AddressFlags::empty(),
        _ => AddressFlags::NODAD,
    };
    let flags = own.flags - hidden;
    let fixed = IfAddrMsg {
        family: number_of(address) as u8,
        prefixlen: own.cidr.prefix_len(),
        flags: flags.bits() as u8,
        scope: own.scope.0,
        index: nic.id.0,
    };
    let mut message = Message::new(kind, header, &fixed);
    match address {
        IpAddr::V4(_) => {
            message.attribute(IFA_ADDRESS, &bytes_of(own.peer.unwrap_or(address)));
            message.attribute(IFA_LOCAL, &bytes_of(address));
            if let Some(broadcast) = own.broadcast {
                message.attribute(IFA_BROADCAST, &broadcast.octets());
            }
            message.string(IFA_LABEL, own.label.as_deref().unwrap_or(&nic.name));
        }
        IpAddr::V6(_) => match own.peer {
            Some(peer) => {
                message.attribute(IFA_LOCAL, &bytes_of(address));
                message.attribute(IFA_ADDRESS, &bytes_of(peer));
            }
            None => message.attribute(IFA_ADDRESS, &bytes_of(address)),
        },
    }
    if own.made_by != 0 {
        message.byte(IFA_PROTO, own.made_by);
    }
    message.number(IFA_FLAGS, flags.bits());
    if own.metric != 0 {
        message.number(IFA_RT_PRIORITY, own.metric);
    }
    // struct ifa_cacheinfo: preferred and valid in seconds, made and changed in hundredths of a second.
    let hundredths = |at: Instant| (at.nanos() / 10_000_000) as u32;
    let preferred = seconds_until(now, own.preferred_until);
    let valid = seconds_until(now, own.valid_until);
    let times = [preferred, valid, hundredths(own.created), hundredths(own.updated)];
    message.object(IFA_CACHEINFO, &times);
    message
}

/// What a request says of lifetimes. Errors: EINVAL where an address would be preferred longer than valid, or not valid at all.
fn lifetimes(
    cx: &Context<'_>,
    attributes: &Attributes<'_>,
) -> Result<(Option<Instant>, Option<Instant>), Refusal> {
    let Some(cache) = attributes.find(IFA_CACHEINFO) else { return Ok((None, None)) };
    let word = |at: usize| {
        let bytes = cache.value.get(at..at + 4).and_then(|bytes| bytes.first_chunk::<4>());
        bytes.map_or(FOR_EVER, |bytes| u32::from_ne_bytes(*bytes))
    };
    let (preferred, valid) = (word(0), word(4));
    if valid == 0 {
        return Err(Refusal::new(Errno::EINVAL, "ipv4: Invalid lifetime: valid is 0").at(cache));
    }
    if preferred > valid {
        let text = "ipv4: Invalid preferred lifetime: preferred is greater than valid";
        return Err(Refusal::new(Errno::EINVAL, text).at(cache));
    }
    let until = |secs: u32| (secs != FOR_EVER).then(|| cx.now + Duration::from_secs(secs.into()));
    Ok((until(preferred), until(valid)))
}

/// A request's address with its interface.
pub struct Named {
    /// The address.
    pub address: Address,
    /// Its interface.
    pub nic: NicInfo,
}

/// rtm_to_ifaddr and extract_addr. Errors: EINVAL, ENODEV.
pub fn named(cx: &Context<'_>, request: &Request<'_>) -> Result<Named, Refusal> {
    let fixed: IfAddrMsg = request.fixed()?;
    let attributes = request.attributes::<IfAddrMsg>(POLICY, Strictness::Liberal)?;
    let v4 = i32::from(fixed.family) == AF_INET;
    if v4 && fixed.prefixlen > 32 {
        return Err(Refusal::new(Errno::EINVAL, "ipv4: Invalid prefix length"));
    }
    if !v4 && fixed.prefixlen > 128 {
        return Err(Refusal::new(Errno::EINVAL, "Invalid prefix length"));
    }
    let of_family = |kind: u16| -> Result<Option<IpAddr>, Refusal> {
        let found = attributes.address(kind)?;
        match found.is_some_and(|found| found.is_ipv4() != v4) {
            true => Err(Errno::EINVAL.into()),
            false => Ok(found),
        }
    };
    let (local, far) = (of_family(IFA_LOCAL)?, of_family(IFA_ADDRESS)?);
    let own = match (v4, local, far) {
        (true, None, _) => {
            return Err(Refusal::new(Errno::EINVAL, "ipv4: Local address is not supplied"));
        }
        (_, Some(local), _) => local,
        (_, None, Some(far)) => far,
        (false, None, None) => return Err(Errno::EINVAL.into()),
    };
    let text = if v4 { "ipv4: Device not found" } else { "Unable to find the interface" };
    let nic = nic_by_index(cx, fixed.index).map_err(|_| Refusal::new(Errno::ENODEV, text))?;
    let asked = attributes.number(IFA_FLAGS).unwrap_or(u32::from(fixed.flags));
    let flags = AddressFlags::from_bits_truncate(asked);
    let (preferred_until, valid_until) = lifetimes(cx, &attributes)?;
    let mut address = Address::new(IpCidr::new(own, fixed.prefixlen));
    address.flags = if v4 { flags & AddressFlags::NOPREFIXROUTE } else { flags & SETTABLE };
    address.flags.set(AddressFlags::PERMANENT, valid_until.is_none());
    address.peer = far.filter(|far| *far != own);
    address.broadcast = match attributes.address(IFA_BROADCAST)? {
        Some(IpAddr::V4(broadcast)) if v4 => {
            Some(broadcast).filter(|at| *at != Ipv4Addr::UNSPECIFIED)
        }
        _ => None,
    };
    address.label = attributes.find(IFA_LABEL).map(text_of).filter(|_| v4);
    if v4 {
        address.scope = Scope(fixed.scope);
    }
    address.metric = attributes.number(IFA_RT_PRIORITY).unwrap_or(0);
    address.made_by = attributes.number(IFA_PROTO).unwrap_or(0) as u8;
    (address.preferred_until, address.valid_until) = (preferred_until, valid_until);
    (address.created, address.updated) = (cx.now, cx.now);
    Ok(Named { address, nic })
}

fn text_of(attribute: &super::super::parse::Attribute<'_>) -> String {
    String::from_utf8_lossy(attribute.text()).into_owned()
}

fn refusal(error: AddressError, family: i32) -> Refusal {
    let v4 = family == AF_INET;
    match error {
        AddressError::NoNic => Errno::ENODEV.into(),
        AddressError::Exists if v4 => Refusal::new(Errno::EEXIST, "ipv4: Address already assigned"),
        AddressError::Exists => Refusal::new(Errno::EEXIST, "ipv6: address already assigned"),
        AddressError::NotFound if v4 => {
            Refusal::new(Errno::EADDRNOTAVAIL, "ipv4: Address not found")
        }
        AddressError::NotFound => Refusal::new(Errno::EADDRNOTAVAIL, "ipv6: address not found"),
        AddressError::Invalid if v4 => Errno::EINVAL.into(),
        AddressError::Invalid => Refusal::new(Errno::EADDRNOTAVAIL, "Invalid address"),
        AddressError::Disabled => Refusal::new(Errno::EACCES, "IPv6 is disabled on this device"),
    }
}

fn check_family(request: &Request<'_>) -> Result<i32, Refusal> {
    match request.family() {
        family @ (AF_INET | AF_INET6) => Ok(family),
        // No handler of PF_UNSPEC, to which other families fall back.
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}

/// RTM_NEWADDR: a new address, or new lifetimes of one that is there.
pub fn add(cx: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    let family = check_family(request)?;
    let Named { address, nic } = named(cx, request)?;
    let error = match cx.stack().assign_address(nic.id, address.clone()) {
        Ok(()) => return Ok(Vec::new()),
        Err(error) => error,
    };
    let replaces = request.header.flags & NLM_F_REPLACE != 0;
    if error != AddressError::Exists || !replaces || request.header.flags & NLM_F_EXCL != 0 {
        return Err(refusal(error, family));
    }
    let changed = cx.stack().change_address(nic.id, address.ip(), |old| {
        let kept = old.flags
            & (AddressFlags::SECONDARY | AddressFlags::TENTATIVE | AddressFlags::DADFAILED);
        old.flags = address.flags | kept;
        (old.preferred_until, old.valid_until) = (address.preferred_until, address.valid_until);
        if address.metric != 0 {
            old.metric = address.metric;
        }
        (old.made_by, old.updated) = (address.made_by, cx.now);
    });
    changed.map(|()| Vec::new()).map_err(|error| refusal(error, family))
}

/// RTM_DELADDR. Errors: EADDRNOTAVAIL.
pub fn remove(cx: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    let family = check_family(request)?;
    let fixed: IfAddrMsg = request.fixed()?;
    let attributes = request.attributes::<IfAddrMsg>(POLICY, Strictness::Liberal)?;
    let (local, far) = (attributes.address(IFA_LOCAL)?, attributes.address(IFA_ADDRESS)?);
    let text =
        if family == AF_INET { "ipv4: Device not found" } else { "Unable to find the interface" };
    let nic = nic_by_index(cx, fixed.index).map_err(|_| Refusal::new(Errno::ENODEV, text))?;
    let label = attributes.find(IFA_LABEL).map(text_of);
    let found = cx.stack().addresses().into_iter().find(|(id, own)| {
        let named = own.label.as_deref().unwrap_or(&nic.name);
        let same_family = number_of(own.ip()) == family;
        let same = |wanted: IpAddr| match family {
            AF_INET => {
                fixed.prefixlen == own.cidr.prefix_len()
                    && IpCidr::new(own.peer.unwrap_or(own.ip()), fixed.prefixlen).contains(wanted)
            }
            _ => own.peer.unwrap_or(own.ip()) == wanted || own.ip() == wanted,
        };
        *id == NicId(fixed.index)
            && same_family
            && local.is_none_or(|local| local == own.ip())
            && label.as_deref().is_none_or(|label| label == named)
            && far.is_none_or(same)
            && (family == AF_INET || own.cidr.prefix_len() == fixed.prefixlen)
    });
    let (_, own) = found.ok_or_else(|| refusal(AddressError::NotFound, family))?;
    let gone = cx.stack().remove_address(nic.id, own.cidr);
    gone.map(|()| Vec::new()).map_err(|error| refusal(error, family))
}
