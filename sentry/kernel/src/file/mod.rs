//! Open files: what can be asked of one ([`FileOps`]), the description that descriptors share, the table of descriptors.

pub mod description;
pub mod ops;

pub use description::FileDescription;
pub use ops::{FileKind, FileOps, WriteAt, Written};
