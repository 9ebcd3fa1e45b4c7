//! The platforms by name: all run the same programs, `auto` says what it took, and a stub that somebody kills ends its
//! program with the reason.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use crate::harness::{NETCELL, run, wait_until};
use crate::linux_tasks::{compiled, volume};

/// `netcell run` on a platform, whatever the tests' own is.
fn on(platform: &str, flags: &[&str], program: &[&str]) -> Command {
    let mut command = Command::new(NETCELL);
    command.args(["run", "--platform", platform]).args(flags).arg("--").args(program);
    command.current_dir("/tmp");
    command
}

#[test]
fn every_platform_runs_processes_threads_and_signals() {
    let script = "import os, signal, threading\n\
         hits = []\n\
         signal.signal(signal.SIGUSR1, lambda *_: hits.append(1))\n\
         threads = [threading.Thread(target=lambda n=n: hits.append(sum(i * 0.5 for i in range(n)))) for n in range(8)]\n\
         [t.start() for t in threads]; [t.join() for t in threads]\n\
         if os.fork() == 0: os.execv('/bin/sh', ['sh', '-c', 'kill -USR1 $PPID; exit 3'])\n\
         print(os.waitstatus_to_exitcode(os.wait()[1]), sorted(hits))";
    for platform in ["ptrace", "systrap"] {
        let output = run(&mut on(platform, &[], &["/usr/bin/python3", "-c", script]), b"");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            text,
            "3 [0, 0.0, 0.5, 1, 1.5, 3.0, 5.0, 7.5, 10.5]\n",
            "{platform}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// What `linux/calls.c` shows of its text: a site that is called often is patched, with the call at its end, and by
/// ptrace nothing is.
#[test]
fn call_sites_are_patched_by_systrap_alone() {
    let (folder, program) = compiled("calls", include_str!("linux/calls.c"));
    for (platform, text) in [("systrap", "ff 0f 05"), ("ptrace", "b8 0f 05")] {
        let flags = ["--volume", &volume(&folder)];
        let output = run(&mut on(platform, &flags, &[&program, "look"]), b"");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.lines().last(), Some(text), "{platform}: {output:?}");
    }
}

#[test]
fn auto_takes_one_that_works_and_says_which() {
    let output = run(&mut on("auto", &["--log-level", "info"], &["/bin/echo", "ran"]), b"");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.stdout, b"ran\n");
    assert!(said.contains("netcell: programs run on the systrap platform"), "{said}");
    let output = run(&mut on("kvm", &[], &["/bin/true"]), b"");
    assert!(String::from_utf8_lossy(&output.stderr).contains("auto|systrap|ptrace"));
    assert!(!output.status.success());
}

const REASON: &str = "the host process that holds the program's memory is gone";

#[test]
fn a_stub_that_is_killed_ends_its_program_alone_with_the_reason() {
    for platform in ["ptrace", "systrap"] {
        let mut sandbox = busy(platform);
        kill(busiest(&children(zygote_of(&sandbox))));
        let mut rest = String::new();
        sandbox.stdout.take().expect("piped").read_to_string(&mut rest).expect("text");
        let output = sandbox.wait_with_output().expect("its end");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(REASON), "{platform}: {said}");
        assert_eq!(rest, "137\nand on\n", "{platform}: {said}");
        assert_eq!(output.status.code(), Some(3), "{platform}: {said}");
    }
}

#[test]
fn without_its_zygote_a_sandbox_ends_with_the_reason() {
    for platform in ["ptrace", "systrap"] {
        let sandbox = busy(platform);
        kill(zygote_of(&sandbox));
        let output = sandbox.wait_with_output().expect("its end");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(REASON), "{platform}: {said}");
        assert!(!output.status.success(), "{platform}: {said}");
    }
}

/// A shell whose child uses all time that it gets and has said so.
fn busy(platform: &str) -> Child {
    let script = "sh -c 'echo up; while :; do :; done'; echo $?; sh -c 'echo and on'; exit 3";
    let mut sandbox = on(platform, &[], &["/bin/sh", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("netcell");
    let mut line = [0; 3];
    sandbox.stdout.as_mut().expect("piped").read_exact(&mut line).expect("a line");
    assert_eq!(&line, b"up\n");
    sandbox
}

fn zygote_of(sandbox: &Child) -> u32 {
    children(sandbox.id())[0]
}

fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(pid as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).expect("a process");
}

/// The process that has used a quarter of a second, once one has.
fn busiest(pids: &[u32]) -> u32 {
    let user_ticks = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        // proc_pid_stat(5): utime is field 14, and the state field 3.
        fields.split(' ').nth(11).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0)
    };
    let mut found = None;
    wait_until("a busy process", || {
        found = pids.iter().copied().find(|pid| user_ticks(*pid) >= 25);
        found.is_some()
    });
    found.expect("it was found")
}

/// The child processes of one.
fn children(of: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{of}/task")).expect("its threads");
    let lists = tasks
        .flatten()
        .map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|list| {
            list.split_whitespace().map(|pid| pid.parse().expect("a number")).collect::<Vec<_>>()
        })
        .collect()
}
