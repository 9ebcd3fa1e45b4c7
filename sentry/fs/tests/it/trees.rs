//! What programs find in /proc, /sys and /dev of a machine without tasks.

use std::collections::BTreeSet;
use std::sync::Arc;

use platform::Platform;
use platform::fake::FakePlatform;
use sentry_abi::Errno;
use sentry_fs::proc::{NetFiles, ProcFs};
use sentry_fs::services::Services;
use sentry_kernel::cred::Credentials;
use sentry_kernel::file::WriteAt;
use sentry_kernel::io::SliceSource;
use sentry_kernel::ipc::Segments;
use sentry_kernel::kernel::{Kernel, KernelConfig, Random, SyscallTable};
use sentry_kernel::log::NoLog;
use sentry_kernel::namespaces;
use sentry_kernel::task::{Container, ContainerConfig, CurrentTask, PidNamespace};
use sentry_kernel::time::{Clock, Instant};
use sentry_kernel::uts::Uts;
use sentry_kernel::vfs::{FileType, OpenFlags, Timespec};

use crate::world::Ours;

struct Fixed;

impl Clock for Fixed {
    fn monotonic(&self) -> Instant {
        Instant(5_250_000_000)
    }

    fn realtime_ns(&self) -> i64 {
        1_700_000_000_000_000_000
    }
}

impl Random for Fixed {
    fn fill(&self, dst: &mut [u8]) {
        dst.fill(0xff);
    }
}

impl SyscallTable for Fixed {
    fn dispatch(&self, _: &mut CurrentTask, _: u64, _: &[u64; 6]) -> sentry_kernel::Result<u64> {
        Err(Errno::ENOSYS.into())
    }

    fn name(&self, _: u64) -> Option<&'static str> {
        None
    }
}

fn machine() -> (Arc<Container>, Services) {
    let platform = FakePlatform::new().unwrap();
    let services =
        Services::new(platform.memory().clone(), Arc::new(|| Timespec { sec: 1, nsec: 0 }));
    let kernel = Kernel::new(KernelConfig {
        platform,
        clock: Arc::new(Fixed),
        log: Arc::new(NoLog),
        random: Arc::new(Fixed),
        cpus: 2,
        vdso: None,
    });
    let container = Container::new(
        &kernel,
        ContainerConfig {
            pids: PidNamespace::new(namespaces::FIRST_PID),
            uts: Uts::new(namespaces::FIRST_UTS, "guest"),
            segments: Segments::new(namespaces::FIRST_IPC),
            syscalls: Arc::new(Fixed),
        },
    );
    (container, services)
}

fn text(tree: &Ours, path: &str) -> String {
    String::from_utf8(tree.read(path).unwrap()).unwrap()
}

#[test]
fn every_entry_of_proc_can_be_found_and_read() {
    let (container, services) = machine();
    let net = NetFiles::new(std::sync::Arc::new(()));
    let tree = Ours::new(ProcFs::new(&services, &container, &net));
    let mut pending = vec![String::new()];
    let (mut numbers, mut files) = (BTreeSet::new(), 0);
    while let Some(path) = pending.pop() {
        for (name, kind, ino) in tree.names(&tree.walk(&path).unwrap()).unwrap() {
            let name = String::from_utf8(name).unwrap();
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            let found = tree.walk(&path).unwrap().attributes().unwrap();
            assert_eq!((found.ino, found.file_type), (ino, kind), "{path}");
            assert!(numbers.insert(ino), "{path} shares its number");
            match kind {
                FileType::Directory => pending.push(path),
                FileType::Regular => {
                    files += 1;
                    tree.read(&path).unwrap();
                }
                _ => {}
            }
        }
    }
    assert!(files > 40);
    assert_eq!(tree.walk("1").err().map(|error| error.errno()), Some(Errno::ENOENT));
}

#[test]
fn the_machine_is_told_in_linuxs_formats() {
    let (container, services) = machine();
    let tree =
        Ours::new(ProcFs::new(&services, &container, &NetFiles::new(std::sync::Arc::new(()))));
    assert_eq!(text(&tree, "sys/kernel/hostname"), "guest\n");
    assert_eq!(text(&tree, "sys/kernel/random/uuid"), "ffffffff-ffff-4fff-bfff-ffffffffffff\n");
    assert_eq!(text(&tree, "uptime"), "0.00 0.00\n");
    let stat = text(&tree, "stat");
    assert_eq!(stat.lines().filter(|line| line.starts_with("cpu")).count(), 3);
    assert!(stat.contains("\nbtime 1700000000\n"));
    assert_eq!(text(&tree, "cpuinfo").matches("processor\t: ").count(), 2);
    assert!(text(&tree, "meminfo").starts_with("MemTotal:  "));
    assert!(text(&tree, "version").starts_with("Linux version "));
    let refused = tree.walk("sys/kernel/pid_max").unwrap();
    let refused = refused.open(OpenFlags::WRONLY, &Credentials::root()).unwrap();
    let written = refused.write(WriteAt::Offset(0), &mut SliceSource::new(b"1\n"));
    assert!(written.is_err_and(|error| error.is(Errno::EPERM)));
}

#[test]
fn sys_lists_the_processors() {
    let (_, services) = machine();
    let tree = Ours::new(sentry_fs::new_sys(&services, 2).unwrap());
    assert_eq!(text(&tree, "devices/system/cpu/online"), "0-1\n");
    assert!(tree.walk("fs/cgroup").is_ok());
    let one = Ours::new(sentry_fs::new_sys(&services, 1).unwrap());
    assert_eq!(text(&one, "devices/system/cpu/online"), "0\n");
}

#[test]
fn dev_has_its_nodes_and_they_do_what_mem_says() {
    let (container, services) = machine();
    let dev = sentry_fs::new_dev(&services).unwrap();
    let null = dev.root().lookup(b"null").unwrap().attributes().unwrap();
    assert_eq!((null.rdev, null.mode()), (0x103, 0o020666));
    let held = container.kernel().clone();
    let random: sentry_fs::dev::Random = Arc::new(move |bytes| held.fill_random(bytes));
    for (rdev, device) in sentry_fs::dev::devices(&services.memory, random) {
        container.devices().register(rdev, device);
    }
    let names: Vec<_> = container.devices().list().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["null", "zero", "full", "random", "urandom"]);
    let shown =
        Ours::new(ProcFs::new(&services, &container, &NetFiles::new(std::sync::Arc::new(()))));
    assert!(text(&shown, "devices").contains("  1 mem\n"));
}
