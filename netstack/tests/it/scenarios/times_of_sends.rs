//! When a message left its host and when a stream's bytes were acknowledged is told in the error queue to who asks (Linux's
//! SO_TIMESTAMPING): the moment is that of the link, not that of the call.

use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::{HostId, Sim};
use netstack::socket::error_queue::{Progress, Stamp};
use netstack::socket::options::Stamping;
use netstack::socket::{Ancillary, Report, SocketOption};
use netstack::time::{Duration, Instant};

use super::lan::{ms, send, udp};

fn stamp(report: Option<Report>) -> Option<Stamp> {
    match report? {
        Report::Stamped(stamp) => Some(stamp),
        other => panic!("{other:?}"),
    }
}

fn far(seed: u64) -> (Sim, [HostId; 2]) {
    Sim::pair(seed, Faults::delay(ms(10)))
}

#[test]
fn a_datagram_leaves_when_its_neighbour_is_known() {
    let (mut sim, [a, b]) = far(64);
    let _server = udp(&sim, b, "0.0.0.0:7");
    let socket = udp(&sim, a, "0.0.0.0:5");
    let all = Stamping::SCHEDULED | Stamping::SENT | Stamping::NUMBERED;
    socket.set_option(sim.now(), SocketOption::Stamping(all).into()).unwrap();
    let asked = sim.now();
    send(&sim, &socket, "10.0.0.2:7", b"hello").unwrap();
    assert_eq!(socket.recv_report(), None, "ARP has asked, and the answer takes 20 ms");
    sim.run_for(ms(100));
    for progress in [Progress::Scheduled, Progress::Sent] {
        let told = stamp(socket.recv_report()).unwrap();
        assert_eq!((told.progress, told.id, told.at), (progress, 0, asked + ms(20)));
        let packet = told.packet.unwrap();
        // The whole frame: Ethernet, IPv4, UDP, five bytes.
        assert_eq!((packet.bytes.len(), &packet.bytes[42..]), (47, &b"hello"[..]));
    }
    let quiet = Ancillary { stamping: Some(Stamping::empty()), ..Ancillary::default() };
    let to = Some("10.0.0.2:7".parse().unwrap());
    socket.send_to(sim.now(), &mut &b"quiet"[..], to, &quiet).unwrap();
    assert_eq!(socket.recv_report(), None);
    let own = Ancillary { stamp_id: Some(77), ..Ancillary::default() };
    socket.send_to(sim.now(), &mut &b"own"[..], to, &own).unwrap();
    assert_eq!(stamp(socket.recv_report()).map(|told| told.id), Some(77));
    let times = Stamping::SENT | Stamping::NUMBERED | Stamping::TIME_ONLY;
    socket.set_option(sim.now(), SocketOption::Stamping(times).into()).unwrap();
    stamp(socket.recv_report()).unwrap();
    send(&sim, &socket, "10.0.0.2:7", b"again").unwrap();
    let told = stamp(socket.recv_report()).unwrap();
    assert_eq!(
        (told.progress, told.id, told.at, told.packet),
        (Progress::Sent, 1, sim.now(), None)
    );
}

#[test]
fn a_stream_tells_when_its_bytes_were_sent_and_acknowledged() {
    let (mut sim, [a, b]) = far(65);
    let listener = sim.stack(b).tcp_socket(Family::V4);
    listener.bind("0.0.0.0:80".parse().unwrap()).unwrap();
    listener.listen(4).unwrap();
    let client = sim.stack(a).tcp_socket(Family::V4);
    let numbered = SocketOption::Stamping(Stamping::ACKNOWLEDGED | Stamping::NUMBERED);
    assert!(client.set_option(sim.now(), numbered).is_err(), "there is nothing to number yet");
    client.connect(sim.now(), "10.0.0.2:80".parse().unwrap()).unwrap();
    sim.run_for(ms(200));
    let times = Stamping::SENT | Stamping::ACKNOWLEDGED | Stamping::NUMBERED;
    client.set_option(sim.now(), SocketOption::Stamping(times)).unwrap();
    let mut say = |bytes: usize| -> (Instant, Vec<(Progress, u32, Duration)>) {
        let now = sim.now();
        client.send(now, &mut &vec![1; bytes][..], Default::default()).unwrap();
        client.note_written(now, None, None);
        sim.run_for(Duration::from_secs(1));
        let told = core::iter::from_fn(|| stamp(client.recv_report()));
        (now, told.map(|told| (told.progress, told.id, told.at.since(now))).collect())
    };
    let (_, told) = say(100);
    assert_eq!(told[0], (Progress::Sent, 99, Duration::ZERO));
    let (progress, id, after) = told[1];
    assert_eq!((progress, id, told.len()), (Progress::Acknowledged, 99, 2));
    assert!(
        (ms(20)..ms(80)).contains(&after),
        "a round trip, and a delayed acknowledgment: {after:?}"
    );
    // More than the window takes at once: the last byte leaves later than the first.
    let (_, told) = say(60_000);
    assert_eq!((told[0].0, told[0].1), (Progress::Sent, 60_099));
    assert!(told[0].2 >= ms(20), "{told:?}");
    assert!(told[1].2 > told[0].2);
}
