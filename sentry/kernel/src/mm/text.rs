//! Program text that the platform may change for its own use.

use platform::{CallSite, Prot};
use sentry_abi::PAGE_SIZE;

use crate::mm::manager::MemoryManager;
use crate::mm::pages::Owner;

impl MemoryManager {
    /// Offers a call site to the platform where its page is a file's own, mapped privately and not writable: mmap(2) leaves it open whether such a
    /// mapping shows what is written to the file later. Where the program has an area at the addresses that the platform then
    /// needs, nothing is offered; where it gets one later, the platform gives up. Pages of the program's own (relocated text, code made at run time) are never offered.
    pub(crate) fn offer_call_site(&self, site: CallSite) {
        let mut map = self.map.write();
        let addr = site.last_byte();
        let Some(range) = self.space.patch_range() else { return };
        if !map.areas.is_free(range.start, range.end) {
            return;
        }
        let Some(vma) = map.areas.find(addr) else { return };
        // The lock keeps others from changing the host's mapping meanwhile.
        let pages = self.pages.read();
        let Some(placed) = pages.find(addr) else { return };
        let text = Prot::READ | Prot::EXEC;
        let files_own = !vma.is_shared() && placed.run.owner == Owner::Object;
        if files_own && vma.prot == text && placed.run.mapped == Some(text) {
            self.space.patch_call(site, placed.offset_of(addr / PAGE_SIZE * PAGE_SIZE));
            drop(pages);
            map.areas.lend(range, self.space.clone());
        }
    }
}
