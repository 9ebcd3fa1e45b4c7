//! CHECK: whether what ADD made is still there.

use crate::attach::{self, folder};
use crate::call::Call;
use crate::config::Mode;
use crate::error::{CniError, Code};
use crate::handoff::Tap;
use crate::netns::Netns;
use crate::result::CniResult;
use crate::survey::Survey;

use super::add;

/// Checks the interface, the addresses and routes of the result, and the hand-off file.
pub(crate) fn check(call: &Call) -> Result<(), CniError> {
    let previous = call.input.prev_result()?.ok_or_else(|| {
        CniError::new(Code::InvalidConfig, "there is no prevResult: CHECK needs the result of ADD")
    })?;
    let netns = Netns::of_container(call.netns.as_deref().unwrap_or_default())?;
    let survey = attach::check(call, &netns, &previous)?;
    check_result(call, &survey, &previous)?;
    check_handoff(call, &netns, &survey, &previous)
}

fn changed(msg: String) -> CniError {
    CniError::new(Code::Changed, msg)
}

/// "The plugin must allow for a later chained plugin to have modified networking resources, e.g. routes": what is there
/// besides is no fault.
fn check_result(call: &Call, survey: &Survey, result: &CniResult) -> Result<(), CniError> {
    let ifname = &call.ifname;
    let listed = result.interfaces.iter().find(|i| i.name == *ifname && !i.sandbox.is_empty());
    let mac = listed.map(|i| i.mac.as_str()).unwrap_or_default();
    if !mac.is_empty() && !mac.eq_ignore_ascii_case(&survey.link.mac) {
        return Err(changed(format!("{ifname} has the MAC {}, not {mac}", survey.link.mac)));
    }
    for ip in result.addresses_of(ifname) {
        if !survey.addresses.iter().any(|a| a.address == ip.address) {
            return Err(changed(format!("{ifname} has lost the address {}", ip.address)));
        }
    }
    // Routes name no interface: with several, they may be those of another one.
    let inside = result.interfaces.iter().filter(|i| !i.sandbox.is_empty()).count();
    for route in result.routes.iter().filter(|_| inside <= 1) {
        let there = survey
            .routes
            .iter()
            .any(|r| r.dst == route.dst.trunc() && (route.gw.is_none() || route.gw == r.gw));
        if !there {
            return Err(changed(format!("the route to {} through {ifname} is gone", route.dst)));
        }
    }
    Ok(())
}

fn check_handoff(
    call: &Call,
    netns: &Netns,
    survey: &Survey,
    result: &CniResult,
) -> Result<(), CniError> {
    let path = folder(call).file(&call.container_id, &call.ifname);
    let text = folder(call)
        .read(&call.container_id, &call.ifname)?
        .ok_or_else(|| changed(format!("the hand-off file {} is gone", path.display())))?;
    let tap = call.runtime.wants_tap(&call.settings) || call.settings.mode == Mode::TapBridge;
    let tap = tap.then(|| Tap { name: call.key().tap(), netns: None });
    let expected = serde_json::to_value(add::handoff(call, netns, survey, result, tap))
        .map_err(|e| CniError::new(Code::Internal, "cannot write a hand-off file").because(e))?;
    let found: serde_json::Value = serde_json::from_slice(&text).map_err(|e| {
        changed(format!("the hand-off file {} is damaged", path.display())).because(e)
    })?;
    // What CHECK is not told again by every runtime, or what may change since, is not compared.
    for key in ["version", "containerId", "ifname", "netns", "network", "mode"] {
        if found.get(key) != expected.get(key) {
            let msg = format!("the hand-off file {} has another {key:?}", path.display());
            return Err(changed(msg));
        }
    }
    let their_addresses = found.get("addresses").and_then(|list| list.as_array());
    let ours = expected.get("addresses").and_then(|list| list.as_array());
    let lacks = |address| !their_addresses.is_some_and(|list| list.contains(address));
    match ours.into_iter().flatten().find(|address| lacks(address)) {
        None => Ok(()),
        Some(address) => {
            let msg = format!("the hand-off file {} does not have {address}", path.display());
            Err(changed(msg))
        }
    }
}
