//! dockerd drives the runtime, with an image that is made on the spot from busybox, in a network namespace of its own.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use super::bundle::{archive, rootfs};
use crate::harness::{NETCELL, Namespace, Scratch, finish, wait_until};

/// A dockerd with folders and a socket of its own.
struct Docker {
    storage: Scratch,
    network: Namespace,
    daemon: Child,
}

impl Docker {
    /// With an image called `box`.
    fn new() -> Self {
        // An overlay cannot lie on another one, as /tmp may be.
        let (storage, network) = (Scratch::of_image(), Namespace::new());
        let place = |name: &str| storage.file(name);
        let log = std::fs::File::create(place("log")).expect("a file");
        // ip-netns(8) would hide the cgroups.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", network.name())).arg("dockerd");
        command.args(["--data-root", &place("root"), "--exec-root", &place("state")]);
        command.args([
            "--pidfile",
            &place("pid"),
            "--host",
            &format!("unix://{}", place("socket")),
        ]);
        command.args(["--config-file", &place("none.json"), "--storage-driver", "vfs"]);
        command.args(["--add-runtime", &format!("netcell={NETCELL}")]);
        command.args(["--default-runtime", "netcell"]);
        let daemon = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        std::fs::write(place("none.json"), "{}").expect("a file");
        let docker = Self { daemon: daemon.expect("dockerd"), storage, network };
        wait_until("dockerd", || docker.run(&["version"]).status.success());
        let (root, image) = (docker.storage.path().join("files"), docker.storage.file("image.tar"));
        rootfs(&root);
        archive(&root, Path::new(&image));
        docker.must(&["import", &image, "box"]);
        docker
    }

    fn run(&self, args: &[&str]) -> Output {
        // That of Debian, whatever else is called so.
        let mut command = Command::new("/usr/bin/docker");
        command.args(["--host", &format!("unix://{}", self.storage.file("socket"))]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command.spawn().expect("docker"))
    }

    fn must(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {args:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn inspect(&self, name: &str, what: &str) -> String {
        self.must(&["inspect", "--format", &format!("{{{{.State.{what}}}}}"), name])
            .trim()
            .to_owned()
    }

    /// What the machine itself reads at a port of its loopback.
    fn fetch(&self, port: u16) -> String {
        let url = format!("http://127.0.0.1:{port}/page");
        let output = self.network.command(&["curl", "-sSm", "60", &url]).output().expect("curl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let all = self.run(&["ps", "--all", "--quiet"]).stdout;
        for id in String::from_utf8_lossy(&all).lines() {
            let _ = self.run(&["rm", "--force", id]);
        }
        // It ends its containerd with it, and takes its mounts away.
        let pid = nix::unistd::Pid::from_raw(self.daemon.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.daemon.wait();
        let _ = Command::new("umount")
            .arg(self.storage.path().join("state/netns/default"))
            .stderr(Stdio::null())
            .status();
    }
}

const SERVE: &str = "echo serving; echo page > /tmp/page; exec httpd -f -p 80 -h /tmp";

#[test]
fn docker_runs_containers() {
    let docker = Docker::new();
    let told = docker.must(&["run", "--rm", "box", "uname", "-r"]);
    assert!(told.contains("netcell"), "{told}");
    assert_eq!(docker.run(&["run", "--rm", "box", "sh", "-c", "exit 7"]).status.code(), Some(7));
    docker.must(&["network", "create", "names"]);
    let detached =
        ["run", "--detach", "--name", "web", "--network", "names", "--publish", "18080:80"];
    let limits = [
        "--memory",
        "64m",
        "--pids-limit",
        "50",
        "--volume",
        "shared:/shared",
        "--health-cmd",
        "test -e /tmp/page",
    ];
    docker.must(
        &[&detached[..], &limits, &["--health-interval", "1s", "box", "sh", "-c", SERVE]].concat(),
    );
    wait_until("the server", || docker.fetch(18080) == "page\n");
    assert_eq!(docker.must(&["logs", "web"]), "serving\n");
    wait_until("a healthy one", || docker.inspect("web", "Health.Status") == "healthy");
    let memory = docker.must(&["exec", "web", "grep", "MemTotal", "/proc/meminfo"]);
    assert_eq!(memory.split_whitespace().nth(1), Some("65536"));
    assert_eq!(docker.run(&["exec", "web", "sh", "-c", "exit 3"]).status.code(), Some(3));
    // Another one finds it by its name, by Docker's own resolver, and has the same volume.
    let script = "cat /etc/resolv.conf; wget -qO- http://web/page; touch /shared/seen";
    let second = [
        "run",
        "--rm",
        "--network",
        "names",
        "--volume",
        "shared:/shared",
        "box",
        "sh",
        "-c",
        script,
    ];
    let told = docker.must(&second);
    assert!(told.contains("127.0.0.11") && told.ends_with("page\n"), "{told}");
    assert_eq!(docker.must(&["exec", "web", "ls", "/shared"]), "seen\n");
    let stats = docker.must(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "web"]);
    assert!(stats.contains("/ 64MiB") && !stats.starts_with("0B"), "{stats}");
    docker.must(&["pause", "web"]);
    assert_eq!(docker.inspect("web", "Status"), "paused");
    docker.must(&["unpause", "web"]);
    let copy = docker.storage.file("copy");
    docker.must(&["cp", "web:/tmp/page", &copy]);
    assert_eq!(std::fs::read_to_string(&copy).expect("a file"), "page\n");
    docker.must(&["cp", &copy, "web:/tmp/again"]);
    assert_eq!(docker.must(&["exec", "web", "cat", "/tmp/again"]), "page\n");
    docker.must(&["stop", "web"]);
    assert_eq!(docker.inspect("web", "ExitCode"), "143");
    docker.must(&["start", "web"]);
    wait_until("the server once more", || docker.fetch(18080) == "page\n");
    // A terminal, as docker asks for one.
    let exec =
        format!("/usr/bin/docker --host unix://{} exec -it web tty", docker.storage.file("socket"));
    let told =
        Command::new("script").args(["-qec", &exec, "/dev/null"]).stdin(Stdio::null()).output();
    let told = String::from_utf8_lossy(&told.expect("script").stdout).into_owned();
    assert!(told.contains("/dev/pts/0"), "{told}");
    // One that wants too much is ended alone.
    let greedy = [
        "run",
        "--name",
        "greedy",
        "--memory",
        "32m",
        "box",
        "sh",
        "-c",
        "head -c 100m /dev/zero | tail",
    ];
    assert_eq!(docker.run(&greedy).status.code(), Some(137));
    // What it cannot have, with the reason.
    let host = docker.run(&["run", "--rm", "--network", "host", "box", "true"]);
    let errors = String::from_utf8_lossy(&host.stderr).into_owned();
    assert!(errors.contains("cannot share the host's"), "{errors}");
    docker.must(&["rm", "--force", "web", "greedy"]);
    let left = std::fs::read_dir(Path::new(&docker.storage.file("state/runtime-runc/moby")));
    assert_eq!(left.map_or(0, Iterator::count), 0, "the runtime's folders");
}
