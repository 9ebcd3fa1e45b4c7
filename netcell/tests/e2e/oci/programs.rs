//! Further programs in a container, terminals over a console socket, and what is told of programs.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::bundle::{Bundle, Runtime, name};
use crate::harness::{run, wait_until};

const CONSOLE: &str = include_str!("console.py");

/// A container that runs until its end is asked for.
fn running(script: &str) -> (Runtime, Bundle, String) {
    let (runtime, id) = (Runtime::netcell(), name());
    let bundle = Bundle::of_script(&format!("{script}\necho up; sleep 100000"));
    let output = bundle.file("output");
    assert!(runtime.create(&bundle, &id, &output), "{}", runtime.last_error());
    runtime.must(&["start", &id]);
    wait_until("the program", || {
        std::fs::read_to_string(&output).is_ok_and(|t| t.ends_with("up\n"))
    });
    (runtime, bundle, id)
}

#[test]
fn a_further_program_has_its_streams_its_status_and_its_own_identity() {
    let (runtime, bundle, id) = running("");
    assert_eq!(runtime.must(&["exec", &id, "echo", "hello"]), "hello\n");
    assert_eq!(runtime.run(&["exec", &id, "sh", "-c", "exit 3"]).status.code(), Some(3));
    let killed = runtime.run(&["exec", &id, "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.status.code(), Some(137));
    let flags = ["exec", "--cwd", "/tmp", "-e", "A=b", "-u", "1000:1001", &id];
    let told = runtime.must(&[&flags[..], &["sh", "-c", "pwd; echo $A; id -u; id -g"]].concat());
    assert_eq!(told, "/tmp\nb\n1000\n1001\n");
    // Its own session, without a parent inside, beside the first program.
    let told = runtime.must(&[
        "exec",
        &id,
        "sh",
        "-c",
        "cut -d' ' -f4,6 /proc/self/stat; echo $$; ps | grep -c 'sleep 10000[0]'",
    ]);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 3, "{told}");
    assert_eq!(lines[2], "1", "{told}");
    let mut command = runtime.command(&["exec", &id, "cat"]);
    let piped = run(&mut command, b"through a pipe");
    assert_eq!(piped.stdout, b"through a pipe");
    assert!(!runtime.run(&["exec", &id, "/none"]).status.success());
    assert!(runtime.last_error().contains("/none: No such file"), "{}", runtime.last_error());
    let file = bundle.file("process.json");
    let process = json!({
        "args": ["sh", "-c", "id -u; echo $X"], "cwd": "/", "user": { "uid": 7, "gid": 7 },
        "env": ["PATH=/bin", "X=y"],
    });
    std::fs::write(&file, process.to_string()).expect("a file");
    assert_eq!(runtime.must(&["exec", "--process", &file.to_string_lossy(), &id]), "7\ny\n");
}

#[test]
fn a_program_that_is_left_behind_has_a_process_that_stands_for_it() {
    let (runtime, bundle, id) = running("");
    let (pid, done) = (bundle.file("pid"), bundle.file("rootfs/done"));
    let script =
        "trap 'echo term > /done; exit 4' TERM; echo > /ready; while :; do sleep 0.1; done";
    let pid_file = pid.to_string_lossy().into_owned();
    runtime.leave(&["exec", "--detach", "--pid-file", &pid_file, &id, "sh", "-c", script]);
    let text = std::fs::read_to_string(&pid).expect("a pid file");
    wait_until("the program", || bundle.file("rootfs/ready").exists());
    let kill = |signal: &str| {
        let status = Command::new("kill").args([signal, &text]).status();
        assert!(status.expect("kill").success());
    };
    kill("-TERM");
    wait_until("its handler", || done.exists());
    wait_until("its end", || {
        let stat = std::fs::read_to_string(format!("/proc/{text}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
    // The end of the one is the end of the other.
    runtime.leave(&["exec", "-d", "--pid-file", &pid_file, &id, "sleep", "77777"]);
    let there = || runtime.must(&["ps", &id]).contains("sleep 77777");
    assert!(there());
    let text = std::fs::read_to_string(&pid).expect("a pid file");
    assert!(Command::new("kill").args(["-KILL", &text]).status().expect("kill").success());
    wait_until("its end", || !there());
    // And that of the container, of all.
    runtime.leave(&["exec", "-d", "--pid-file", &pid_file, &id, "sleep", "88888"]);
    let text = std::fs::read_to_string(&pid).expect("a pid file");
    runtime.must(&["kill", &id, "KILL"]);
    wait_until("the end of all", || {
        let stat = std::fs::read_to_string(format!("/proc/{text}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
    runtime.ended(&id);
    assert!(!runtime.run(&["exec", &id, "true"]).status.success());
    assert!(runtime.last_error().contains("stopped"), "{}", runtime.last_error());
}

/// Plays a container's terminal: see `console.py`.
fn on_console(runtime: &Runtime, bundle: &Path, args: &[&str], steps: &[&str]) -> String {
    let socket = bundle.join("console.sock");
    let mut line = vec![socket.to_string_lossy().into_owned()];
    line.extend(steps.iter().map(|step| (*step).to_owned()));
    line.push("--".into());
    let command = runtime.command(args);
    line.push(command.get_program().to_string_lossy().into_owned());
    line.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    let mut python = Command::new("/usr/bin/python3");
    let output = run(python.args(["-c", CONSOLE]).args(&line), b"");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}{}", runtime.last_error());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_terminal_comes_over_the_console_socket_and_has_the_callers_size() {
    for runtime in [Runtime::runc(), Runtime::netcell()] {
        let (mut bundle, id) = (Bundle::of_script("exec sh"), name());
        bundle.config["process"]["terminal"] = json!(true);
        bundle.config["process"]["env"] = json!(["PATH=/bin", "PS1=# "]);
        let (path, socket) = (bundle.path(), bundle.file("console.sock"));
        let (path_text, socket) = (path.to_string_lossy(), socket.to_string_lossy());
        let args = ["create", "--bundle", &path_text, "--console-socket", &socket, &id];
        let start = runtime.command(&["start", &id]);
        let start = std::iter::once(start.get_program()).chain(start.get_args());
        let start: Vec<_> = start.map(|word| word.to_string_lossy().into_owned()).collect();
        let steps = [
            format!("run {}", start.join(" ")),
            "size 33 77".into(),
            "type stty size; test -t 0 && tty; ls -l /dev/console | cut -c1-1\\n".into(),
            "expect 33 77".into(),
            "expect /dev/".into(),
            "expect c\r\n".into(),
            "type sh -c 'echo in\"n\"er; exec sleep 1000'; echo in''terrupted\\n".into(),
            "expect inner".into(),
            "type \\x03".into(),
            "type echo a''live\\n".into(),
            "expect alive".into(),
            "type exit 0\\n".into(),
            "hangup".into(),
        ];
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        let shown = on_console(&runtime, &path, &args, &steps);
        assert!(!shown.contains("interrupted"), "{shown}");
        runtime.ended(&id);
    }
}

#[test]
fn a_further_program_can_have_a_terminal() {
    let (runtime, bundle, id) = running("");
    let (path, socket) = (bundle.path(), bundle.file("console.sock"));
    let socket = socket.to_string_lossy().into_owned();
    let args = ["exec", "-d", "-t", "--console-socket", &socket, &id, "sh"];
    let steps = [
        "size 20 55",
        "type stty size; tty; exec 3</dev/tty && echo o''pen\\n",
        "expect 20 55",
        "expect /dev/pts/",
        "expect open",
        "size 21 56",
        "type stty size\\n",
        "expect 21 56",
        "type exit\\n",
        "hangup",
    ];
    on_console(&runtime, &path, &args, &steps);
    // Its terminal is gone with it.
    wait_until("no terminal", || runtime.must(&["exec", &id, "ls", "/dev/pts"]) == "ptmx\n");
}

#[test]
fn programs_that_are_held_do_not_run() {
    let (runtime, bundle, id) =
        running("(n=0; while :; do n=$((n+1)); echo $n > /count; sleep 0.01; done) &");
    let count = || std::fs::read_to_string(bundle.file("rootfs/count")).unwrap_or_default();
    let wait_for_more = || {
        let before = count();
        wait_until("counting", || !count().is_empty() && count() != before);
    };
    wait_for_more();
    runtime.must(&["pause", &id]);
    assert_eq!(runtime.state(&id)["status"], "paused");
    assert!(!runtime.run(&["pause", &id]).status.success(), "twice");
    assert!(!runtime.run(&["exec", &id, "true"]).status.success());
    assert!(runtime.last_error().contains("paused"), "{}", runtime.last_error());
    runtime.leave(&["exec", "-d", "--ignore-paused", &id, "sh", "-c", "echo ran > /ran"]);
    // What a call had begun is done by now; a program that runs would go on meanwhile.
    let still = count();
    for _ in 0..5 {
        assert!(runtime.must(&["ps", &id]).contains("/ran"));
    }
    assert_eq!(count(), still);
    assert!(!bundle.file("rootfs/ran").exists());
    runtime.must(&["resume", &id]);
    assert_eq!(runtime.state(&id)["status"], "running");
    wait_for_more();
    wait_until("the program that was held", || bundle.file("rootfs/ran").exists());
    // A container that is paused is ended like any other.
    runtime.must(&["pause", &id]);
    runtime.must(&["delete", "--force", &id]);
    assert!(runtime.left().is_empty());
}

#[test]
fn the_number_of_tasks_is_limited_and_can_be_changed() {
    let (runtime, id) = (Runtime::netcell(), name());
    // A subshell ends where it cannot fork: what it had started stays, beside the first program.
    let mut bundle =
        Bundle::of_script("(for i in 1 2 3 4 5 6; do sleep 100000 & done); exec sleep 100000");
    bundle.config["linux"]["resources"] = json!({ "pids": { "limit": 5 } });
    let output = bundle.file("output");
    assert!(runtime.create(&bundle, &id, &output), "{}", runtime.last_error());
    runtime.must(&["start", &id]);
    wait_until("a refusal", || {
        std::fs::read_to_string(&output).unwrap_or_default().contains("can't fork")
    });
    let sleeping = || runtime.must(&["ps", &id]).matches("sleep 100000\n").count();
    wait_until("all to sleep", || sleeping() == 4);
    let limit = |most: u64| {
        let resources = bundle.file("resources.json");
        std::fs::write(&resources, json!({ "pids": { "limit": most } }).to_string())
            .expect("a file");
        runtime.must(&["update", "--resources", &resources.to_string_lossy(), &id]);
    };
    limit(4);
    assert!(!runtime.run(&["exec", &id, "true"]).status.success());
    limit(5);
    runtime.must(&["exec", &id, "true"]);
}

#[test]
fn processes_are_listed_with_what_they_are() {
    let (runtime, _bundle, id) = running("sleep 4321 &");
    // Until it has gone on to exec, it is a shell.
    wait_until("sleep in the list", || {
        runtime.must(&["ps", &id]).lines().any(|line| line.ends_with(" sleep 4321"))
    });
    let pids = runtime.must(&["ps", "--format", "json", &id]);
    assert_eq!(pids.trim(), format!("[{}]", runtime.state(&id)["pid"]));
}

#[test]
fn the_runtime_tells_what_it_can_and_writes_a_configuration() {
    let runtime = Runtime::netcell();
    let features: serde_json::Value =
        serde_json::from_str(&runtime.must(&["features"])).expect("JSON");
    assert_eq!(features["ociVersionMax"], "1.2.0");
    assert_eq!(features["hooks"].as_array().map(Vec::len), Some(6));
    let bundle = Bundle::of_script("");
    let folder = bundle.file("").to_string_lossy().into_owned();
    runtime.must(&["spec", "--bundle", &folder]);
    assert!(!runtime.run(&["spec", "--bundle", &folder]).status.success(), "it is not overwritten");
    let path = bundle.file("config.json");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/echo", "it runs"]);
    std::fs::write(&path, config.to_string()).expect("a file");
    assert_eq!(runtime.must(&["run", "--bundle", &folder, &name()]), "it runs\n");
}
