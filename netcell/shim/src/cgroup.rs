//! What the host's cgroup of a container counts, as containerd's metrics (version 1 of cgroups, and the same figures of version 2).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use containerd_shim_protos::cgroups::metrics::{
    CPUStat, CPUUsage, MemoryEntry, MemoryStat, Metrics, PidsStat,
};
use containerd_shim_protos::protobuf::MessageField;

const MOUNT: &str = "/sys/fs/cgroup";

/// The folders of a process's cgroups.
pub struct Cgroups {
    /// Controllers of version 1, each with its folder.
    controllers: Vec<(String, PathBuf)>,
    /// That of version 2.
    pub unified: Option<PathBuf>,
}

impl Cgroups {
    /// Those of a process.
    pub fn of(pid: u32) -> Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
            .context("the container is not running")?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut found = Self { controllers: Vec::new(), unified: None };
        for line in text.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(names), Some(path)) = (parts.next(), parts.next()) else { continue };
            let path = path.trim_start_matches('/');
            if names.is_empty() {
                found.unified = Some(Path::new(MOUNT).join(path));
            }
            for name in names.split(',').filter(|name| !name.is_empty()) {
                let folder = Path::new(MOUNT).join(name).join(path);
                found.controllers.push((name.to_owned(), folder));
            }
        }
        found
    }

    /// A number of a controller's file in version 1; "max" and what is absent are none.
    fn number(&self, controller: &str, file: &str) -> Option<u64> {
        number(&self.controller(controller)?.join(file))
    }

    /// The folder of a controller in version 1.
    pub fn controller(&self, name: &str) -> Option<&Path> {
        let found = self.controllers.iter().find(|(controller, _)| controller == name);
        found.map(|(_, folder)| folder.as_path())
    }

    /// The folder that counts memory, in either version.
    pub fn of_memory(&self) -> Option<&Path> {
        self.controller("memory").or(self.unified.as_deref())
    }

    fn unified(&self, file: &str) -> Option<u64> {
        number(&self.unified.as_ref()?.join(file))
    }

    /// A number behind a word.
    fn word(&self, controller: &str, file: &str, word: &str) -> Option<u64> {
        let folder = self.controller(controller).or(self.unified.as_deref())?;
        let text = std::fs::read_to_string(folder.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix(word)?.trim().parse().ok())
    }
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// What the cgroups of a process count.
pub fn metrics(pid: u32) -> Result<Metrics> {
    let cgroups = Cgroups::of(pid)?;
    let old = |controller: &str, file: &str| cgroups.number(controller, file);
    let total = old("cpuacct", "cpuacct.usage")
        .or_else(|| cgroups.word("", "cpu.stat", "usage_usec ").map(|us| us.saturating_mul(1000)));
    let usage =
        old("memory", "memory.usage_in_bytes").or_else(|| cgroups.unified("memory.current"));
    let limit = old("memory", "memory.limit_in_bytes").or_else(|| cgroups.unified("memory.max"));
    let max = old("memory", "memory.max_usage_in_bytes").or_else(|| cgroups.unified("memory.peak"));
    let inactive = cgroups
        .word("memory", "memory.stat", "total_inactive_file ")
        .or_else(|| cgroups.word("memory", "memory.stat", "inactive_file "));
    let entry = MemoryEntry {
        usage: usage.unwrap_or(0),
        limit: limit.unwrap_or(u64::MAX),
        max: max.unwrap_or(0),
        failcnt: old("memory", "memory.failcnt").unwrap_or(0),
        ..MemoryEntry::default()
    };
    let cpu = CPUUsage {
        total: total.unwrap_or(0),
        user: old("cpuacct", "cpuacct.usage_user").unwrap_or(0),
        kernel: old("cpuacct", "cpuacct.usage_sys").unwrap_or(0),
        ..CPUUsage::default()
    };
    Ok(Metrics {
        cpu: MessageField::some(CPUStat { usage: MessageField::some(cpu), ..CPUStat::default() }),
        memory: MessageField::some(MemoryStat {
            usage: MessageField::some(entry),
            total_inactive_file: inactive.unwrap_or(0),
            rss: cgroups.word("memory", "memory.stat", "rss ").unwrap_or(0),
            cache: cgroups.word("memory", "memory.stat", "cache ").unwrap_or(0),
            ..MemoryStat::default()
        }),
        pids: MessageField::some(PidsStat {
            current: old("pids", "pids.current")
                .or_else(|| cgroups.unified("pids.current"))
                .unwrap_or(0),
            limit: old("pids", "pids.max").or_else(|| cgroups.unified("pids.max")).unwrap_or(0),
            ..PidsStat::default()
        }),
        ..Metrics::default()
    })
}

/// What the runtime tells of a container that is in another's sandbox, for which no cgroup of the host counts (`events --stats`).
pub fn told(text: &str) -> Result<Metrics> {
    let told: serde_json::Value = serde_json::from_str(text).context("the runtime's events")?;
    let number = |place: &str| told.pointer(place).and_then(serde_json::Value::as_u64).unwrap_or(0);
    let usage = CPUUsage { total: number("/data/cpu/usage/total"), ..CPUUsage::default() };
    let entry = MemoryEntry {
        usage: number("/data/memory/usage/usage"),
        limit: number("/data/memory/usage/limit"),
        ..MemoryEntry::default()
    };
    Ok(Metrics {
        cpu: MessageField::some(CPUStat { usage: MessageField::some(usage), ..CPUStat::default() }),
        memory: MessageField::some(MemoryStat {
            usage: MessageField::some(entry),
            rss: number("/data/memory/raw/rss"),
            ..MemoryStat::default()
        }),
        pids: MessageField::some(PidsStat {
            current: number("/data/pids/current"),
            ..PidsStat::default()
        }),
        ..Metrics::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_cgroups_are_found() {
        let found = Cgroups::parse("5:cpu,cpuacct:/pod/a\n3:memory:/\n0::/pod/b\nhalf");
        let folder = |name: &str| {
            found.controllers.iter().find(|(n, _)| n == name).map(|(_, folder)| folder.clone())
        };
        assert_eq!(folder("cpuacct"), Some("/sys/fs/cgroup/cpuacct/pod/a".into()));
        assert_eq!(folder("memory"), Some("/sys/fs/cgroup/memory/".into()));
        assert_eq!(found.unified, Some("/sys/fs/cgroup/pod/b".into()));
    }

    #[test]
    fn a_running_process_has_figures() {
        let metrics = metrics(std::process::id()).expect("figures of this process");
        assert!(metrics.memory.usage.limit > 0);
        assert!(super::metrics(u32::MAX).is_err());
    }
}
