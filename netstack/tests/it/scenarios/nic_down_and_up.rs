//! An interface that goes down takes its routes, its neighbours and its IPv6 addresses with it, and coming up brings back
//! what belongs to its IPv4 addresses; a connection waits and goes on, as on Linux.

use netstack::ip::{Family, IpError, IpOutput, Route, RouteQuery};
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::socket::{Readiness, SendFlags};
use netstack::stack::NicState;
use netstack::time::Duration;

use super::lan::{cidr, ip, ms};

#[test]
fn nic_down_and_up() {
    let (mut sim, [a, b]) = Sim::pair(18, Faults::delay(ms(1)));
    let listener = sim.stack(b).tcp_socket(Family::V4);
    listener.bind("10.0.0.2:80".parse().unwrap()).unwrap();
    listener.listen(5).unwrap();
    let client = sim.stack(a).tcp_socket(Family::V4);
    client.connect(sim.now(), "10.0.0.2:80".parse().unwrap()).unwrap();
    sim.run_for(ms(100));
    let server = listener.accept(sim.now()).unwrap();
    let stack = sim.stack(a).clone();
    let nic = stack.nics()[1].id;
    let default = Route::new(cidr("0.0.0.0/0"), Some(ip("10.0.0.2")), nic);
    stack.add_route(default).unwrap();
    assert!(!stack.neighbours().is_empty());
    stack.set_nic_state(nic, NicState::Down).unwrap();
    assert!(stack.neighbours().is_empty());
    assert!(!stack.routes().iter().any(|route| route.uses(nic)));
    let own = |v4: bool| {
        stack.addresses().iter().filter(|(id, own)| *id == nic && own.ip().is_ipv4() == v4).count()
    };
    assert_eq!((own(true), own(false)), (1, 0));
    let route = |to: &str| stack.route(sim.now(), &RouteQuery::to(ip(to))).map(|info| info.nic);
    assert_eq!(route("10.0.0.2"), Err(IpError::NetworkUnreachable));
    assert_eq!(client.send(sim.now(), &mut &b"patience"[..], SendFlags::empty()).unwrap(), 8);
    sim.run_for(ms(700));
    assert!(!server.readiness().contains(Readiness::IN));
    stack.set_nic_state(nic, NicState::Up).unwrap();
    // The administrator's default route does not come back; the link's own does.
    let route = |to: &str| stack.route(sim.now(), &RouteQuery::to(ip(to))).map(|info| info.nic);
    assert_eq!(route("10.0.0.2"), Ok(nic));
    assert_eq!(route("192.0.2.1"), Err(IpError::NetworkUnreachable));
    let limit = sim.now() + Duration::from_secs(20);
    assert!(
        sim.run_until(limit, |_| server.readiness().contains(Readiness::IN)),
        "the connection goes on"
    );
    sim.run_for(Duration::from_secs(3));
    assert_eq!(own(false), 1, "a link-local address is there again");
}
