//! What ADD makes of links, addresses and rules, CHECK looks for, and DEL removes: a file per kind.
//!
//! Names on the host follow from the attachment alone, so that all of it is found again without a result or a namespace.

mod beside;
mod bridge;
mod chained;
mod plan;
mod ptp;
mod tap_bridge;
mod veth;

use crate::call::Call;
use crate::config::Mode;
use crate::error::{CniError, Code};
use crate::handoff::{Folder, Tap};
use crate::ipam::Ipam;
use crate::names::AttachmentKey;
use crate::netlink::{Rtnl, RtnlError};
use crate::netns::Netns;
use crate::nft::{self, Masquerade, Wish};
use crate::result::CniResult;
use crate::survey::Survey;
use crate::undo::Undo;

pub(crate) use beside::{clone_device, remove as remove_beside};

/// An interface with all that belongs to it.
pub(crate) struct Made {
    pub(crate) result: CniResult,
    /// What the interface has: in the container's namespace, or, where only the pod's own stack has it, what it shall have.
    pub(crate) survey: Survey,
    pub(crate) tap: Option<Tap>,
}

/// Makes the interface, or takes the one that is there. What was made goes back by `undo`.
pub(crate) fn make<'a>(
    call: &'a Call,
    netns: &'a Netns,
    undo: &mut Undo<'a>,
) -> Result<Made, CniError> {
    let mode = call.settings.mode;
    let previous = call.input.prev_result()?;
    match (mode.is_main(), previous.is_some()) {
        (true, true) => {
            return Err(invalid(format!(
                "mode {mode:?} makes the interface: no plugin comes before"
            )));
        }
        (false, false) => {
            return Err(invalid(format!(
                "there is no prevResult: in mode {mode:?} another plugin comes first"
            )));
        }
        _ => {}
    }
    let mut made = match mode {
        Mode::Packet | Mode::Tap => chained::take(call, netns, previous.unwrap_or_default())?,
        Mode::Bridge => bridge::make(call, netns, undo)?,
        Mode::Ptp => ptp::make(call, netns, undo)?,
        Mode::TapBridge => tap_bridge::make(call, netns, undo)?,
    };
    if mode.is_main() {
        apply_rules(call, &made.result, undo)?;
    }
    if made.tap.is_none() && call.runtime.wants_tap(&call.settings) {
        made.tap = Some(beside::make(call, netns, undo)?);
    }
    Ok(made)
}

/// Looks for what ADD made, and for the addresses that it took.
pub(crate) fn check(call: &Call, netns: &Netns, result: &CniResult) -> Result<Survey, CniError> {
    let survey = match call.settings.mode {
        Mode::TapBridge => tap_bridge::check(call, result)?,
        _ => Survey::of(netns, &call.ifname)?
            .ok_or_else(|| changed(format!("the interface {} is gone", call.ifname)))?,
    };
    match call.settings.mode {
        Mode::Bridge => bridge::check(call)?,
        Mode::Ptp => ptp::check(call, result)?,
        _ => {}
    }
    if call.settings.mode != Mode::TapBridge && call.runtime.wants_tap(&call.settings) {
        beside::check(call, netns)?;
    }
    if call.settings.mode.is_main() {
        Ipam::expect(call)?.check()?;
        let (key, addresses) = (call.key(), addresses(result));
        if needs_rules(call) {
            wish(call, &key, &addresses).check(&folder(call).lock()?)?;
        }
    }
    Ok(survey)
}

/// Removes the node's links of an attachment, which takes their peers along. Nothing there is no error.
pub(crate) fn remove_links(
    key: &AttachmentKey,
    container_id: &str,
    ifname: &str,
) -> Result<(), CniError> {
    let mut rtnl = Rtnl::open()?;
    let alias = key.alias(container_id, ifname);
    for name in [key.host_link(), key.tap()] {
        let link = rtnl.link(&name).map_err(|e| e.doing(format!("look for {name}")))?;
        // A plugin that was killed may have left one without its alias.
        if let Some(link) = link.filter(|l| l.alias.is_empty() || l.alias == alias) {
            rtnl.delete_link(link.index).map_err(|e| e.doing(format!("remove the link {name}")))?;
        }
    }
    Ok(())
}

/// Whether rules are wanted at all.
pub(crate) fn needs_rules(call: &Call) -> bool {
    call.settings.ip_masq || !call.runtime.port_mappings.is_empty()
}

fn apply_rules<'a>(
    call: &'a Call,
    result: &CniResult,
    undo: &mut Undo<'a>,
) -> Result<(), CniError> {
    if !needs_rules(call) {
        return Ok(());
    }
    let key = call.key();
    wish(call, &key, &addresses(result)).apply(&folder(call).lock()?)?;
    undo.push(move || nft::remove(&call.key(), &folder(call).lock()?));
    Ok(())
}

fn wish<'a>(call: &'a Call, key: &'a AttachmentKey, addresses: &'a [ipnet::IpNet]) -> Wish<'a> {
    let masquerade = if call.settings.ip_masq { Masquerade::Yes } else { Masquerade::No };
    Wish { key, addresses, masquerade, ports: &call.runtime.port_mappings }
}

fn addresses(result: &CniResult) -> Vec<ipnet::IpNet> {
    result.ips.iter().map(|ip| ip.address).collect()
}

/// Takes addresses of IPAM, and gives them back where the rest fails.
fn take_addresses<'a>(call: &'a Call, undo: &mut Undo<'a>) -> Result<CniResult, CniError> {
    let mut result = Ipam::expect(call)?.add()?;
    undo.push(move || Ipam::expect(call)?.del());
    if result.dns.is_empty() {
        result.dns = call.settings.dns.clone();
    }
    Ok(result)
}

/// The folder of hand-off files of a call.
pub(crate) fn folder(call: &Call) -> Folder {
    Folder::new(call.settings.handoff_dir())
}

fn invalid(msg: String) -> CniError {
    CniError::new(Code::InvalidConfig, msg)
}

fn changed(msg: String) -> CniError {
    CniError::new(Code::Changed, msg)
}

fn refused<'a>(what: &'a str) -> impl FnOnce(RtnlError) -> CniError + 'a {
    move |error| error.doing(what)
}
