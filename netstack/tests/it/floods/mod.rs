//! Floods, a file each: whatever a peer or a program throws at a stack, its memory stays within a ceiling, by its own
//! accounts and by a counting allocator, and a connection that has nothing to do with it goes on at full rate.

mod bed;

mod connection_churn;
mod fragments;
mod holes;
mod icmp_errors;
mod neighbours;
mod one_byte_segments;
mod syn;
mod udp_unread;
mod zero_window_sitters;
