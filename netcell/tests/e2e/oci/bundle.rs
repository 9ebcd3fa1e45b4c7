//! Bundles of busybox, and a runtime with a root of its own that is cleaned up after every test.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::harness::{NETCELL, Scratch, finish, unique, wait_until};

/// What every configuration of these tests allows its program.
pub const CAPABILITIES: [&str; 5] =
    ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETUID"];

/// A folder with a root directory and a configuration.
pub struct Bundle {
    folder: Scratch,
    /// The configuration, as it will be written.
    pub config: Value,
}

impl Bundle {
    /// A bundle whose program is this shell script.
    pub fn of_script(script: &str) -> Self {
        let folder = Scratch::new();
        rootfs(&folder.path().join("rootfs"));
        Self { folder, config: configuration(&["sh", "-c", script]) }
    }

    /// Where it is, with its configuration written.
    pub fn path(&self) -> PathBuf {
        let text = self.config.to_string();
        std::fs::write(self.folder.path().join("config.json"), text).expect("a configuration");
        self.folder.path().to_owned()
    }

    /// A path in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Adds a mount.
    pub fn mount(&mut self, destination: &str, kind: &str, source: &str, options: &[&str]) {
        let mount = json!({
            "destination": destination, "type": kind, "source": source, "options": options,
        });
        self.config["mounts"].as_array_mut().expect("mounts").push(mount);
    }
}

/// A root directory with busybox under all its names.
pub fn rootfs(root: &Path) {
    for directory in ["bin", "etc", "tmp", "proc", "dev", "sys", "root"] {
        std::fs::create_dir_all(root.join(directory)).expect("a directory");
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static");
    let names = Command::new("/bin/busybox").arg("--list").output().expect("busybox");
    for name in String::from_utf8_lossy(&names.stdout).lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(name)).expect("a link");
    }
    let users = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
    std::fs::write(root.join("etc/passwd"), users).expect("a file");
}

/// An archive of what is in a folder.
pub fn archive(folder: &Path, to: &Path) {
    let status = Command::new("tar").arg("-C").arg(folder).arg("-cf").arg(to).arg(".").status();
    assert!(status.expect("tar").success());
}

fn configuration(args: &[&str]) -> Value {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false, "user": { "uid": 0, "gid": 0 }, "args": args, "cwd": "/",
            "env": ["PATH=/bin", "TERM=xterm"],
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
            },
        },
        "root": { "path": "rootfs", "readonly": false },
        "hostname": "box",
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=64k"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "mount" },
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys"],
            "readonlyPaths": ["/proc/sys"],
        },
    })
}

/// A runtime with a root of its own.
pub struct Runtime {
    program: &'static str,
    root: Scratch,
}

impl Runtime {
    /// The one under test.
    pub fn netcell() -> Self {
        Self { program: NETCELL, root: Scratch::new() }
    }

    /// The one that shows what is right.
    pub fn runc() -> Self {
        Self { program: "/usr/sbin/runc", root: Scratch::new() }
    }

    /// A command of it.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.arg("--root").arg(self.root.path().join("root"));
        command.arg("--log").arg(self.log()).args(["--log-format", "json"]).args(args);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command of it to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a runtime"))
    }

    /// Runs a command of it that must succeed; gives its output.
    pub fn must(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a command of it that must succeed and leaves something behind, which must not hold the test's pipes.
    pub fn leave(&self, args: &[&str]) {
        let mut command = self.command(args);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.expect("a runtime").success(), "{args:?}: {}", self.last_error());
    }

    /// Creates a container; its streams go to the file of this name.
    pub fn create(&self, bundle: &Bundle, id: &str, output: &Path) -> bool {
        let to = std::fs::File::create(output).expect("a file");
        let bundle = bundle.path();
        let mut command = self.command(&["create", "--bundle", &bundle.to_string_lossy(), id]);
        command.stdout(to.try_clone().expect("a file")).stderr(to);
        command.status().expect("a runtime").success()
    }

    /// The state of a container.
    pub fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.must(&["state", id])).expect("JSON")
    }

    /// Waits until a container has ended.
    pub fn ended(&self, id: &str) {
        wait_until("the end", || self.state(id)["status"] == "stopped");
    }

    /// All that its log says.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// The last error of its log.
    pub fn last_error(&self) -> String {
        let text = self.log_text();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let mut errors = lines.filter(|line| line["level"] == "error");
        let error = errors.next_back().unwrap_or_default();
        error["msg"].as_str().unwrap_or_default().to_owned()
    }

    fn log(&self) -> PathBuf {
        self.root.path().join("log.json")
    }

    /// What is left in its root, by name.
    pub fn left(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.path().join("root"));
        let names = entries.into_iter().flatten().flatten();
        names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        for id in self.left() {
            let _ = self.run(&["delete", "--force", &id]);
        }
    }
}

/// A name for a container that no other test uses.
pub fn name() -> String {
    unique("nc")
}
