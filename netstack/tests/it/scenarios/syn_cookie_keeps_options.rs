//! A connection that comes back in a SYN cookie has the segment size, window scale and SACK of its SYN (RFC 4987
//! section 3.6, with the options in the timestamp); without timestamps only the segment size.

use super::segments::*;
use netstack::ip::Family;
use netstack::sim::Sim;
use netstack::transport::tcp::{Seq, SynCookies};
use netstack::wire::tcp::{Flags, Options, Timestamps};

#[test]
fn options_come_back_through_the_timestamp() {
    for (stamps, scale, sack) in
        [(true, Some(7), true), (true, None, false), (true, Some(0), true), (false, Some(7), true)]
    {
        let (mut sim, host, hand) = with_hand(1);
        configure(&sim, host, |config| config.syncookies = SynCookies::Always);
        let listener = listen(&sim, host, "0.0.0.0:80", 8);
        let to = at(Family::V4, 1, 80);
        let mut syn = control(Seq(500), Seq(0), Flags::SYN);
        syn.options = Options {
            mss: Some(1350),
            window_scale: scale,
            sack_permitted: sack,
            timestamps: stamps.then_some(Timestamps { value: 77, echo: 0 }),
            ..Options::default()
        };
        let (ours, theirs, syn_ack) = hand.open(&mut sim, 4000, to, &syn);
        // Without timestamps nothing is promised that would be forgotten.
        assert_eq!(syn_ack.options.sack_permitted, stamps && sack);
        assert_eq!(syn_ack.options.window_scale.is_some(), stamps && scale.is_some());
        let socket = listener.accept(sim.now()).expect("a connection");
        let info = socket.info().expect("TCP_INFO");
        assert_eq!((info.sack, info.timestamps), (stamps && sack, stamps));
        assert_eq!(info.send_shift, if stamps { scale.unwrap_or(0) } else { 0 });
        // The table has 1300; timestamps take twelve bytes of each segment.
        assert_eq!(info.mss, if stamps { 1288 } else { 1300 });
        assert_eq!(ext(&sim, host, "SyncookiesRecv"), 1);
        // Bytes go both ways.
        let mut question = data(ours, theirs, b"question");
        if stamps {
            question = stamped(question, 90, 0);
        }
        hand.ask(&mut sim, 4000, to, &question);
        assert_eq!(recv(&sim, &socket).unwrap(), b"question");
        send(&sim, &socket, b"answer").unwrap();
        sim.run_for(20 * MS);
        assert!(hand.heard().iter().any(|segment| segment.payload.to_vec() == b"answer"));
    }
}

#[test]
fn a_cookie_of_another_flow_or_of_long_ago_is_refused() {
    let (mut sim, host, hand) = with_hand(2);
    configure(&sim, host, |config| config.syncookies = SynCookies::Always);
    let listener = listen(&sim, host, "0.0.0.0:80", 8);
    let to = at(Family::V4, 1, 80);
    let cookie_for = |sim: &mut Sim, port| {
        let answers = hand.ask(sim, port, to, &control(Seq(500), Seq(0), Flags::SYN));
        answers[0].seq
    };
    let cookie = cookie_for(&mut sim, 4000);
    let stolen = hand.ask(&mut sim, 4001, to, &control(Seq(501), cookie + 1, Flags::ACK));
    assert!(stolen[0].rst());
    assert_eq!(ext(&sim, host, "SyncookiesFailed"), 1);
    sim.run_for(110 * SEC);
    cookie_for(&mut sim, 4002);
    sim.run_for(20 * SEC);
    let late = hand.ask(&mut sim, 4000, to, &control(Seq(501), cookie + 1, Flags::ACK));
    assert!(late[0].rst());
    assert!(listener.accept(sim.now()).is_err());
}
