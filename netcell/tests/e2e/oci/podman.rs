//! podman drives the runtime, with an image that is made on the spot from busybox.

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::bundle::{archive, name, rootfs};
use crate::harness::{NETCELL, Namespace, Running, Scratch, finish, wait_until};

/// Where podman keeps what belongs to networks that run.
const NETWORKS: &str = "/run/containers/networks";

/// What makes podman's networks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Backend {
    Netavark,
    Cni,
}

/// podman with storage of its own, removed with all its containers.
struct Podman {
    storage: Scratch,
    /// Where it makes its networks, and never on the machine itself.
    network: Option<Namespace>,
    /// What makes its networks.
    backend: Backend,
    /// Whose mounts it sees: the folder of its servant of names is the whole machine's.
    mounts: Option<Running>,
}

impl Podman {
    /// With an image called `box`.
    fn new(network: Option<Namespace>) -> Self {
        Self::by(Backend::Netavark, network)
    }

    fn by(backend: Backend, network: Option<Namespace>) -> Self {
        // An overlay cannot lie on another one, as /tmp may be.
        let podman = Self { storage: Scratch::of_image(), network, backend, mounts: None };
        let settings =
            "[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\"/usr/lib/cni\"]\n";
        std::fs::write(podman.place("containers.conf"), settings).expect("a file");
        let root = podman.storage.path().join("image");
        rootfs(&root);
        let image = podman.storage.file("image.tar");
        archive(&root, Path::new(&image));
        // podman's own clean-up has no --runtime-flag: the root is the program's.
        let state = podman.place("state");
        let script = format!("#!/bin/sh\nexec {NETCELL} --root {} \"$@\"\n", state.display());
        std::fs::write(podman.place("netcell"), script).expect("a file");
        std::fs::set_permissions(podman.place("netcell"), Permissions::from_mode(0o755))
            .expect("a file");
        podman.must(&["import", &image, "box"]);
        podman
    }

    /// With a folder of its own for what its networks run.
    fn with_servants(network: Namespace) -> Self {
        let script = format!(
            "mkdir -p {NETWORKS}; mount -t tmpfs tmpfs {NETWORKS}; echo ready; exec sleep infinity"
        );
        let mut holder = Command::new("unshare");
        holder.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        holder.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut holder = Running::new(holder.spawn().expect("unshare"));
        let mut line = String::new();
        let told = holder.stdout.take().expect("stdout");
        BufReader::new(told).read_line(&mut line).expect("a folder");
        assert_eq!(line, "ready\n");
        let mut podman = Self::new(Some(network));
        podman.mounts = Some(holder);
        podman
    }

    fn command(&self, args: &[&str]) -> Command {
        let place = |name: &str| self.storage.path().join(name).to_string_lossy().into_owned();
        let mut command = match &self.network {
            None => Command::new("podman"),
            Some(namespace) => {
                // ip-netns(8) would hide the cgroups.
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{}", namespace.name()));
                if let Some(holder) = &self.mounts {
                    command.arg(format!("--mount=/proc/{}/ns/mnt", holder.id()));
                }
                command.arg("podman");
                command
            }
        };
        if self.backend == Backend::Cni {
            command.env("CONTAINERS_CONF", place("containers.conf"));
        }
        command
            .args(["--root", &place("root"), "--runroot", &place("run"), "--tmpdir", &place("tmp")])
            .args(["--cgroup-manager", "cgroupfs", "--events-backend", "file"])
            // A reset takes away all networks that it finds: none but its own.
            .args(["--network-config-dir", &place("networks")])
            .args(["--runtime", &place("netcell")])
            .args(args)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("podman"))
    }

    fn must(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "podman {args:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn place(&self, name: &str) -> PathBuf {
        self.storage.path().join(name)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.run(&["rm", "--all", "--force", "--time", "0"]);
        let _ = self.run(&["system", "reset", "--force"]);
        let Some(holder) = &self.mounts else { return };
        // It ends with its last container, unless the test ended before.
        let pid = format!("/proc/{}/root{NETWORKS}/aardvark-dns/aardvark.pid", holder.id());
        let pid = std::fs::read_to_string(pid).ok().and_then(|pid| pid.trim().parse().ok());
        if let Some(pid) = pid {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        }
    }
}

