//! Program memory: areas, pages, copies. It must not know files or tasks: what it maps is a [`Mappable`].

pub mod mappable;

pub use mappable::{Mappable, PageRun, Touch};

/// One program's address space: its areas and pages.
pub struct MemoryManager {}
