//! read, write and their vector, positioned and copying relatives; lseek, sync.

use crate::rows;

rows! {}
