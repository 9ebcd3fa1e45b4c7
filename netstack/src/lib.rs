//! A TCP/IP stack without I/O: it holds protocols and sockets, and must not know any clock, OS, thread or global.
#![forbid(unsafe_code)]
