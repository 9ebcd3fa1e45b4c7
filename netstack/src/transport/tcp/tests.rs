//! Pairs of connections over a bad link in virtual time, without any stack around them.

use super::state::{Listen, ListenDisposition};
use super::*;
use crate::buffer::Chain;
use crate::rng::{Rng, seed_from};
use crate::time::{Duration, Instant};
use crate::wire::tcp::Header;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

const LIMITS: PathLimits = PathLimits::new(1460, 16 * 1460);

/// What the link does, in parts per million, and how slow it is.
#[derive(Clone, Copy, Debug)]
struct Link {
    loss: u32,
    duplication: u32,
    reordering: u32,
    delay: Duration,
}

const CLEAN: Link =
    Link { loss: 0, duplication: 0, reordering: 0, delay: Duration::from_millis(10) };

struct End {
    connection: Option<Connection>,
    listens: bool,
    config: Arc<TcpConfig>,
    settings: Settings,
    to_send: Vec<u8>,
    sent: usize,
    received: Vec<u8>,
    reads: bool,
    closes: bool,
    closed_by_us: bool,
    resets_sent: usize,
}

impl End {
    fn new(config: TcpConfig, to_send: Vec<u8>) -> End {
        End {
            connection: None,
            listens: false,
            config: Arc::new(config),
            settings: Settings::default(),
            to_send,
            sent: 0,
            received: Vec::new(),
            reads: true,
            closes: true,
            closed_by_us: false,
            resets_sent: 0,
        }
    }

    fn work(&mut self, now: Instant) {
        let Some(connection) = &mut self.connection else { return };
        let room = connection.send_room().min(self.to_send.len() - self.sent);
        if room > 0 {
            connection.send(Chain::from(self.to_send[self.sent..self.sent + room].to_vec()));
            self.sent += room;
        }
        if self.reads && connection.readable() > 0 {
            let bytes = connection.receive_queue().to_vec();
            connection.consume(now, bytes.len());
            self.received.extend_from_slice(&bytes);
        }
        if !self.closes || self.closed_by_us || connection.is_connecting() {
            return;
        }
        if self.sent == self.to_send.len() {
            connection.shutdown_write(now);
            self.closed_by_us = true;
        }
    }
}

/// When a segment arrives, in which order, at which end, and its bytes.
type InFlight = Reverse<(Instant, u64, usize, Vec<u8>)>;
/// Says whether a segment from an end may pass.
type Filter = Box<dyn FnMut(usize, &Segment) -> bool>;

struct Pair {
    now: Instant,
    ends: [End; 2],
    wire: BinaryHeap<InFlight>,
    order: u64,
    rng: Rng,
    link: Link,
    segments: usize,
    filter: Filter,
}

impl Pair {
    fn new(seed: u64, link: Link, ends: [End; 2]) -> Pair {
        Pair {
            now: Instant::from_secs(1000),
            ends,
            wire: BinaryHeap::new(),
            order: 0,
            rng: Rng::new(&seed_from(seed), 9),
            link,
            segments: 0,
            filter: Box::new(|_, _| true),
        }
    }

    fn connect(&mut self, index: usize) {
        let end = &mut self.ends[index];
        let secrets = Secrets { iss: self.rng.next_u32(), timestamp_offset: self.rng.next_u32() };
        let (config, settings) = (end.config.clone(), end.settings.clone());
        end.connection = Some(Connection::connect(self.now, config, settings, secrets, LIMITS));
    }

    fn put(&mut self, from: usize, segment: &Segment) {
        self.segments += 1;
        if segment.rst() {
            self.ends[from].resets_sent += 1;
        }
        let mss = segment.mss.min(LIMITS.mss);
        let mut payload = segment.payload.clone();
        let mut seq = segment.seq;
        loop {
            let piece = payload.split_to(mss);
            let last = payload.is_empty();
            let mut part = Segment { seq, payload: piece, ..segment.clone() };
            part.flags.set(crate::wire::tcp::Flags::FIN, last && segment.fin());
            seq += part.payload.len();
            if (self.filter)(from, &part) {
                self.put_one(from, &part);
            }
            if last {
                return;
            }
        }
    }

