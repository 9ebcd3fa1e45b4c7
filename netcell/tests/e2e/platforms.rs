//! The platforms by name: all run the same programs, `auto` says what it took, and a stub that somebody kills ends its
//! sandbox with the reason.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::harness::{NETCELL, run};

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

#[test]
fn a_stub_that_is_killed_ends_its_sandbox_with_the_reason() {
    for platform in ["ptrace", "systrap"] {
        let mut sandbox = on(platform, &[], &["/bin/sh", "-c", "echo up; while :; do :; done"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("netcell");
        let mut line = String::new();
        BufReader::new(sandbox.stdout.as_mut().expect("piped"))
            .read_line(&mut line)
            .expect("a line");
        let zygote = children(sandbox.id())[0];
        for stub in children(zygote) {
            let pid = nix::unistd::Pid::from_raw(stub as i32);
            nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).expect("a stub");
        }
        let output = sandbox.wait_with_output().expect("its end");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains("the host process that holds the program's memory is gone"),
            "{platform}: {said}"
        );
        assert!(!output.status.success());
    }
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
