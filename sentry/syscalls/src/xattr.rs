//! Extended attributes.

use crate::rows;

rows! {}
