//! The tools of net-tools, which speak ioctl(2) and read /proc/net: ifconfig, route, arp.

use super::{Twin, on_tap, plain, same};

#[track_caller]
fn compare(script: &str) {
    let script = format!(
        "t() {{ echo \"== $*\"; \"$@\" 2>&1 | grep -v 'RX packets\\|TX packets'; echo \"status ${{PIPESTATUS[0]}}\"; }}\n{script}"
    );
    let twin = Twin::new();
    same(&plain(&twin.run(&script)), &plain(&on_tap(&script)));
}

#[test]
fn ifconfig_shows_and_changes_interfaces() {
    compare(
        "t ifconfig lo; t ifconfig -a -s | cut -c1-12; t ifconfig eth0 | grep -v inet6; t ifconfig nope
         t ifconfig eth0 mtu 1400; t ifconfig eth0 10.8.0.1 netmask 255.255.0.0 broadcast 10.8.255.255; t ifconfig eth0 | grep -v inet6; t ip -4 addr show dev eth0
         t ifconfig eth0:1 10.7.0.1 netmask 255.255.255.0; t ifconfig eth0:1; t ip -4 addr show dev eth0
         t ifconfig eth0 down; t ip link show dev eth0; t ifconfig eth0 up; t ip link show dev eth0; t ifconfig eth0 mtu 20",
    );
}

#[test]
fn netstat_shows_groups_and_interfaces() {
    // The group of the link-local address is of the device; counters are of the moment.
    compare(
        "t netstat -gn | sed 's/ff02::1:ff00:2/OWN/; s/ff02::1:ff.*/SOLICITED/'; t netstat -gn4; t netstat -i | awk '{print $1, $2, $NF}'; t netstat -ai | awk '{print $1, $2, $NF}'; t netstat -nr; t netstat -nr6 | grep -v 'fe80\\|ff00\\| lo$' | awk '{print $1, $2, $3, $4, $NF}'",
    );
}

#[test]
fn route_shows_and_changes_routes() {
    compare(
        "t route -n; t route add -net 10.77.0.0 netmask 255.255.0.0 gw 10.9.0.9 metric 3; t route add -host 10.66.0.1 dev eth0
         t route add -net 10.88.0.0/16 reject; t route add -net 10.77.0.0 netmask 255.255.0.0 gw 10.9.0.9 metric 3; t route -n; t netstat -rn; t ip route
         t route del -net 10.77.0.0 netmask 255.255.0.0; t route del -net 10.77.0.0 netmask 255.255.0.0; t route del -host 10.66.0.1; t route -n
         t route add default gw 9.9.9.9",
    );
}

#[test]
fn arp_shows_and_changes_neighbours() {
    compare(
        "t arp -n -a | grep -v 10.9.0.1; t arp -s 10.9.0.77 02:00:00:00:00:77; t arp -n 10.9.0.77; t arp -n -a | grep 77; cat /proc/net/arp | grep 77
         t arp -d 10.9.0.77; t arp -d 10.9.0.78; t ip neigh show to 10.9.0.77",
    );
}
