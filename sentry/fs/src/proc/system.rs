//! /proc's own files: the machine as programs see it.

use std::fmt::Write as _;
use std::sync::Arc;

use sentry_abi::Errno;
use sentry_kernel::error::Result;
use sentry_kernel::task::{Container, CpuTime};
use sentry_kernel::uts::{RELEASE, VERSION};
use sentry_kernel::vfs::FileType;

use super::Shared;
use super::node::{Body, Node, Owner, number};
use crate::listing::Entry;

/// Nanoseconds of a clock tick (USER_HZ is 100).
pub(super) const TICK_NS: u64 = 10_000_000;

type Make = fn(&Container) -> String;

/// A row each: name and content.
const FILES: [(&str, Make); 14] = [
    ("cmdline", |_| "quiet\n".to_owned()),
    ("cpuinfo", cpuinfo),
    ("devices", devices),
    ("diskstats", |_| String::new()),
    ("filesystems", filesystems),
    ("loadavg", loadavg),
    ("meminfo", meminfo),
    ("modules", |_| String::new()),
    ("partitions", |_| "major minor  #blocks  name\n\n".to_owned()),
    ("stat", stat),
    ("swaps", |_| "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_owned()),
    ("uptime", uptime),
    ("version", version),
    ("vmstat", vmstat),
];

/// The file of that name. Errors: ENOENT.
pub(super) fn file(shared: &Arc<Shared>, name: &str) -> Result<Arc<Node>> {
    let (name, make) = FILES.iter().find(|(known, _)| *known == name).ok_or(Errno::ENOENT)?;
    let held = shared.clone();
    let read = Box::new(move || Ok(make(&*held.container()?).into_bytes()));
    let body = Body::File { read, write: None };
    Ok(Node::new(shared, number(name), 0o444, Owner::Root, body))
}

/// All of them.
pub(super) fn list() -> Vec<Entry> {
    let entry =
        |(name, _): &(&str, Make)| Entry::new(name.as_bytes(), number(name), FileType::Regular);
    FILES.iter().map(entry).collect()
}

/// Total and used bytes of memory.
pub(super) fn memory(container: &Container) -> (u64, u64) {
    let (total, free) = container.memory_sizes();
    (total, total - free)
}

/// Features that compilers and libraries ask /proc/cpuinfo for.
fn features() -> Vec<&'static str> {
    let mut names = vec![
        "fpu",
        "tsc",
        "msr",
        "cx8",
        "cmov",
        "mmx",
        "fxsr",
        "syscall",
        "nx",
        "lm",
        "constant_tsc",
    ];
    macro_rules! detect {
        ($($feature:tt $name:literal)*) => {
            $(if std::is_x86_feature_detected!($feature) { names.push($name); })*
        };
    }
    detect! {
        "sse" "sse" "sse2" "sse2" "sse3" "pni" "ssse3" "ssse3" "sse4.1" "sse4_1" "sse4.2" "sse4_2"
        "popcnt" "popcnt" "aes" "aes" "pclmulqdq" "pclmulqdq" "avx" "avx" "f16c" "f16c"
        "rdrand" "rdrand" "rdseed" "rdseed" "fma" "fma" "avx2" "avx2" "bmi1" "bmi1" "bmi2" "bmi2"
        "adx" "adx" "lzcnt" "abm" "movbe" "movbe" "sha" "sha_ni" "avx512f" "avx512f"
        "avx512bw" "avx512bw" "avx512cd" "avx512cd" "avx512dq" "avx512dq" "avx512vl" "avx512vl"
        "xsave" "xsave" "xsaveopt" "xsaveopt" "xsavec" "xsavec" "cmpxchg16b" "cx16"
    }
    names
}

fn cpuinfo(container: &Container) -> String {
    let (mut text, flags, cpus) = (String::new(), features().join(" "), container.kernel().cpus());
    for cpu in 0..cpus {
        let _ = write!(
            text,
            "processor\t: {cpu}\nvendor_id\t: netcell\ncpu family\t: 6\nmodel\t\t: 1\n\
             model name\t: netcell virtual CPU\nstepping\t: 1\ncpu MHz\t\t: 2000.000\n\
             cache size\t: 1024 KB\nphysical id\t: 0\nsiblings\t: {cpus}\ncore id\t\t: {cpu}\n\
             cpu cores\t: {cpus}\napicid\t\t: {cpu}\ninitial apicid\t: {cpu}\nfpu\t\t: yes\n\
             fpu_exception\t: yes\ncpuid level\t: 13\nwp\t\t: yes\nflags\t\t: {flags}\n\
             bogomips\t: 4000.00\nclflush size\t: 64\ncache_alignment\t: 64\n\
             address sizes\t: 48 bits physical, 48 bits virtual\npower management:\n\n"
        );
    }
    text
}

