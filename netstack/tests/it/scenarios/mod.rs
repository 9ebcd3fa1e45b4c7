//! Situations of the network, a file a behaviour: each is one virtual run from one seed, and says what must come of it.

mod accept_queue_full;
mod ack_coalescing;
mod clock_of_a_slow_thread;
mod bpf_filter_drops;
mod delayed_ack_timing;
mod drs_grows_to_the_bdp;
mod dsack_reports_duplicates;
mod half_close;
mod linger_zero;
mod out_of_order_prune;
mod packet_socket_sees_both_ways;
mod quick_ack_at_the_start;
mod receiver_out_of_memory;
mod rst_after_close_with_unread_data;
mod sack_block_order;
mod segments;
mod silly_window;
mod simultaneous_close;
mod syn_cookie_keeps_options;
mod syn_flood_with_legitimate_clients;
mod urgent_mark;
mod window_never_shrinks;
mod window_shrink;
mod zero_window_stall_and_probe;
