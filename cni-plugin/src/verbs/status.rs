//! STATUS: whether ADD could be served; error 50 names what is missing.

use crate::call::Call;
use crate::error::{CniError, Code};

use super::{folder, require_chained};

/// Checks all that ADD needs of the host.
pub(crate) fn status(call: &Call) -> Result<(), CniError> {
    require_chained(call)?;
    folder(call).prepare().map_err(|error| CniError { code: Code::NotAvailable, ..error })
}
