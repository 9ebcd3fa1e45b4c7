//! ADD: chained, tell the runtime what the plugins before made, and pass their result on.

use serde_json::Value;

use crate::call::Call;
use crate::error::{CniError, Code};
use crate::handoff::{Carrier, FORMAT, Handoff};
use crate::netns::Netns;
use crate::result::{self, CniResult, Dns};
use crate::survey::Survey;

use super::{folder, require_chained};

/// The result.
pub(crate) fn add(call: &Call) -> Result<Value, CniError> {
    require_chained(call)?;
    let raw = call.input.raw.get("prevResult").unwrap_or(&Value::Null);
    let previous = call.input.prev_result()?.ok_or_else(|| {
        let msg = "there is no prevResult: in mode packet another plugin comes first";
        CniError::new(Code::InvalidConfig, msg)
    })?;
    let netns = Netns::of_container(call.netns.as_deref().unwrap_or_default())?;
    let survey = Survey::expect(&netns, &call.ifname)?;
    folder(call).write(&handoff(call, &netns, &survey, &previous))?;
    Ok(result::pass_on(raw, &previous, call.input.version))
}

/// What the runtime is told.
pub(super) fn handoff(call: &Call, netns: &Netns, survey: &Survey, result: &CniResult) -> Handoff {
    Handoff {
        version: FORMAT,
        container_id: call.container_id.clone(),
        ifname: call.ifname.clone(),
        netns: netns.path().to_owned(),
        network: call.input.name.clone(),
        pod: pod(call),
        mode: Carrier::Packet,
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
