//! epoll.

use crate::rows;

rows! {}
