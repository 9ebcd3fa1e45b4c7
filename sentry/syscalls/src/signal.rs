//! Signals.

use crate::rows;

rows! {}
