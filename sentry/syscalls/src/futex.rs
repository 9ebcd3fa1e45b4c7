//! Futexes and robust lists.

use crate::rows;

rows! {}
