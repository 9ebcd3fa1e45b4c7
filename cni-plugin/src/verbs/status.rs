//! STATUS: whether ADD could be served; error 50 names what is missing.

use crate::attach::{self, folder};
use crate::call::{Call, Verb};
use crate::config::Mode;
use crate::error::{CniError, Code};
use crate::ipam::Ipam;
use crate::nft;

/// Checks all that ADD needs of the node.
pub(crate) fn status(call: &Call) -> Result<(), CniError> {
    let not_available = |error| CniError { code: Code::NotAvailable, ..error };
    folder(call).prepare().map_err(not_available)?;
    if matches!(call.settings.mode, Mode::Tap | Mode::TapBridge) {
        attach::clone_device()?;
    }
    let capabilities = call.input.raw.get("capabilities");
    let ports = capabilities.and_then(|c| c.get("portMappings")).is_some_and(|on| on == true);
    if call.settings.ip_masq || ports {
        nft::program()?;
    }
    if let Some(ipam) = Ipam::of(call) {
        ipam.program().map_err(not_available)?;
        // Its own codes 50 and 51 are told as they are.
        ipam.pass_on(Verb::Status)?;
    }
    Ok(())
}
