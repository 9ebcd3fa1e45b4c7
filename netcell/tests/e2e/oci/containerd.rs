//! containerd drives the runtime through the shim, with an image that is made on the spot from busybox.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::json;

use super::bundle::{archive, name, rootfs};
use crate::harness::{NETCELL, Running, Scratch, beside, finish, wait_until};

/// What every container of these tests is started with.
const RUNTIME: &str = "io.containerd.netcell.v1";
const IMAGE: &str = "docker.io/library/box:latest";

/// Gives the path of a file of a containerd by its name.
pub type Place<'a> = &'a dyn Fn(&str) -> String;

/// A containerd with folders and a socket of its own.
pub struct Containerd {
    storage: Scratch,
    daemon: Child,
    namespace: &'static str,
}

impl Containerd {
    /// For `ctr`, with an image called `box`.
    fn new() -> Self {
        let config =
            |_: Place<'_>| "disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n".to_owned();
        Self::started(Command::new("containerd"), "default", &config)
    }

    /// With an image called `box` in this namespace of containerd. `config` makes what its configuration has besides places, which begins
    /// with what stands in no section; it is given the paths of files of this containerd.
    pub fn started(
        mut command: Command,
        namespace: &'static str,
        config: &dyn Fn(Place<'_>) -> String,
    ) -> Self {
        let shim = beside("containerd-shim-netcell-v1", "netcell-shim");
        let storage = Scratch::of_image();
        let place = |name: &str| storage.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n{}[grpc]\naddress = {:?}\n",
            place("root"),
            place("state"),
            config(&place),
            place("socket")
        );
        std::fs::write(place("config.toml"), config).expect("a file");
        let options = format!("runtime = {NETCELL:?}\nroot = {:?}\n", place("netcell"));
        std::fs::write(place("shim.toml"), options).expect("a file");
        let beside = shim.parent().expect("a folder").display().to_string();
        let path = format!("{beside}:{}", std::env::var("PATH").unwrap_or_default());
        let log = std::fs::File::create(place("log")).expect("a file");
        let daemon = command
            .args(["--config", &place("config.toml")])
            // Shims are looked for where programs are.
            .env("PATH", path)
            .env("NETCELL_HANDOFF_DIR", place("handoff"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("containerd");
        let containerd = Self { storage, daemon, namespace };
        wait_until("containerd", || containerd.run(&["version"]).status.success());
        containerd.must(&["image", "import", &containerd.image()]);
        containerd
    }

    /// A file of it.
    pub fn place(&self, name: &str) -> PathBuf {
        self.storage.path().join(name)
    }

    /// An archive as `docker save` writes it.
    fn image(&self) -> String {
        let folder = self.place("image");
        rootfs(&self.place("files"));
        std::fs::create_dir(&folder).expect("a folder");
        let layer = folder.join("layer.tar");
        archive(&self.place("files"), &layer);
        let sum = Command::new("sha256sum").arg(&layer).output().expect("sha256sum");
        let sum = String::from_utf8_lossy(&sum.stdout).split(' ').next().expect("a sum").to_owned();
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "config": { "Env": ["PATH=/bin"], "Cmd": ["sleep", "1000000"] },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{sum}")] },
        });
        let manifest = json!([{ "Config": "config.json", "RepoTags": ["box:latest"], "Layers": ["layer.tar"] }]);
        std::fs::write(folder.join("config.json"), config.to_string()).expect("a file");
        std::fs::write(folder.join("manifest.json"), manifest.to_string()).expect("a file");
        let image = self.place("image.tar");
        archive(&folder, &image);
        image.display().to_string()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.place("socket"));
        command.args(["--namespace", self.namespace]).args(args).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ctr"))
    }

    fn must(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        let log = std::fs::read_to_string(self.place("log")).unwrap_or_default();
        assert!(output.status.success(), "ctr {args:?}: {errors}\n{log}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `ctr run` with flags, a name and a program.
    fn container(&self, flags: &[&str], rest: &[&str]) -> Vec<String> {
        let options = self.place("shim.toml").display().to_string();
        // The native snapshotter copies: an overlay cannot lie on another one.
        let fixed =
            ["run", "--runtime", RUNTIME, "--snapshotter", "native", "--runtime-config-path"];
        let words = fixed.into_iter().chain([&*options]).chain(flags.iter().copied());
        words.chain([IMAGE]).chain(rest.iter().copied()).map(str::to_owned).collect()
    }

    /// The state that containerd tells of a task.
    fn status(&self, id: &str) -> String {
        let list = self.must(&["task", "ls"]);
        let line = list.lines().find(|line| line.split_whitespace().next() == Some(id));
        line.and_then(|line| line.split_whitespace().nth(2)).unwrap_or("GONE").to_owned()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for verb in
            [&["task", "kill", "--signal", "KILL"][..], &["task", "rm", "--force"], &["c", "rm"]]
        {
            let list = self.run(&["c", "ls", "--quiet"]).stdout;
            for id in String::from_utf8_lossy(&list).lines() {
                let _ = self.run(&[verb, &[id]].concat());
            }
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        // What a test that fails has left in it would keep its folder.
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
        for point in points.filter(|point| point.starts_with(self.storage.path())) {
            let _ = Command::new("umount").arg("--lazy").arg(point).status();
        }
    }
}

fn words(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

/// How many folders the runtime keeps.
fn kept(containerd: &Containerd) -> usize {
    std::fs::read_dir(containerd.place("netcell/default")).map_or(0, Iterator::count)
}

#[test]
fn containerd_runs_containers() {
    let containerd = Containerd::new();
    let (one, two, three) = (name(), name(), name());
    let told = containerd.must(&words(&containerd.container(&["--rm"], &[&one, "uname", "-r"])));
    assert!(told.contains("netcell"), "{told}");
    let ends = containerd.container(&["--rm"], &[&two, "sh", "-c", "exit 7"]);
    assert_eq!(containerd.run(&words(&ends)).status.code(), Some(7));
    let fails = containerd.container(&["--rm"], &[&three, "/none"]);
    let output = containerd.run(&words(&fails));
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("/none"), "the runtime's own words: {errors}");

    let id = name();
    let script = "trap 'exit 3' TERM; while :; do sleep 0.1; done";
    containerd.must(&words(&containerd.container(&["--detach"], &[&id, "sh", "-c", script])));
    assert_eq!(containerd.status(&id), "RUNNING");
    let exec = |process: &str, script: &str| {
        containerd.run(&["task", "exec", "--exec-id", process, &id, "sh", "-c", script])
    };
    let output = exec("first", "echo inside; exit 9");
    assert_eq!((output.status.code(), &*output.stdout), (Some(9), &b"inside\n"[..]));
    // One that cannot be started leaves its name free at once.
    let absent = containerd.run(&["task", "exec", "--exec-id", "second", &id, "/none"]);
    assert!(!absent.status.success());
    assert_eq!(exec("second", "exit 4").status.code(), Some(4));
    assert!(containerd.must(&["task", "ps", &id]).lines().count() >= 2);
    assert!(containerd.must(&["task", "metrics", &id]).contains("memory.usage_in_bytes"));
    containerd.must(&["task", "pause", &id]);
    assert_eq!(containerd.status(&id), "PAUSED");
    containerd.must(&["task", "resume", &id]);
    containerd.must(&["task", "kill", "--signal", "TERM", &id]);
    wait_until("the end", || containerd.status(&id) == "STOPPED");
    // ctr's own status is the task's.
    assert_eq!(containerd.run(&["task", "rm", &id]).status.code(), Some(0));
    containerd.must(&["c", "rm", &id]);
    assert_eq!(kept(&containerd), 0, "the runtime's folders");
}

/// A program that writes what it is told and gets, and its URI. runc's shim tells it to end before it has read all.
fn logger(containerd: &Containerd, log: &Path) -> String {
    let program = containerd.place("logger");
    let script = "#!/bin/sh\ntrap '' TERM\nexec 5>&-\necho \"$CONTAINER_NAMESPACE $1\" >> \"$2\"\n/bin/cat <&3 >> \"$2\"\n/bin/cat <&4 >> \"$2\"\n";
    std::fs::write(&program, script).expect("a file");
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("a program");
    format!("binary://{}?log={}", program.display(), log.display())
}

#[test]
fn a_program_gets_the_output_as_it_does_from_runc() {
    let containerd = Containerd::new();
    let script = "echo out; echo err >&2; head -c 300000 /dev/zero | tr '\\0' x; exit 3";
    let mut logs = Vec::new();
    for runtime in ["io.containerd.runc.v2", RUNTIME] {
        let (id, log) = (name(), containerd.place(&name()));
        let uri = logger(&containerd, &log);
        let flags = ["--detach", "--log-uri", &uri];
        let words = containerd.container(&flags, &[&id, "sh", "-c", script]);
        let words: Vec<String> =
            words.into_iter().map(|w| if w == RUNTIME { runtime.into() } else { w }).collect();
        containerd.must(&self::words(&words));
        wait_until("the end", || containerd.status(&id) == "STOPPED");
        // It has read all when the task is gone.
        containerd.must(&["task", "rm", &id]);
        logs.push(std::fs::read_to_string(&log).expect("a log"));
    }
    assert!(logs[0].starts_with("default log\n") && logs[0].len() > 300_000, "{}", logs[0].len());
    assert!(logs[0] == logs[1], "{} bytes, and runc's {}", logs[1].len(), logs[0].len());
}

#[test]
fn memory_that_runs_out_is_told() {
    let containerd = Containerd::new();
    let events = std::fs::File::create(containerd.place("events")).expect("a file");
    let mut teller = containerd.command(&["events"]);
    let _teller = Running::new(teller.stdout(events).spawn().expect("ctr"));
    let id = name();
    let eater = "dd if=/dev/zero of=/dev/null bs=400M count=1";
    let limit = (64 << 20).to_string();
    let flags = ["--detach", "--memory-limit", &limit, "--cgroup", &format!("/{id}")];
    // Somebody listens to the events before there is one.
    let seen = || std::fs::read_to_string(containerd.place("events")).unwrap_or_default();
    wait_until("a listener", || {
        let _ = containerd.run(&["namespaces", "label", "default", "asked=1"]);
        seen().contains("/namespaces/update")
    });
    containerd.must(&words(&containerd.container(&flags, &[&id, "sh", "-c", eater])));
    wait_until("the end", || containerd.status(&id) == "STOPPED");
    wait_until("the event", || {
        seen().lines().any(|line| line.contains("/tasks/oom") && line.contains(&id))
    });
}

#[test]
fn a_shim_that_is_killed_leaves_nothing() {
    let containerd = Containerd::new();
    let id = name();
    containerd.must(&words(&containerd.container(&["--detach"], &[&id, "sleep", "100000"])));
    assert_eq!(kept(&containerd), 1);
    let address = containerd.place("state/io.containerd.runtime.v2.task/default").join(&id);
    let address = std::fs::read_to_string(address.join("address")).expect("the shim's address");
    let socket = PathBuf::from(address.trim_start_matches("unix://"));
    // Its socket's name ends with the number of the process that started it; the shim itself is found by its words.
    let shims =
        Command::new("pgrep").args(["-f", &format!("socket {}", socket.display())]).output();
    let shims = String::from_utf8_lossy(&shims.expect("pgrep").stdout).into_owned();
    let shim: i32 = shims.trim().parse().unwrap_or_else(|_| panic!("one shim: {shims:?}"));
    let pid = nix::unistd::Pid::from_raw(shim);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("a shim");
    wait_until("containerd to clean up", || containerd.status(&id) != "RUNNING");
    wait_until("the runtime's folders to go", || kept(&containerd) == 0);
    wait_until("the socket to go", || !socket.exists());
}
