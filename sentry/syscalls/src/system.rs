//! uname, sysinfo, resource limits and usage, random numbers.

use crate::rows;

rows! {}
