//! The checks on map operations that every backend makes before it changes anything.

use std::ops::Range;

use crate::{MapOp, PAGE_SIZE, PlatformError};

/// Refuses operations that are not page aligned, wrap, or leave the guest's range or the file.
pub(crate) fn ops(
    ops: &[MapOp],
    user_range: &Range<u64>,
    file_size: u64,
) -> Result<(), PlatformError> {
    for op in ops {
        let (addr, len) = match *op {
            MapOp::MapFile { addr, len, .. }
            | MapOp::Unmap { addr, len }
            | MapOp::Protect { addr, len, .. } => (addr, len),
        };
        let bad = PlatformError::BadRange { addr, len };
        if !inside(addr, len, user_range) {
            return Err(bad);
        }
        if let MapOp::MapFile { file_offset, .. } = *op
            && !inside(file_offset, len, &(0..file_size))
        {
            return Err(bad);
        }
    }
    Ok(())
}

fn inside(start: u64, len: u64, range: &Range<u64>) -> bool {
    let aligned = start.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE);
    let end = start.checked_add(len);
    aligned && len > 0 && start >= range.start && end.is_some_and(|end| end <= range.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_pages_inside_the_range_pass() {
        let range = 0x1_0000..0x10_0000;
        let unmap = |addr, len| ops(&[MapOp::Unmap { addr, len }], &range, 0).is_ok();
        assert!(unmap(0x1_0000, 0xf_0000));
        for (addr, len) in
            [(0, 0x1000), (0x1_0000, 0xf_1000), (0x1_0001, 0x1000), (0x1_0000, 1), (0x1_0000, 0)]
        {
            assert!(!unmap(addr, len), "{addr:#x} {len:#x}");
        }
        assert!(!unmap(0x1_0000, !0xfff));
    }
}
