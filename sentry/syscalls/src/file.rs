//! open, close, dup and what else makes and ends descriptors.

use crate::rows;

rows! {}
