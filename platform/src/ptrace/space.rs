//! An address space: a stub process whose other threads are the guest's, traced by the sentry.

use crate::stub::process::StubProcess;
use crate::{AddressSpace, MapOp, PlatformError};

/// The address space of a stub process.
pub(super) struct PtraceSpace(pub(super) StubProcess);

impl AddressSpace for PtraceSpace {
    fn batch(&self, ops: &[MapOp]) -> Result<(), PlatformError> {
        self.0.batch(ops)
    }
}
