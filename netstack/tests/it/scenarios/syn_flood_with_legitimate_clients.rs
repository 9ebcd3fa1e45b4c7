//! A hundred thousand SYNs from invented addresses do not keep anybody out, and leave nothing behind (RFC 4987).

use super::segments::*;
use netstack::ip::Family;
use netstack::ip::Route;
use netstack::link::fault::Faults;
use netstack::rng::{Rng, seed_from};
use netstack::sim::Sim;
use netstack::transport::Host;
use netstack::transport::tcp::{Seq, StateName};
use netstack::wire::tcp::{Flags, Timestamps};
use std::net::SocketAddr;

const BACKLOG: usize = 128;
const SPOOFED: usize = 100_000;
const CLIENTS: usize = 50;

#[test]
fn every_legitimate_client_connects_and_transfers() {
    let seed = 11;
    println!("seed {seed}");
    let mut sim = Sim::new(seed);
    let segment = sim.add_segment(Faults::delay(MS));
    let [server, client] = [sim.add_host(), sim.add_host()];
    let nic = sim.attach(server, segment, 1500, &Sim::pair_addresses(1));
    sim.attach(client, segment, 1500, &Sim::pair_addresses(2));
    let gateway = Hand::join(&mut sim, segment, 2, 9);
    let default = Route::new("0.0.0.0/0".parse().unwrap(), Some(gateway.addr(0).ip()), nic);
    sim.stack(server).add_route(default).unwrap();
    let listener = listen(&sim, server, "0.0.0.0:80", BACKLOG);
    let to = at(Family::V4, 1, 80);
    let mut rng = Rng::new(&seed_from(seed), 0);
    let mut clients = Vec::new();
    let mut served = Vec::new();
    let mut received = 0;
    let mut most = 0;
    for n in 0..SPOOFED {
        let address = [198, 18, rng.next_u32() as u8, rng.next_u32() as u8];
        let from = SocketAddr::from((address, rng.next_u32() as u16 | 1));
        let mut syn = control(Seq(rng.next_u32()), Seq(0), Flags::SYN);
        syn.options.mss = Some(1460);
        syn.options.timestamps = Some(Timestamps { value: rng.next_u32(), echo: 0 });
        let macs = (Sim::mac_of(segment, 2), Sim::mac_of(segment, 0));
        sim.inject(segment, 2, frame(macs, from, to, &syn));
        if n % (SPOOFED / CLIENTS) == 0 {
            clients.push((connect(&sim, client, to), false));
        }
        if n % 200 == 0 {
            sim.run_for(4 * MS);
            gateway.heard();
            sim.forget_capture();
        }
        for (socket, sent) in &mut clients {
            if !*sent && socket.state() == StateName::Established {
                *sent = send(&sim, socket, &[7; 10_000]) == Ok(10_000);
            }
        }
        while let Ok(socket) = listener.accept(sim.now()) {
            served.push(socket);
        }
        served.iter().for_each(|socket| received += recv(&sim, socket).map_or(0, |b| b.len()));
        most = most.max(sim.stack(server).shared().tcp.requests.len());
    }
    sim.run_for(5 * SEC);
    while let Ok(socket) = listener.accept(sim.now()) {
        served.push(socket);
    }
    served.iter().for_each(|socket| received += recv(&sim, socket).map_or(0, |b| b.len()));
    assert_eq!((served.len(), received), (CLIENTS, CLIENTS * 10_000));
    // Nothing but the backlog's worth of small entries was ever held for the flood.
    assert_eq!(most, BACKLOG + 1);
    let (endpoints, _) = sim.stack(server).usage();
    assert!(endpoints <= CLIENTS + BACKLOG + 2, "{endpoints}");
    assert!(ext(&sim, server, "SyncookiesSent") > SPOOFED as u64 / 2);
    assert_eq!(ext(&sim, server, "TCPReqQFullDoCookies"), ext(&sim, server, "SyncookiesSent"));
    assert!(ext(&sim, server, "SyncookiesRecv") > 0);
    // All repeats of SYN-ACKs fail: after a minute and some there is no request left.
    sim.run_for(130 * SEC);
    assert_eq!(sim.stack(server).shared().tcp.requests.len(), 0);
}

#[test]
fn without_cookies_the_flood_keeps_strangers_out_and_stays_bounded() {
    let (mut sim, host, hand) = with_hand(3);
    configure(&sim, host, |config| {
        config.syncookies = netstack::transport::tcp::SynCookies::Off;
    });
    let _listener = listen(&sim, host, "0.0.0.0:80", BACKLOG);
    let to = at(Family::V4, 1, 80);
    for port in 1..1000 {
        hand.send(port, to, &control(Seq(5), Seq(0), Flags::SYN));
    }
    sim.run_for(20 * MS);
    assert_eq!(sim.stack(host).shared().tcp.requests.len(), BACKLOG + 1);
    assert_eq!(ext(&sim, host, "TCPReqQFullDrop"), 998 - BACKLOG as u64);
    assert_eq!(ext(&sim, host, "ListenDrops"), 998 - BACKLOG as u64);
}
