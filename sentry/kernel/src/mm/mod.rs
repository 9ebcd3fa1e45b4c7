//! Program memory: areas, pages, copies. It must not know files or tasks: what it maps is a [`Mappable`].
//!
//! A [`MemoryManager`] has areas ([`Vma`]), which say what a program may do where, and pages, which are runs of the memory file
//! that it holds a reference on. Pages come by faults ([`MemoryManager::handle_fault`]), also by those that the kernel's own copies take.
//! The host's address space never allows more than areas and pages say, and may allow less: a fault makes up for it.

pub mod advise;
pub mod area;
pub mod copy;
pub mod fault;
pub mod futex_key;
pub mod layout;
pub mod manager;
pub mod map;
pub mod mappable;
pub mod remap;
pub mod shared;

mod areas;
mod pages;
mod text;

pub use advise::Invalidate;
/// Rights to pages.
pub use platform::Prot;

pub use area::{Backing, Label, Vma, VmaFlags};
pub use copy::{RW_MAX, UserSink, UserSource};
pub use fault::FaultSignal;
pub use futex_key::FutexScope;
pub use layout::{Layout, LayoutRandom, MemoryLimits};
pub use manager::{ImageRanges, MapEntry, MemoryManager, MemoryUsage, new_identity};
pub use map::{MapSource, MmapArgs};
pub use mappable::{Mappable, PageRun, Touch};
pub use remap::MremapArgs;
pub use shared::SharedMemory;

#[cfg(test)]
mod tests;