    fn put_one(&mut self, from: usize, segment: &Segment) {
        let header = segment.to_header(1, 2);
        let mut bytes = vec![0; header.len()];
        header.emit(&mut bytes);
        assert!(bytes.len() + segment.payload.len() <= LIMITS.mss + 20, "{segment:?}");
        segment.payload.iter().for_each(|part| bytes.extend_from_slice(part));
        let copies = 1 + usize::from(self.rng.chance_ppm(self.link.duplication));
        for _ in 0..copies {
            if self.rng.chance_ppm(self.link.loss) {
                continue;
            }
            let mut at = self.now + self.link.delay;
            if self.rng.chance_ppm(self.link.reordering) {
                at += Duration::from_micros(self.rng.below(20_000));
            }
            self.order += 1;
            self.wire.push(Reverse((at, self.order, 1 - from, bytes.clone())));
        }
    }

    fn flush(&mut self, index: usize) {
        let mut sent = 0;
        loop {
            self.ends[index].work(self.now);
            let Some(connection) = &mut self.ends[index].connection else { return };
            let Some(segment) = connection.poll_transmit(self.now, LIMITS) else { break };
            self.put(index, &segment);
            sent += 1;
            assert!(sent < 10_000, "an endless burst");
        }
    }

    fn deliver(&mut self, index: usize, bytes: &[u8]) {
        let parsed = Header::parse(bytes).unwrap();
        let payload = Chain::from(bytes[parsed.header_len..].to_vec());
        let mut segment = Segment::from_wire(&parsed.header, payload);
        let end = &mut self.ends[index];
        let answer = match &mut end.connection {
            Some(connection) => connection.on_segment(self.now, &mut segment),
            None if end.listens => match Listen.on_segment(&segment) {
                ListenDisposition::Request => {
                    let secrets = Secrets { iss: self.rng.next_u32(), timestamp_offset: 7 };
                    end.connection = Some(Connection::from_syn(
                        self.now,
                        end.config.clone(),
                        end.settings.clone(),
                        secrets,
                        LIMITS,
                        &segment,
                    ));
                    Disposition::Accepted
                }
                ListenDisposition::SendReset(reset) => Disposition::SendReset(Box::new(reset)),
                ListenDisposition::Ignore => Disposition::Accepted,
            },
            None => match segment.answer_with_reset() {
                Some(reset) => Disposition::SendReset(Box::new(reset)),
                None => Disposition::Accepted,
            },
        };
        if let Disposition::SendReset(reset) = answer {
            self.put(index, &reset);
        }
    }

    /// Runs until nothing is due before `until`.
    fn run_until(&mut self, until: Instant) {
        for _ in 0..2_000_000 {
            self.flush(0);
            self.flush(1);
            let timers =
                self.ends.iter().filter_map(|end| end.connection.as_ref()?.next_deadline());
            let arrival = self.wire.peek().map(|Reverse(entry)| entry.0);
            let Some(next) = timers.chain(arrival).min().filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                if let Some(Reverse((_, _, index, bytes))) = self.wire.pop() {
                    self.deliver(index, &bytes);
                }
                continue;
            }
            for end in &mut self.ends {
                if let Some(connection) = &mut end.connection {
                    connection.on_timeout(self.now);
                }
            }
        }
        panic!("no end at {:?}: {:?}", self.now, self.states());
    }

    fn run_for(&mut self, seconds: u64) {
        self.run_until(self.now + Duration::from_secs(seconds));
    }

    fn states(&self) -> [Option<StateName>; 2] {
        [0, 1].map(|index| self.ends[index].connection.as_ref().map(Connection::state_name))
    }

    fn connection(&mut self, index: usize) -> &mut Connection {
        self.ends[index].connection.as_mut().expect("a connection")
    }
}

fn bytes(len: usize, salt: u8) -> Vec<u8> {
    (0..len).map(|n| (n as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] ^ salt).collect()
}

fn client_and_server(seed: u64, link: Link, up: usize, down: usize) -> Pair {
    let mut ends = [0, 1].map(|n| End::new(TcpConfig::default(), bytes([up, down][n], n as u8)));
    ends[1].listens = true;
    let mut pair = Pair::new(seed, link, ends);
    pair.connect(0);
    pair
}

