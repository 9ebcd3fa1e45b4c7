//! A limit on the rate of a link, in each direction: a token bucket (tc-tbf(8)) with a queue of bounded length before it.
//! [`Shaper`] wraps any link.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{Capabilities, Link, LinkError};
use crate::buffer::PacketBuffer;
use crate::time::{Duration, Instant};

/// How long a frame waits at most behind a bucket that is full at its start: what the reference plugin `bandwidth` gives tbf.
const LATENCY: Duration = Duration::from_millis(25);
const SECOND_NS: u128 = 1_000_000_000;
/// Two full frames, which a stream may let wait at any rate.
const FEW_BYTES: usize = 2 * 1514;

fn bytes_of(bits: u128) -> usize {
    usize::try_from(bits / 8).unwrap_or(usize::MAX)
}

/// What passes in one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Bits a second on average; 0 counts as 1.
    pub rate_bps: u64,
    /// Bits that may pass at once after a silence. A frame that is larger passes all the same, and is paid for afterwards.
    pub burst_bits: u64,
}

impl Limit {
    /// How long bytes last at the rate, in nanoseconds.
    fn lasts(self, bytes: usize) -> u64 {
        let nanos = bytes as u128 * 8 * SECOND_NS / u128::from(self.rate_bps.max(1));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// How long the burst lasts, in nanoseconds: what the bucket holds.
    fn bucket(self) -> u64 {
        let nanos = u128::from(self.burst_bits) * SECOND_NS / u128::from(self.rate_bps.max(1));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// Bits that pass in [`LATENCY`].
    fn latency_bits(self) -> u128 {
        u128::from(self.rate_bps) * LATENCY.as_nanos() / SECOND_NS
    }

    /// Bytes that may wait.
    fn queue_max(self) -> usize {
        bytes_of(self.latency_bits() + u128::from(self.burst_bits))
    }

    /// Bytes that one stream lets wait, as Linux bounds them by `tcp_limit_output_bytes`: what keeps the bucket busy until it is asked
    /// for more, since what waits delays whoever comes next.
    fn stream_max(self) -> usize {
        bytes_of(self.latency_bits() / 8).max(FEW_BYTES).min(self.queue_max() / 2)
    }
}

/// The limits of a link; None lets everything pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// On what comes in.
    pub ingress: Option<Limit>,
    /// On what goes out.
    pub egress: Option<Limit>,
}

/// Bytes that a frame takes on the wire: a train counts the headers of each of its segments, as Linux's qdisc_pkt_len_init does.
fn wire_len(frame: &PacketBuffer) -> usize {
    let Some(gso) = frame.offload.gso else { return frame.len() };
    let payload = frame.payload().len();
    let more = payload.div_ceil(usize::from(gso.size).max(1)).saturating_sub(1);
    let headers = frame.len().saturating_sub(payload);
    frame.len().saturating_add(more.saturating_mul(headers))
}

/// When a frame that comes passes.
enum Turn {
    /// At once; it is paid for.
    Now,
    /// After it has waited.
    Later,
}

/// One direction: the bucket, and what waits for it.
struct Way {
    limit: Limit,
    /// Since when the bucket holds `tokens`.
    at: Instant,
    /// Nanoseconds of the rate; less than none after a frame that is larger than the bucket.
    tokens: i128,
    /// Each with the bytes that it takes on the wire.
    waiting: VecDeque<(usize, PacketBuffer)>,
    /// Bytes that wait.
    bytes: usize,
    /// How many of them are of which stream. None has 0.
    streams: BTreeMap<u32, usize>,
}

impl Way {
    fn new(limit: Limit) -> Way {
        let tokens = i128::from(limit.bucket());
        Way {
            limit,
            at: Instant::ZERO,
            tokens,
            waiting: VecDeque::new(),
            bytes: 0,
            streams: BTreeMap::new(),
        }
    }

    /// What the bucket must hold for a frame: one that is larger than it passes where it is full.
    fn wanted(&self, len: usize) -> i128 {
        i128::from(self.limit.lasts(len).min(self.limit.bucket()))
    }

    fn fill(&mut self, now: Instant) {
        let passed = crate::time::duration_nanos(now.since(self.at));
        self.at = self.at.max(now);
        let full = i128::from(self.limit.bucket());
        self.tokens = full.min(self.tokens + i128::from(passed));
    }

    /// Takes the price of a frame where the bucket holds enough.
    fn pass(&mut self, now: Instant, len: usize) -> bool {
        self.fill(now);
        let passes = self.tokens >= self.wanted(len);
        if passes {
            self.tokens -= i128::from(self.limit.lasts(len));
        }
        passes
    }

    /// When a frame that comes now passes. Errors: Full, and it is lost.
    fn offer(&mut self, now: Instant, len: usize) -> Result<Turn, LinkError> {
        if self.waiting.is_empty() && self.pass(now, len) {
            return Ok(Turn::Now);
        }
        // One may wait in any case: where the queue is shorter than a frame nothing would ever pass.
        let full = self.bytes.saturating_add(len) > self.limit.queue_max();
        if full && !self.waiting.is_empty() { Err(LinkError::Full) } else { Ok(Turn::Later) }
    }

    /// Lets a frame wait, whose turn is later.
    fn wait(&mut self, len: usize, frame: PacketBuffer) {
        self.bytes = self.bytes.saturating_add(len);
        if frame.tags.stream != 0 {
            *self.streams.entry(frame.tags.stream).or_default() += len;
        }
        self.waiting.push_back((len, frame));
    }

