//! Bytes go through a connection, and it ends: send, receive, shutdown, close.

use core::sync::atomic::Ordering;

use super::TcpSocket;
use super::endpoint::{Connecting, Holder, Inner, Keep, Role, TcpEndpoint};
use super::reports::Seen;
use crate::buffer::Chain;
use crate::socket::{
    How, RecvError, RecvFlags, SendError, SendFlags, ShutdownError, Sink, SocketError, Source,
};
use crate::time::Instant;
use crate::transport::tcp::{Connection, NoUrgent, State, Take};

/// Sends up to this size are copied into the tail of the queue instead of a slab of their own.
const SMALL_SEND: usize = 1024;
/// How much is queued at once where TCP_NOTSENT_LOWAT is set.
const SEND_PIECE: usize = 32 << 10;
/// How much one turn of a send takes before the network gets its turn.
const SEND_STEP: usize = 256 << 10;

impl TcpSocket {
    /// Queues what fits of the source and sends what may go; returns how many bytes were taken.
    pub fn send(
        &self,
        now: Instant,
        source: &mut dyn Source,
        flags: SendFlags,
    ) -> Result<usize, SendError> {
        if let Some(sent) = self.send_with_syn(now, source) {
            return sent;
        }
        let endpoint = &self.0;
        let mut taken = 0;
        loop {
            let step = endpoint.send_step(source, flags);
            if taken > 0 || step.is_ok() {
                endpoint.flush(now);
            }
            match step {
                Ok(n) => taken += n,
                Err(_) if taken > 0 => return Ok(taken),
                Err(error) => return Err(error),
            }
            if source.remaining() == 0 {
                return Ok(taken);
            }
        }
    }

    /// Copies what can be read to the sink, at most up to the urgent mark; 0 is the end of the stream (or a sink
    /// without room).
    pub fn recv(
        &self,
        now: Instant,
        sink: &mut dyn Sink,
        flags: RecvFlags,
    ) -> Result<usize, RecvError> {
        if flags.contains(RecvFlags::OOB) {
            return self.recv_urgent(sink, flags);
        }
        let endpoint = &self.0;
        let turn = endpoint.reading.lock();
        let peeks = flags.contains(RecvFlags::PEEK);
        let wanted = sink.room();
        let (run, data, offset) = {
            let mut inner = endpoint.inner.lock();
            let shut = inner.shut_unconnected;
            let offset = inner.socket.peek_offset.filter(|_| peeks).unwrap_or(0);
            let Role::Stream(connection) = &mut inner.role else {
                return if shut { Ok(0) } else { Err(RecvError::NotConnected) };
            };
            let run = connection.run(offset);
            if run.len == 0 {
                if run.skip > 0 && !peeks {
                    // The urgent byte is all there is.
                    connection.consume(now, run.skip);
                }
                return end_of_data(connection);
            }
            let data = connection.receive_queue().range(offset + run.skip, run.len.min(wanted));
            (run, data, offset)
        };
        let discards = flags.contains(RecvFlags::TRUNC);
        let copied = if discards { Ok(data.len()) } else { data.write_to(sink) };
        drop(data);
        let n = copied?;
        if n == 0 {
            return Ok(0);
        }
        let took = run.skip + n;
        let mut inner = endpoint.inner.lock();
        if inner.socket.peek_offset.is_some()
            && let Some(offset) = &mut inner.socket.peek_offset
        {
            // socket(7), SO_PEEK_OFF: a look moves it on, a read back.
            *offset = if peeks { offset.saturating_add(took) } else { offset.saturating_sub(took) };
        }
        if peeks {
            inner.note_seen(offset.saturating_add(took), Seen::Peeked);
            return Ok(n);
        }
        inner.note_seen(took, Seen::Read);
        let acknowledges = match &mut inner.role {
            Role::Stream(connection) => {
                connection.consume(now, took);
                connection.owes_ack()
            }
            Role::Idle | Role::Listener(_) => false,
        };
        drop(turn);
        match acknowledges {
            true => endpoint.flush_with(now, inner),
            false => endpoint.settle(inner),
        }
        Ok(n)
    }

