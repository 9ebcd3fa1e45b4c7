//! Urgent data as Linux treats it: the last byte of a MSG_OOB send is apart from the stream, reads stop at its
//! mark, and a later mark makes the earlier byte data again. The same steps were seen on Linux.

use super::segments::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use netstack::buffer::Chain;
use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::socket::options::SocketOption;
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{Readiness, RecvError, RecvFlags, SendFlags, Wake};
use netstack::transport::tcp::Seq;
use netstack::wire::tcp::Flags;

fn urgent(sim: &Sim, socket: &TcpSocket, mut bytes: &[u8]) {
    socket.send(sim.now(), &mut bytes, SendFlags::OOB).unwrap();
}

fn take(sim: &Sim, socket: &TcpSocket, flags: RecvFlags) -> Result<Vec<u8>, RecvError> {
    let mut bytes = Vec::new();
    socket.recv(sim.now(), &mut bytes, RecvFlags::OOB | flags).map(|_| bytes)
}

fn bytes(text: &str) -> Result<Vec<u8>, RecvError> {
    Ok(text.as_bytes().to_vec())
}

#[test]
fn reads_stop_at_the_mark_and_go_on_behind_it() {
    for family in [Family::V4, Family::V6] {
        let (mut sim, hosts) = Sim::pair(1, Faults::delay(MS));
        let (a, b) = connected(&mut sim, hosts, family, 80);
        assert_eq!(take(&sim, &b, RecvFlags::empty()), Err(RecvError::Invalid));
        send(&sim, &a, b"abc").unwrap();
        urgent(&sim, &a, b"d");
        send(&sim, &a, b"ef").unwrap();
        sim.run_for(20 * MS);
        assert_eq!(b.readiness(), Readiness::IN | Readiness::PRI | Readiness::OUT);
        assert_eq!((b.is_at_mark(), b.queued().0), (false, 3));
        assert_eq!(take(&sim, &b, RecvFlags::PEEK), bytes("d"));
        assert_eq!(recv(&sim, &b), bytes("abc"));
        assert_eq!((b.is_at_mark(), b.queued().0), (true, 0));
        assert_eq!(take(&sim, &b, RecvFlags::empty()), bytes("d"));
        assert_eq!(take(&sim, &b, RecvFlags::empty()), Err(RecvError::Invalid));
        assert_eq!(b.readiness(), Readiness::IN | Readiness::OUT);
        assert_eq!(recv(&sim, &b), bytes("ef"));
        assert_eq!((b.is_at_mark(), recv(&sim, &b)), (false, Err(RecvError::WouldBlock)));
    }
}

#[test]
fn an_urgent_byte_alone_makes_nothing_readable() {
    let (mut sim, hosts) = Sim::pair(2, Faults::delay(MS));
    let (a, b) = connected(&mut sim, hosts, Family::V4, 80);
    urgent(&sim, &a, b"x");
    sim.run_for(20 * MS);
    assert_eq!(b.readiness(), Readiness::PRI | Readiness::OUT);
    assert_eq!((b.is_at_mark(), b.queued().0), (true, 0));
    assert_eq!(recv(&sim, &b), Err(RecvError::WouldBlock));
    assert_eq!(take(&sim, &b, RecvFlags::empty()), Err(RecvError::Invalid), "read past");
}

#[test]
fn a_later_mark_makes_the_earlier_byte_data() {
    let (mut sim, hosts) = Sim::pair(3, Faults::delay(MS));
    let (a, b) = connected(&mut sim, hosts, Family::V4, 80);
    urgent(&sim, &a, b"pq");
    urgent(&sim, &a, b"rs");
    sim.run_for(20 * MS);
    assert_eq!(recv(&sim, &b), bytes("pqr"));
    assert_eq!(take(&sim, &b, RecvFlags::empty()), bytes("s"));
}

#[test]
fn inline_urgent_data_stays_in_the_stream() {
    let (mut sim, hosts) = Sim::pair(4, Faults::delay(MS));
    let (a, b) = connected(&mut sim, hosts, Family::V4, 80);
    b.set_option(sim.now(), SocketOption::OobInline(true)).unwrap();
    send(&sim, &a, b"12").unwrap();
    urgent(&sim, &a, b"34");
    send(&sim, &a, b"56").unwrap();
    sim.run_for(20 * MS);
    assert_eq!(take(&sim, &b, RecvFlags::empty()), Err(RecvError::Invalid));
    assert_eq!(recv(&sim, &b), bytes("123"));
    assert!(b.is_at_mark());
    assert_eq!(recv(&sim, &b), bytes("456"));
}

