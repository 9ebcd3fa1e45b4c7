//! GC: removes what belongs to attachments of this network that the runtime does not know any more.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::attach::folder;
use crate::call::{Call, Verb};
use crate::config;
use crate::error::{CniError, Code};
use crate::handoff::Head;
use crate::ipam::Ipam;
use crate::names::AttachmentKey;
use crate::netlink::Rtnl;
use crate::netns::Netns;
use crate::nft;

use super::del::remove_links;

/// The list of attachments that are to stay, and the name that it had before 1.1.0 was released.
const VALID: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

/// An attachment that is to stay.
#[derive(PartialEq, Eq, Debug, Deserialize)]
struct Attachment {
    #[serde(rename = "containerID")]
    container_id: String,
    ifname: String,
}

/// Removes what belongs to attachments of this network that are not listed: those that have a file, those that have a link,
/// and the elements of rules.
pub(crate) fn gc(call: &Call) -> Result<(), CniError> {
    let valid = valid_attachments(call)?;
    let stays =
        |id: &str, name: &str| valid.iter().any(|a| a.container_id == id && a.ifname == name);
    let mut stale = with_file(call)?;
    stale.extend(with_link(call)?.into_iter().map(|attachment| (attachment, String::new())));
    stale.retain(|(container_id, ifname), _| !stays(container_id, ifname));
    let mut done = Ok(());
    for ((container_id, ifname), netns) in stale {
        done = done.and(remove(call, &container_id, &ifname, &netns));
    }
    if call.settings.mode.is_main() {
        let key = |a: &Attachment| AttachmentKey::new(&call.input.name, &a.container_id, &a.ifname);
        let valid: Vec<_> = valid.iter().map(key).collect();
        let rules =
            folder(call).lock().and_then(|lock| nft::remove_stale(&call.key(), &valid, &lock));
        done = done.and(rules);
    }
    // "Plugins must forward GC to delegated plugins."
    done.and(Ipam::of(call).map_or(Ok(()), |ipam| ipam.pass_on(Verb::Gc)))
}

fn remove(call: &Call, container_id: &str, ifname: &str, netns: &str) -> Result<(), CniError> {
    let addresses = Ipam::of(call).map_or(Ok(()), |ipam| ipam.del_of(container_id, ifname, netns));
    let links = remove_links(call, container_id, ifname, Netns::if_there(netns).as_ref());
    addresses.and(links).and(folder(call).remove(container_id, ifname))
}

/// The attachments of this network that have a hand-off file, with the namespace that it names.
fn with_file(call: &Call) -> Result<BTreeMap<(String, String), String>, CniError> {
    let mut found = BTreeMap::new();
    for (container_id, ifname) in folder(call).attachments()? {
        let Some(text) = folder(call).read(&container_id, &ifname)? else { continue };
        // Specification, section "GC": only "resources owned by this network".
        if let Ok(head) = serde_json::from_slice::<Head>(&text)
            && head.network == call.input.name
        {
            found.insert((container_id, ifname), head.netns);
        }
    }
    Ok(found)
}

/// The attachments of this network that have a link on the node but no file.
fn with_link(call: &Call) -> Result<Vec<(String, String)>, CniError> {
    let links = Rtnl::open()?.links().map_err(|e| e.doing("list the node's links"))?;
    let key = call.key();
    let attachments = links.iter().filter_map(|link| key.of_alias(&link.alias));
    let known = with_file(call)?;
    let owned =
        attachments.map(|(container_id, ifname)| (container_id.to_owned(), ifname.to_owned()));
    Ok(owned.filter(|attachment| !known.contains_key(attachment)).collect())
}

/// Without a list nothing is known to be stale.
fn valid_attachments(call: &Call) -> Result<Vec<Attachment>, CniError> {
    let list = VALID
        .iter()
        .find_map(|key| call.input.raw.get(*key))
        .ok_or_else(|| CniError::new(Code::InvalidConfig, format!("GC without {:?}", VALID[0])))?;
    match list {
        Value::Null => Ok(Vec::new()),
        list => config::decode(list, VALID[0]),
    }
}
