//! getdents and getdents64.

use crate::rows;

rows! {}
