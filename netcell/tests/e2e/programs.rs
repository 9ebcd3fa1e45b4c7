//! Real programs give the same output and exit status as on the host.

use crate::harness::{Scratch, inside, netcell, run, same_as_host, same_program_as_host, unique};

const BASH: &str = include_str!("programs/shell.sh");
const GIT: &str = include_str!("programs/git.sh");
const MAKE: &str = include_str!("programs/make.sh");
const SQLITE: &str = include_str!("programs/sqlite.sh");
const PERL: &str = include_str!("programs/calls.pl");
const THREADS_C: &str = include_str!("programs/threads.c");
const CALLS_PY: &str = include_str!("programs/calls.py");
const POOL_PY: &str = include_str!("programs/pool.py");

#[test]
fn busybox_shell() {
    let script = "echo hello; for i in 1 2 3; do echo $i; done | tac; mkdir -p d/e; echo x > d/e/f; cat d/e/f; ls -R d; \
        test -d d && echo dir; expr 6 \\* 7; printf '%s\\n' a b c | sort -r | head -2; rm -r d; ls d 2>/dev/null; echo $?";
    same_program_as_host(&[], &["/bin/busybox", "sh", "-c", script]);
}

#[test]
fn exit_statuses_are_the_programs_own() {
    for (script, status) in
        [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
    {
        let output = run(&mut netcell(&[], &["/bin/sh", "-c", script]), b"");
        assert_eq!(output.status.code(), Some(status), "{script}");
    }
}

#[test]
fn standard_input_passes_through() {
    let input: Vec<u8> = (0..200_000u32).flat_map(|i| i.to_le_bytes()).collect();
    let output = run(&mut netcell(&[], &["/bin/cat"]), &input);
    assert!(output.status.success());
    assert!(output.stdout == input, "{} of {} bytes came back", output.stdout.len(), input.len());
}

#[test]
fn bash_pipelines_here_documents_and_job_control() {
    same_as_host(&[], BASH);
}

#[test]
fn find_sort_and_hash_all_of_usr() {
    same_as_host(&["--rootfs", "/"], "find /usr | sort | sha256sum");
}

#[test]
fn tar_and_gzip_of_usr_share() {
    same_as_host(
        &["--rootfs", "/"],
        "tar --sort=name -cf - /usr/share 2>/dev/null | sha256sum; tar -cf - -C /usr/share doc | gzip -1n | gzip -dc | tar -tf - | sort | sha256sum",
    );
}

#[test]
fn archives_unpack_in_memory() {
    same_as_host(
        &[],
        "tar -cf a.tar -C /usr/share perl5 && mkdir x && tar -xf a.tar -C x && diff -r /usr/share/perl5 x/perl5 && find x | wc -l && rm -rf x && ls",
    );
}

#[test]
fn git_makes_the_same_commits() {
    same_as_host(&[], GIT);
}

#[test]
fn gcc_compiles_a_program_of_threads_and_signals() {
    let script = format!("cat > t.c <<'END'\n{THREADS_C}\nEND\ngcc -O1 -pthread t.c -o t && ./t");
    same_as_host(&["--rootfs", "/"], &script);
}

#[test]
fn make_builds_a_project_in_parallel() {
    same_as_host(&["--rootfs", "/"], MAKE);
}

#[test]
fn sqlite_on_a_file() {
    same_as_host(&[], SQLITE);
}

#[test]
fn perl_forks_pipes_and_signals() {
    same_program_as_host(&[], &["/usr/bin/perl", "-e", PERL]);
}

#[test]
fn perl_shares_a_system_v_segment() {
    let script = r#"$| = 1; my $id = shmget(0, 100, 0600 | 01000) // die $!; shmwrite($id, "hello", 0, 5) or die $!;
        unless (fork) { shmread($id, my $read, 0, 5) or die $!; print "$read\n"; shmwrite($id, "there", 1, 5); exit 0 }
        wait; shmread($id, my $read, 0, 6); print "$read\n"; print shmctl($id, 0, 0) ? "removed" : "kept", "\n";
        print defined(shmget(0x4e43, 1, 0)) ? "found" : "none: $!", "\n";"#;
    same_program_as_host(&[], &["/usr/bin/perl", "-e", script]);
}

#[test]
fn python_calls_threads_asyncio_and_subprocesses() {
    same_program_as_host(&[], &["/usr/bin/python3", "-c", CALLS_PY]);
}

#[test]
fn python_multiprocessing_with_a_pool() {
    same_program_as_host(&[], &["/usr/bin/python3", "-c", POOL_PY]);
}

#[test]
fn python_hashes_a_hundred_mebibytes() {
    let script = "import hashlib\nh=hashlib.sha256()\nb=bytes(range(256))*4096\nfor _ in range(100): h.update(b)\n\
        print(h.hexdigest())\nd=b*100\nprint(hashlib.sha1(d).hexdigest(), len(d))";
    same_program_as_host(&[], &["/usr/bin/python3", "-c", script]);
}

#[test]
fn writes_stay_in_memory_and_vanish() {
    let name = unique("netcell-must-not-exist-");
    inside(
        &[],
        &format!(
            "echo x > /usr/{name} && cat /usr/{name} && rm /usr/bin/env && ! test -e /usr/bin/env"
        ),
    );
    assert!(!std::path::Path::new(&format!("/usr/{name}")).exists());
    assert!(std::path::Path::new("/usr/bin/env").exists());
}

#[test]
fn secrets_of_the_host_are_not_there() {
    let out = inside(
        &[],
        "ls /root /home /var /run 2>&1 | head; cat /etc/shadow /etc/ssh/ssh_host_* 2>&1; env",
    );
    // A line of shadow(5); the listing has a line "/root:".
    assert!(!out.lines().any(|line| line.starts_with("root:")), "{out}");
    assert!(!out.contains("PRIVATE KEY"), "{out}");
    assert!(!out.contains("CARGO"), "the host's environment is seen: {out}");
}

#[test]
fn a_volume_keeps_what_is_written() {
    let folder = Scratch::new();
    let volume = format!("{}:/out", folder.path().display());
    inside(
        &["--volume", &volume],
        "echo kept > /out/a; mkdir /out/d; mv /out/a /out/d/b; ln -s b /out/d/l; chmod 640 /out/d/b",
    );
    assert_eq!(std::fs::read_to_string(folder.path().join("d/l")).expect("the file"), "kept\n");
    let read_only = format!("{}:/in:ro", folder.path().display());
    let out = inside(
        &["--volume", &read_only],
        "cat /in/d/b; (echo x > /in/new) 2>/dev/null || echo refused",
    );
    assert_eq!(out, "kept\nrefused\n");
    assert!(!folder.path().join("new").exists());
}

#[test]
fn identity_host_name_and_environment_are_as_asked() {
    let out = inside(
        &["--user", "1000:1001", "--hostname", "box", "--env", "A=b c", "--workdir", "/usr"],
        "id -u; id -g; uname -n; echo $A; pwd; touch /etc/x 2>/dev/null || echo denied; uname -s",
    );
    assert_eq!(out, "1000\n1001\nbox\nb c\n/usr\ndenied\nLinux\n");
}

#[test]
fn strace_prints_decoded_calls() {
    let folder = Scratch::new();
    let file = folder.file("trace");
    inside(&[&format!("--strace={file}")], "/bin/cat /etc/hostname >/dev/null; exit 0");
    let trace = std::fs::read_to_string(&file).expect("the trace");
    for wanted in ["execve(\"/bin/cat\"", "O_RDONLY", "exit_group(0)", "mmap(NULL, "] {
        assert!(
            trace.contains(wanted),
            "{wanted} is not in the trace:\n{}",
            &trace[..trace.len().min(4000)]
        );
    }
}

/// The programs above that are quick: flags, and program with its arguments.
pub fn all() -> Vec<(&'static [&'static str], Vec<String>)> {
    let bash = |script: &str| vec!["/bin/bash".to_owned(), "-c".to_owned(), script.to_owned()];
    let python =
        |script: &str| vec!["/usr/bin/python3".to_owned(), "-c".to_owned(), script.to_owned()];
    let whole: &[&str] = &["--rootfs", "/"];
    vec![
        (&[], bash(BASH)),
        (&[], bash(GIT)),
        (&[], bash(SQLITE)),
        (whole, bash(MAKE)),
        (
            whole,
            bash(&format!("cat > t.c <<'END'\n{THREADS_C}\nEND\ngcc -O1 -pthread t.c -o t && ./t")),
        ),
        (&[], vec!["/usr/bin/perl".to_owned(), "-e".to_owned(), PERL.to_owned()]),
        (&[], python(CALLS_PY)),
        (&[], python(POOL_PY)),
        (
            whole,
            bash(
                "find /usr/share/doc | sort | sha256sum; tar -cf - /usr/share/perl5 | gzip | sha256sum",
            ),
        ),
    ]
}
