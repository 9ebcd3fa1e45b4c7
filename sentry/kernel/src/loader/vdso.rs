//! The vDSO in a program: the platform's image and its clock parameters as two areas, shared by all programs.

use std::sync::Arc;

use platform::{FileRange, Prot};
use sentry_abi::mman::{MapFlags, MapType};
use sentry_abi::{Errno, UserAddr};

use crate::error::Result;
use crate::mm::{
    Label, MapSource, Mappable, MemoryManager, MmapArgs, PageRun, Touch, new_identity,
};

/// Pages of the memory file that hold the vDSO. They live as long as the kernel.
#[derive(Clone)]
pub struct Vdso {
    params: Arc<FixedPages>,
    image: Arc<FixedPages>,
}

/// Where the vDSO was mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MappedVdso {
    /// The image's ELF header: AT_SYSINFO_EHDR.
    pub image: UserAddr,
}

impl Vdso {
    /// The vDSO whose clock parameters and ELF image lie there in the memory file (whole pages).
    pub fn new(params: FileRange, image: FileRange) -> Self {
        Self { params: FixedPages::new(params), image: FixedPages::new(image) }
    }

    /// Maps the image where there is room, and the parameters directly before it, where its code looks for them.
    pub(super) fn map(&self, mm: &MemoryManager) -> Result<MappedVdso> {
        let (params_len, image_len) = (self.params.range.len, self.image.range.len);
        let total = MmapArgs::anonymous(params_len + image_len, Prot::empty());
        let base = mm.mmap(total)?.0;
        let (params, image) = (base, base + params_len);
        map_fixed(mm, params, &self.params, Prot::READ, "[vvar]")?;
        map_fixed(mm, image, &self.image, Prot::READ | Prot::EXEC, "[vdso]")?;
        Ok(MappedVdso { image: UserAddr(image) })
    }
}

fn map_fixed(
    mm: &MemoryManager,
    addr: u64,
    pages: &Arc<FixedPages>,
    prot: Prot,
    name: &'static str,
) -> Result<()> {
    mm.mmap(MmapArgs {
        addr: UserAddr(addr),
        len: pages.range.len,
        prot,
        kind: MapType::Shared,
        flags: MapFlags::FIXED,
        source: MapSource::Object {
            object: pages.clone(),
            offset: 0,
            allowed: Prot::READ | Prot::EXEC,
            label: Label::Fixed(name),
        },
    })
    .map(|_| ())
}

/// Pages that are always there and never written by programs.
struct FixedPages {
    range: FileRange,
    identity: u64,
}

impl FixedPages {
    fn new(range: FileRange) -> Arc<Self> {
        Arc::new(Self { range, identity: new_identity() })
    }
}

impl Mappable for FixedPages {
    fn pages(&self, offset: u64, max_len: u64, touch: Touch) -> Result<PageRun> {
        if touch == Touch::Write {
            return Err(Errno::EACCES.into());
        }
        let left = self.range.len.checked_sub(offset).filter(|left| *left > 0);
        let left = left.ok_or(Errno::ENXIO)?;
        Ok(PageRun { offset: self.range.start + offset, len: left.min(max_len) })
    }

    fn identity(&self) -> u64 {
        self.identity
    }
}
