//! Bad input gets one line that says what failed, on what, and what to do; nothing is left behind.

use std::os::unix::fs::PermissionsExt;

use crate::harness::{Namespace, Scratch, netcell, run, same_program_as_host};

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

#[test]
fn a_fork_bomb_meets_its_limit() {
    let script = "ulimit -u 200; f() { for i in 1 2 3; do sleep 2 & done; }; for i in $(seq 1 100); do f; done 2>&1 | grep -q 'Resource temporarily unavailable' && echo limited";
    let output = run(&mut netcell(&["--user", "1000"], &["/bin/bash", "-c", script]), b"");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "limited\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
