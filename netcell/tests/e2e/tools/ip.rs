//! `ip` of iproute2: what it shows, what it changes, and what it is told when it may not.

use super::{Twin, on_tap, plain, same};

#[track_caller]
fn compare(script: &str) {
    // Each command with its status, so that errors line up.
    let script = format!("t() {{ echo \"== $*\"; \"$@\" 2>&1; echo \"status $?\"; }}\n{script}");
    let twin = Twin::new();
    same(&plain(&twin.run(&script)), &plain(&on_tap(&script)));
}

#[test]
fn ip_shows_links_addresses_routes_and_rules_as_on_linux() {
    compare(
        "t ip link; t ip link show dev lo; t ip link show nope
         t ip -4 addr; t ip -6 addr show dev lo; t ip -6 addr show dev eth0 scope global
         t ip route; t ip -6 route show dev eth0; t ip route show table local; t ip route show table 99; t ip -6 route show table 99
         t ip route show default; t ip route show 10.9.0.0/24; t ip route show dev eth0; t ip route show proto kernel
         t ip rule; t ip -6 rule; t ip -j rule; t ip netconf show dev eth0; t ip -6 netconf show dev lo; t ip addrlabel",
    );
}

#[test]
fn ip_route_get_finds_the_way_that_linux_finds() {
    compare(
        "t ip route get 10.9.0.1; t ip route get 8.8.8.8; t ip route get 10.9.0.2; t ip route get 127.0.0.1; t ip route get 10.9.0.255
         t ip route get 224.0.0.1; t ip route get 8.8.8.8 mark 5; t ip route get 8.8.8.8 uid 7; t ip route get fibmatch 10.9.0.7
         t ip route get to 8.8.8.8 from 10.9.0.2; t ip route get 8.8.8.8 ipproto udp sport 5 dport 6
         t ip -6 route get fd09::1; t ip -6 route get fd88::1; t ip -6 route get ::1; t ip -6 route get fd09::2
         t ip -j route get 8.8.8.8",
    );
}

#[test]
fn ip_changes_addresses_and_their_routes_follow() {
    compare(
        "t ip addr add 10.8.0.1/16 dev eth0; t ip route show table local dev eth0; t ip addr add 10.8.0.2/16 dev eth0; t ip addr add 10.8.0.1/16 dev eth0
         t ip addr add 10.7.0.1/24 broadcast + dev eth0 label eth0:x; t ip addr add 10.6.0.1 peer 10.6.0.2/32 dev eth0
         t ip -4 addr show dev eth0; t ip route
         t ip addr del 10.8.0.1/16 dev eth0; t ip addr del 10.5.0.1/16 dev eth0; t ip addr del 10.7.0.1/24 dev eth0
         t ip addr add 10.4.0.1/24 dev nope; t ip addr add 300.1.1.1/24 dev eth0; t ip addr add 10.4.0.1/24 dev eth0 valid_lft 0
         t ip addr add fd08::1/64 dev eth0 nodad; t ip addr add fd08::1/64 dev eth0 nodad; t ip -6 addr show dev eth0 scope global
         t ip -6 route show dev eth0 proto kernel; t ip addr del fd08::1/64 dev eth0; t ip addr del fd08::1/64 dev eth0
         t ip -4 addr show dev eth0; t ip route",
    );
}

