//! Bad input gets one line that says what failed, on what, and what to do; nothing is left behind.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::harness::{
    Namespace, Running, Scratch, host, netcell, run, same_program_as_host, wait_until,
};

/// Runs and expects this status and one line on standard error that has all of `words`.
fn fails(flags: &[&str], program: &[&str], status: i32, words: &[&str]) {
    let output = run(&mut netcell(flags, program), b"");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{errors}");
    assert_eq!(errors.lines().count(), 1, "not one line: {errors}");
    for word in words {
        assert!(errors.contains(word), "'{word}' is not in: {errors}");
    }
}

#[test]
fn a_missing_program_is_127() {
    fails(&[], &["/no/such/program"], 127, &["/no/such/program", "No such file"]);
    fails(&[], &["no-such-program-anywhere"], 127, &["no-such-program-anywhere"]);
}

#[test]
fn what_cannot_be_executed_is_126() {
    let folder = Scratch::new();
    let elf = std::fs::read("/bin/true").expect("/bin/true");
    let mut foreign = elf.clone();
    // e_machine: AArch64.
    foreign[18..20].copy_from_slice(&183u16.to_le_bytes());
    for (name, bytes) in [
        ("foreign", &foreign[..]),
        ("short", &elf[..100]),
        ("cut", &elf[..3000]),
        ("text", b"no program\n"),
        ("empty", b""),
    ] {
        let path = folder.file(name);
        std::fs::write(&path, bytes).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
        let inside = format!("/x/{name}");
        fails(
            &["--volume", &format!("{}:/x:ro", folder.path().display())],
            &[&inside],
            126,
            &[&inside],
        );
    }
    fails(&[], &["/usr"], 126, &["/usr"]);
    fails(&[], &["/etc/hostname"], 126, &["/etc/hostname", "Permission denied"]);
}

#[test]
fn flags_that_make_no_sense_are_125() {
    for flags in [
        &["--net", "bridge"][..],
        &["--ip", "10.0.0.1"],
        &["--rootfs", "/no/such/dir"],
        &["--volume", "/no/such/dir:/x"],
        &["--volume", "x"],
        &["--capture", "/no/such/dir/t.pcapng"],
        &["--workdir", "/no/such/dir"],
        &["--user", "nobody-at-all"],
        &["--ip", "10.9.0.2/24"],
    ] {
        let output = run(&mut netcell(flags, &["/bin/true"]), b"");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{flags:?}: {errors}");
        assert!(!errors.is_empty(), "{flags:?} failed without a word");
    }
}

#[test]
fn a_taken_address_or_device_says_so() {
    let namespace = Namespace::new();
    run(
        &mut namespace
            .command(&["ip", "link", "add", "nc0", "type", "veth", "peer", "name", "other"]),
        b"",
    );
    let output = run(&mut namespace.netcell(&[], &["/bin/true"]), b"");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{errors}");
    assert!(errors.contains("nc0"), "{errors}");
    let namespace = Namespace::new();
    let taken =
        "ip link add v type veth peer name w && ip addr add 10.9.0.1/24 dev v && ip link set v up";
    run(&mut namespace.command(&["sh", "-c", taken]), b"");
    let output = run(&mut namespace.netcell(&[], &["/bin/true"]), b"");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{errors}");
    assert!(errors.contains("10.9.0.1"), "{errors}");
    let links = run(&mut namespace.command(&["ip", "-o", "link"]), b"");
    assert!(!String::from_utf8_lossy(&links.stdout).contains("nc0"), "the device was left behind");
}

#[test]
fn hostile_arguments_get_linuxs_errno() {
    same_program_as_host(&[], &["/usr/bin/python3", "-c", include_str!("programs/hostile.py")]);
}

