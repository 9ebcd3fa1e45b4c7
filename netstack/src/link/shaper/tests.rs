//! The bucket by exact times.

use super::*;
use crate::buffer::{Gso, GsoKind};

/// Takes down when what went out.
#[derive(Default)]
struct Record(Mutex<Vec<(Instant, usize)>>);

impl Link for Record {
    fn transmit(&self, now: Instant, frame: &PacketBuffer) -> Result<(), LinkError> {
        self.0.lock().push((now, frame.len()));
        Ok(())
    }

    fn lost(&self) -> u64 {
        3
    }
}

const MS: Duration = Duration::from_millis(1);
/// 1,000 bytes last a millisecond; three may pass at once, and 25 + 3 may wait.
const LIMIT: Limit = Limit { rate_bps: 8_000_000, burst_bits: 24_000 };

fn shaper(ingress: Option<Limit>, egress: Option<Limit>) -> (Arc<Record>, Shaper) {
    let record = Arc::new(Record::default());
    (record.clone(), Shaper::new(record, Limits { ingress, egress }))
}

fn frame(len: usize) -> PacketBuffer {
    PacketBuffer::from_vec(vec![0; len])
}

/// Polls at every deadline until none is left; gives the times in microseconds.
fn play(shaper: &Shaper, mut received: impl FnMut(Instant)) -> Vec<u64> {
    let mut times = Vec::new();
    while let Some(at) = shaper.next_deadline() {
        shaper.poll(at, &mut |_| received(at));
        times.push(at.nanos() / 1000);
    }
    times
}

#[test]
fn a_burst_passes_and_then_the_rate_holds() {
    let (record, shaper) = shaper(None, Some(LIMIT));
    let start = Instant::from_secs(7);
    for _ in 0..6 {
        assert_eq!(shaper.transmit(start, &frame(1000)), Ok(()));
    }
    assert_eq!(record.0.lock().len(), 3);
    play(&shaper, |_| ());
    let times: Vec<_> = record.0.lock().iter().map(|(at, _)| *at).collect();
    assert_eq!(times[..3], [start; 3]);
    assert_eq!(times[3..], [start + MS, start + MS * 2, start + MS * 3]);
    // The bucket fills with time and not beyond its size.
    let later = start + MS * 1000;
    for _ in 0..4 {
        assert_eq!(shaper.transmit(later, &frame(1000)), Ok(()));
    }
    assert_eq!(record.0.lock().len(), 9);
    assert_eq!(shaper.next_deadline(), Some(later + MS));
}

#[test]
fn what_finds_no_room_is_lost_and_told() {
    let (record, out) = shaper(None, Some(LIMIT));
    let sent: Vec<_> = (0..40).map(|_| out.transmit(Instant::ZERO, &frame(1000))).collect();
    // Three pass, 28 wait.
    assert_eq!(sent.iter().filter(|sent| sent.is_ok()).count(), 31);
    assert!(sent[31..].iter().all(|sent| *sent == Err(LinkError::Full)));
    play(&out, |_| ());
    assert_eq!((record.0.lock().len(), out.lost()), (31, 3));
    let (_, into) = shaper(Some(LIMIT), None);
    let mut received = Vec::new();
    for _ in 0..40 {
        into.filter_received(Instant::ZERO, frame(1000), &mut |_| received.push(Instant::ZERO));
    }
    assert_eq!((received.len(), into.lost()), (3, 3 + 9));
    play(&into, |at| received.push(at));
    assert_eq!(received.last(), Some(&(Instant::ZERO + MS * 28)));
    assert_eq!(received.len(), 31);
}

#[test]
fn a_frame_that_is_larger_than_the_bucket_passes_a_full_one_and_is_paid_for() {
    let small = Limit { burst_bits: 800, ..LIMIT };
    let (record, shaper) = shaper(None, Some(small));
    for _ in 0..3 {
        assert_eq!(shaper.transmit(Instant::ZERO, &frame(1000)), Ok(()));
    }
    play(&shaper, |_| ());
    let times: Vec<_> = record.0.lock().iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [Instant::ZERO, Instant::ZERO + MS, Instant::ZERO + MS * 2]);
}

#[test]
fn a_train_is_paid_for_as_its_segments() {
    let mut train = PacketBuffer::from_parts(&[0; 54], frame(2500).into_chain());
    train.offload.gso = Some(Gso { kind: GsoKind::Tcp4, size: 1000 });
    assert_eq!(wire_len(&train), 2500 + 3 * 54);
}

#[test]
fn streams_hold_back_each_for_itself_before_the_queue_is_full() {
    let (_, shaper) = shaper(None, Some(LIMIT));
    let most = LIMIT.stream_max();
    assert_eq!(most, 3_125, "what passes in an eighth of the latency");
    let capabilities = shaper.capabilities();
    assert!(capabilities.holds_back && capabilities.max_train == 1_562);
    let of_stream = |stream| {
        let mut frame = frame(1000);
        frame.tags.stream = stream;
        frame
    };
    let fill = |stream| {
        let mut sent = 0;
        while shaper.busy_until(Instant::ZERO, stream).is_none() {
            assert_eq!(shaper.transmit(Instant::ZERO, &of_stream(stream)), Ok(()));
            sent += 1;
        }
        sent
    };
    // Three pass at once.
    assert_eq!((fill(7), fill(8)), (3 + 4, 4));
    // Of each half waits when half of all has passed, about.
    let until = shaper.busy_until(Instant::ZERO, 7).expect("it is busy");
    assert!((until.since(Instant::ZERO)).abs_diff(MS * 5) < MS, "{until:?}");
    shaper.poll(until, &mut |_| ());
    assert_eq!(shaper.busy_until(until, 7), None);
    play(&shaper, |_| ());
    assert!(shaper.out.as_ref().is_some_and(|out| out.lock().streams.is_empty()));
}

#[test]
fn a_link_that_limits_only_what_comes_in_lets_the_inner_one_hold_back() {
    let (_, inner) = shaper(None, Some(LIMIT));
    let mut frame = frame(1000);
    frame.tags.stream = 7;
    for _ in 0..10 {
        assert_eq!(inner.transmit(Instant::ZERO, &frame), Ok(()));
    }
    let until = inner.busy_until(Instant::ZERO, 7);
    assert!(until.is_some());
    let limits = Limits { ingress: Some(LIMIT), egress: None };
    let outer = Shaper::new(Arc::new(inner), limits);
    assert!(outer.capabilities().holds_back);
    assert_eq!(outer.busy_until(Instant::ZERO, 7), until);
}

#[test]
fn rates_and_bursts_of_any_size_harm_nothing() {
    let extremes = [1, 7, 8, u64::MAX];
    for (rate_bps, burst_bits) in extremes.iter().flat_map(|r| extremes.map(|b| (*r, b))) {
        let limit = Some(Limit { rate_bps, burst_bits });
        let (record, shaper) = shaper(limit, limit);
        for n in 0..100 {
            let _ = shaper.transmit(Instant::from_secs(n), &frame(60_000));
            shaper.filter_received(Instant::from_secs(n), frame(60_000), &mut |_| ());
            shaper.poll(Instant::from_secs(n), &mut |_| ());
            let _ = (shaper.busy_until(Instant::from_secs(n), 7), shaper.next_deadline());
        }
        assert!(!record.0.lock().is_empty(), "the first one passes a full bucket");
    }
}
