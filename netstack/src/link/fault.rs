//! Faults on purpose: loss, duplication, reordering, delay, corruption and a bottleneck, from one seed. The
//! [`Injector`] decides the fate of frames; [`FaultLink`] wraps any link with one in each direction.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Capabilities, Link, LinkError};
use crate::buffer::PacketBuffer;
use crate::rng::{Rng, Seed};
use crate::time::{Duration, Instant};

/// What may happen to frames. Probabilities are in parts per million; the default harms nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// Every frame takes this long.
    pub delay: Duration,
    /// And up to this much more, without overtaking another.
    pub jitter: Duration,
    /// How often a frame vanishes.
    pub loss_ppm: u32,
    /// How many frames vanish in a row on average (Gilbert's model); 0 and 1 are independent losses.
    pub loss_burst: u32,
    /// How often a frame comes twice.
    pub duplicate_ppm: u32,
    /// How often a frame is held back so that later ones overtake it.
    pub reorder_ppm: u32,
    /// How long it is held back at most.
    pub reorder_delay: Duration,
    /// How often one bit of a frame flips.
    pub corrupt_ppm: u32,
    /// Bits a second that pass; None for no limit.
    pub rate: Option<u64>,
    /// How long a frame may wait for its turn at that rate before the queue counts as full.
    pub queue: Duration,
    /// How long it may wait before it is marked (RFC 3168), where its sender is capable of ECN; None for no marks.
    pub mark_above: Option<Duration>,
    /// What becomes of the ECN bits of IP headers besides.
    pub ecn: EcnFault,
}

/// What a broken middlebox does to explicit congestion notification.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EcnFault {
    /// Nothing.
    #[default]
    None,
    /// It clears the bits of the IP header.
    Bleach,
}

impl Faults {
    /// Only a delay.
    pub fn delay(delay: Duration) -> Faults {
        Faults { delay, ..Faults::default() }
    }

    /// A bad link: the delay, and 5 % loss, 5 % reordering, 2 % duplication.
    pub fn lossy(delay: Duration) -> Faults {
        Faults {
            delay,
            loss_ppm: 50_000,
            reorder_ppm: 50_000,
            reorder_delay: delay + Duration::from_millis(5),
            duplicate_ppm: 20_000,
            ..Faults::default()
        }
    }
}

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It arrives once, unharmed.
    Delivered,
    /// It vanished.
    Lost,
    /// The queue of the bottleneck was full.
    Overflowed,
    /// It arrives twice.
    Duplicated,
    /// A bit flipped.
    Corrupted,
    /// It was held back.
    Reordered,
    /// It arrives with the mark of congestion.
    Marked,
}

/// Decides the fate of the frames of one direction.
pub struct Injector {
    faults: Faults,
    rng: Rng,
    // FIFO: no frame that is not held back arrives before this.
    last_due: Instant,
    // When the bottleneck is free.
    free_at: Instant,
    // A burst of losses is under way.
    losing: bool,
}

impl Injector {
    /// An injector of its own random sequence.
    pub fn new(faults: Faults, seed: &Seed, domain: u64) -> Injector {
        let rng = Rng::new(seed, 0x6661_756c ^ domain << 32);
        Injector { faults, rng, last_due: Instant::ZERO, free_at: Instant::ZERO, losing: false }
    }

    /// Changes what may happen from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Decides: calls `arrive` with each copy and when it arrives.
    pub fn apply(
        &mut self,
        now: Instant,
        frame: PacketBuffer,
        arrive: &mut dyn FnMut(Instant, PacketBuffer),
    ) -> Fate {
        let faults = self.faults;
        // All dice are thrown for every frame, so that changing one probability leaves the others' outcomes.
        let lost = match faults.loss_burst {
            0 | 1 => self.rng.chance_ppm(faults.loss_ppm),
            _ => self.loses_in_bursts(),
        };
        let twice = self.rng.chance_ppm(faults.duplicate_ppm);
        let late = self.rng.chance_ppm(faults.reorder_ppm);
        let corrupt = self.rng.chance_ppm(faults.corrupt_ppm);
        let jitter = self.some_of(faults.jitter);
        let held = self.some_of(faults.reorder_delay);
        let waited = self.free_at.since(now);
        let Some(sent) = self.serialize(now, frame.len()) else { return Fate::Overflowed };
        if lost {
            return Fate::Lost;
        }
        let mut due = sent + faults.delay + jitter;
        if late {
            due += held;
        } else {
            due = due.max(self.last_due);
            self.last_due = due;
        }
        let bleached = faults.ecn == EcnFault::Bleach;
        let frame = if bleached { with_ecn(frame, |_| 0) } else { frame };
        let congested = faults.mark_above.is_some_and(|most| waited > most) && is_capable(&frame);
        let frame = if congested { with_ecn(frame, |_| CE) } else { frame };
        let frame = if corrupt { self.corrupt(frame) } else { frame };
        if twice {
            arrive(due, frame.clone());
        }
        arrive(due, frame);
        match (corrupt, twice, late) {
            (true, ..) => Fate::Corrupted,
            (_, true, _) => Fate::Duplicated,
            (_, _, true) => Fate::Reordered,
            _ if congested => Fate::Marked,
            _ => Fate::Delivered,
        }
    }

