//! One direction ends and the other goes on (RFC 9293 section 3.6): the half-closed end still receives, in both families.

use super::segments::*;
use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::socket::{How, Readiness, SendError};
use netstack::transport::tcp::StateName;

#[test]
fn the_other_direction_goes_on() {
    for family in [Family::V4, Family::V6] {
        let (mut sim, hosts) = Sim::pair(1, Faults::delay(MS));
        let (client, server) = connected(&mut sim, hosts, family, 80);
        send(&sim, &client, b"question").unwrap();
        client.shutdown(sim.now(), How::Write).unwrap();
        // The acknowledgment of the FIN waits for data of the server's to ride on.
        sim.run_for(50 * MS);
        assert_eq!((client.state(), server.state()), (StateName::FinWait2, StateName::CloseWait));
        assert_eq!(send(&sim, &client, b"more"), Err(SendError::Shutdown));
        assert_eq!(recv(&sim, &server).unwrap(), b"question");
        assert_eq!(recv(&sim, &server).unwrap(), b"");
        assert!(server.readiness().contains(Readiness::RDHUP | Readiness::OUT));
        assert!(!server.readiness().contains(Readiness::HUP));
        // The rest may take long: a half-closed connection that a program holds has no time-out.
        sim.run_for(200 * SEC);
        for _ in 0..10 {
            send(&sim, &server, &[5; 20_000]).unwrap();
            sim.run_for(50 * MS);
            let mut got = 0;
            while let Ok(bytes) = recv(&sim, &client) {
                got += bytes.len();
            }
            assert_eq!(got, 20_000);
        }
        server.close(sim.now());
        sim.run_for(20 * MS);
        assert_eq!(recv(&sim, &client).unwrap(), b"");
        assert_eq!((client.state(), ext(&sim, hosts[0], "TW")), (StateName::Closed, 1));
        client.close(sim.now());
        sim.run_for(70 * SEC);
        for host in hosts {
            assert_eq!(sim.stack(host).usage(), (0, 0));
        }
    }
}