#[test]
fn ip_changes_routes_of_every_kind() {
    compare(
        "t ip route add 10.77.0.0/16 via 10.9.0.9 metric 7; t ip route add 10.77.0.0/16 via 10.9.0.9 metric 7
         t ip route add blackhole 10.78.0.0/16; t ip route add unreachable 10.79.0.0/16; t ip route add prohibit 10.80.0.0/16
         t ip route add throw 10.81.0.0/16 table 100; t ip route add default via 10.9.0.7 table 100
         t ip route add 10.82.0.0/16 dev eth0 scope link src 10.9.0.2 mtu 1300 advmss 1200
         t ip route add 10.83.0.0/16 nexthop via 10.9.0.5 weight 2 nexthop via 10.9.0.6
         t ip route replace 10.82.0.0/16 via 10.9.0.4; t ip route change 10.99.0.0/16 via 10.9.0.4; t ip route append 10.77.0.0/16 via 10.9.0.8 metric 7
         t ip route; t ip route show table 100; t ip route show table all type blackhole
         t ip route get 10.78.0.1; t ip route get 10.79.0.1; t ip route get 10.80.0.1; t ip route get 10.77.1.1; t ip route get 10.82.1.1
         t ip route add 1.2.3.4 via 9.9.9.9; t ip route add 1.2.3.4 dev nope; t ip route add 10.77.0.1/16 via 10.9.0.9
         t ip route del 10.77.0.0/16 via 10.9.0.8; t ip route del 10.77.0.0/16; t ip route del 10.77.0.0/16; t ip route flush table 100; t ip route
         t ip -6 route add fd77::/64 via fd09::9; t ip -6 route add unreachable fd78::/64; t ip -6 route add fd79::/64 dev eth0 metric 5
         t ip -6 route add fd77::/64 via fd09::9; t ip -6 route get fd77::1; t ip -6 route get fd78::1; t ip -6 route show
         t ip -6 route del fd77::/64; t ip -6 route del fd77::/64",
    );
}

#[test]
fn ip_rules_choose_tables() {
    compare(
        "t ip route add default via 10.9.0.7 table 100
         t ip rule add fwmark 3 table 100; t ip rule add from 10.9.0.2 to 10.0.0.0/8 iif lo tos 0x10 table 101 prio 50
         t ip rule add ipproto tcp dport 80-90 table 102 prio 60; t ip rule add uidrange 5-9 table 103 prio 70; t ip rule add not fwmark 9/0xff prohibit prio 80
         t ip rule add goto 32766 prio 90; t ip rule add goto 5000 prio 91; t ip rule add table main suppress_prefixlength 0 prio 92
         t ip rule add fwmark 3 table 100 prio 50; t ip rule add fwmark 3 table 100 prio 50
         t ip rule; t ip route get 8.8.8.8 mark 3; t ip route get 8.8.8.8 mark 9
         t ip rule del prio 50; t ip rule del prio 7; t ip rule del fwmark 3; t ip rule del prio 60; t ip rule; t ip rule add prio 5 goto 3",
    );
}

#[test]
fn ip_changes_neighbours_and_links() {
    compare(
        "t ip neigh add 10.9.0.77 lladdr 02:00:00:00:00:77 dev eth0; t ip neigh add 10.9.0.77 lladdr 02:00:00:00:00:77 dev eth0
         t ip neigh add fd09::77 lladdr 02:00:00:00:00:78 nud permanent dev eth0; t ip neigh add proxy 10.9.0.99 dev eth0
         t ip neigh show to 10.9.0.77; t ip -6 neigh show to fd09::77; t ip neigh show proxy; t ip neigh get 10.9.0.77 dev eth0
         t ip neigh del 10.9.0.77 dev eth0; t ip neigh del 10.9.0.78 dev eth0; t ip neigh del proxy 10.9.0.99 dev eth0; t ip neigh show to 10.9.0.77; t ip neigh show proxy
         t ip link set eth0 mtu 1400; t ip link set eth0 mtu 20; t ip link set nope up; t ip link show dev eth0
         t ip link set eth0 down; t ip link show dev eth0; t ip route; t ip route get 8.8.8.8; t ip -6 addr show dev eth0
         t ip link set eth0 up; t ip route; t ip -4 addr show dev eth0; t ip link add type nosuchkind",
    );
}

