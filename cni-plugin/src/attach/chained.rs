//! The interface that an earlier plugin made: only looked at.

use crate::call::Call;
use crate::error::CniError;
use crate::netns::Netns;
use crate::result::CniResult;
use crate::survey::Survey;

use super::Made;

/// Reads it.
pub(super) fn take(call: &Call, netns: &Netns, result: CniResult) -> Result<Made, CniError> {
    Ok(Made { result, survey: Survey::expect(netns, &call.ifname)?, tap: None })
}
