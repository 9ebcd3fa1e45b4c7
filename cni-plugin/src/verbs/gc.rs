//! GC: removes what belongs to attachments of this network that the runtime does not know any more.

use serde::Deserialize;
use serde_json::Value;

use crate::call::Call;
use crate::config;
use crate::error::{CniError, Code};
use crate::handoff::Head;

use super::folder;

/// The list of attachments that are to stay, and the name that it had before 1.1.0 was released.
const VALID: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

/// An attachment that is to stay.
#[derive(PartialEq, Eq, Debug, Deserialize)]
struct Attachment {
    #[serde(rename = "containerID")]
    container_id: String,
    ifname: String,
}

/// Removes the hand-off files of this network whose attachment is not listed.
pub(crate) fn gc(call: &Call) -> Result<(), CniError> {
    let valid = valid_attachments(call)?;
    let folder = folder(call);
    for (container_id, ifname) in folder.attachments()? {
        let stays = valid.iter().any(|a| a.container_id == container_id && a.ifname == ifname);
        if stays {
            continue;
        }
        let Some(text) = folder.read(&container_id, &ifname)? else { continue };
        // Specification, section "GC": only "resources owned by this network".
        if serde_json::from_slice::<Head>(&text).is_ok_and(|h| h.network == call.input.name) {
            folder.remove(&container_id, &ifname)?;
        }
    }
    Ok(())
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
