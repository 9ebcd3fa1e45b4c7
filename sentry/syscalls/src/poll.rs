//! poll, ppoll, select, pselect6.

use crate::rows;

rows! {}
