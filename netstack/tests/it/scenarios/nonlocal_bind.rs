//! `ip_nonlocal_bind`: sockets are bound to addresses that this host does not have (yet), in each family by its own setting.

use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::Sim;

#[test]
fn a_setting_lets_sockets_take_any_address() {
    let (sim, [host, _]) = Sim::pair(51, Faults::default());
    let stack = sim.stack(host);
    let binds = |at: &str| {
        let at: core::net::SocketAddr = at.parse().unwrap();
        let family = Family::of(at.ip());
        let (stream, message) = (stack.tcp_socket(family), stack.udp_socket(family));
        let answers = (stream.bind(at).is_ok(), message.bind(at).is_ok());
        assert_eq!(answers.0, answers.1);
        answers.0
    };
    let both = || (binds("192.0.2.5:7"), binds("[fd77::5]:7"));
    assert_eq!(both(), (false, false));
    stack.edit_ip_conf(|conf| conf.ip_nonlocal_bind = true);
    assert_eq!(both(), (true, false));
    stack.edit_ip_conf(|conf| (conf.ip_nonlocal_bind, conf.ip6_nonlocal_bind) = (false, true));
    assert_eq!(both(), (false, true));
}
