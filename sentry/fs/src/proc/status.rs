//! /proc/PID/status, stat, statm, limits and their small relatives, in Linux's exact formats.

use std::fmt::Write as _;

use sentry_abi::Errno;
use sentry_abi::resource::{RLIM_INFINITY, Resource};
use sentry_kernel::error::Result;
use sentry_kernel::mm::MemoryUsage;
use sentry_kernel::task::{self, Task};

use super::Shared;
use super::system::TICK_NS;

fn usage(task: &Task) -> Option<MemoryUsage> {
    task.resources().map(|resources| resources.mm.usage())
}

pub(super) fn comm(_: &Shared, task: &Task) -> Result<Vec<u8>> {
    let mut name = task.comm();
    name.push(b'\n');
    Ok(name)
}

/// Errors: EINVAL for a task of another process.
pub(super) fn set_comm(task: &Task, name: &[u8]) -> Result<()> {
    let own = task::current().is_some_and(|caller| caller.pid() == task.pid());
    if !own {
        return Err(Errno::EINVAL.into());
    }
    task.set_comm(name.strip_suffix(b"\n").unwrap_or(name));
    Ok(())
}

/// The name as status shows it: with newline and backslash escaped.
fn escaped_comm(task: &Task) -> String {
    let name = String::from_utf8_lossy(&task.comm()).into_owned();
    name.replace('\\', "\\\\").replace('\n', "\\n")
}

fn state_word(letter: char) -> &'static str {
    match letter {
        'R' => "running",
        'S' => "sleeping",
        'T' => "stopped",
        't' => "tracing stop",
        'Z' => "zombie",
        _ => "dead",
    }
}

/// Parent, process group and session.
fn family(task: &Task) -> (u32, u32, u32) {
    let pids = task.pids();
    let group = pids.process_group_of(task.pid());
    let ids = group.map_or((0, 0), |group| (group.id(), group.session().id()));
    (pids.parent(task.pid()), ids.0, ids.1)
}

pub(super) fn status(_: &Shared, task: &Task) -> Result<Vec<u8>> {
    let creds = task.credentials();
    let (parent, process_group, session) = family(task);
    let (tid, pid, letter) = (task.tid(), task.pid(), task.state_letter());
    let resources = task.resources();
    let mut text = format!("Name:\t{}\n", escaped_comm(task));
    if let Some(resources) = &resources {
        let _ = writeln!(text, "Umask:\t{:04o}", resources.fs.umask());
    }
    let descriptors = resources.as_ref().map_or(0, |r| r.fds.list().len().next_multiple_of(64));
    let groups: Vec<String> = creds.groups.iter().map(u32::to_string).collect();
    let groups = groups.join(" ");
    let _ = write!(
        text,
        "State:\t{letter} ({})\nTgid:\t{pid}\nNgid:\t0\nPid:\t{tid}\nPPid:\t{parent}\nTracerPid:\t0\n\
         Uid:\t{}\t{}\t{}\t{}\nGid:\t{}\t{}\t{}\t{}\nFDSize:\t{descriptors}\nGroups:\t{groups} \n\
         NStgid:\t{pid}\nNSpid:\t{tid}\nNSpgid:\t{process_group}\nNSsid:\t{session}\nKthread:\t0\n",
        state_word(letter),
        creds.uid,
        creds.euid,
        creds.suid,
        creds.fsuid,
        creds.gid,
        creds.egid,
        creds.sgid,
        creds.fsgid,
    );
    if let Some(usage) = usage(task) {
        write_memory(&mut text, &usage);
    }
    write_signals(&mut text, task);
    let switches = task.thread_group().usage().voluntary_switches;
    let cpus = task.kernel().cpus();
    let _ = write!(
        text,
        "CapInh:\t{:016x}\nCapPrm:\t{:016x}\nCapEff:\t{:016x}\nCapBnd:\t{:016x}\nCapAmb:\t{:016x}\n\
         NoNewPrivs:\t{}\nSeccomp:\t0\nSeccomp_filters:\t0\nCpus_allowed:\t{}\nCpus_allowed_list:\t{}\n\
         Mems_allowed:\t1\nMems_allowed_list:\t0\nvoluntary_ctxt_switches:\t{switches}\nnonvoluntary_ctxt_switches:\t0\n",
        creds.inheritable.bits(),
        creds.permitted.bits(),
        creds.effective.bits(),
        creds.bounding.bits(),
        creds.ambient.bits(),
        u8::from(creds.no_new_privs),
        cpu_mask(cpus),
        if cpus == 1 { "0".to_owned() } else { format!("0-{}", cpus - 1) },
    );
    Ok(text.into_bytes())
}

