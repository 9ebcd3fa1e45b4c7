//! The capture file: tshark opens it without complaint, and what it shows agrees with the stack's own counters.

use std::path::Path;

use pcap_tests::capture::Reader;
use pcap_tests::flows::{Kind, Summary};

use std::process::{Command, Stdio};

use crate::harness::{NETCELL, Namespace, Running, Scratch, netcell, run, sh, wait_until};
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

/// A command of netcell about running sandboxes: what it prints, on both streams, and its status.
fn ours(args: &[&str]) -> (String, i32) {
    let output = run(Command::new(NETCELL).args(args), b"");
    let told = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&told).into_owned(), output.status.code().unwrap_or(-1))
}

/// A sandbox that sends a datagram and calls in vain, again and again.
fn talker(namespace: &Namespace, root: &str) -> Running {
    let script = "trap exit INT; while true; do echo x >/dev/udp/10.9.0.1/9; echo y >/dev/tcp/10.9.0.1/10; echo z >/dev/udp/127.0.0.1/9; \
        sleep 0.02; done 2>/dev/null";
    let flags = ["--root", root, "--id", "talker"];
    let mut command = namespace.netcell(&flags, &["/bin/bash", "-c", script]);
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = Running::new(quiet.spawn().expect("netcell"));
    wait_until("a sandbox that is listed", || {
        ours(&["list", "-q", "--root", root]).0 == "talker\n"
    });
    child
}

#[test]
fn a_running_sandbox_is_captured_with_direction_and_process() {
    let (namespace, folder) = (Namespace::new(), Scratch::new());
    let root = folder.file("run");
    let _sandbox = talker(&namespace, &root);
    let file = folder.file("some.pcapng");
    let (told, status) = ours(&["capture", "--root", &root, "talker", "-c", "40", "-w", &file]);
    assert_eq!((told.as_str(), status), ("netcell: 40 frames captured\n", 0));
    let fields = "-e frame.interface_name -e frame.packet_flags_direction -e frame.comment -e udp.dstport -e tcp.dstport";
    let rows = sh(&format!("tshark -r {file} -T fields {fields} 2>/dev/null"));
    let rows: Vec<Vec<&str>> = rows.lines().map(|row| row.split('\t').collect()).collect();
    assert_eq!(rows.len(), 40);
    let ours_of = |port: &str| -> Vec<&Vec<&str>> {
        rows.iter().filter(|row| row[3].starts_with(port) || row[4] == port).collect()
    };
    for port in ["9", "10"] {
        let sent: Vec<_> = ours_of(port).into_iter().filter(|row| row[1] == "0x00000002").collect();
        assert!(!sent.is_empty(), "nothing was sent to port {port}: {rows:?}");
        for row in sent {
            assert_eq!((row[0], row[2]), ("eth0", "pid 1 (bash)"), "{row:?}");
        }
    }
    // What answers a call belongs to who called.
    assert!(rows.iter().any(|row| row[1] == "0x00000001" && row[2] == "pid 1 (bash)"), "{rows:?}");
    let statistics = sh(&format!("capinfos -c {file}"));
    assert!(statistics.contains("40"), "{statistics}");
    let (lo, _) = ours(&["capture", "--root", &root, "talker", "-i", "lo", "-c", "2", "-w", &file]);
    assert_eq!(lo, "netcell: 2 frames captured\n");
    assert_eq!(
        sh(&format!("tshark -r {file} -T fields -e ip.dst 2>/dev/null | cut -d, -f1 | sort -u"))
            .trim(),
        "127.0.0.1"
    );
}

#[test]
fn a_capture_ends_with_a_signal_and_with_its_sandbox() {
    let (namespace, folder) = (Namespace::new(), Scratch::new());
    let root = folder.file("run");
    let sandbox = talker(&namespace, &root);
    let capture = |file: &str| {
        let mut command = Command::new(NETCELL);
        command.args(["capture", "--root", &root, "talker", "-w", file]);
        Running::new(command.stderr(Stdio::piped()).spawn().expect("netcell"))
    };
    let has_frames = |file: &str| std::fs::metadata(file).is_ok_and(|file| file.len() > 1000);
    for (name, whom) in [("signal", None), ("end", Some(&sandbox))] {
        let file = folder.file(name);
        let running = capture(&file);
        wait_until("frames in the capture", || has_frames(&file));
        sh(&format!("kill -INT {}", whom.map_or(running.id(), |sandbox| sandbox.id())));
        if whom.is_some() {
            wait_until("the end of the sandbox", || {
                ours(&["list", "-q", "--root", &root]).0.is_empty()
            });
        }
        let output = crate::harness::finish(running.release());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && told.contains("frames captured"), "{name}: {told}");
        assert_eq!(summed_up(&file).faults, []);
        assert_eq!(tshark_complaints(&file), "");
    }
}

#[test]
fn names_of_sandboxes_are_one_of_a_kind_and_free_again_after_a_kill() {
    let (namespace, folder) = (Namespace::new(), Scratch::new());
    let root = folder.file("run");
    let mut sandbox = talker(&namespace, &root);
    let again =
        |id: &str| ["run", "--root", &root, "--id", id, "--", "/bin/true"].map(str::to_owned);
    let run_again = |id: &str| {
        let args = again(id);
        ours(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (told, status) = run_again("talker");
    assert!(told.contains("runs already") && status == 125, "{told}");
    let (told, status) = run_again("../x");
    assert!(told.contains("no name of a sandbox") && status == 125, "{told}");
    for (args, why) in
        [(["nobody", "-w"], "netcell list"), (["../run/talker", "-w"], "netcell list")]
    {
        let file = folder.file("none");
        let (told, status) = ours(&["capture", "--root", &root, args[0], args[1], &file]);
        assert!(told.contains(why) && status == 125, "{told}");
    }
    let file = folder.file("none");
    let (told, status) = ours(&["capture", "--root", &root, "talker", "-i", "eth7", "-w", &file]);
    assert!(told.contains("no interface \"eth7\"") && status == 125, "{told}");
    // ip netns exec becomes netcell itself.
    sandbox.kill().expect("to end it");
    sandbox.wait().expect("its end");
    assert_eq!(ours(&["list", "-q", "--root", &root]), (String::new(), 0));
    assert_eq!(run_again("talker"), (String::new(), 0));
    let left = std::fs::read_dir(&root).expect("the folder").count();
    assert_eq!(left, 0, "a folder was left");
    let unlisted = run(&mut netcell(&["--root", "/proc/nowhere"], &["/bin/true"]), b"");
    assert!(unlisted.status.success(), "{}", String::from_utf8_lossy(&unlisted.stderr));
}
