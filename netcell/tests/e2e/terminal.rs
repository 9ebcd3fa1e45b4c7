//! The terminal passes through: modes, window size, ^C, ^Z, job control, and pseudo-terminals inside.

use std::process::Command;

use crate::harness::{NETCELL, run};

const DRIVER: &str = include_str!("programs/terminal.py");
const RESTORED: &str = include_str!("programs/restored.py");

/// Runs `netcell run -- PROGRAM` on a terminal and plays `expect|send` steps; gives what was shown.
fn on_terminal(steps: &[&str], program: &[&str]) -> String {
    let mut command = Command::new("/usr/bin/python3");
    command
        .args(["-c", DRIVER])
        .args(steps)
        .args(["--", NETCELL, "run", "--"])
        .args(program)
        .current_dir("/tmp");
    let output = run(&mut command, b"");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{shown}");
    shown
}

#[test]
fn a_shell_has_a_terminal_of_the_right_size() {
    let shown = on_terminal(
        &[],
        &[
            "/bin/bash",
            "-c",
            "test -t 0 && test -t 1 && echo terminal; stty size; tty; stty -a | grep -c icanon",
        ],
    );
    assert!(shown.contains("terminal\n33 77\n/dev/"), "{shown}");
    assert!(shown.ends_with("status 0 left 0\n"), "{shown}");
}

#[test]
fn typed_lines_are_edited_and_echoed() {
    let shown = on_terminal(
        &["ready|hellx\\x7fo\\n"],
        &["/bin/bash", "-c", "echo ready; read x; echo got $x"],
    );
    assert!(shown.contains("got hello\n") && shown.ends_with("status 0 left 0\n"), "{shown}");
}

#[test]
fn control_c_interrupts_the_foreground_job_only() {
    let steps = [
        // The job itself says that it is there: before, the shell would be hit.
        "# |sh -c 'echo rea\"d\"y; exec sleep 1000'\\n",
        "ready|\\x03",
        "# |echo alive $((40+2))\\n",
        "alive 42|exit 5\\n",
    ];
    let shown = on_terminal(&steps, &["/bin/bash", "--norc", "--noprofile", "-i"]);
    assert!(shown.ends_with("status 5 left 0\n"), "{shown}");
}

#[test]
fn control_c_ends_a_plain_program() {
    let shown = on_terminal(&["ready|\\x03"], &["/bin/bash", "-c", "echo ready; exec sleep 1000"]);
    assert!(shown.ends_with("status 130 left 0\n"), "{shown}");
}

#[test]
fn control_z_stops_a_job_and_the_shell_brings_it_back() {
    let steps = [
        "# |echo rea''dy; cat\\n",
        "ready|one\\n",
        "one\\r\\none|\\x1a",
        "Stopped|",
        "# |fg\\n",
        "cat\\r\\n|two\\n",
        "two\\r\\ntwo|\\x04",
        "# |jobs; exit 0\\n",
    ];
    let shown = on_terminal(&steps, &["/bin/bash", "--norc", "--noprofile", "-i"]);
    assert!(shown.ends_with("status 0 left 0\n"), "{shown}");
}

#[test]
fn a_resize_reaches_the_program() {
    let steps = ["ready|RESIZE"];
    let script = "trap 'stty size; exit' WINCH; echo ready; while :; do read -t 1 x; done";
    let shown = on_terminal(&steps, &["/bin/bash", "-c", script]);
    assert!(shown.contains("44 99") && shown.ends_with("status 0 left 0\n"), "{shown}");
}

#[test]
fn pseudo_terminals_work_inside() {
    let script = "import pty,os,sys\nprint(pty.spawn(['/bin/sh','-c','tty; stty size; test -t 0 && echo inner']))";
    let shown = on_terminal(&[], &["/usr/bin/python3", "-c", script]);
    assert!(shown.contains("/dev/pts/") && shown.contains("inner\n0\n"), "{shown}");
}

#[test]
fn script_records_a_session() {
    let shown = on_terminal(&[], &["/usr/bin/script", "-qc", "tty; stty size", "/dev/null"]);
    assert!(shown.contains("/dev/pts/1\n33 77\n"), "{shown}");
}

#[test]
fn an_editor_draws_on_the_terminal_and_saves() {
    let steps = ["~|ihello\\x1b:w /tmp/out\\r", "written|:q!\\r"];
    let script = "TERM=xterm vim -u NONE -N; echo; cat /tmp/out; stty -a | grep -c ' icanon'";
    let shown = on_terminal(&steps, &["/bin/sh", "-c", script]);
    assert!(shown.ends_with("hello\n1\nstatus 0 left 0\n"), "{shown}");
}

#[test]
fn a_terminal_multiplexer_has_a_shell_inside() {
    let steps = ["# |echo in$((1+1))side\\n", "in2side|exit\\n", "[exited]|"];
    let script = "export LC_ALL=C.UTF-8 TERM=xterm; tmux -f /dev/null new-session 'bash --norc --noprofile'; \
        echo; echo ended";
    let shown = on_terminal(&steps, &["/bin/bash", "-c", script]);
    assert!(shown.ends_with("ended\nstatus 0 left 0\n"), "{shown}");
}

#[test]
fn the_users_modes_come_back_however_the_program_ends() {
    for (signal, program, said) in [
        ("SIGTERM", &["/bin/sleep", "1000"][..], "143 restored\n"),
        ("SIGHUP", &["/bin/sleep", "1000"], "129 restored\n"),
        ("none", &["/bin/sh", "-c", "stty raw -echo; kill -SEGV $$"], "139 restored\n"),
        ("none", &["/no/such/program"], "127 restored\n"),
    ] {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", RESTORED, signal, NETCELL, "run", "--"]).args(program);
        let output = run(command.current_dir("/tmp"), b"");
        assert_eq!(String::from_utf8_lossy(&output.stdout), said, "{signal} {program:?}");
    }
}

#[test]
fn reads_obey_vtime_and_job_control() {
    let script = "import os,signal,termios\n\
        modes = termios.tcgetattr(0)\n\
        modes[3] &= ~termios.ICANON\n\
        modes[6][termios.VMIN], modes[6][termios.VTIME] = 0, 1\n\
        termios.tcsetattr(0, termios.TCSANOW, modes)\n\
        print(os.read(0, 10))\n\
        child = os.fork()\n\
        if child == 0:\n    \
            os.setpgid(0, 0)\n    \
            os.read(0, 1)\n    \
            os._exit(0)\n\
        print(os.waitpid(child, os.WUNTRACED)[1] >> 8 == signal.SIGTTIN)\n\
        os.kill(child, 9)";
    let shown = on_terminal(&[], &["/usr/bin/python3", "-c", script]);
    assert_eq!(shown, "b''\nTrue\nstatus 0 left 0\n");
}
