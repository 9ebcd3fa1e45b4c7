//! A middlebox drops SYNs with data: the SYN is repeated without, the data follows the handshake, and the client tries
//! no more for a while (RFC 7413 section 4.1.3).

use super::segments::*;
use netstack::ip::Family;
use netstack::socket::SendFlags;
use netstack::transport::tcp::{Seq, StateName};
use netstack::wire::tcp::{FastOpenCookie, Flags};

#[test]
fn the_repeated_syn_is_plain_and_the_data_arrives() {
    let (mut sim, host, hand) = with_hand(1);
    let cookie = FastOpenCookie::new(&[5; 8]).unwrap();
    let fast = |sim: &mut netstack::sim::Sim, drops: bool, gives: bool| {
        let socket = sim.stack(host).tcp_socket(Family::V4);
        let mut bytes = &b"question"[..];
        let _ = socket.fast_open(sim.now(), &mut bytes, hand.addr(80), SendFlags::empty());
        sim.run_for(20 * MS);
        let mut syn = hand.heard().pop().expect("a SYN");
        let first = syn.clone();
        if drops {
            sim.run_for(SEC + 10 * MS);
            syn = hand.heard().pop().expect("the SYN again");
            assert!(syn.payload.is_empty() && syn.options.fast_open.is_none());
        }
        let mut answer = control(Seq(1000), syn.seq + 1, Flags::SYN | Flags::ACK);
        answer.options.mss = Some(1460);
        answer.options.fast_open = gives.then_some(cookie);
        let local = socket.local_addr();
        let heard = hand.ask(sim, 80, local, &answer);
        assert_eq!(socket.state(), StateName::Established);
        let data: Vec<u8> = heard.iter().flat_map(|segment| segment.payload.to_vec()).collect();
        socket.close(sim.now());
        sim.run_for(20 * MS);
        hand.send(80, local, &control(Seq(1001), Seq(0), Flags::RST));
        sim.run_for(20 * MS);
        hand.heard();
        (first, data)
    };
    let (asks, _) = fast(&mut sim, false, true);
    assert!(asks.options.fast_open.is_some_and(|cookie| cookie.is_request()));
    for _ in 0..2 {
        let (syn, data) = fast(&mut sim, true, false);
        assert_eq!(
            (syn.options.fast_open, syn.payload.to_vec()),
            (Some(cookie), b"question".to_vec())
        );
        assert_eq!(data, b"question");
    }
    assert_eq!(ext(&sim, host, "TCPFastOpenActiveFail"), 2);
    // Twice dropped: now it asks for a cookie instead, and data waits.
    let (syn, _) = fast(&mut sim, false, false);
    assert!(syn.payload.is_empty(), "{syn:?}");
}

#[test]
fn three_timeouts_pause_fast_open_where_the_pause_is_set() {
    let (mut sim, host, hand) = with_hand(2);
    configure(&sim, host, |config| config.fast_open_blackhole = 3600 * SEC);
    let fast = |sim: &mut netstack::sim::Sim| {
        hand.heard();
        let socket = sim.stack(host).tcp_socket(Family::V4);
        let mut bytes = &b"question"[..];
        let _ = socket.fast_open(sim.now(), &mut bytes, hand.addr(80), SendFlags::empty());
        sim.run_for(5 * SEC);
        hand.heard().first().expect("a SYN").options.fast_open
    };
    assert!(fast(&mut sim).is_some());
    assert_eq!(ext(&sim, host, "TCPFastOpenBlackhole"), 1);
    assert!(fast(&mut sim).is_none());
    sim.run_for(3601 * SEC);
    assert!(fast(&mut sim).is_some());
}