    /// Gilbert's model: two states, of which one loses everything. How long it lasts and how often it comes make the burst and the share.
    fn loses_in_bursts(&mut self) -> bool {
        let (loss, burst) = (u64::from(self.faults.loss_ppm), u64::from(self.faults.loss_burst));
        let chance = match self.losing {
            true => 1_000_000 - 1_000_000 / burst,
            false => loss * 1_000_000 / 1_000_000_u64.saturating_sub(loss).max(1) / burst,
        };
        self.losing = self.rng.chance_ppm(chance.min(1_000_000) as u32);
        self.losing
    }

    fn some_of(&mut self, duration: Duration) -> Duration {
        let nanos = crate::time::duration_nanos(duration);
        Duration::from_nanos(self.rng.below(nanos.saturating_add(1)))
    }

    /// When the last bit of a frame has passed the bottleneck; None when its queue is full.
    fn serialize(&mut self, now: Instant, len: usize) -> Option<Instant> {
        let Some(rate) = self.faults.rate.filter(|rate| *rate > 0) else { return Some(now) };
        let start = self.free_at.max(now);
        if start.since(now) > self.faults.queue {
            return None;
        }
        let nanos = (len as u64).saturating_mul(8 * 1_000_000_000) / rate;
        self.free_at = start + Duration::from_nanos(nanos);
        Some(self.free_at)
    }

    /// Flips one bit, anywhere. What the device vouched for no longer holds.
    fn corrupt(&mut self, frame: PacketBuffer) -> PacketBuffer {
        let mut bytes = frame.to_vec_complete();
        let bit = self.rng.below(bytes.len() as u64 * 8);
        if let Some(byte) = bytes.get_mut((bit / 8) as usize) {
            *byte ^= 1 << (bit % 8);
        }
        PacketBuffer::from_vec(bytes)
    }
}

/// The codepoint by which a router tells of congestion.
const CE: u8 = 3;
/// Where the IP header of an Ethernet frame begins.
const IP: usize = 14;

/// The ECN bits of an Ethernet frame with IP; None for another.
fn ecn_of(bytes: &[u8]) -> Option<u8> {
    match (bytes.get(IP)? >> 4, bytes.get(IP + 1)?) {
        (4, tos) => Some(tos & 3),
        (6, class) => Some(class >> 4 & 3),
        _ => None,
    }
}

fn is_capable(frame: &PacketBuffer) -> bool {
    matches!(ecn_of(&frame.to_vec_complete()), Some(1 | 2))
}

/// The frame with other ECN bits, which `change` makes of those it has.
fn with_ecn(frame: PacketBuffer, change: impl FnOnce(u8) -> u8) -> PacketBuffer {
    let mut bytes = frame.to_vec_complete();
    let Some(old) = ecn_of(&bytes) else { return frame };
    let new = change(old) & 3;
    if new == old {
        return frame;
    }
    let shift = if bytes[IP] >> 4 == 4 { 0 } else { 4 };
    bytes[IP + 1] = bytes[IP + 1] & !(3 << shift) | new << shift;
    if shift == 0 && bytes.len() >= IP + 20 {
        // RFC 1624: "HC' = ~(~HC + ~m + m')", of the word that holds the bits.
        let checksum = u16::from_be_bytes([bytes[IP + 10], bytes[IP + 11]]);
        let sum = u32::from(!checksum) + u32::from(!u16::from(old)) + u32::from(new);
        let folded = (sum & 0xffff) + (sum >> 16);
        let folded = ((folded & 0xffff) + (folded >> 16)) as u16;
        bytes[IP + 10..IP + 12].copy_from_slice(&(!folded).to_be_bytes());
    }
    PacketBuffer::from_vec(bytes)
}

/// Frames that arrive later, by time and then in order.
#[derive(Default)]
struct Delayed {
    frames: BTreeMap<(Instant, u64), PacketBuffer>,
    order: u64,
}

