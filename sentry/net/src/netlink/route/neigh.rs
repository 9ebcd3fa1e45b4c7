//! RTM_*NEIGH: neighbours and addresses that are proxied (net/core/neighbour.c).

use core::net::IpAddr;

use netstack::ip::neigh::{Neighbour, State};
use netstack::link::{MacAddr, NicId};
use netstack::stack::{NeighbourError, NicInfo};
use netstack::time::Instant;
use sentry_abi::Errno;
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET, AF_INET6};

use super::super::build::Message;
use super::super::parse::{Attributes, Refusal, Request, Rule, Shape, Strictness};
use super::super::table::{Context, Dump};
use super::{asked, bytes_of, nic_by_index, number_of};

const POLICY: &[Rule] = &[
    (NDA_DST, Shape::Address),
    (NDA_LLADDR, Shape::AtMost(32)),
    (NDA_IFINDEX, Shape::Number(4)),
    (NDA_MASTER, Shape::Number(4)),
    (NDA_PROTOCOL, Shape::Number(1)),
];

/// RTM_NEWNEIGH or RTM_DELNEIGH (neigh_fill_info, pneigh_fill_info).
pub fn message(
    header: &NlMsgHdr,
    now: Instant,
    kind: u16,
    nic: NicId,
    neighbour: &Neighbour,
) -> Message {
    let flags = (if neighbour.router { NTF_ROUTER } else { 0 })
        | (if neighbour.proxy { NTF_PROXY } else { 0 });
    let fixed = NdMsg {
        family: number_of(neighbour.address) as u8,
        ifindex: nic.0 as i32,
        state: if neighbour.proxy { NUD_NONE } else { neighbour.state as u16 },
        flags,
        kind: RTN_UNICAST,
        ..NdMsg::default()
    };
    let mut message = Message::new(kind, header, &fixed);
    message.attribute(NDA_DST, &bytes_of(neighbour.address));
    if neighbour.proxy {
        return message;
    }
    if let Some(mac) = neighbour.mac {
        message.attribute(NDA_LLADDR, &mac.0);
    }
    message.number(NDA_PROBES, neighbour.probes);
    // struct nda_cacheinfo: hundredths of a second since it was confirmed, used, changed; references.
    let ago = |at: Instant| (now.nanos().saturating_sub(at.nanos()) / 10_000_000) as u32;
    let times = [ago(neighbour.confirmed), ago(neighbour.used), ago(neighbour.updated), 0];
    message.object(NDA_CACHEINFO, &times);
    message
}

/// All neighbours, or all proxied addresses. Errors: EINVAL, ENODEV.
pub fn all(cx: &Context<'_>, request: &Request<'_>, dump: &mut Dump) -> Result<(), Refusal> {
    let fixed = request.fixed::<NdMsg>();
    let mut only = None;
    if cx.strictness == Strictness::Strict {
        let fixed = fixed.as_ref().map_err(|refusal| refusal.clone())?;
        if (fixed.pad1, fixed.pad2, fixed.ifindex, fixed.state, fixed.kind) != (0, 0, 0, 0, 0) {
            let text = "Invalid values in header for neighbor dump request";
            return Err(Refusal::new(Errno::EINVAL, text));
        }
        if fixed.flags & !NTF_PROXY != 0 {
            let text = "Invalid flags in header for neighbor dump request";
            return Err(Refusal::new(Errno::EINVAL, text));
        }
    }
    if fixed.is_ok() {
        let attributes = request.attributes::<NdMsg>(POLICY, Strictness::Liberal)?;
        only = attributes.number(NDA_IFINDEX).filter(|index| *index != 0);
        if attributes.number(NDA_MASTER).is_some_and(|master| master != 0) {
            dump.flags = NLM_F_DUMP_FILTERED;
            return Ok(());
        }
    }
    if only.is_some() {
        dump.flags = NLM_F_DUMP_FILTERED;
    }
    let proxies = fixed.is_ok_and(|fixed| fixed.flags == NTF_PROXY);
    let mut all = cx.stack().neighbours();
    all.retain(|(nic, neighbour)| {
        neighbour.proxy == proxies
            && asked(request.family(), neighbour.address)
            && only.is_none_or(|only| only == nic.0)
    });
    all.sort_by_key(|(nic, neighbour)| (neighbour.address.is_ipv6(), nic.0, neighbour.address));
    let rows = all.iter();
    dump.messages.extend(
        rows.map(|(nic, neighbour)| {
            message(&request.header, cx.now, RTM_NEWNEIGH, *nic, neighbour)
        }),
    );
    Ok(())
}

/// The address and interface that a request names.
pub struct Named<'a> {
    /// The fixed part.
    pub fixed: NdMsg,
    /// The rest.
    pub attributes: Attributes<'a>,
    /// Whose neighbour it is about.
    pub address: IpAddr,
    /// On which link.
    pub nic: NicInfo,
}

