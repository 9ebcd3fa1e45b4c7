//! Pipes, splice, tee, vmsplice.

use crate::rows;

rows! {}