#[test]
fn every_segment_before_the_mark_points_to_it_and_goes_alone() {
    let (mut sim, hosts) = Sim::pair(5, Faults::delay(MS));
    let (a, b) = connected(&mut sim, hosts, Family::V4, 80);
    let before = sim.capture().frames().len();
    urgent(&sim, &a, &[7; 5000]);
    send(&sim, &a, &[8; 3000]).unwrap();
    sim.run_for(20 * MS);
    let mut first = None;
    for frame in sim.capture().frames().iter().skip(before) {
        let Some(seen) = read(&frame.bytes) else { continue };
        let segment = seen.segment;
        if segment.payload.is_empty() {
            continue;
        }
        let first = *first.get_or_insert(segment.seq);
        let end = first + 5000usize;
        assert_eq!(segment.flags.contains(Flags::URG), segment.seq < end);
        if segment.flags.contains(Flags::URG) {
            assert_eq!(segment.seq + usize::from(segment.urgent), end);
        }
    }
    let mut all = recv(&sim, &b).unwrap();
    assert_eq!(all.len(), 4999);
    all.extend(recv(&sim, &b).unwrap());
    assert_eq!(all, [vec![7; 4999], vec![8; 3000]].concat());
}

#[test]
fn a_mark_ahead_of_the_data_is_awaited() {
    let (mut sim, host, hand) = with_hand(6);
    let listener = listen(&sim, host, "0.0.0.0:80", 1);
    let to = at(Family::V4, 1, 80);
    let (ours, theirs, _) = hand.open(&mut sim, 4000, to, &control(Seq(99), Seq(0), Flags::SYN));
    let socket = listener.accept(sim.now()).unwrap();
    let mut announcement = data(ours, theirs, b"ab");
    announcement.flags |= Flags::URG;
    announcement.urgent = 5;
    hand.ask(&mut sim, 4000, to, &announcement);
    assert_eq!(take(&sim, &socket, RecvFlags::empty()), Err(RecvError::WouldBlock));
    assert_eq!(recv(&sim, &socket), bytes("ab"));
    let mut rest = data(ours + 2usize, theirs, b"");
    rest.payload = Chain::from(b"cd!ef".to_vec());
    hand.ask(&mut sim, 4000, to, &rest);
    assert_eq!(take(&sim, &socket, RecvFlags::empty()), bytes("!"));
    assert_eq!(recv(&sim, &socket), bytes("cd"));
    assert_eq!(recv(&sim, &socket), bytes("ef"));
}

#[derive(Default)]
struct Heard(AtomicUsize);

impl Wake for Heard {
    fn wake(&self, _: Readiness) {}

    fn urgent(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn each_new_mark_is_told_once() {
    let (mut sim, hosts) = Sim::pair(2, Faults::delay(MS));
    let (a, b) = connected(&mut sim, hosts, Family::V4, 80);
    let heard = Arc::new(Heard::default());
    b.set_waker(heard.clone());
    let mut told = |act: &dyn Fn(&Sim)| {
        act(&sim);
        sim.run_for(20 * MS);
        heard.0.swap(0, Ordering::Relaxed)
    };
    assert_eq!(told(&|sim| assert_eq!(send(sim, &a, b"abc").unwrap(), 3)), 0);
    assert_eq!(told(&|sim| urgent(sim, &a, b"d")), 1);
    assert_eq!(told(&|sim| assert_eq!(send(sim, &a, b"efg").unwrap(), 3)), 0);
    assert_eq!(told(&|sim| drop(recv(sim, &b).unwrap())), 0);
    assert_eq!(told(&|sim| urgent(sim, &a, b"h")), 1);
    // Of two marks on their way the later is the mark, and both are news.
    assert_eq!(
        told(&|sim| {
            urgent(sim, &a, b"i");
            urgent(sim, &a, b"j");
        }),
        2
    );
}
