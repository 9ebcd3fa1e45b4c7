//! What a connection holds is told to the stack's pool, and what it counted to the stack's counters.

use super::counters;
use super::endpoint::{Inner, Role, TcpEndpoint};
use crate::stats::{Counter, TcpExtStats};
use crate::transport::tcp::ReceiveCounters;

impl Inner {
    /// Tells the connection how much memory it may hold, before it takes more.
    pub(super) fn update_allowance(&mut self) {
        let allowance = self.account.pool().allowance();
        if let Role::Stream(connection) = &mut self.role {
            connection.set_allowance(allowance);
        }
    }
}

impl TcpEndpoint {
    /// Brings the account and the counters up to date.
    pub(super) fn account(&self, inner: &mut Inner) {
        let Role::Stream(connection) = &mut inner.role else { return inner.account.settle(0) };
        inner.account.settle(connection.held());
        if let Some(news) = connection.take_receive_counters() {
            add(&self.host.shared().stats.tcp_ext, &news);
        }
        if let Some((before, after)) = connection.take_send_counters() {
            counters::publish(&self.host.shared().stats.tcp_ext, &before, &after);
        }
    }
}

fn add(stats: &TcpExtStats, news: &ReceiveCounters) {
    let pairs: [(&Counter, u32); 17] = [
        (&stats.prune_called, news.prune_called),
        (&stats.rcv_pruned, news.receive_pruned),
        (&stats.ofo_pruned, news.out_of_order_pruned),
        (&stats.tcp_ofo_queue, news.out_of_order_queued),
        (&stats.tcp_ofo_drop, news.out_of_order_dropped),
        (&stats.tcp_ofo_merge, news.out_of_order_merged),
        (&stats.tcp_rcv_q_drop, news.queue_dropped),
        (&stats.tcp_rcv_coalesce, news.coalesced),
        (&stats.tcp_dsack_old_sent, news.duplicates_old),
        (&stats.tcp_dsack_ofo_sent, news.duplicates_out_of_order),
        (&stats.delayed_acks, news.delayed),
        (&stats.delayed_ack_lost, news.delayed_lost),
        (&stats.tcp_ack_compressed, news.compressed),
        (&stats.tcp_to_zero_window_adv, news.to_zero),
        (&stats.tcp_from_zero_window_adv, news.from_zero),
        (&stats.tcp_want_zero_window_adv, news.want_zero),
        (&stats.paws_active, news.foreign_echoes),
    ];
    for (counter, n) in pairs.into_iter().filter(|(_, n)| *n > 0) {
        counter.add(u64::from(n));
    }
}