    /// MSG_OOB: the urgent byte. It never waits.
    fn recv_urgent(&self, sink: &mut dyn Sink, flags: RecvFlags) -> Result<usize, RecvError> {
        let endpoint = &self.0;
        let turn = endpoint.reading.lock();
        let mut inner = endpoint.inner.lock();
        let Role::Stream(connection) = &mut inner.role else { return Err(RecvError::Invalid) };
        let byte = match connection.urgent(Take::Peek) {
            Ok(byte) => byte,
            Err(NoUrgent::Nothing) => return Err(RecvError::Invalid),
            Err(NoUrgent::NotYet) if connection.is_receive_shut() => return Ok(0),
            Err(NoUrgent::NotYet) => return Err(RecvError::WouldBlock),
        };
        drop(inner);
        let n = match sink.room() {
            0 => 0,
            _ if flags.contains(RecvFlags::TRUNC) => 1,
            _ => sink.write(&[byte])?,
        };
        if !flags.contains(RecvFlags::PEEK)
            && let Role::Stream(connection) = &mut endpoint.inner.lock().role
        {
            // What was looked at cannot be gone: readers take turns.
            let _ = connection.urgent(Take::Away);
        }
        drop(turn);
        endpoint.refresh();
        Ok(n)
    }

    /// Ends one or both directions.
    pub fn shutdown(&self, now: Instant, how: How) -> Result<(), ShutdownError> {
        let endpoint = &self.0;
        let mut inner = endpoint.inner.lock();
        let Inner { role, connecting, shut_unconnected, .. } = &mut *inner;
        match role {
            Role::Idle => {
                // Linux's inet_shutdown marks the direction also where it answers ENOTCONN.
                *shut_unconnected |= how.reads();
                return Err(ShutdownError::NotConnected);
            }
            Role::Listener(_) => {
                drop(inner);
                if how.reads() {
                    endpoint.stop_listening(now);
                }
                return Ok(());
            }
            Role::Stream(connection) => {
                if matches!(connection.state(), State::SynSent(_)) {
                    // Linux's inet_shutdown: a connect under way is undone.
                    drop(inner);
                    self.disconnect(now);
                    return Ok(());
                }
                // TIME-WAIT is no state of a socket on Linux: the socket is closed then.
                let over = matches!(connection.state(), State::Closed(_) | State::TimeWait(_));
                if *connecting == Connecting::Pending {
                    *connecting = if over { Connecting::Undone } else { Connecting::Told };
                }
                if over {
                    return Err(ShutdownError::NotConnected);
                }
                if how.reads() {
                    connection.shutdown_read();
                }
                if how.writes() {
                    connection.shutdown_write(now);
                }
            }
        }
        inner.news = true;
        drop(inner);
        endpoint.flush(now);
        Ok(())
    }

    /// The program has closed its last descriptor. What is queued is still sent, unless SO_LINGER says otherwise
    /// or data was left unread.
    pub fn close(&self, now: Instant) {
        let endpoint = &self.0;
        endpoint.set_waker(None);
        endpoint.stop_listening(now);
        let mut inner = endpoint.inner.lock();
        inner.holder = Holder::Nobody;
        match &mut inner.role {
            Role::Stream(connection) => {
                let unread = connection.readable() > 0;
                let no_linger = connection.settings().linger.is_some_and(|time| time.is_zero());
                let alive = connection.state().is_synchronized();
                let halfway = matches!(connection.state(), State::FinWait2(_));
                connection.close(now);
                let shared = endpoint.host.shared();
                let stats = &shared.stats.tcp_ext;
                match (alive, unread, no_linger) {
                    (true, true, _) => stats.tcp_abort_on_close.inc(),
                    // Linux counts a linger of zero here, too.
                    (true, false, true) => stats.tcp_abort_on_data.inc(),
                    (true, false, false) if matches!(connection.state(), State::Closed(_)) => {
                        stats.tcp_abort_on_linger.add(u64::from(halfway));
                    }
                    // Linux's tcp_too_many_orphans: what nobody holds is bounded.
                    (true, false, false) => {
                        let most = shared.tcp.config().max_orphans;
                        if shared.tcp.orphans.load(Ordering::Relaxed) >= most {
                            stats.tcp_abort_on_memory.inc();
                            connection.abort();
                        }
                    }
                    _ => {}
                }
            }
            Role::Idle | Role::Listener(_) => endpoint.release(&mut inner, Keep::Nothing),
        }
        drop(inner);
        endpoint.flush(now);
    }