    /// The next frame whose turn has come.
    fn next(&mut self, now: Instant) -> Option<PacketBuffer> {
        let (len, _) = *self.waiting.front()?;
        if !self.pass(now, len) {
            return None;
        }
        let (_, frame) = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(len);
        if let Some(own) = self.streams.get_mut(&frame.tags.stream) {
            *own = own.saturating_sub(len);
            if *own == 0 {
                self.streams.remove(&frame.tags.stream);
            }
        }
        Some(frame)
    }

    /// With as much as a stream may let wait: about when half of it will.
    fn busy_until(&mut self, now: Instant, stream: u32) -> Option<Instant> {
        let most = self.limit.stream_max();
        let own = self.streams.get(&stream).copied().filter(|own| *own > most)?;
        self.fill(now);
        // Its frames lie among those of others, so that the queue shrinks by the share that its own shall.
        let share = self.bytes as u128 * (own - most / 2) as u128 / own as u128;
        let price = i128::from(self.limit.lasts(usize::try_from(share).unwrap_or(usize::MAX)));
        let missing = (price - self.tokens).max(0);
        let until = self.at + Duration::from_nanos(u64::try_from(missing).unwrap_or(u64::MAX));
        // What waits longer than it must (nobody has polled) is no reason to wait for the past.
        (until > now).then_some(until)
    }

    /// When the turn of the first frame comes.
    fn deadline(&self) -> Option<Instant> {
        let (len, _) = self.waiting.front()?;
        let missing = self.wanted(*len).saturating_sub(self.tokens).max(0);
        Some(self.at + Duration::from_nanos(u64::try_from(missing).unwrap_or(u64::MAX)))
    }
}

/// A link with limits.
pub struct Shaper {
    inner: Arc<dyn Link>,
    /// Its lock is held while a frame goes to the inner link, which therefore must not deliver any within `transmit`.
    out: Option<Mutex<Way>>,
    into: Option<Mutex<Way>>,
    /// Received frames that found no room.
    lost: AtomicU64,
}

impl Shaper {
    /// Wraps a link.
    pub fn new(inner: Arc<dyn Link>, limits: Limits) -> Shaper {
        let way = |limit: Option<Limit>| limit.map(|limit| Mutex::new(Way::new(limit)));
        let (out, into) = (way(limits.egress), way(limits.ingress));
        Shaper { inner, out, into, lost: AtomicU64::new(0) }
    }

    fn flush_in(&self, now: Instant, deliver: &mut dyn FnMut(PacketBuffer)) {
        let Some(into) = &self.into else { return };
        loop {
            let frame = into.lock().next(now);
            match frame {
                Some(frame) => deliver(frame),
                None => return,
            }
        }
    }

    fn take(&self, now: Instant, frame: PacketBuffer, deliver: &mut dyn FnMut(PacketBuffer)) {
        let Some(into) = &self.into else { return deliver(frame) };
        let len = wire_len(&frame);
        let mut into = into.lock();
        match into.offer(now, len) {
            Ok(Turn::Now) => {
                drop(into);
                deliver(frame);
            }
            Ok(Turn::Later) => into.wait(len, frame),
            Err(_) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Link for Shaper {
    fn transmit(&self, now: Instant, frame: &PacketBuffer) -> Result<(), LinkError> {
        let Some(out) = &self.out else { return self.inner.transmit(now, frame) };
        let len = wire_len(frame);
        // Held while the frame goes out: those of other threads must not overtake what waits.
        let mut out = out.lock();
        match out.offer(now, len)? {
            Turn::Now => self.inner.transmit(now, frame),
            Turn::Later => {
                out.wait(len, frame.clone());
                Ok(())
            }
        }
    }

    fn capabilities(&self) -> Capabilities {
        let inner = self.inner.capabilities();
        let egress = self.out.as_ref().map(|out| out.lock().limit);
        let capabilities = Capabilities { filters_received: true, ..inner };
        let Some(limit) = egress else { return capabilities };
        // A train finds room beside what waits already.
        let room = u32::try_from(limit.stream_max() / 2).unwrap_or(u32::MAX).max(1);
        let max_train = if inner.max_train == 0 { room } else { room.min(inner.max_train) };
        let max_gso = inner.max_gso.min(max_train);
        Capabilities { max_gso, max_train, holds_back: true, ..capabilities }
    }

    fn filter_received(
        &self,
        now: Instant,
        frame: PacketBuffer,
        deliver: &mut dyn FnMut(PacketBuffer),
    ) {
        self.inner.filter_received(now, frame, &mut |frame| self.take(now, frame, deliver));
    }

    fn poll(&self, now: Instant, deliver: &mut dyn FnMut(PacketBuffer)) {
        self.flush_in(now, deliver);
        self.inner.poll(now, &mut |frame| self.take(now, frame, deliver));
        let Some(out) = &self.out else { return };
        let mut out = out.lock();
        while let Some(frame) = out.next(now) {
            // A link that fails now drops the frame, as it would have at once.
            let _ = self.inner.transmit(now, &frame);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let of = |way: &Option<Mutex<Way>>| way.as_ref().and_then(|way| way.lock().deadline());
        [of(&self.out), of(&self.into), self.inner.next_deadline()].into_iter().flatten().min()
    }

    fn busy_until(&self, now: Instant, stream: u32) -> Option<Instant> {
        match &self.out {
            Some(out) => out.lock().busy_until(now, stream),
            None => self.inner.busy_until(now, stream),
        }
    }

    fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed).saturating_add(self.inner.lost())
    }
}

#[cfg(test)]
mod tests;
