//! The network tools of Debian, unchanged, in a sandbox and on the host in a namespace of the same shape: what they print is compared.

mod counters;
mod ip;
mod legacy;
mod reach;
mod rules;
mod settings;
mod ss;

use std::process::{Output, Stdio};

use crate::harness::{Namespace, Running, Scratch, host, netcell, run, sh, unique};

/// A namespace of the host that is shaped as a sandbox on a TAP device is: `eth0` is number 2, with the same addresses and
/// routes, and its other end is in a namespace of its own with 10.9.0.1 and fd09::1.
pub struct Twin {
    name: String,
    far: String,
}

impl Twin {
    pub fn new() -> Self {
        let twin = Self { name: unique("tw"), far: unique("tf") };
        let (near, far) = (&twin.name, &twin.far);
        sh(&format!(
            "ip netns add {near}; ip netns add {far}; ip -n {near} link set lo up; ip -n {far} link set lo up
             ip -n {near} link add eth0 index 2 type veth peer name p0 netns {far}
             ip -n {far} addr add 10.9.0.1/24 dev p0; ip -n {far} addr add fd09::1/64 dev p0 nodad; ip -n {far} link set p0 up
             ip -n {near} addr add 10.9.0.2/24 dev eth0; ip -n {near} addr add fd09::2/64 dev eth0 nodad
             ip netns exec {near} sysctl -qw net.ipv6.conf.eth0.accept_dad=0 net.ipv6.conf.eth0.router_solicitations=0
             ip -n {near} link set eth0 up
             ip -n {near} route add default via 10.9.0.1; ip -n {near} route add default via fd09::1
             until ip -n {near} link show dev eth0 | grep -q 'state UP'; do sleep 0.02; done"
        ));
        twin
    }

    /// Runs a script in it.
    pub fn run(&self, script: &str) -> String {
        let folder = Scratch::new();
        let program = ["/usr/sbin/ip", "netns", "exec", &self.name, "/bin/bash", "-c", script];
        text(&run(&mut host(&program, folder.path()), b""))
    }

    /// The same while servers run at the other end.
    pub fn with_servers(&self, servers: &[&str], script: &str) -> String {
        let start = |server: &&str| {
            let mut command = std::process::Command::new("ip");
            command.args(["netns", "exec", &self.far, "/bin/bash", "-c", server]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            Running::new(command.spawn().expect("a server"))
        };
        let _running: Vec<_> = servers.iter().map(start).collect();
        self.run(script)
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        for name in [&self.name, &self.far] {
            let _ = std::process::Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// Standard output of a script, which sends there what it wants to be compared of errors.
fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a script in a sandbox on a TAP device.
pub fn on_tap(script: &str) -> String {
    let namespace = Namespace::new();
    text(&run(&mut namespace.netcell(&[], &["/bin/bash", "-c", script]), b""))
}

/// Runs a script over loopback alone: on the host in a namespace of its own, and in a sandbox.
pub fn on_loopback(script: &str) -> (String, String) {
    let namespace = Namespace::new();
    let on_host = text(&run(&mut namespace.command(&["/bin/bash", "-c", script]), b""));
    let flags = ["--workdir", "/tmp", "--env", "HOME=/tmp"];
    let inside = text(&run(&mut netcell(&flags, &["/bin/bash", "-c", script]), b""));
    (on_host, inside)
}

/// Replaces what a predicate takes for a token of one kind by a word.
fn replace_tokens(line: &str, is: impl Fn(&str) -> bool, by: &str) -> String {
    let mut out = String::new();
    let mut token = String::new();
    let flush = |token: &mut String, out: &mut String| {
        out.push_str(if is(token) { by } else { token });
        token.clear();
    };
    for c in line.chars() {
        if c.is_alphanumeric() || matches!(c, ':' | '.' | '_' | '-' | '@' | '/') {
            token.push(c);
        } else {
            flush(&mut token, &mut out);
            out.push(c);
        }
    }
    flush(&mut token, &mut out);
    out
}

/// Whether a token is a link-layer address other than all zeros or all ones.
fn is_mac(token: &str) -> bool {
    let parts: Vec<_> = token.split(':').collect();
    let hex = |part: &&str| part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit());
    parts.len() == 6
        && parts.iter().all(hex)
        && !matches!(token, "00:00:00:00:00:00" | "ff:ff:ff:ff:ff:ff")
}

/// Takes out what truly differs between two machines: link-layer addresses and what is made of them, the other end of a veth.
pub fn plain(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let line = replace_tokens(line, is_mac, "MAC");
        let line = replace_tokens(&line, |token| token.starts_with("fe80::"), "LINKLOCAL");
        let mut line = line.replace("eth0@if2", "eth0");
        if let Some(at) = line.find(" link-netns") {
            line.truncate(at);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Compares line by line, so that a failure shows where.
#[track_caller]
pub fn same(on_host: &str, inside: &str) {
    if on_host == inside {
        return;
    }
    let (mut a, mut b) = (on_host.lines(), inside.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (a.next(), b.next()) {
            (Some(x), Some(y)) if x == y => {}
            (None, None) => break,
            (x, y) => panic!(
                "line {number} differs\nLinux:   {x:?}\nsandbox: {y:?}\n--- Linux\n{on_host}\n--- sandbox\n{inside}"
            ),
        }
    }
}
