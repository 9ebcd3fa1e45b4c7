//! The host's own tracepoints say which system calls the processes that hold program code make: only those of the platform.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::harness::{Scratch, netcell, platform, run, sh};
use crate::programs;

/// What a stub may call on the host, by number: docs/security.md, "The boundary of the ptrace platform" and "… of the systrap
/// platform". A process gets its name when it is ready; threads of a program install filters of their own. The word is the
/// call's first argument.
const ALLOWED: &[(u32, &str, Option<&str>)] = &[
    (34, "pause", None),
    (56, "clone", None),
    (60, "exit", None),
    (131, "sigaltstack", None),
    (157, "prctl(PR_SET_SECCOMP)", Some("16")),
    (157, "prctl(PR_SET_SYSCALL_USER_DISPATCH)", Some("3b")),
    (231, "exit_group", None),
];
/// The calls that the platform makes all the time; the filter leaves them out of the trace, which would run over.
const FREQUENT: &[(u32, &str)] =
    &[(8, "lseek"), (9, "mmap"), (10, "mprotect"), (11, "munmap"), (202, "futex")];
/// And by which systrap goes on with a program.
const GO_ON: (u32, &str) = (15, "rt_sigreturn");

fn frequent() -> impl Iterator<Item = (u32, &'static str)> {
    // By default it is systrap.
    let ptrace = platform().iter().any(|word| word == "ptrace");
    FREQUENT.iter().copied().chain((!ptrace).then_some(GO_ON))
}

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
        tracing.set("buffer_size_kb", "16384");
        let infrequent: String =
            frequent().map(|(number, _)| format!(" && id != {number}")).collect();
        tracing.set(
            "events/raw_syscalls/sys_enter/filter",
            &format!("comm == \"netcell-stub\"{infrequent}"),
        );
        // Only what descends from this thread: other sandboxes of the machine are not this test's.
        tracing.set("options/event-fork", "1");
        let own = std::fs::read_link("/proc/thread-self").expect("/proc/thread-self");
        let own = own.file_name().expect("a thread number").to_string_lossy().into_owned();
        tracing.set("set_event_pid", &own);
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

    /// System calls by number and first argument, with how often each was seen. Fails where the buffer was too small to
    /// hold all.
    fn calls(&self) -> BTreeMap<(u32, String), u64> {
        self.set("tracing_on", "0");
        for cpu in std::fs::read_dir(self.instance().join("per_cpu")).expect("per_cpu").flatten() {
            let stats = self.read(&cpu.path().join("stats"));
            assert!(stats.contains("overrun: 0\n"), "the trace buffer ran over: {stats}");
        }
        let mut calls = BTreeMap::new();
        for line in self.read(Path::new("trace")).lines() {
            let Some((number, arguments)) =
                line.split("sys_enter: NR ").nth(1).and_then(|call| call.split_once(" ("))
            else {
                continue;
            };
            let number: u32 = number.parse().expect("a number");
            // Of most calls the number says enough.
            let judged = ALLOWED.iter().any(|row| row.0 == number && row.2.is_some());
            let first = arguments.split(',').next().filter(|_| judged).unwrap_or("");
            *calls.entry((number, first.to_owned())).or_default() += 1;
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
    let threads = calls.get(&(56, String::new())).copied().unwrap_or(0);
    assert!(threads > 100, "the trace does not see the stubs: {calls:?}");
    let is_allowed = |(number, first): &(u32, String)| {
        ALLOWED.iter().any(|row| row.0 == *number && row.2.is_none_or(|wanted| wanted == first))
    };
    let strange: Vec<_> = calls.iter().filter(|(call, _)| !is_allowed(call)).collect();
    assert!(
        strange.is_empty(),
        "system calls of program processes beyond the platform's own: {strange:?}"
    );
}