#[test]
fn ip_shows_and_changes_what_devices_listen_to() {
    // Sorted, as Linux tells the addresses in the order in which they came; that of the link-local address is of the device.
    compare(
        "m() { echo \"== $*\"; \"$@\" 2>&1 | sed 's/:/-/g; s/33-33-ff-00-00-02/OWN/; s/33-33-ff-.*/SOLICITED/; s/3333ff000002/OWN/; s/3333ff.*/SOLICITED/; s/ff02--1-ff00-2/OWN/; s/ff02--1-ff.*/SOLICITED/' | sort; }
         m ip maddr; m ip maddr show dev eth0; m ip maddr show dev lo; m ip -4 maddr; m ip -6 maddr show dev lo; m ip -j maddr show dev lo
         t ip maddr add 33:33:00:00:00:77 dev eth0; t ip maddr add 33:33:00:00:00:77 dev eth0; t ip maddr add 01:00:5e:00:00:01 dev eth0; m ip maddr show dev eth0; m cat /proc/net/dev_mcast
         t ip maddr del 33:33:00:00:00:77 dev eth0; t ip maddr del 33:33:00:00:00:77 dev eth0; t ip maddr del 01:00:5e:00:00:01 dev eth0; m ip maddr show dev eth0
         t ip maddr add 01:00:5e:00:00:05 dev nope; t ip maddr add 01:00:5e:00:00:05 dev lo; t ip maddr add 33:33 dev eth0",
    );
}

#[test]
fn ip_token_sets_the_identifier_of_addresses() {
    compare(
        "c() { cat /proc/sys/net/ipv6/conf/eth0/addr_gen_mode; }
         t ip token; t ip token set ::5 dev lo; sysctl -qw net.ipv6.conf.eth0.router_solicitations=0; t ip token set ::5 dev eth0
         sysctl -qw net.ipv6.conf.eth0.router_solicitations=1; t ip token set ::5 dev eth0; t ip token; t ip token list; t ip token get dev eth0; t ip token del dev eth0; t ip token
         sysctl -qw net.ipv6.conf.eth0.accept_ra=0; t ip token set ::5 dev eth0; t ip token set ::5 dev nope
         t ip link set eth0 addrgenmode none; c; t ip link set eth0 addrgenmode stable_secret; c; t ip link set eth0 addrgenmode random; c; t ip link set eth0 addrgenmode eui64; c
         t ip -6 -o addr show dev lo; t ip -6 route show cache; t ip route show cache; t ip route list cache",
    );
}

#[test]
fn ip_monitor_hears_what_changes() {
    let script = "ip monitor link address route rule > /tmp/heard & m=$!
         # The monitor listens once it has its groups.
         until grep -q \" $m  *[0-9a-f]*[1-9a-f][0-9a-f]* \" /proc/net/netlink; do sleep 0.05; done
         ip addr add 10.8.0.1/16 dev eth0; ip route add 10.77.0.0/16 via 10.9.0.9; ip rule add prio 50 table 100
         ip rule del prio 50; ip route del 10.77.0.0/16; ip addr del 10.8.0.1/16 dev eth0; ip link set eth0 mtu 1400
         until grep -q 'mtu 1400' /tmp/heard; do sleep 0.05; done
         kill $m; wait $m 2>/dev/null; cat /tmp/heard; rm /tmp/heard";
    let twin = Twin::new();
    let sorted = |text: String| {
        // Linux tells of an address after its routes or before, as locks fall; both tell the same. What the other end of the
        // veth makes the kernel say of link-local addresses is of the moment.
        let mut lines: Vec<_> = text
            .lines()
            .map(str::trim_end)
            .filter(|l| {
                !["mtu", "link/", "LINKLOCAL", "ff00::/8", "valid_lft"]
                    .iter()
                    .any(|w| l.contains(w))
            })
            .collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    same(&sorted(plain(&twin.run(script))), &sorted(plain(&on_tap(script))));
}

#[test]
fn ip_shows_details_and_statistics_of_links() {
    // Of eth0 what is not the device's own: its kind, queues and largest train.
    compare(
        "t ip -d link show lo; t ip -j -d link show lo; ip -j -d link show eth0 | python3 -c 'import json, sys; link = json.load(sys.stdin)[0]; print([link.get(name) for name in (\"promiscuity\", \"allmulti\", \"min_mtu\", \"max_mtu\", \"inet6_addr_gen_mode\", \"gro_max_size\")])'
         ip -s -s link | sed '/link.ether/d; s/  *[0-9][0-9]*/ N/g; s/@if2//; s/mtu.*//'; t ip -6 route show table local dev eth0; t ip nexthop; t bridge link; t tc class show dev eth0
         t tc filter show dev eth0; t ip mroute; t ip tunnel; t ip route flush cache",
    );
}
