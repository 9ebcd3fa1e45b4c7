//! Several containers in one sandbox: what they share, what is each one's own, whose end ends whom, and what is refused.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::bundle::{Bundle, Runtime, name};
use crate::harness::wait_until;

/// A sandbox that runs until it is told to end.
struct Pod {
    runtime: Runtime,
    id: String,
    _bundle: Bundle,
    /// The number of its process.
    pid: i64,
}

impl Pod {
    fn of(runtime: Runtime) -> Self {
        let (mut bundle, id) =
            (Bundle::of_script("trap 'exit 0' TERM; while :; do sleep 1; done"), name());
        bundle.config["annotations"] = json!({ "io.kubernetes.cri.container-type": "sandbox" });
        bundle.config["hostname"] = json!("pod");
        assert!(runtime.create(&bundle, &id, &bundle.file("output")), "{}", runtime.last_error());
        runtime.must(&["start", &id]);
        let pid = runtime.state(&id)["pid"].as_i64().expect("a pid");
        Self { runtime, id, _bundle: bundle, pid }
    }

    fn new() -> Self {
        Self::of(Runtime::netcell())
    }

    /// A bundle of a container that joins it as containerd asks for: network, ipc and uts are the sandbox's.
    fn member(&self, script: &str) -> Bundle {
        let mut bundle = Bundle::of_script(script);
        bundle.config["annotations"] = json!({
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.sandbox-id": self.id,
        });
        bundle.config.as_object_mut().expect("an object").remove("hostname");
        for (index, kind, file) in [(1, "network", "net"), (2, "ipc", "ipc"), (3, "uts", "uts")] {
            let path = format!("/proc/{}/ns/{file}", self.pid);
            bundle.config["linux"]["namespaces"][index] = json!({ "type": kind, "path": path });
        }
        bundle
    }

    /// One whose processes are the sandbox's, too.
    fn joined(&self, script: &str) -> Bundle {
        let mut bundle = self.member(script);
        let path = format!("/proc/{}/ns/pid", self.pid);
        bundle.config["linux"]["namespaces"][0] = json!({ "type": "pid", "path": path });
        bundle
    }

    /// Creates a container and starts it.
    fn start(&self, bundle: &Bundle) -> String {
        let id = name();
        assert!(
            self.runtime.create(bundle, &id, &bundle.file("output")),
            "{}",
            self.runtime.last_error()
        );
        self.runtime.must(&["start", &id]);
        id
    }

