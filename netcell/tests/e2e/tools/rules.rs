//! Rules by protocol, ports, user, mark, type of service and interface, in front of sockets of every kind: what each may reach under
//! which rule, and what `ip route get` says of it, as on Linux.

use super::reach;

const PROGRAM: &str = include_str!("flows.py");

#[test]
fn rules_see_the_flow_of_every_socket() {
    let script = format!(
        "cat > /tmp/flows.py <<'END'\n{PROGRAM}\nEND\n/usr/bin/python3 /tmp/flows.py 2>&1; rm -f /tmp/flows.py"
    );
    let servers = ["exec socat TCP6-LISTEN:8080,fork,reuseaddr,ipv6only=0 SYSTEM:'cat'"];
    reach::compare(&servers, &format!("until nc -z 10.9.0.1 8080; do sleep 0.05; done\n{script}"));
}