fn assert_exchanged(pair: &Pair, what: &str) {
    assert!(pair.ends[0].received == pair.ends[1].to_send, "{what}: down differs");
    assert!(pair.ends[1].received == pair.ends[0].to_send, "{what}: up differs");
}

#[test]
fn a_clean_exchange_ends_in_time_wait_and_then_in_nothing() {
    let mut pair = client_and_server(1, CLEAN, 300_000, 100_000);
    pair.run_for(10);
    assert_exchanged(&pair, "clean");
    assert_eq!(pair.connection(0).info().counters.retransmissions, 0);
    let waiting = pair.states().iter().filter(|state| **state == Some(StateName::TimeWait)).count();
    assert!(waiting >= 1, "{:?}", pair.states());
    pair.run_for(120);
    assert_eq!(pair.states(), [Some(StateName::Closed); 2]);
}

#[test]
fn bytes_arrive_through_loss_reordering_and_duplication() {
    for seed in 0..150 {
        let mut rng = Rng::new(&seed_from(seed), 1);
        let link = Link {
            loss: rng.below(100_000) as u32,
            duplication: rng.below(50_000) as u32,
            reordering: rng.below(300_000) as u32,
            delay: Duration::from_micros(rng.below(30_000)),
        };
        let (up, down) = (rng.below(60_000) as usize, rng.below(60_000) as usize);
        let mut pair = client_and_server(seed, link, up, down);
        if seed % 3 == 0 {
            Arc::make_mut(&mut pair.ends[1].config).sack = false;
        }
        if seed % 5 == 0 {
            Arc::make_mut(&mut pair.ends[1].config).timestamps = false;
        }
        pair.run_for(3600);
        assert_exchanged(&pair, &format!("seed {seed} {link:?}"));
        assert_eq!(pair.states(), [Some(StateName::Closed); 2], "seed {seed}");
    }
}

#[test]
fn recovery_at_five_percent_loss_rarely_needs_the_timeout() {
    let link = Link { loss: 50_000, ..CLEAN };
    let mut pair = client_and_server(5, link, 2_000_000, 0);
    let start = pair.now;
    while pair.ends[1].received.len() < 2_000_000 {
        pair.run_until(pair.now + Duration::from_millis(50));
    }
    let info = pair.connection(0).info();
    let took = pair.now.since(start);
    assert!(info.counters.timeouts <= 3, "{info:?}");
    assert!(took < Duration::from_secs(12), "{took:?}");
    // Little more is sent again than was lost.
    let share = info.counters.bytes_retransmitted as f64 / info.counters.bytes_sent as f64;
    assert!(share < 0.075, "{share} {info:?}");
}

#[test]
fn both_may_open_at_once() {
    let ends = [0, 1].map(|n| End::new(TcpConfig::default(), bytes(5000, n)));
    let mut pair = Pair::new(3, CLEAN, ends);
    pair.connect(0);
    pair.connect(1);
    pair.run_for(10);
    assert_exchanged(&pair, "simultaneous open");
    pair.run_for(200);
    assert_eq!(pair.states(), [Some(StateName::Closed); 2]);
}

#[test]
fn both_may_close_at_once() {
    let mut pair = client_and_server(4, CLEAN, 100, 100);
    pair.ends.iter_mut().for_each(|end| end.closes = false);
    pair.run_for(1);
    let now = pair.now;
    pair.connection(0).shutdown_write(now);
    pair.connection(1).shutdown_write(now);
    pair.run_until(now + Duration::from_millis(15));
    assert_eq!(pair.states(), [Some(StateName::Closing); 2]);
    pair.run_for(1);
    assert_eq!(pair.states(), [Some(StateName::TimeWait); 2]);
}

#[test]
fn one_direction_may_end_while_the_other_flows() {
    let mut pair = client_and_server(6, CLEAN, 10, 500_000);
    pair.ends[1].closes = false;
    pair.run_for(5);
    assert_exchanged(&pair, "half-closed");
    assert_eq!(pair.states(), [Some(StateName::FinWait2), Some(StateName::CloseWait)]);
    let now = pair.now;
    pair.connection(1).shutdown_write(now);
    pair.run_for(1);
    assert_eq!(pair.states(), [Some(StateName::TimeWait), Some(StateName::Closed)]);
}

