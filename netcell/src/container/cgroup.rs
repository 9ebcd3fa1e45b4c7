//! A container's cgroup on the host: made, limited, asked and removed. The number of tasks is not the host's to limit: there, a sandbox has
//! threads and processes of its own beside its programs'.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use libcgroups::common::{
    AnyCgroupManager, CgroupConfig, CgroupManager, ControllerOpt, create_cgroup_manager,
};
use libcgroups::stats::Stats;
// The crate for cgroups speaks of processes by an older version of this crate.
use libcgroups_nix::unistd::Pid;
use nix::libc;
use oci_spec::runtime::{LinuxResources, LinuxResourcesBuilder};

use crate::oci::journal::Journal;

/// Where hierarchies are mounted.
const HIERARCHIES: &str = "/sys/fs/cgroup";

fn manager(path: &Path) -> Result<AnyCgroupManager> {
    // It is joined to the hierarchy's own place, and must not lead out of it.
    if path.components().any(|part| part == Component::ParentDir) {
        bail!("linux.cgroupsPath {}: .. leads elsewhere", path.display());
    }
    if !path.components().any(|part| matches!(part, Component::Normal(_))) {
        bail!("linux.cgroupsPath {}: the root cannot be a container's", path.display());
    }
    if path.to_string_lossy().contains(':') {
        bail!(
            "linux.cgroupsPath {}: cgroups of systemd are not supported, set the caller's cgroup manager to cgroupfs",
            path.display()
        );
    }
    let config = CgroupConfig {
        cgroup_path: path.to_owned(),
        systemd_cgroup: false,
        container_name: String::new(),
    };
    create_cgroup_manager(config).with_context(|| format!("linux.cgroupsPath {}", path.display()))
}

/// Whether a container may have this cgroup: whoever is in it already, in any hierarchy, would end with the container.
pub fn check(path: &Path) -> Result<()> {
    manager(path)?;
    let below: PathBuf = path.components().filter(|p| matches!(p, Component::Normal(_))).collect();
    let hierarchies = fs::read_dir(HIERARCHIES).into_iter().flatten().flatten();
    let roots = hierarchies.map(|entry| entry.path()).chain([PathBuf::from(HIERARCHIES)]);
    for root in roots {
        // One that is not there yet has no processes.
        let inside = fs::read_to_string(root.join(&below).join("cgroup.procs")).unwrap_or_default();
        if !inside.is_empty() {
            let count = inside.lines().count();
            bail!("linux.cgroupsPath {}: {count} processes are in it", path.display());
        }
    }
    Ok(())
}

/// Makes the cgroup, or takes the one that is there, limits it and puts the process in. Where the host does not allow it, the container goes on
/// without and its caller is told.
pub fn make(
    path: &Path,
    resources: Option<&LinuxResources>,
    pid: i32,
    journal: &Journal,
) -> Result<()> {
    let manager = manager(path)?;
    if let Err(error) = manager.add_task(Pid::from_raw(pid)) {
        return forgive(&error, &format!("cgroup {}", path.display()), journal);
    }
    match resources {
        Some(resources) => limit(&manager, resources, journal),
        None => Ok(()),
    }
}

/// Whether nothing of these limits is the host's.
pub fn is_empty(asked: &LinuxResources) -> bool {
    asked.memory().is_none()
        && asked.cpu().is_none()
        && asked.block_io().is_none()
        && asked.unified().is_none()
}

/// Changes the limits.
pub fn update(path: &Path, resources: &LinuxResources, journal: &Journal) -> Result<()> {
    limit(&manager(path)?, resources, journal)
}

fn limit(manager: &AnyCgroupManager, asked: &LinuxResources, journal: &Journal) -> Result<()> {
    let options = ControllerOpt {
        resources: &for_host(asked)?,
        disable_oom_killer: asked
            .memory()
            .as_ref()
            .and_then(|m| m.disable_oom_killer())
            .unwrap_or(false),
        oom_score_adj: None,
        freezer_state: None,
    };
    match manager.apply(&options) {
        Ok(()) => Ok(()),
        Err(error) => forgive(&error, "linux.resources", journal),
    }
}

/// What of the limits is the host's: devices are the sandbox's own, and its kernel counts tasks.
fn for_host(asked: &LinuxResources) -> Result<LinuxResources> {
    let mut host = LinuxResourcesBuilder::default();
    if let Some(memory) = asked.memory() {
        host = host.memory(*memory);
    }
    if let Some(cpu) = asked.cpu() {
        host = host.cpu(cpu.clone());
    }
    if let Some(block_io) = asked.block_io() {
        host = host.block_io(block_io.clone());
    }
    if let Some(unified) = asked.unified() {
        host = host.unified(unified.clone());
    }
    Ok(host.build()?)
}

/// EPERM, EACCES and EROFS are the host's way to say that it is not to be limited by us. The crate's errors tell them in words alone.
fn forgive(error: &dyn std::error::Error, what: &str, journal: &Journal) -> Result<()> {
    let told = error.to_string();
    let refused =
        [libc::EPERM, libc::EACCES, libc::EROFS].map(|errno| format!("(os error {errno})"));
    if refused.iter().any(|words| told.contains(words)) {
        journal.warn(&format!("{what}: {told}"));
        return Ok(());
    }
    bail!("{what}: {told}")
}

/// What the cgroup's processes use.
pub fn stats(path: &Path) -> Result<Stats> {
    Ok(manager(path)?.stats()?)
}

/// Removes the cgroup. One that is gone already is no error.
pub fn remove(path: &Path) -> Result<()> {
    manager(path)?.remove().with_context(|| format!("cannot remove the cgroup {}", path.display()))
}
