//! stat and its relatives, chmod, chown, utimes, truncate, access, statfs.

use crate::rows;

rows! {}