    /// Undoes connect or listen (a connect to AF_UNSPEC): the connection is reset, the socket is as before.
    pub fn disconnect(&self, now: Instant) {
        let endpoint = &self.0;
        endpoint.stop_listening(now);
        if let Role::Stream(connection) = &mut endpoint.inner.lock().role {
            connection.abort();
        }
        endpoint.flush(now);
        let mut inner = endpoint.inner.lock();
        if let Role::Stream(_) = inner.role {
            endpoint.forget(&mut inner);
        }
        drop(inner);
        endpoint.refresh();
    }

    /// Ends the connection with a reset, and the socket with it.
    pub fn abort(&self, now: Instant) {
        self.0.set_waker(None);
        self.0.stop_listening(now);
        self.0.abort(now);
        self.0.release(&mut self.0.inner.lock(), Keep::Nothing);
    }
}

/// What a receive without data says.
fn end_of_data(connection: &mut Connection) -> Result<usize, RecvError> {
    // The end of the peer's stream comes before any error, and leaves it pending (Linux: tcp_recvmsg looks at SOCK_DONE first).
    if connection.is_stream_ended() {
        return Ok(0);
    }
    if let Some(error) = connection.take_error() {
        return Err(RecvError::Network(error.into()));
    }
    if connection.is_receive_shut() {
        return Ok(0);
    }
    Err(RecvError::WouldBlock)
}

impl TcpEndpoint {
    /// One turn of a send: copies what fits. The program's memory is read without the lock.
    fn send_step(&self, source: &mut dyn Source, flags: SendFlags) -> Result<usize, SendError> {
        let room = self.send_room(flags)?;
        let wanted = source.remaining();
        if wanted == 0 {
            return Ok(0);
        }
        if room == 0 {
            return Err(SendError::WouldBlock);
        }
        if wanted <= SMALL_SEND {
            let mut bytes = [0; SMALL_SEND];
            let n = source.read(&mut bytes[..wanted.min(room)])?;
            return self.queue(n, flags, |queue| queue.push_copy(&bytes[..n]));
        }
        let data = Chain::from_source(&self.host.shared().slabs, source, room.min(SEND_STEP))?;
        let n = data.len();
        self.queue(n, flags, |queue| queue.append(data))
    }

    fn queue(
        &self,
        n: usize,
        flags: SendFlags,
        put: impl FnOnce(&mut Chain),
    ) -> Result<usize, SendError> {
        let mut inner = self.inner.lock();
        let Role::Stream(connection) = &mut inner.role else { return Err(SendError::Shutdown) };
        match connection.send_queue() {
            Some(queue) => put(queue),
            // It ended while the bytes were copied.
            None => return Err(self.why_closed(connection)),
        }
        if flags.contains(SendFlags::OOB) {
            connection.mark_urgent();
        }
        Ok(n)
    }

    fn why_closed(&self, connection: &mut Connection) -> SendError {
        match connection.take_error() {
            Some(error) => SendError::Network(SocketError::from(error)),
            None => SendError::Shutdown,
        }
    }

    /// How much may be queued, or why nothing may.
    fn send_room(&self, flags: SendFlags) -> Result<usize, SendError> {
        let mut inner = self.inner.lock();
        inner.update_allowance();
        let Role::Stream(connection) = &mut inner.role else { return Err(SendError::Shutdown) };
        if connection.is_connecting() {
            return Err(SendError::WouldBlock);
        }
        if connection.error().is_some() || connection.is_send_shut() {
            return Err(self.why_closed(connection));
        }
        let more = flags.contains(SendFlags::MORE);
        if connection.settings().more != more {
            connection.settings_mut().more = more;
        }
        let room = connection.send_room();
        let inner = &*inner;
        let Role::Stream(connection) = &inner.role else { return Err(SendError::Shutdown) };
        Ok(match inner.socket.unsent_limit(connection) {
            None => room,
            Some(limit) if connection.unsent() >= limit => 0,
            // As on Linux it is looked at after each piece.
            Some(_) => room.min(SEND_PIECE),
        })
    }
}
