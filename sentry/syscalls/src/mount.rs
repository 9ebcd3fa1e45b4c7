//! mount, umount2, pivot_root and their relatives.

use crate::rows;

rows! {}