/// The first `cpus` processors as a mask in hexadecimal words of 32 bits.
fn cpu_mask(cpus: usize) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut left = cpus;
    while left > 0 {
        let bits = left.min(32);
        let word = u32::MAX >> (32 - bits);
        left -= bits;
        words.push(if left == 0 { format!("{word:x}") } else { format!("{word:08x}") });
    }
    words.reverse();
    words.join(",")
}

fn write_memory(text: &mut String, usage: &MemoryUsage) {
    let anonymous = usage.resident.saturating_sub(usage.resident_objects);
    let rows = [
        ("VmPeak", usage.mapped_peak),
        ("VmSize", usage.mapped),
        ("VmLck", usage.locked),
        ("VmPin", 0),
        ("VmHWM", usage.resident_peak),
        ("VmRSS", usage.resident),
        ("RssAnon", anonymous),
        ("RssFile", usage.resident_objects),
        ("RssShmem", 0),
        ("VmData", usage.data),
        ("VmStk", usage.stack),
        ("VmExe", usage.code),
        ("VmLib", 0),
        ("VmPTE", usage.resident / 512),
        ("VmSwap", 0),
    ];
    for (name, bytes) in rows {
        let _ = writeln!(text, "{name}:\t{:8} kB", bytes / 1024);
    }
    text.push_str("HugetlbPages:\t       0 kB\nCoreDumping:\t0\nTHP_enabled:\t1\n");
}

fn write_signals(text: &mut String, task: &Task) {
    let group = task.thread_group();
    let (caught, ignored) = group.handlers().caught_and_ignored();
    let _ = write!(
        text,
        "Threads:\t{}\nSigQ:\t0/{}\nSigPnd:\t{:016x}\nShdPnd:\t{:016x}\nSigBlk:\t{:016x}\nSigIgn:\t{:016x}\nSigCgt:\t{:016x}\n",
        group.tasks().len().max(1),
        group.soft_limit(Resource::Sigpending),
        task.pending().0,
        group.pending().0,
        task.blocked().0,
        ignored.0,
        caught.0,
    );
}

/// The 52 fields of proc_pid_stat(5).
pub(super) fn stat(_: &Shared, task: &Task) -> Result<Vec<u8>> {
    let (group, kernel) = (task.thread_group(), task.kernel());
    let (parent, process_group, session) = family(task);
    let pids = task.pids();
    let terminal = pids.process_group_of(task.pid()).and_then(|g| g.session().terminal());
    let tty = terminal.as_ref().map_or(0, |terminal| terminal.rdev());
    let foreground = terminal.and_then(|t| t.foreground_group()).map_or(-1, i64::from);
    let (used, children) = (group.usage(), group.children_usage());
    let ticks = |ns: u64| ns / TICK_NS;
    let (memory, nice) = (usage(task).unwrap_or_default(), task.details(|d| d.scheduling.nice));
    let policy = task.details(|details| details.scheduling.policy);
    let image = task.resources().map(|r| r.mm.image()).unwrap_or_default();
    let start = task.start_time().since_ns(kernel.boot_time()) / TICK_NS;
    let (caught, ignored) = group.handlers().caught_and_ignored();
    let rss_limit = group.soft_limit(Resource::Rss);
    let signals = |set: u64| set & 0x7fff_ffff;
    let mut text = format!("{} (", task.tid()).into_bytes();
    text.extend(task.comm());
    let rest = [
        format!(
            ") {} {parent} {process_group} {session} {tty} {foreground} 0",
            task.state_letter()
        ),
        format!("{} {} 0 0", used.faults, children.faults),
        format!("{} {}", ticks(used.cpu.user_ns), ticks(used.cpu.system_ns)),
        format!("{} {}", ticks(children.cpu.user_ns), ticks(children.cpu.system_ns)),
        format!("{} {nice} {} 0 {start}", 20 + nice, group.tasks().len().max(1)),
        format!("{} {} {rss_limit}", memory.mapped, memory.resident / 4096),
        format!("{} {} {} 0 0", image.code.start, image.code.end, image.stack),
        format!("{} {}", signals(task.pending().0), signals(task.blocked().0)),
        format!("{} {} 0 0 0 17 0 0 {policy} 0 0 0", signals(ignored.0), signals(caught.0)),
        format!("{} {} 0", image.data.start, image.data.end),
        format!("{} {} {} {}", image.arg.start, image.arg.end, image.env.start, image.env.end),
        "0\n".to_owned(),
    ];
    text.extend(rest.join(" ").into_bytes());
    Ok(text)
}

