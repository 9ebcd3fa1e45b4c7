//! DEL: removes what ADD made. Whatever of it is gone already is no error: "Plugins should generally complete a DEL action
//! without error even if some resources are missing."

use crate::call::Call;
use crate::error::CniError;

use super::folder;

/// Removes the hand-off file.
pub(crate) fn del(call: &Call) -> Result<(), CniError> {
    folder(call).remove(&call.container_id, &call.ifname)
}