/// What every container of these tests is started with: root has no right to raise limits on some machines.
const RUN: [&str; 5] = ["run", "--network", "none", "--ulimit", "host"];

fn of(flags: &[&'static str], rest: &[&str]) -> Vec<String> {
    RUN.iter().chain(flags).chain(rest).map(|word| (*word).to_owned()).collect()
}

#[test]
fn podman_runs_containers() {
    let podman = Podman::new(None);
    let must =
        |args: Vec<String>| podman.must(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(must(of(&["--rm"], &["box", "echo", "hello"])), "hello\n");
    let status = |args: Vec<String>| {
        podman.run(&args.iter().map(String::as_str).collect::<Vec<_>>()).status.code()
    };
    assert_eq!(status(of(&["--rm"], &["box", "sh", "-c", "exit 5"])), Some(5));
    assert_eq!(status(of(&["--rm"], &["box", "/none"])), Some(127));
    let forks = "exec 2>&1; for i in $(seq 30); do sleep 1 & done";
    let flags = ["--rm", "--pids-limit", "20", "box", "sh", "-c", forks];
    let told = podman.run(&[&RUN[..], &flags].concat());
    assert!(String::from_utf8_lossy(&told.stdout).contains("can't fork"), "{told:?}");
    let volume = podman.place("volume");
    std::fs::create_dir(&volume).expect("a directory");
    let shared = format!("{}:/data", volume.display());
    let script = "echo kept > /data/file; id -u; hostname; grep -c . /etc/hosts";
    let flags = ["--rm", "--volume", &shared, "--hostname", "inside", "--user", "1000:1000"];
    std::fs::set_permissions(&volume, std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .expect("a directory");
    let told = podman.must(&[&RUN[..], &flags, &["box", "sh", "-c", script]].concat());
    assert!(told.starts_with("1000\ninside\n"), "{told}");
    assert_eq!(std::fs::read_to_string(volume.join("file")).expect("a file"), "kept\n");
    let id = name();
    let script = "trap 'echo ending; exit 0' TERM; echo up; while :; do sleep 0.1; done";
    let limits = ["--memory", "300m", "--health-cmd", "test -e /tmp/well"];
    let flags = [&["--detach", "--name", &id][..], &limits].concat();
    podman.must(&[&RUN[..], &flags, &["box", "sh", "-c", script]].concat());
    wait_until("the log", || podman.must(&["logs", &id]) == "up\n");
    assert_eq!(podman.must(&["exec", &id, "sh", "-c", "echo $((6*7))"]), "42\n");
    assert_eq!(podman.run(&["exec", &id, "sh", "-c", "exit 9"]).status.code(), Some(9));
    assert!(podman.must(&["exec", &id, "ps"]).contains("trap"));
    // By ps(1) in the container; what podman looks up itself is the host's.
    assert!(podman.must(&["top", &id, "-o", "pid,args"]).contains("trap"));
    assert_eq!(podman.run(&["healthcheck", "run", &id]).status.code(), Some(1));
    podman.must(&["exec", &id, "touch", "/tmp/well"]);
    podman.must(&["healthcheck", "run", &id]);
    assert!(podman.must(&["ps"]).contains(&id));
    podman.must(&["pause", &id]);
    assert!(podman.must(&["ps", "--all"]).contains("Paused"));
    podman.must(&["unpause", &id]);
    let limit = podman.must(&["stats", "--no-stream", "--format", "{{.MemUsage}}", &id]);
    assert!(limit.contains("314.6MB"), "{limit}");
    podman.must(&["cp", &format!("{id}:/etc/passwd"), &podman.place("copy").to_string_lossy()]);
    assert!(podman.place("copy").exists());
    podman.must(&["stop", &id]);
    assert!(podman.must(&["logs", &id]).ends_with("ending\n"));
    podman.must(&["start", &id]);
    podman.must(&["rm", "--force", "--time", "0", &id]);
    assert_eq!(podman.must(&["ps", "--all", "--quiet"]), "");
    // Of containers with --rm, conmon cleans up after their end is told.
    wait_until("the runtime's folders to go", || {
        std::fs::read_dir(podman.place("state")).map_or(0, Iterator::count) == 0
    });
}

#[test]
fn podman_gives_programs_a_terminal() {
    let podman = Podman::new(None);
    let id = name();
    let on_terminal = |args: &[&str]| {
        let podman = podman.command(args);
        let words = std::iter::once(podman.get_program()).chain(podman.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        // script(1) is a terminal.
        let mut script = Command::new("script");
        script.args(["-qec", &words.join(" "), "/dev/null"]).stdin(Stdio::null());
        let output =
            finish(script.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("script"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let shown = on_terminal(&[&RUN[..], &["--rm", "-it", "box", "tty"]].concat());
    assert!(shown.contains("/dev/"), "{shown}");
    podman.must(&[&RUN[..], &["--detach", "--name", &id, "box", "sleep", "100000"]].concat());
    let shown = on_terminal(&["exec", "-it", &id, "tty"]);
    assert!(shown.contains("/dev/pts/"), "{shown}");
}

#[test]
fn podman_gives_a_container_an_address_and_publishes_its_port() {
    publishes_a_port(&Podman::by(Backend::Netavark, Some(Namespace::new())));
}

#[test]
fn podman_does_the_same_by_cni() {
    publishes_a_port(&Podman::by(Backend::Cni, Some(Namespace::new())));
}

fn publishes_a_port(podman: &Podman) {
    let host = podman.network.as_ref().expect("a namespace");
    let (network, web) = (name(), name());
    // The servant of names would be the whole machine's, and outlive a failed test.
    podman.must(&["network", "create", "--disable-dns", &network]);
    let run = ["run", "--ulimit", "host", "--network", &network];
    let serve = "mkdir /www; echo served > /www/file; exec httpd -f -p 80 -h /www";
    let flags = ["--detach", "--name", &web, "--publish", "8081:80"];
    podman.must(&[&run[..], &flags, &["box", "sh", "-c", serve]].concat());
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let address = podman.must(&["inspect", &web, "--format", format]).trim().to_owned();
    let fetch = |url: &str| {
        let fetched = host.command(&["curl", "-sS", "--max-time", "20", url]).output();
        String::from_utf8_lossy(&fetched.expect("curl").stdout).into_owned()
    };
    wait_until("the server", || fetch(&format!("http://{address}/file")) == "served\n");
    assert_eq!(fetch("http://127.0.0.1:8081/file"), "served\n");
    podman.must(&["rm", "--force", "--time", "0", &web]);
    podman.must(&["network", "rm", &network]);
}

#[test]
fn containers_of_one_network_find_each_other_by_name() {
    let podman = Podman::with_servants(Namespace::new());
    let (network, web) = (name(), name());
    podman.must(&["network", "create", &network]);
    let run = ["run", "--ulimit", "host", "--network", &network];
    let serve = "mkdir /www; echo served > /www/file; exec httpd -f -p 80 -h /www";
    podman.must(&[&run[..], &["--detach", "--name", &web, "box", "sh", "-c", serve]].concat());
    // busybox asks for names by itself in nslookup alone.
    let fetch = format!(
        "address() {{ nslookup $1 | awk '/^Name/ {{ named = 1 }} named && /^Address/ {{ print $2 }}'; }}
        until wget -q -O - http://$(address {web})/file; do sleep 0.1; done; address nobody-of-this-name"
    );
    let said = podman.must(&[&run[..], &["--rm", "box", "sh", "-c", &fetch]].concat());
    assert_eq!(said, "served\n");
    podman.must(&["rm", "--force", "--time", "0", &web]);
    podman.must(&["network", "rm", &network]);
}