impl Delayed {
    fn push(&mut self, due: Instant, frame: PacketBuffer) {
        self.order += 1;
        self.frames.insert((due, self.order), frame);
    }

    fn next(&self) -> Option<Instant> {
        self.frames.first_key_value().map(|((due, _), _)| *due)
    }

    fn pop_due(&mut self, now: Instant) -> Option<PacketBuffer> {
        self.next().filter(|due| *due <= now)?;
        self.frames.pop_first().map(|(_, frame)| frame)
    }
}

struct Way {
    injector: Injector,
    delayed: Delayed,
}

impl Way {
    fn take(&mut self, now: Instant, frame: PacketBuffer) {
        let Way { injector, delayed } = self;
        injector.apply(now, frame, &mut |due, frame| delayed.push(due, frame));
    }
}

/// A link with faults in both directions. It takes offloads away, so that faults strike single packets.
pub struct FaultLink {
    inner: Arc<dyn Link>,
    out: Mutex<Way>,
    into: Mutex<Way>,
}

impl FaultLink {
    /// Wraps a link; `outgoing` befalls what we send, `incoming` what we receive.
    pub fn new(inner: Arc<dyn Link>, outgoing: Faults, incoming: Faults, seed: &Seed) -> FaultLink {
        let way = |faults, domain| {
            let injector = Injector::new(faults, seed, domain);
            Mutex::new(Way { injector, delayed: Delayed::default() })
        };
        FaultLink { inner, out: way(outgoing, 1), into: way(incoming, 2) }
    }

    /// Changes the faults of both directions.
    pub fn set_faults(&self, outgoing: Faults, incoming: Faults) {
        self.out.lock().injector.set_faults(outgoing);
        self.into.lock().injector.set_faults(incoming);
    }

    fn flush_out(&self, now: Instant) -> Result<(), LinkError> {
        loop {
            let frame = self.out.lock().delayed.pop_due(now);
            match frame {
                Some(frame) => self.inner.transmit(now, &frame)?,
                None => return Ok(()),
            }
        }
    }

    fn flush_in(&self, now: Instant, deliver: &mut dyn FnMut(PacketBuffer)) {
        loop {
            let frame = self.into.lock().delayed.pop_due(now);
            match frame {
                Some(frame) => deliver(frame),
                None => return,
            }
        }
    }
}

impl Link for FaultLink {
    fn transmit(&self, now: Instant, frame: &PacketBuffer) -> Result<(), LinkError> {
        self.out.lock().take(now, frame.clone());
        self.flush_out(now)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { filters_received: true, ..Capabilities::default() }
    }

    fn filter_received(
        &self,
        now: Instant,
        frame: PacketBuffer,
        deliver: &mut dyn FnMut(PacketBuffer),
    ) {
        self.inner.filter_received(now, frame, &mut |frame| self.into.lock().take(now, frame));
        self.flush_in(now, deliver);
    }

    fn poll(&self, now: Instant, deliver: &mut dyn FnMut(PacketBuffer)) {
        self.inner.poll(now, &mut |frame| self.into.lock().take(now, frame));
        // A link that fails now drops the frame, as it would have at once.
        let _ = self.flush_out(now);
        self.flush_in(now, deliver);
    }

    fn lost(&self) -> u64 {
        self.inner.lost()
    }

