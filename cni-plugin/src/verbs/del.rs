//! DEL: removes what ADD made. Whatever of it is gone already is no error: "Plugins should generally complete a DEL action
//! without error even if some resources are missing."

use crate::attach::{self, folder};
use crate::call::Call;
use crate::error::CniError;
use crate::ipam::Ipam;
use crate::netns::Netns;
use crate::nft;

/// Removes all of it; one thing that cannot be removed keeps no other.
pub(crate) fn del(call: &Call) -> Result<(), CniError> {
    let addresses = Ipam::of(call).map_or(Ok(()), |ipam| ipam.del());
    let netns = call.netns.as_deref().and_then(Netns::if_there);
    let links = remove_links(call, &call.container_id, &call.ifname, netns.as_ref());
    let rules = match call.settings.mode.is_main() {
        true => folder(call).lock().and_then(|lock| nft::remove(&call.key(), &lock)),
        false => Ok(()),
    };
    let file = folder(call).remove(&call.container_id, &call.ifname);
    addresses.and(links).and(rules).and(file)
}

/// Removes the links of an attachment to the call's network, in the container's namespace where that is there, and on the node.
pub(super) fn remove_links(
    call: &Call,
    container_id: &str,
    ifname: &str,
    netns: Option<&Netns>,
) -> Result<(), CniError> {
    let key = crate::names::AttachmentKey::new(&call.input.name, container_id, ifname);
    let beside = netns.map_or(Ok(()), |netns| attach::remove_beside(&key, ifname, netns));
    let host = attach::remove_links(&key, container_id, ifname);
    beside.and(host)
}
