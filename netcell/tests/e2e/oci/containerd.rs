//! containerd drives the runtime through the shim, with an image that is made on the spot from busybox.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::json;

use super::bundle::{name, rootfs};
use crate::harness::{NETCELL, Scratch, beside, finish, wait_until};

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
        let tar = |from: &Path, to: &Path| {
            let mut tar = Command::new("tar");
            assert!(
                tar.arg("-C")
                    .arg(from)
                    .arg("-cf")
                    .arg(to)
                    .arg(".")
                    .status()
                    .expect("tar")
                    .success()
            );
        };
        let layer = folder.join("layer.tar");
        tar(&self.place("files"), &layer);
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
        let archive = self.place("image.tar");
        tar(&folder, &archive);
        archive.display().to_string()
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
