//! Situations of the network, a file a behaviour: each is one virtual run from one seed, and says what must come of it.

mod accept_queue_full;
mod ack_coalescing;
mod half_close;
mod linger_zero;
mod rst_after_close_with_unread_data;
mod segments;
mod simultaneous_close;
mod syn_cookie_keeps_options;
mod syn_flood_with_legitimate_clients;
