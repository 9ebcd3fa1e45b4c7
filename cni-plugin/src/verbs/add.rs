//! ADD: the interface, the file that tells the runtime of it, and the result. Where one fails, nothing of it stays.

use serde_json::Value;

use crate::attach::{self, folder};
use crate::call::Call;
use crate::error::CniError;
use crate::handoff::{Carrier, FORMAT, Handoff, Tap};
use crate::netns::Netns;
use crate::result::{self, CniResult, Dns};
use crate::survey::Survey;
use crate::undo::Undo;

/// The result.
pub(crate) fn add(call: &Call) -> Result<Value, CniError> {
    let netns = Netns::of_container(call.netns.as_deref().unwrap_or_default())?;
    let mut undo = Undo::default();
    let made = attach::make(call, &netns, &mut undo)?;
    folder(call).write(&handoff(call, &netns, &made.survey, &made.result, made.tap))?;
    undo.forget();
    Ok(match call.input.raw.get("prevResult").filter(|raw| !raw.is_null()) {
        Some(raw) => result::pass_on(raw, &made.result, call.input.version),
        None => made.result.to_json(call.input.version),
    })
}

/// What the runtime is told.
pub(super) fn handoff(
    call: &Call,
    netns: &Netns,
    survey: &Survey,
    result: &CniResult,
    tap: Option<Tap>,
) -> Handoff {
    Handoff {
        version: FORMAT,
        container_id: call.container_id.clone(),
        ifname: call.ifname.clone(),
        netns: netns.path().to_owned(),
        network: call.input.name.clone(),
        pod: pod(call),
        mode: if tap.is_some() { Carrier::Tap } else { Carrier::Packet },
        tap,
        mac: survey.link.mac.clone(),
        mtu: survey.link.mtu,
        addresses: survey.handoff_addresses(),
        routes: survey.handoff_routes(),
        neighbours: survey.handoff_neighbours(),
        dns: dns(call, result),
        bandwidth: call.runtime.bandwidth,
        policy: call.runtime.policy(&call.settings),
    }
}

fn pod(call: &Call) -> Option<String> {
    let name = call.argument("K8S_POD_NAME")?;
    Some(format!("{}/{name}", call.argument("K8S_POD_NAMESPACE")?))
}

/// The runtime's word before the plugins', and theirs before the configuration's.
fn dns(call: &Call, result: &CniResult) -> Dns {
    let of_runtime = call.runtime.dns.as_ref().map(|dns| dns.as_result());
    let candidates = [of_runtime, Some(result.dns.clone())].into_iter().flatten();
    candidates.into_iter().find(|dns| !dns.is_empty()).unwrap_or_else(|| call.settings.dns.clone())
}