/// The address and interface that a request names. Errors: EAFNOSUPPORT, EINVAL, ENODEV.
pub fn named<'a>(cx: &Context<'_>, request: &Request<'a>) -> Result<Named<'a>, Refusal> {
    let fixed: NdMsg = request.fixed()?;
    if !matches!(request.family(), AF_INET | AF_INET6) {
        return Err(Errno::EAFNOSUPPORT.into());
    }
    let attributes = request.attributes::<NdMsg>(POLICY, Strictness::Liberal)?;
    let address = attributes.address(NDA_DST)?;
    let address =
        address.ok_or_else(|| Refusal::new(Errno::EINVAL, "Network address not specified"))?;
    if number_of(address) != i32::from(fixed.family) {
        return Err(Refusal::new(Errno::EINVAL, "Invalid network address"));
    }
    let nic = nic_by_index(cx, u32::try_from(fixed.ifindex).unwrap_or(0))?;
    Ok(Named { fixed, attributes, address, nic })
}

fn find(cx: &Context<'_>, nic: NicId, address: IpAddr, proxy: bool) -> Option<Neighbour> {
    let all = cx.stack().neighbours();
    let same = |(id, neighbour): &&(NicId, Neighbour)| {
        *id == nic && neighbour.address == address && neighbour.proxy == proxy
    };
    all.iter().find(same).map(|(_, neighbour)| *neighbour)
}

/// One neighbour. Errors: ENOENT.
pub fn one(cx: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    let named = named(cx, request)?;
    let proxy = named.fixed.flags & NTF_PROXY != 0;
    let found = find(cx, named.nic.id, named.address, proxy);
    let found = found.ok_or_else(|| Refusal::new(Errno::ENOENT, "Neighbour entry not found"))?;
    Ok(vec![message(&request.header, cx.now, RTM_NEWNEIGH, named.nic.id, &found)])
}

fn state(number: u16) -> Result<State, Refusal> {
    Ok(match number {
        NUD_NONE | NUD_STALE => State::Stale,
        NUD_INCOMPLETE => State::Incomplete,
        NUD_REACHABLE => State::Reachable,
        NUD_DELAY => State::Delay,
        NUD_PROBE => State::Probe,
        NUD_FAILED => State::Failed,
        NUD_NOARP => State::NoArp,
        number if number & NUD_PERMANENT != 0 => State::Permanent,
        _ => return Err(Errno::EINVAL.into()),
    })
}

fn refusal(error: NeighbourError) -> Refusal {
    match error {
        NeighbourError::NoNic => Errno::ENODEV.into(),
        NeighbourError::Full => Errno::ENOBUFS.into(),
        NeighbourError::NotFound => Errno::ENOENT.into(),
    }
}

/// RTM_NEWNEIGH (neigh_add). Errors: EEXIST, ENOENT, EINVAL, ENODEV, ENOBUFS.
pub fn add(cx: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    let Named { fixed, attributes, address, nic } = named(cx, request)?;
    let flags = request.header.flags;
    let proxy = fixed.flags & NTF_PROXY != 0;
    let mac = match attributes.find(NDA_LLADDR) {
        None => None,
        Some(address) => match address.value.first_chunk::<6>() {
            Some(bytes) => Some(MacAddr(*bytes)),
            None => return Err(Refusal::new(Errno::EINVAL, "Invalid link address").at(address)),
        },
    };
    let old = find(cx, nic.id, address, proxy);
    if old.is_none() && flags & NLM_F_CREATE == 0 && !proxy {
        return Err(Errno::ENOENT.into());
    }
    if old.is_some() && flags & NLM_F_EXCL != 0 && !proxy {
        return Err(Errno::EEXIST.into());
    }
    let state = state(fixed.state)?;
    let known = matches!(state, State::Incomplete | State::Failed | State::Probe);
    let known_mac = old.and_then(|old| old.mac);
    // Without NLM_F_REPLACE an address that is known stays.
    let mac = match (known_mac, mac) {
        (Some(known), Some(_)) if flags & NLM_F_REPLACE == 0 => Some(known),
        (known, new) => new.or(known),
    };
    if mac.is_none() && !known && !proxy {
        return Err(Errno::EINVAL.into());
    }
    let neighbour = Neighbour {
        proxy,
        router: fixed.flags & NTF_ROUTER != 0,
        ..Neighbour::new(address, mac, state)
    };
    cx.stack().set_neighbour(cx.now, nic.id, neighbour).map_err(refusal)?;
    Ok(Vec::new())
}

/// RTM_DELNEIGH. Errors: ENOENT.
pub fn remove(cx: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    let Named { fixed, address, nic, .. } = named(cx, request)?;
    let gone = match fixed.flags & NTF_PROXY {
        0 => cx.stack().remove_neighbour(nic.id, address),
        _ => cx.stack().remove_proxy(nic.id, address),
    };
    match gone {
        Ok(true) => Ok(Vec::new()),
        Ok(false) => Err(Errno::ENOENT.into()),
        Err(_) => Err(Errno::ENODEV.into()),
    }
}