#[test]
fn a_closed_window_is_probed_until_the_program_reads() {
    let mut pair = client_and_server(7, CLEAN, 9_000_000, 0);
    pair.ends[1].reads = false;
    pair.run_for(10);
    let before = pair.segments;
    pair.run_for(300);
    let (info, probes) = (pair.connection(0).info(), pair.segments - before);
    assert_eq!((info.send_window, info.probes), (0, 0));
    assert!(info.unsent > 0 && (4..20).contains(&probes), "{probes} {info:?}");
    assert!(pair.connection(1).readable() > 100_000);
    pair.ends[1].reads = true;
    pair.run_for(200);
    assert_exchanged(&pair, "after the stall");
}

#[test]
fn a_lost_syn_is_sent_again_after_one_second() {
    let mut pair = client_and_server(8, CLEAN, 1, 1);
    let mut syns = 0;
    pair.filter = Box::new(move |_, segment| {
        syns += usize::from(segment.syn() && segment.acknowledges().is_none());
        syns > 2 || !segment.syn()
    });
    let start = pair.now;
    pair.run_until(start + Duration::from_millis(1900));
    assert_eq!(pair.states(), [Some(StateName::SynSent), None]);
    pair.run_until(start + Duration::from_millis(2100));
    assert!(pair.states()[1].is_some());
}

#[test]
fn a_silent_host_times_a_connect_out_and_a_refusal_fails_it_at_once() {
    let mut pair = client_and_server(9, CLEAN, 1, 1);
    pair.filter = Box::new(|_, _| false);
    let start = pair.now;
    pair.run_for(300);
    assert_eq!(pair.connection(0).error(), Some(Error::TimedOut));
    // Five times 1, 2, 4, … 64 seconds, as on Linux.
    assert_eq!(pair.segments, 11);
    assert!(pair.now.since(start) > Duration::from_secs(131));
    let mut refused = client_and_server(9, CLEAN, 1, 1);
    refused.ends[1].listens = false;
    refused.run_for(1);
    assert_eq!(refused.connection(0).error(), Some(Error::Refused));
}

#[test]
fn a_reset_in_order_ends_and_one_merely_in_the_window_is_challenged() {
    let mut pair = client_and_server(10, CLEAN, 0, 0);
    pair.ends.iter_mut().for_each(|end| end.closes = false);
    pair.run_for(1);
    let next = pair.connection(1).send_next();
    let now = pair.now;
    let reset = |seq| Segment::control(seq, Seq(0), crate::wire::tcp::Flags::RST);
    let blind = pair.connection(0).on_segment(now, &mut reset(next + 1000));
    assert!(matches!(blind, Disposition::Ignored(DropReason::Challenged(_))), "{blind:?}");
    assert!(pair.connection(0).poll_transmit(now, LIMITS).is_some());
    let again = pair.connection(0).on_segment(now, &mut reset(next + 2000));
    assert!(matches!(again, Disposition::Ignored(_)));
    assert!(pair.connection(0).poll_transmit(now, LIMITS).is_none(), "challenges are limited");
    assert!(matches!(pair.connection(0).on_segment(now, &mut reset(next)), Disposition::Ended));
    assert_eq!(pair.connection(0).error(), Some(Error::Reset));
}

#[test]
fn closing_with_unread_data_resets_the_peer() {
    let mut pair = client_and_server(11, CLEAN, 1000, 0);
    pair.ends[1].reads = false;
    pair.ends[0].closes = false;
    pair.ends[1].closes = false;
    pair.run_for(1);
    let now = pair.now;
    pair.connection(1).close(now);
    pair.run_for(1);
    assert_eq!(pair.states(), [Some(StateName::Closed); 2]);
    assert_eq!(pair.connection(0).error(), Some(Error::Reset));
}

