//! A file per verb.

mod add;
mod check;
mod del;
mod gc;
mod status;
mod version;

pub(crate) use add::add;
pub(crate) use check::check;
pub(crate) use del::del;
pub(crate) use gc::gc;
pub(crate) use status::status;
pub(crate) use version::version;

use crate::call::Call;
use crate::config::Mode;
use crate::error::{CniError, Code};
use crate::handoff::Folder;

/// The folder of hand-off files of a call.
fn folder(call: &Call) -> Folder {
    Folder::new(call.settings.handoff_dir())
}

/// The modes that this build has.
fn require_chained(call: &Call) -> Result<(), CniError> {
    if call.settings.mode == Mode::Packet && !call.runtime.wants_tap(&call.settings) {
        return Ok(());
    }
    let msg = "only mode packet is there";
    Err(CniError::new(Code::InvalidConfig, msg).because(format!("mode {:?}", call.settings.mode)))
}
