//! Sockets: socket, bind, connect, listen, accept, options, addresses.

use crate::rows;

rows! {}
