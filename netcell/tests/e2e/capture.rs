//! The capture file: tshark opens it without complaint, and what it shows agrees with the stack's own counters.

use std::path::Path;

use pcap_tests::capture::Reader;
use pcap_tests::flows::{Kind, Summary};

use crate::harness::{Namespace, Scratch, run, sh};
use crate::network::{big_file, counting_server, nginx};

fn fetch(flags: &[&str], mebibytes: u32) -> (Scratch, String) {
    let (mut namespace, folder) = (Namespace::new(), Scratch::new());
    let hash = big_file(&folder, "big", mebibytes);
    nginx(&mut namespace, &folder);
    counting_server(&mut namespace, &folder);
    let file = folder.file("t.pcapng");
    let mut all = vec!["--log-level", "debug", "--capture", &file];
    all.extend(flags);
    let script = "curl -gsS --fail http://10.9.0.1/big | sha256sum; curl -gsS --fail http://[fd09::1]/big | sha256sum; \
        head -c 3000000 /dev/zero >/dev/tcp/10.9.0.1/47000; echo refused >/dev/udp/10.9.0.1/9; echo refused >/dev/udp/fd09::1/9; \
        ping -q -W 1 -c 1 10.9.0.1 >/dev/null; ping -6 -q -W 1 -c 1 -s 4000 fd09::1 >/dev/null; true";
    let output = run(&mut namespace.netcell(&all, &["/bin/bash", "-c", script]), b"");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(out.matches(&hash).count(), 2, "{out}");
    (folder, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A counter of the stack as netcell tells it at the end (`--log-level debug`); one that is 0 is not told.
fn counter(log: &str, group: &str, name: &str) -> u64 {
    let line = format!("counter {group} {name} ");
    let value = log.lines().find_map(|l| l.split(&line).nth(1));
    value.map_or(0, |value| value.trim().parse().expect("a number"))
}

fn summed_up(file: &str) -> Summary {
    let mut reader = Reader::open(Path::new(file)).expect("a capture");
    let (summary, error) = Summary::of(&mut reader);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(reader.skipped(), []);
    summary
}

fn tshark_complaints(file: &str) -> String {
    let checks = "-o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE -o udp.check_checksum:TRUE";
    // Where it has no device to do it, Linux writes the sum 0 as 0xffff into TCP too (skb_checksum_help).
    let hosts = "tcp.checksum == 0xffff && (ip.src == 10.9.0.1 || ipv6.src == fd09::1)";
    let filter = format!(
        "_ws.malformed || ip.checksum.status == 0 || (tcp.checksum.status == 0 && !({hosts})) || udp.checksum.status == 0 || icmp.checksum.status == 0 || icmpv6.checksum.status == 0"
    );
    sh(&format!(
        "tshark -r {file} {checks} -Y '{filter}' 2>/dev/null >{file}.bad; head -5 {file}.bad"
    ))
}

#[test]
fn a_capture_has_no_malformed_frame_and_no_bad_checksum() {
    let (folder, _) = fetch(&[], 5);
    let file = folder.file("t.pcapng");
    let frames: u64 =
        sh(&format!("tshark -r {file} 2>/dev/null | wc -l")).trim().parse().expect("a count");
    assert!(frames > 100, "{frames} frames");
    assert_eq!(tshark_complaints(&file), "");
    let summary = summed_up(&file);
    assert_eq!(summary.frames, frames);
    assert_eq!(summary.faults, []);
    assert_eq!(summary.anomalies.count(Kind::BadChecksum), 0);
}

#[test]
fn the_captures_segments_and_retransmissions_agree_with_the_stacks_counters() {
    let (folder, log) = fetch(&["--fault", "loss=2%,seed=3"], 5);
    let file = folder.file("t.pcapng");
    assert_eq!(tshark_complaints(&file), "");
    let summary = summed_up(&file);
    let ours = ["10.9.0.2", "fd09::2"].map(|a| a.parse().expect("an address"));
    let retransmitted: u64 = ours.iter().map(|a| summary.retransmissions_from(*a)).sum();
    let sent: u64 = ours.iter().map(|a| summary.segments_from(*a)).sum();
    // OutSegs leaves out what was only retransmitted (RFC 1213).
    assert!(sent > 100, "{sent} segments were sent");
    assert!(retransmitted > 10, "{retransmitted} segments were sent again");
    assert_eq!(counter(&log, "Tcp", "RetransSegs"), retransmitted);
    assert_eq!(counter(&log, "Tcp", "OutSegs"), sent - retransmitted);
    assert_eq!(counter(&log, "Tcp", "InErrs"), 0);
}
