//! Clocks, sleeping, interval and POSIX timers.

use crate::rows;

rows! {}