fn devices(container: &Container) -> String {
    let mut text = "Character devices:\n".to_owned();
    let mut seen = None;
    for (rdev, name) in container.devices().list() {
        let major = sentry_kernel::device::major(rdev);
        if seen != Some(major) {
            let name = if major == 1 { "mem" } else { &name };
            let _ = writeln!(text, "{major:3} {name}");
            seen = Some(major);
        }
    }
    text + "\nBlock devices:\n"
}

fn filesystems(container: &Container) -> String {
    container.fs_types().iter().map(|fs_type| format!("nodev\t{}\n", fs_type.name)).collect()
}

fn loadavg(container: &Container) -> String {
    let pids = container.pids();
    let tasks = pids.groups().into_iter().flat_map(|group| group.tasks());
    let running = tasks.filter(|task| task.state_letter() == 'R').count();
    // Averages over time are not kept: the present number stands for all three.
    format!(
        "{running}.00 {running}.00 {running}.00 {running}/{} {}\n",
        pids.task_count(),
        pids.last_pid()
    )
}

fn meminfo(container: &Container) -> String {
    let (total, used) = memory(container);
    let (total, free) = (total / 1024, (total - used) / 1024);
    let rows = [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", used / 1024),
        ("Inactive", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", used / 1024),
        ("Mapped", 0),
        ("Shmem", 0),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
        ("PageTables", 0),
        ("CommitLimit", total),
        ("Committed_AS", used / 1024),
        ("VmallocTotal", 0x7fff_ffff),
        ("VmallocUsed", 0),
    ];
    let mut text = String::new();
    for (name, kib) in rows {
        let _ = writeln!(text, "{:<16}{kib:8} kB", format!("{name}:"));
    }
    text + "HugePages_Total:       0\nHugePages_Free:        0\nHugepagesize:       2048 kB\n"
}

fn used_time(container: &Container) -> CpuTime {
    let groups = container.pids().groups();
    groups.iter().map(|group| group.cpu_time()).fold(CpuTime::default(), |a, b| CpuTime {
        user_ns: a.user_ns + b.user_ns,
        system_ns: a.system_ns + b.system_ns,
    })
}

fn stat(container: &Container) -> String {
    let kernel = container.kernel();
    let (cpus, used) = (kernel.cpus() as u64, used_time(container));
    let up = kernel.now().since_ns(kernel.boot_time()) / TICK_NS;
    let (user, system) = (used.user_ns / TICK_NS, used.system_ns / TICK_NS);
    let idle = (up * cpus).saturating_sub(user + system);
    let mut text = format!("cpu  {user} 0 {system} {idle} 0 0 0 0 0 0\n");
    for cpu in 0..cpus {
        let (user, system, idle) = (user / cpus, system / cpus, idle / cpus);
        let _ = writeln!(text, "cpu{cpu} {user} 0 {system} {idle} 0 0 0 0 0 0");
    }
    let realtime = kernel.clock().realtime_ns() / 1_000_000_000;
    let boot = realtime - (up / 100) as i64;
    let _ = write!(
        text,
        "intr 0\nctxt 0\nbtime {boot}\nprocesses {}\nprocs_running 1\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n",
        container.pids().last_pid()
    );
    text
}

fn uptime(container: &Container) -> String {
    let kernel = container.kernel();
    let up = kernel.now().since_ns(kernel.boot_time()) / TICK_NS;
    let used = used_time(container);
    let busy = (used.user_ns + used.system_ns) / TICK_NS;
    let idle = (up * kernel.cpus() as u64).saturating_sub(busy);
    format!("{}.{:02} {}.{:02}\n", up / 100, up % 100, idle / 100, idle % 100)
}

fn version(_: &Container) -> String {
    format!("Linux version {RELEASE} (netcell) {VERSION}\n")
}

fn vmstat(container: &Container) -> String {
    let (total, used) = memory(container);
    format!(
        "nr_free_pages {}\nnr_anon_pages {}\npgfault 0\npgmajfault 0\npswpin 0\npswpout 0\n",
        (total - used) / 4096,
        used / 4096
    )
}