    /// Why a container cannot be made.
    fn refusal(&self, bundle: &Bundle) -> String {
        let before = self.runtime.left();
        assert!(!self.runtime.create(bundle, &name(), &bundle.file("output")));
        assert_eq!(self.runtime.left(), before, "nothing is left of it");
        self.runtime.last_error()
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// A server and its client in one pod, and what the client sees.
fn served(pod: &Pod) -> String {
    let server = pod.member(
        "mkdir /www; echo page > /www/file; hostname > /www/name; exec httpd -f -p 127.0.0.1:8080 -h /www",
    );
    let mut client = pod.member(
        "while ! wget -qO- http://127.0.0.1:8080/file 2>/dev/null; do sleep 0.1; done
        wget -qO- http://127.0.0.1:8080/name; hostname; ls /www 2>&1; ls -d /proc/[0-9]* | wc -l; echo $$
        cat /seen/in; echo inside > /seen/out; cat /one; ls -l /null | cut -c1; id -u; ulimit -n
        grep Cap /proc/self/status; mkdir /no; echo $?; exit 4",
    );
    std::fs::create_dir(client.file("data")).expect("a directory");
    std::fs::write(client.file("data/in"), "from outside\n").expect("a file");
    std::fs::write(client.file("one"), "one\n").expect("a file");
    for (index, at) in ["/seen", "/s1", "/s2", "/s3", "/s4"].iter().enumerate() {
        let options: &[&str] = if index == 0 { &["rbind"] } else { &["rbind", "ro"] };
        client.mount(at, "bind", "data", options);
    }
    client.mount("/one", "bind", "one", &["bind", "ro"]);
    client.mount("/null", "bind", "/dev/null", &["bind"]);
    let process = &mut client.config["process"];
    process["user"] = json!({ "uid": 1000, "gid": 1000 });
    process["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
    client.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }],
    });
    std::fs::set_permissions(client.file("data"), Permissions::from_mode(0o777)).expect("a mode");
    let web = pod.start(&server);
    let path = client.path();
    let output = pod.runtime.run(&["run", "--bundle", &path.to_string_lossy(), &name()]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{errors} {}", pod.runtime.last_error());
    assert_eq!(text(&client.file("data/out")), "inside\n");
    assert!(server.file("rootfs/www/file").exists() && !client.file("rootfs/www").exists());
    assert_eq!(pod.runtime.state(&web)["status"], "running");
    pod.runtime.must(&["delete", "--force", &web]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn containers_of_a_pod_share_its_network_and_names_and_have_files_and_processes_of_their_own() {
    let expected = served(&Pod::of(Runtime::runc()));
    assert!(expected.starts_with("page\npod\npod\n"), "{expected}");
    assert_eq!(served(&Pod::new()), expected, "left: netcell, right: runc");
}

/// What a container in the pid namespace of the sandbox sees of it.
fn seen(pod: &Pod) -> String {
    let bundle = pod.joined(
        "test $$ != 1 && echo another; tr '\\0' ' ' < /proc/1/cmdline; kill -0 1; echo $?; exit 3",
    );
    let output = pod.runtime.run(&["run", "--bundle", &bundle.path().to_string_lossy(), &name()]);
    assert_eq!(output.status.code(), Some(3), "{}", pod.runtime.last_error());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_container_may_share_the_processes_of_its_pod() {
    let expected = seen(&Pod::of(Runtime::runc()));
    assert!(expected.starts_with("another\nsh -c trap"), "{expected}");
    let pod = Pod::new();
    assert_eq!(seen(&pod), expected, "left: netcell, right: runc");
    // The end of such a container ends what it has started, and nothing else.
    let bundle = pod.joined("sleep 4242 & exec sleep 4243");
    let id = pod.start(&bundle);
    let all = || pod.runtime.must(&["exec", &pod.id, "ps", "-o", "args"]);
    let inside = || ["4242", "4243"].map(|program| all().contains(program));
    wait_until("both", || inside() == [true, true]);
    pod.runtime.must(&["kill", &id, "KILL"]);
    pod.runtime.ended(&id);
    assert_eq!(inside(), [false, false]);
    pod.runtime.must(&["delete", &id]);
    assert_eq!(pod.runtime.state(&pod.id)["status"], "running");
}

#[test]
fn commands_are_about_one_container_of_a_pod() {
    let pod = Pod::new();
    let count = "i=0; trap 'echo term > /seen/term; exit 5' TERM; while :; do i=$((i+1)); echo $i > /seen/count; sleep 0.02; done";
    let counting = || {
        let mut bundle = pod.member(count);
        std::fs::create_dir(bundle.file("data")).expect("a directory");
        bundle.mount("/seen", "bind", "data", &["rbind"]);
        let id = pod.start(&bundle);
        (bundle, id)
    };
    let ((first, one), (second, two)) = (counting(), counting());
    let at = |bundle: &Bundle| text(&bundle.file("data/count")).trim().parse().unwrap_or(0u64);
    let goes_on = |bundle: &Bundle| {
        let before = at(bundle);
        wait_until("the count", || at(bundle) > before + 1);
    };
    goes_on(&first);
    // One is held, the other goes on.
    pod.runtime.must(&["pause", &one]);
    assert_eq!(pod.runtime.state(&one)["status"], "paused");
    let held = at(&first);
    goes_on(&second);
    assert!(at(&first) <= held + 1, "what was under way when it was held, at most");
    pod.runtime.must(&["resume", &one]);
    goes_on(&first);
    // Programs are added to one, and see that one.
    std::fs::write(first.file("data/mark"), "first\n").expect("a file");
    let told = pod.runtime.run(&["exec", &one, "sh", "-c", "cat /seen/mark; exit 9"]);
    assert_eq!((told.status.code(), &*told.stdout), (Some(9), &b"first\n"[..]));
    let listed = pod.runtime.must(&["ps", &two]);
    assert!(listed.contains("count") && !listed.contains("trap 'exit 0'"), "{listed}");
    let own: serde_json::Value =
        serde_json::from_str(&pod.runtime.must(&["ps", "--format", "json", &two])).expect("JSON");
    assert_eq!(own, json!([pod.runtime.state(&two)["pid"]]));
    // One has no room for more tasks, the others have.
    let full = pod.start(&pod.member("exec sleep 4242"));
    std::fs::write(first.file("limits"), r#"{ "pids": { "limit": 1 } }"#).expect("a file");
    let limits = first.file("limits").to_string_lossy().into_owned();
    pod.runtime.must(&["update", "--resources", &limits, &full]);
    assert!(!pod.runtime.run(&["exec", &full, "true"]).status.success());
    pod.runtime.must(&["exec", &two, "true"]);
    pod.runtime.must(&["delete", "--force", &full]);
    // Signals reach one.
    pod.runtime.must(&["kill", &one, "TERM"]);
    pod.runtime.ended(&one);
    assert_eq!(text(&first.file("data/term")), "term\n");
    assert!(!pod.runtime.run(&["exec", &one, "true"]).status.success());
    goes_on(&second);
    assert!(!second.file("data/term").exists());
    // Its end is its name's.
    pod.runtime.must(&["delete", &one]);
    assert!(!pod.runtime.run(&["delete", &two]).status.success(), "it runs");
    pod.runtime.must(&["delete", "--force", &two]);
    assert_eq!(pod.runtime.left(), std::slice::from_ref(&pod.id));
}

#[test]
fn a_container_that_never_starts_is_removed_from_its_pod() {
    let pod = Pod::new();
    let bundle = pod.member("echo never");
    let id = name();
    for end in [&["delete"][..], &["kill"]] {
        assert!(
            pod.runtime.create(&bundle, &id, &bundle.file("output")),
            "{}",
            pod.runtime.last_error()
        );
        assert_eq!(pod.runtime.state(&id)["status"], "created");
        pod.runtime.must(&[end, &[&id]].concat());
    }
    pod.runtime.ended(&id);
    pod.runtime.must(&["delete", &id]);
    assert_eq!(text(&bundle.file("output")), "");
    // A program that is not there is told when it is made, and leaves nothing.
    let mut wrong = pod.member("");
    wrong.config["process"]["args"] = json!(["/none"]);
    let told = pod.refusal(&wrong);
    assert!(told.contains("/none: No such file"), "{told}");
}

#[test]
fn the_end_of_a_sandbox_ends_its_containers() {
    for end in ["TERM", "KILL"] {
        let pod = Pod::new();
        let (bundle, own) = (pod.joined("exec sleep 4242"), pod.member("exec sleep 4243"));
        let (one, two) = (pod.start(&bundle), pod.start(&own));
        // It waits for its start.
        let three = name();
        assert!(
            pod.runtime.create(&own, &three, &own.file("third")),
            "{}",
            pod.runtime.last_error()
        );
        pod.runtime.must(&["kill", &pod.id, end]);
        for id in [&pod.id, &one, &two, &three] {
            pod.runtime.ended(id);
        }
        assert!(!pod.runtime.run(&["start", &three]).status.success());
        assert!(!pod.runtime.run(&["exec", &one, "true"]).status.success());
        let told = pod.refusal(&own);
        assert!(told.contains("is stopped"), "{told}");
        for id in [&pod.id, &one, &two, &three] {
            pod.runtime.must(&["delete", id]);
        }
        assert!(pod.runtime.left().is_empty());
    }
}

#[test]
fn a_container_ends_with_the_process_that_stands_for_it() {
    let pod = Pod::new();
    let bundle = pod.joined("exec sleep 4242");
    let id = pod.start(&bundle);
    let pid = pod.runtime.state(&id)["pid"].as_i64().expect("a pid");
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("the process that stands for it");
    pod.runtime.ended(&id);
    pod.runtime.must(&["delete", &id]);
    let all = pod.runtime.must(&["exec", &pod.id, "ps", "-o", "args"]);
    assert!(!all.contains("4242"), "{all}");
    // Its name is free.
    assert!(
        pod.runtime.create(&bundle, &id, &bundle.file("output")),
        "{}",
        pod.runtime.last_error()
    );
    pod.runtime.must(&["delete", "--force", &id]);
}

/// What is changed of a configuration that would be good.
type Change<'a> = &'a dyn Fn(&mut serde_json::Value);

#[test]
fn a_container_that_fits_no_pod_is_refused() {
    let pod = Pod::new();
    let changed = |change: Change<'_>| {
        let mut bundle = pod.member("true");
        change(&mut bundle.config);
        pod.refusal(&bundle)
    };
    let cases: [(Change<'_>, &str); 7] = [
        (
            &|c| c["annotations"] = json!({ "io.kubernetes.cri.container-type": "container" }),
            "names no sandbox",
        ),
        (&|c| c["annotations"]["io.kubernetes.cri.sandbox-id"] = json!("none"), "does not exist"),
        (
            &|c| c["annotations"]["io.kubernetes.cri.sandbox-id"] = json!("../x"),
            "no name of a sandbox",
        ),
        (
            &|c| c["linux"]["namespaces"][1] = json!({ "type": "network" }),
            "another one than the pod's",
        ),
        (
            &|c| c["linux"]["namespaces"][0]["path"] = json!("/proc/1/ns/pid"),
            "no container of the pod",
        ),
        (&|c| c["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" }), "the pod's sandbox"),
        (&|c| c["annotations"] = json!({}), "only the containers of a pod"),
    ];
    for (change, expected) in cases {
        let told = changed(change);
        assert!(told.contains(expected), "{expected}: {told}");
    }
    // A sandbox with containers goes with them, where it is told to.
    let id = pod.start(&pod.member("exec sleep 4242"));
    assert!(!pod.runtime.run(&["delete", &pod.id]).status.success());
    pod.runtime.must(&["delete", "--force", &pod.id]);
    pod.runtime.ended(&id);
    pod.runtime.must(&["delete", &id]);
}