/// Where hostile_more.py sees another errno than on Linux: beginnings of the call, Linux's answer and ours, and why that is well.
const DIFFERENT: &[(&[&str], &str, &str, &str)] = &[
    (
        &[
            "process_vm_readv",
            "set_mempolicy",
            "membarrier",
            "rseq",
            "name_to_handle_at",
            "io_uring_setup",
            "futex_waitv",
            "bpf",
            "perf_event_open",
            "io_setup",
            "ioprio_get",
            "kcmp",
            "pidfd_getfd",
            "swapon",
            "quotactl",
            "userfaultfd",
            "fanotify_init",
            "keyctl",
            "mq_open",
            "shmget",
            "shmat",
            "shmctl",
            "semget",
            "semop",
            "semctl",
            "msgget",
            "msgsnd",
            "msgrcv",
            "msgctl",
            "no call",
        ],
        "*",
        "ENOSYS",
        "the call is not there, as in a Linux that was built without it",
    ),
    (
        &["futex * 6 ", "futex * 7 ", "futex * 8 ", "futex * 1", "futex odd"],
        "*",
        "ENOSYS",
        "futexes that inherit priority are not there",
    ),
    (
        &[
            "setns",
            "ptrace",
            "pivot_root",
            "syslog",
            "reboot",
            "acct",
            "settimeofday",
            "clock_settime",
        ],
        "*",
        "EPERM",
        "nobody has the right to it in a sandbox, so its arguments are not judged",
    ),
    (&["seccomp"], "EFAULT", "EINVAL", "filters of a program's own are not there"),
    (&["prctl 25 "], "EFAULT", "EINVAL", "the time-stamp counter cannot be hidden"),
    (&["clone 0x11900 "], "EFAULT", "EINVAL", "a pidfd tells of a process, not of a thread"),
    (&["clone3 args"], "EBADF", "ENOTSUP", "there are no control groups to start in"),
    (
        &["clock_nanosleep 2 ", "clock_nanosleep -6 "],
        "*",
        "ENOTSUP",
        "no timers run on CPU time that others spend",
    ),
    (
        &["timer_create -1 "],
        "EFAULT",
        "EINVAL",
        "the clock is judged first, so no timer is made and taken back",
    ),
    (
        &["mmap file 0 4096 1 ", "mmap file 0 4096 3 "],
        "*",
        "ENODEV",
        "receive queues of TCP cannot be mapped (TCP_ZEROCOPY_RECEIVE is not there)",
    ),
    (
        &["msync 4096 -1 "],
        "ok",
        "ENOMEM",
        "a length that wraps is refused, where Linux takes it for nothing",
    ),
    (&["mlock 4096 -1 ", "munlock 4096 -1 ", "mlock2 4096 -1 "], "ok", "EINVAL", "the same"),
    (&["mremap -4096 "], "EFAULT", "EINVAL", "the range is judged before what is mapped there"),
    (&["ioctl "], "EFAULT", "ENOTTY", "private requests of network drivers are no requests here"),
    (&["lseek 56 "], "ok", "*", "/dev/null has no data, no hole and no place before its start"),
    (
        &["fchmod 5", "fchmod 6"],
        "*",
        "*",
        "files without a path have no owner and no mode to change",
    ),
    (&["flock 6"], "*", "EBADF", "files without a path have no locks"),
    (
        &["read 65 -1 ", "write 65 -1 ", "write 67 -1 "],
        "EINVAL",
        "EFAULT",
        "of two things that are wrong the other is told",
    ),
    (&["rename "], "ENOENT", "EFAULT", "both names are read before the first is looked for"),
    (&["rename "], "ENOTDIR", "ENAMETOOLONG", "the same"),
    (&["rename "], "EBUSY", "EXDEV", "/tmp is a file system of its own in the sandbox"),
    (
        &["copy_file_range 50 * 50 * "],
        "EOVERFLOW",
        "EINVAL",
        "a negative offset is refused as such",
    ),
    (
        &["sendfile 59 56 ", "splice 56 0 59 "],
        "EINVAL",
        "ok",
        "what is read of /dev/null is nothing, into a pipe too",
    ),
    (
        &["sendfile 59 58 "],
        "EINVAL",
        "EAGAIN",
        "an empty pipe is found empty before it is found to be the target too",
    ),
    (
        &["splice 58 0 65 "],
        "EINVAL",
        "EAGAIN",
        "an empty pipe is found empty before the target is asked",
    ),
];

fn is_explained(call: &str, linux: &str, here: &str) -> bool {
    let fits = |pattern: &str, errno: &str| pattern == "*" || pattern == errno;
    DIFFERENT.iter().any(|(calls, on_linux, inside, _)| {
        calls.iter().any(|start| call.starts_with(start))
            && fits(on_linux, linux)
            && fits(inside, here)
    })
}

#[test]
fn more_hostile_arguments_get_linuxs_errno_or_one_that_is_explained() {
    let program = ["/usr/bin/python3", "-c", include_str!("programs/hostile_more.py")];
    let folder = Scratch::new();
    let on_host = run(&mut host(&program, folder.path()), b"");
    let inside = run(&mut netcell(&[], &program), b"");
    for output in [&on_host, &inside] {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let (on_host, inside) =
        (String::from_utf8_lossy(&on_host.stdout), String::from_utf8_lossy(&inside.stdout));
    let calls = on_host.lines().count();
    assert!(calls > 5000 && inside.lines().count() == calls, "calls are missing");
    let strange: Vec<String> = on_host
        .lines()
        .zip(inside.lines())
        .filter_map(|(linux, here)| {
            let (call, linux) = linux.rsplit_once(" = ")?;
            let (same_call, here) = here.rsplit_once(" = ")?;
            let fine = call == same_call && (linux == here || is_explained(call, linux, here));
            (!fine).then(|| format!("{call}: {linux} on Linux, {same_call}: {here} here"))
        })
        .collect();
    assert!(strange.is_empty(), "{} of {calls}:\n{}", strange.len(), strange.join("\n"));
}

#[test]
fn a_fork_bomb_meets_its_limit() {
    let script = "ulimit -u 200; f() { for i in 1 2 3; do sleep 1000 & done; }; for i in $(seq 1 100); do f; done 2>&1 | grep -q 'Resource temporarily unavailable' && echo limited";
    let output = run(&mut netcell(&["--user", "1000"], &["/bin/bash", "-c", script]), b"");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "limited\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The processes that descend from one, without it.
fn descendants(of: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
            Some((pid, parent.trim().parse().ok()?))
        })
        .collect();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// Nobody has reaped it perhaps, but it runs no more.
fn is_gone(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.is_empty() || status.contains("State:\tZ") || status.contains("State:\tX")
}

#[test]
fn a_netcell_that_is_killed_leaves_no_process_and_no_device() {
    let namespace = Namespace::new();
    let child = namespace
        // The word is the second program's, so that both run by then.
        .netcell(&[], &["/bin/sh", "-c", "(echo up; exec sleep 1000) & wait"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("netcell");
    let mut child = Running::new(child);
    let mut up = [0; 3];
    child.stdout.as_mut().expect("stdout").read_exact(&mut up).expect("the program's word");
    // The second program's exec takes another process: for a moment there is neither.
    let mut processes = Vec::new();
    wait_until("the zygote and two programs", || {
        processes = descendants(child.id());
        processes.len() >= 3
    });
    child.kill().expect("kill");
    child.wait().expect("wait");
    wait_until("the end of all processes", || processes.iter().all(|pid| is_gone(*pid)));
    let links = run(&mut namespace.command(&["ip", "-o", "link"]), b"");
    assert!(!String::from_utf8_lossy(&links.stdout).contains("nc0"), "the device was left behind");
}
