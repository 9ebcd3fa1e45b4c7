//! fcntl, flock, ioctl, close_range.

use crate::rows;

rows! {}