    fn next_deadline(&self) -> Option<Instant> {
        let (out, into) = (self.out.lock().delayed.next(), self.into.lock().delayed.next());
        [out, into, self.inner.next_deadline()].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::seed_from;

    #[derive(Default)]
    struct Record(Mutex<Vec<(Instant, Vec<u8>)>>);

    impl Link for Record {
        fn transmit(&self, now: Instant, frame: &PacketBuffer) -> Result<(), LinkError> {
            self.0.lock().push((now, frame.to_vec()));
            Ok(())
        }
    }

    fn fates(faults: Faults, count: usize) -> Vec<Fate> {
        let mut injector = Injector::new(faults, &seed_from(1), 0);
        let frame = || PacketBuffer::from_vec(vec![0; 100]);
        (0..count).map(|_| injector.apply(Instant::ZERO, frame(), &mut |_, _| {})).collect()
    }

    #[test]
    fn losses_in_bursts_are_as_many_and_as_long_as_asked() {
        let faults = Faults { loss_ppm: 20_000, loss_burst: 8, ..Faults::default() };
        let fates = fates(faults, 400_000);
        let lost = fates.iter().filter(|fate| **fate == Fate::Lost).count();
        let bursts = fates.windows(2).filter(|pair| pair[0] != Fate::Lost && pair[1] == Fate::Lost);
        let mean = lost as f64 / bursts.count() as f64;
        assert!((6_000..10_000).contains(&lost) && (7.0..9.0).contains(&mean), "{lost}, {mean}");
    }

    #[test]
    fn faults_strike_about_as_often_as_asked() {
        let count = |fate| {
            let faults = Faults::lossy(Duration::from_millis(1));
            fates(faults, 10_000).into_iter().filter(|got| *got == fate).count()
        };
        assert!((400..600).contains(&count(Fate::Lost)));
        assert!((130..270).contains(&count(Fate::Duplicated)));
        assert!(fates(Faults::default(), 100).iter().all(|fate| *fate == Fate::Delivered));
    }

    #[test]
    fn jitter_alone_never_reorders_and_corruption_flips_one_bit() {
        let jitter = Duration::from_millis(9);
        let faults = Faults { jitter, corrupt_ppm: 1_000_000, ..Faults::default() };
        let mut injector = Injector::new(faults, &seed_from(2), 0);
        let mut last = Instant::ZERO;
        for _ in 0..200 {
            let frame = PacketBuffer::from_vec(vec![0; 50]);
            injector.apply(Instant::ZERO, frame, &mut |due, frame| {
                assert!(due >= last);
                last = due;
                let ones: u32 = frame.to_vec().iter().map(|byte| byte.count_ones()).sum();
                assert_eq!(ones, 1);
            });
        }
        assert!(last > Instant::ZERO);
    }

    #[test]
    fn a_bottleneck_spaces_frames_and_overflows() {
        let queue = Duration::from_millis(10);
        let faults = Faults { rate: Some(800_000), queue, ..Faults::default() };
        // A frame of 100 bytes takes 1 ms; eleven fit what is sent and queued.
        let fates = fates(faults, 20);
        assert_eq!(fates.iter().filter(|fate| **fate == Fate::Delivered).count(), 11);
        assert!(fates.ends_with(&[Fate::Overflowed]));
    }

    #[test]
    fn a_long_queue_marks_capable_packets_and_their_checksums_stay_right() {
        let queue = Duration::from_millis(100);
        let mark_above = Some(Duration::from_millis(2));
        let faults = Faults { rate: Some(400_000), queue, mark_above, ..Faults::default() };
        let mut injector = Injector::new(faults, &seed_from(4), 0);
        for (tos, marked) in [(2u8, true), (1, true), (0, false), (3, false), (2, true)] {
            let mut bytes = vec![0; 50];
            bytes[14..34].copy_from_slice(&[
                0x45, tos, 0, 36, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
            ]);
            let sum = crate::wire::checksum::of(&bytes[14..34]);
            bytes[24..26].copy_from_slice(&sum.to_be_bytes());
            for _ in 0..5 {
                let frame = PacketBuffer::from_vec(bytes.clone());
                let mut seen = None;
                let fate = injector.apply(Instant::ZERO, frame, &mut |_, frame| seen = Some(frame));
                let seen = seen.unwrap().to_vec();
                let expected = if fate == Fate::Marked { 3 } else { tos };
                assert_eq!(seen[15], expected);
                assert_eq!(crate::wire::checksum::of(&seen[14..34]), 0, "{seen:?}");
            }
            let frame = PacketBuffer::from_vec(bytes);
            let fate = injector.apply(Instant::ZERO, frame, &mut |_, _| {});
            assert_eq!(fate == Fate::Marked, marked, "{tos}");
        }
    }

    #[test]
    fn a_wrapped_link_delays_both_directions_until_it_is_polled() {
        let record = Arc::new(Record::default());
        let faults = Faults::delay(Duration::from_millis(2));
        let link = FaultLink::new(record.clone(), faults, faults, &seed_from(3));
        let frame = PacketBuffer::from_vec(vec![7]);
        link.transmit(Instant::ZERO, &frame).unwrap();
        let mut received = 0;
        link.filter_received(Instant::from_millis(1), frame, &mut |_| received += 1);
        assert_eq!((record.0.lock().len(), received), (0, 0));
        assert_eq!(link.next_deadline(), Some(Instant::from_millis(2)));
        link.poll(Instant::from_millis(2), &mut |_| received += 1);
        link.poll(Instant::from_millis(3), &mut |_| received += 1);
        assert_eq!((record.0.lock().len(), received), (1, 1));
        assert_eq!(link.next_deadline(), None);
    }
}