#[test]
fn keepalive_finds_a_dead_peer() {
    let mut pair = client_and_server(12, CLEAN, 10, 10);
    pair.ends.iter_mut().for_each(|end| end.closes = false);
    pair.ends[0].settings.keep_alive = true;
    pair.connect(0);
    pair.run_for(3600 * 5);
    assert_eq!(pair.states(), [Some(StateName::Established); 2]);
    pair.filter = Box::new(|_, _| false);
    pair.run_for(7200 + 75 * 10);
    assert_eq!(pair.connection(0).error(), Some(Error::TimedOut));
    assert_eq!(pair.ends[0].resets_sent, 1);
}

#[test]
fn a_user_timeout_ends_a_stalled_transfer() {
    let mut pair = client_and_server(13, CLEAN, 10, 0);
    pair.ends[0].settings.user_timeout = Some(Duration::from_secs(5));
    pair.ends.iter_mut().for_each(|end| end.closes = false);
    pair.connect(0);
    pair.run_for(1);
    pair.filter = Box::new(|_, _| false);
    pair.ends[0].to_send.extend_from_slice(&[1; 100]);
    pair.run_for(4);
    assert_eq!(pair.states()[0], Some(StateName::Established));
    pair.run_for(3);
    assert_eq!(pair.connection(0).error(), Some(Error::TimedOut));
}

#[test]
fn nagle_joins_small_writes_and_nodelay_does_not() {
    let count = |no_delay: bool| {
        let mut pair = client_and_server(14, CLEAN, 0, 0);
        pair.ends[0].settings.no_delay = no_delay;
        pair.ends.iter_mut().for_each(|end| end.closes = false);
        pair.connect(0);
        pair.run_for(1);
        let before = pair.segments;
        for _ in 0..10 {
            pair.ends[0].to_send.push(1);
            pair.flush(0);
        }
        let sent = pair.segments - before;
        pair.run_for(1);
        assert_eq!(pair.ends[1].received.len(), 10);
        sent
    };
    assert_eq!((count(false), count(true)), (1, 10));
}

#[test]
fn an_orphan_in_fin_wait_2_does_not_live_forever() {
    let mut pair = client_and_server(15, CLEAN, 10, 0);
    pair.ends.iter_mut().for_each(|end| end.closes = false);
    pair.run_for(1);
    let now = pair.now;
    pair.connection(0).close(now);
    pair.run_for(30);
    assert_eq!(pair.states(), [Some(StateName::FinWait2), Some(StateName::CloseWait)]);
    pair.run_for(40);
    assert_eq!(pair.states()[0], Some(StateName::Closed));
}

#[test]
fn a_smaller_path_makes_smaller_segments() {
    let mut pair = client_and_server(16, CLEAN, 0, 0);
    pair.ends.iter_mut().for_each(|end| end.closes = false);
    pair.run_for(1);
    let small = PathLimits::new(1000, 0);
    let now = pair.now;
    pair.connection(0).send(Chain::from(vec![7; 10_000]));
    let first = pair.connection(0).poll_transmit(now, LIMITS).unwrap();
    assert!(first.payload.len() > 1460);
    let seq = first.seq;
    pair.connection(0).on_report(seq, Report::PacketTooBig { mss: 1000 });
    let again = pair.connection(0).poll_transmit(now, small).unwrap();
    assert_eq!((again.seq, again.payload.len(), again.mss), (seq, 988, 988));
}
#[test]
fn a_short_path_with_losses_does_not_wait_for_timers() {
    let delay = Duration::from_micros(50);
    let link = Link { loss: 50_000, duplication: 20_000, reordering: 50_000, delay };
    let mut pair = client_and_server(5, link, 8_000_000, 0);
    let start = pair.now;
    while pair.ends[1].received.len() < 8_000_000 {
        pair.run_until(pair.now + Duration::from_millis(10));
    }
    let (took, info) = (pair.now.since(start), pair.connection(0).info());
    assert!(info.counters.timeouts + info.counters.loss_probes <= 10, "{info:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(info.min_rtt, delay * 2);
}

#[test]
fn a_connection_at_rest_is_small() {
    assert!(size_of::<Connection>() <= 1392, "{} bytes", size_of::<Connection>());
}