pub(super) fn statm(_: &Shared, task: &Task) -> Result<Vec<u8>> {
    let usage = usage(task).unwrap_or_default();
    let pages = |bytes: u64| bytes / 4096;
    let (size, resident) = (pages(usage.mapped), pages(usage.resident));
    let (shared, text) = (pages(usage.resident_objects), pages(usage.code));
    let data = pages(usage.data + usage.stack);
    Ok(format!("{size} {resident} {shared} {text} 0 {data} 0\n").into_bytes())
}

/// Names and units of limits, in the order of their numbers.
const LIMITS: [(&str, &str); 16] = [
    ("Max cpu time", "seconds"),
    ("Max file size", "bytes"),
    ("Max data size", "bytes"),
    ("Max stack size", "bytes"),
    ("Max core file size", "bytes"),
    ("Max resident set", "bytes"),
    ("Max processes", "processes"),
    ("Max open files", "files"),
    ("Max locked memory", "bytes"),
    ("Max address space", "bytes"),
    ("Max file locks", "locks"),
    ("Max pending signals", "signals"),
    ("Max msgqueue size", "bytes"),
    ("Max nice priority", ""),
    ("Max realtime priority", ""),
    ("Max realtime timeout", "us"),
];

pub(super) fn limits(_: &Shared, task: &Task) -> Result<Vec<u8>> {
    let limits = task.thread_group().limits();
    let shown = |value: u64| match value {
        RLIM_INFINITY => "unlimited".to_owned(),
        value => value.to_string(),
    };
    let mut text =
        format!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    for (resource, (name, unit)) in Resource::ALL.into_iter().zip(LIMITS) {
        let limit = limits.limit(resource);
        let (soft, hard) = (shown(limit.cur), shown(limit.max));
        let _ = writeln!(text, "{name:<25} {soft:<20} {hard:<20} {unit:<10}");
    }
    Ok(text.into_bytes())
}

pub(super) fn personality(_: &Shared, task: &Task) -> Result<Vec<u8>> {
    Ok(format!("{:08x}\n", task.thread_group().personality()).into_bytes())
}

pub(super) fn timer_slack(_: &Shared, task: &Task) -> Result<Vec<u8>> {
    Ok(format!("{}\n", task.details(|details| details.timer_slack_ns)).into_bytes())
}

pub(super) fn schedstat(_: &Shared, task: &Task) -> Result<Vec<u8>> {
    let used = task.account().read(task.kernel().now());
    Ok(format!("{} 0 0\n", used.user_ns + used.system_ns).into_bytes())
}

pub(super) fn io(_: &Shared, _: &Task) -> Result<Vec<u8>> {
    let rows =
        ["rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes"];
    Ok(rows.iter().map(|name| format!("{name}: 0\n")).collect::<String>().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_of_processors_are_words_of_eight_digits() {
        assert_eq!(cpu_mask(1), "1");
        assert_eq!(cpu_mask(2), "3");
        assert_eq!(cpu_mask(36), "f,ffffffff");
    }
}
