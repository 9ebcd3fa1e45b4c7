//! Sending and receiving on sockets.

use crate::rows;

rows! {}
