//! The same bundle run by runc and by netcell: output and status are compared.

use std::process::Stdio;

use serde_json::json;

use super::bundle::{Bundle, Runtime, name};
use crate::harness::{Given, finish};

fn given(runtime: &Runtime, bundle: &Bundle) -> Given {
    let path = bundle.path();
    let (path, name) = (path.to_string_lossy(), name());
    let mut command = runtime.command(&["run", "--bundle", &path, &name]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a runtime");
    let output = finish(child);
    assert!(runtime.left().is_empty(), "left: {:?}", runtime.left());
    let errors = String::from_utf8_lossy(&output.stderr);
    eprintln!("standard error: {errors}");
    Given::of(&output)
}

/// Both must give the same; runc's must be what was asked for.
fn same_as_runc(bundle: &Bundle) {
    let expected = given(&Runtime::runc(), bundle);
    assert_eq!(given(&Runtime::netcell(), bundle), expected, "left: netcell, right: runc");
}

/// What a program knows of itself.
const WHO: &str = "id; umask; pwd; env | sort; hostname; ulimit -n; ulimit -Hn; echo pid $$;
    grep -E '^(Cap|NoNewPrivs|Groups|Uid|Gid)' /proc/self/status; exit 7";

#[test]
fn a_process_has_the_identity_and_limits_of_its_configuration() {
    let mut bundle = Bundle::of_script(WHO);
    // Without limits of its own a program has the runtime's, which are not the same.
    bundle.config["process"]["rlimits"] =
        json!([{ "type": "RLIMIT_NOFILE", "soft": 300, "hard": 400 }]);
    same_as_runc(&bundle);
    let process = &mut bundle.config["process"];
    process["user"] =
        json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 1002], "umask": 0o027 });
    process["cwd"] = json!("/srv/made/here");
    process["noNewPrivileges"] = json!(true);
    process["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
    process["capabilities"]["inheritable"] = json!(["CAP_KILL"]);
    process["capabilities"]["ambient"] = json!(["CAP_KILL"]);
    same_as_runc(&bundle);
    bundle.config["process"]["capabilities"] = json!({});
    same_as_runc(&bundle);
}

#[test]
fn mounts_are_those_of_the_configuration() {
    let mut bundle = Bundle::of_script(
        "cat /data/in; grep -c . /one; echo new > /data/out; cat /data/out; touch /seen/x; touch /one;
        echo one file > /one; cat /one; dd if=/dev/zero of=/dev/shm/big bs=1k count=128 2>&1 | grep -c left;
        ls /empty; stat -c '%a %u:%g %F' /empty /dev/shm /data /seen /one;
        cat /proc/kcore | wc -c; cat /proc/keys; echo x > /proc/sys/kernel/domainname; echo status $?;
        test -w /proc/sys; echo $?; touch /sys/x; touch /ok && echo ok; ls -l /dev/null | cut -c1-10;
        for d in null zero full random urandom tty; do stat -c '%n %t:%T %a %F' /dev/$d; done;
        readlink /dev/fd /dev/stdin /dev/stdout /dev/stderr /dev/ptmx; ls /dev | wc -l",
    );
    std::fs::create_dir(bundle.file("data")).expect("a directory");
    std::fs::write(bundle.file("data/in"), "from outside\n").expect("a file");
    std::fs::write(bundle.file("one"), "before\n").expect("a file");
    let (data, one) = (bundle.file("data"), bundle.file("one"));
    bundle.mount("/data", "bind", &data.to_string_lossy(), &["rbind", "rprivate"]);
    bundle.mount("/seen", "bind", &data.to_string_lossy(), &["bind", "ro"]);
    // Relative to the bundle.
    bundle.mount("/one", "none", "one", &["bind"]);
    bundle.mount("/empty", "tmpfs", "tmpfs", &["mode=701", "uid=3", "gid=4"]);
    same_as_runc(&bundle);
    assert_eq!(std::fs::read_to_string(one).expect("a file"), "one file\n");
    assert_eq!(std::fs::read_to_string(data.join("out")).expect("a file"), "new\n");
    assert!(bundle.file("rootfs/ok").exists(), "the root is the bundle's");
}

#[test]
fn a_root_can_be_read_only_and_devices_can_be_added() {
    let mut bundle = Bundle::of_script(
        "touch /x; echo $?; echo y > /tmp/y; mkdir /etc/z; echo $?; touch /dev/w && echo dev;
        stat -c '%n %t:%T %a %u:%g %F' /dev/mine /dev/pipe; cat /dev/mine | wc -c",
    );
    bundle.config["root"]["readonly"] = json!(true);
    bundle.config["linux"]["devices"] = json!([
        { "path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 1, "gid": 2 },
        { "path": "/dev/pipe", "type": "p", "fileMode": 0o600 },
    ]);
    same_as_runc(&bundle);
}

#[test]
fn settings_are_those_of_the_configuration() {
    let mut bundle =
        Bundle::of_script("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ping_group_range");
    bundle.config["linux"]["sysctl"] =
        json!({ "net.ipv4.ip_forward": "1", "net.ipv4.ping_group_range": "3 7" });
    same_as_runc(&bundle);
}

#[test]
fn a_seccomp_profile_holds_for_programs() {
    let mut bundle = Bundle::of_script(
        "mkdir /made; echo $?; chmod 700 /tmp && echo changed; hostname other; echo $?;
        sh -c 'sync'; echo $?; cat /proc/self/comm",
    );
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [
            { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 },
            { "names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO",
              "args": [{ "index": 1, "value": 448, "op": "SCMP_CMP_NE" }] },
            { "names": ["sethostname"], "action": "SCMP_ACT_ERRNO" },
            { "names": ["sync"], "action": "SCMP_ACT_KILL_PROCESS" },
        ],
    });
    same_as_runc(&bundle);
}

#[test]
fn a_link_in_the_root_does_not_lead_a_mount_out_of_it() {
    let mut bundle = Bundle::of_script("ls /there; ls /etc/inside");
    let outside = bundle.file("outside");
    std::fs::create_dir(&outside).expect("a directory");
    std::os::unix::fs::symlink(&outside, bundle.file("rootfs/there")).expect("a link");
    std::fs::create_dir(bundle.file("data")).expect("a directory");
    std::fs::write(bundle.file("data/file"), "").expect("a file");
    let inside = format!("rootfs{}", outside.display());
    std::fs::create_dir_all(bundle.file(&inside)).expect("a directory");
    bundle.mount("/there", "bind", "data", &["bind"]);
    bundle.mount("/etc/inside", "bind", "data", &["bind"]);
    same_as_runc(&bundle);
    assert!(std::fs::read_dir(&outside).expect("a directory").next().is_none());
}

#[test]
fn a_program_that_a_signal_ends_is_told_like_one_of_runc() {
    same_as_runc(&Bundle::of_script("sh -c 'kill -TERM $$'; exit $?"));
    same_as_runc(&Bundle::of_script("trap 'echo got; exit 3' USR1; kill -USR1 $$; sleep 100"));
}
