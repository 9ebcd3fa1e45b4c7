//! A lone segment is acknowledged after 40 ms, every second full one at once; an answer carries the acknowledgment,
//! and the peer's FIN waits for the program's, as on Linux.

use super::segments::*;
use netstack::ip::Family;
use netstack::sim::Sim;
use netstack::socket::How;
use netstack::socket::options::TcpOption;
use netstack::socket::tcp::TcpSocket;
use netstack::time::Duration;
use netstack::transport::tcp::Seq;
use netstack::wire::tcp::Flags;

/// A connection past its quick start: (socket, our next number, the stack's).
fn settled(sim: &mut Sim, host: netstack::sim::HostId, hand: &Hand) -> (TcpSocket, Seq, Seq) {
    let listener = listen(sim, host, "0.0.0.0:80", 1);
    let to = at(Family::V4, 1, 80);
    let (mut ours, theirs, _) = hand.open(sim, 4000, to, &control(Seq(99), Seq(0), Flags::SYN));
    let socket = listener.accept(sim.now()).unwrap();
    for round in 0.. {
        assert!(round < 100, "the quick start does not end");
        let answers = hand.ask(sim, 4000, to, &data(ours, theirs, &[1; 536]));
        ours += 536;
        recv(sim, &socket).unwrap();
        sim.run_for(100 * MS);
        if answers.is_empty() {
            return (socket, ours, theirs);
        }
        // The program does not read before it was asked whether the segment alone was acknowledged.
    }
    unreachable!("the loop returns")
}

/// How long until the next segment comes.
fn wait(sim: &mut Sim, hand: &Hand) -> (Duration, Vec<netstack::transport::tcp::Segment>) {
    let since = sim.now();
    for _ in 0..1000 {
        sim.run_for(MS);
        let heard = hand.heard();
        if !heard.is_empty() {
            return (sim.now().since(since), heard);
        }
    }
    panic!("nothing came within a second");
}

#[test]
fn one_segment_waits_40_ms_and_the_second_does_not() {
    let (mut sim, host, hand) = with_hand(1);
    let (_socket, ours, theirs) = settled(&mut sim, host, &hand);
    let to = at(Family::V4, 1, 80);
    hand.heard();
    hand.send(4000, to, &data(ours, theirs, &[1; 536]));
    let (time, heard) = wait(&mut sim, &hand);
    assert!((40 * MS..=50 * MS).contains(&time), "{time:?}");
    assert_eq!((heard.len(), heard[0].ack), (1, ours + 536usize));
    hand.send(4000, to, &data(ours + 536usize, theirs, &[1; 536]));
    hand.send(4000, to, &data(ours + 1072usize, theirs, &[1; 536]));
    let (time, heard) = wait(&mut sim, &hand);
    assert!(time <= 3 * MS, "{time:?}");
    assert_eq!((heard.len(), heard[0].ack), (1, ours + 1608usize));
    let delayed = ext(&sim, host, "DelayedACKs");
    assert!(delayed > 0);
}

#[test]
fn an_answer_carries_the_acknowledgment() {
    let (mut sim, host, hand) = with_hand(2);
    let (socket, mut ours, mut theirs) = settled(&mut sim, host, &hand);
    let to = at(Family::V4, 1, 80);
    for round in 0..5 {
        hand.heard();
        hand.send(4000, to, &data(ours, theirs, b"question"));
        ours += 8;
        sim.run_for(5 * MS);
        assert_eq!(recv(&sim, &socket).unwrap(), b"question");
        send(&sim, &socket, b"answer").unwrap();
        sim.run_for(15 * MS);
        let heard = hand.heard();
        // Before the first answer nobody knows that there will be one: the read acknowledges.
        assert_eq!(heard.len(), if round == 0 { 2 } else { 1 });
        let last = heard.last().unwrap();
        assert_eq!((last.ack, last.payload.len()), (ours, 6));
        theirs += 6;
        hand.ask(&mut sim, 4000, to, &control(ours, theirs, Flags::ACK));
    }
}

#[test]
fn quickack_takes_the_delay_away_and_gives_it_back() {
    let (mut sim, host, hand) = with_hand(3);
    let (socket, ours, theirs) = settled(&mut sim, host, &hand);
    let to = at(Family::V4, 1, 80);
    hand.heard();
    hand.send(4000, to, &data(ours, theirs, b"x"));
    sim.run_for(5 * MS);
    recv(&sim, &socket).unwrap();
    socket.set_option(sim.now(), TcpOption::QuickAck(false)).unwrap();
    sim.run_for(5 * MS);
    hand.heard();
    hand.send(4000, to, &data(ours + 1usize, theirs, b"y"));
    sim.run_for(5 * MS);
    recv(&sim, &socket).unwrap();
    sim.run_for(5 * MS);
    assert!(hand.heard().is_empty(), "a reader that answers lets it wait");
    socket.set_option(sim.now(), TcpOption::QuickAck(true)).unwrap();
    sim.run_for(5 * MS);
    let heard = hand.heard();
    assert_eq!((heard.len(), heard[0].ack), (1, ours + 2usize));
}

#[test]
fn a_fin_waits_for_the_answer_of_the_program() {
    let (mut sim, host, hand) = with_hand(4);
    let (socket, ours, theirs) = settled(&mut sim, host, &hand);
    let to = at(Family::V4, 1, 80);
    hand.heard();
    hand.send(4000, to, &control(ours, theirs, Flags::ACK | Flags::FIN));
    sim.run_for(10 * MS);
    assert!(hand.heard().is_empty());
    socket.shutdown(sim.now(), How::Write).unwrap();
    sim.run_for(5 * MS);
    let heard = hand.heard();
    assert_eq!(heard.len(), 1, "one segment acknowledges and ends");
    assert!(heard[0].fin() && heard[0].ack == ours + 1usize);
}

#[test]
fn a_fin_before_any_data_waits_for_a_tick_only() {
    let to = at(Family::V4, 1, 80);
    for (payload, most) in [(&b""[..], 6), (b"x", 42)] {
        let (mut sim, host, hand) = with_hand(4);
        let listener = listen(&sim, host, "0.0.0.0:80", 1);
        let syn = control(Seq(99), Seq(0), Flags::SYN);
        let (ours, theirs, _) = hand.open(&mut sim, 4000, to, &syn);
        let _socket = listener.accept(sim.now()).unwrap();
        let mut last = data(ours, theirs, payload);
        last.flags |= Flags::FIN;
        hand.send(4000, to, &last);
        let (time, heard) = wait(&mut sim, &hand);
        assert_eq!(heard[0].ack, ours + 1usize + payload.len());
        assert!(time >= MS * (most - 2) && time <= MS * most, "{payload:?}: {time:?}");
    }
}

#[test]
fn a_gap_is_told_at_once_and_so_is_its_end() {
    let (mut sim, host, hand) = with_hand(5);
    let (_socket, ours, theirs) = settled(&mut sim, host, &hand);
    let to = at(Family::V4, 1, 80);
    let beyond = hand.ask(&mut sim, 4000, to, &data(ours + 10usize, theirs, b"later"));
    assert_eq!((beyond.len(), beyond[0].ack), (1, ours));
    let filled = hand.ask(&mut sim, 4000, to, &data(ours, theirs, &[1; 10]));
    assert_eq!((filled.len(), filled[0].ack), (1, ours + 15usize));
}
