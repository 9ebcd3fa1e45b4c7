//! User and group ids, capabilities, groups, prctl.

use crate::rows;

rows! {}
