//! The host's own tracepoints say which system calls the processes that hold program code make: only those of the platform.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::harness::{Scratch, netcell, run, sh};
use crate::programs;

/// What a stub may call on the host, by number: docs/security.md, "The boundary of the ptrace platform".
const ALLOWED: &[(u32, &str)] = &[
    (8, "lseek"),
    (9, "mmap"),
    (10, "mprotect"),
    (11, "munmap"),
    (34, "pause"),
    (56, "clone"),
    (60, "exit"),
    (202, "futex"),
    (231, "exit_group"),
];

/// A tracing instance of the host that records the system calls of stubs; removed at the end.
struct Tracing {
    mounted: Scratch,
}

impl Tracing {
    fn start() -> Self {
        let tracing = Self { mounted: Scratch::new() };
        sh(&format!("mount -t tracefs none {}", tracing.mounted.path().display()));
        std::fs::create_dir(tracing.instance())
            .expect("a tracing instance: is CONFIG_FTRACE_SYSCALLS there?");
        tracing.set("buffer_size_kb", "65536");
        tracing.set("events/raw_syscalls/sys_enter/filter", "comm == \"netcell-stub\"");
        tracing.set("events/raw_syscalls/sys_enter/enable", "1");
        tracing
    }

    fn instance(&self) -> PathBuf {
        self.mounted.path().join("instances/netcell-test")
    }

    fn set(&self, file: &str, value: &str) {
        std::fs::write(self.instance().join(file), value).unwrap_or_else(|e| panic!("{file}: {e}"));
    }

    fn read(&self, file: &Path) -> String {
        std::fs::read_to_string(self.instance().join(file)).unwrap_or_default()
    }

    /// System calls by number, with how often each was seen. Fails where the buffer was too small to hold all.
    fn calls(&self) -> BTreeMap<u32, u64> {
        self.set("tracing_on", "0");
        for cpu in std::fs::read_dir(self.instance().join("per_cpu")).expect("per_cpu").flatten() {
            let stats = self.read(&cpu.path().join("stats"));
            assert!(stats.contains("overrun: 0\n"), "the trace buffer ran over: {stats}");
        }
        let mut calls = BTreeMap::new();
        for line in self.read(Path::new("trace")).lines() {
            let number =
                line.split("sys_enter: NR ").nth(1).and_then(|rest| rest.split(' ').next());
            if let Some(number) = number.and_then(|n| n.parse().ok()) {
                *calls.entry(number).or_default() += 1;
            }
        }
        calls
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        let _ = std::fs::write(self.instance().join("events/raw_syscalls/sys_enter/enable"), "0");
        let _ = std::fs::remove_dir(self.instance());
        sh(&format!("umount {}", self.mounted.path().display()));
    }
}

#[test]
fn no_system_call_of_a_program_reaches_the_host() {
    let tracing = Tracing::start();
    for (flags, program) in programs::all() {
        let program: Vec<&str> = program.iter().map(String::as_str).collect();
        let mut flags = flags.to_vec();
        flags.extend(["--workdir", "/tmp", "--env", "HOME=/tmp"]);
        let output = run(&mut netcell(&flags, &program), b"");
        assert!(
            output.status.success(),
            "{program:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let calls = tracing.calls();
    let mapped = calls.get(&9).copied().unwrap_or(0);
    assert!(mapped > 100, "the trace does not see the stubs: {calls:?}");
    let strange: Vec<_> =
        calls.iter().filter(|(n, _)| !ALLOWED.iter().any(|(allowed, _)| allowed == *n)).collect();
    assert!(
        strange.is_empty(),
        "system calls of program processes beyond the platform's own: {strange:?}"
    );
}
