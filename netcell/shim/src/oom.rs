//! Memory that ran out: the kernel tells it of a process's memory cgroup, and of every one below one that ran out.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::cgroup::Cgroups;

/// Calls `tell` whenever memory ran out, until the cgroup of this process is gone. Nothing is told of one that has no memory cgroup, or
/// shares this shim's, where others' memory runs out.
pub fn watch(pid: u32, tell: impl Fn() + Send + 'static) -> Result<()> {
    let cgroups = Cgroups::of(pid)?;
    if cgroups.of_memory() == Cgroups::of(std::process::id())?.of_memory() {
        return Ok(());
    }
    let Some(source) = Source::of(&cgroups)? else { return Ok(()) };
    let name = format!("memory {pid}");
    thread::Builder::new().name(name).spawn(move || source.follow(tell))?;
    Ok(())
}

/// Where the kernel tells it.
enum Source {
    /// Version 1: a descriptor that counts, and the folder that says whether there is still something to count.
    Counter(EventFd, PathBuf),
    /// Version 2: `memory.events`, which is polled, with what its line `oom_kill` said last.
    Events(File, u64),
}

impl Source {
    fn of(cgroups: &Cgroups) -> Result<Option<Self>> {
        if let Some(folder) = cgroups.controller("memory") {
            return counter(folder).map(Some).with_context(|| folder.display().to_string());
        }
        let Some(path) = cgroups.unified.as_ref().map(|folder| folder.join("memory.events")) else {
            return Ok(None);
        };
        // The root has none, and so has whoever has no memory controller.
        let Ok(mut file) = File::open(path) else { return Ok(None) };
        let known = kills(&mut file).unwrap_or(0);
        Ok(Some(Self::Events(file, known)))
    }

    fn follow(self, tell: impl Fn()) {
        match self {
            Self::Counter(counter, folder) => {
                // The end of the cgroup counts, too.
                while counter.read().is_ok() && folder.exists() {
                    tell();
                }
            }
            Self::Events(mut file, mut known) => {
                while changed(&file) {
                    let Some(now) = kills(&mut file) else { break };
                    if now > known {
                        tell();
                    }
                    known = now;
                }
            }
        }
    }
}

/// memory.txt of the kernel's documentation of cgroups v1, section 10: "write string like "<event_fd> <fd of memory.oom_control>" to
/// cgroup.event_control".
fn counter(folder: &Path) -> Result<Source> {
    let counter = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?;
    let control = File::open(folder.join("memory.oom_control"))?;
    let line = format!("{} {}", counter.as_fd().as_raw_fd(), control.as_raw_fd());
    std::fs::write(folder.join("cgroup.event_control"), line)?;
    Ok(Source::Counter(counter, folder.to_owned()))
}

/// cgroup-v2.rst: "all fields in this file are hierarchical", and a change "generates a file modified event".
fn kills(file: &mut File) -> Option<u64> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Waits for a change; false where there is nothing more to wait for.
fn changed(file: &File) -> bool {
    let mut asked = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
    loop {
        match poll(&mut asked, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            other => return other.is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_told_from_other_events() {
        let path = std::env::temp_dir().join(format!("netcell-events-{}", std::process::id()));
        std::fs::write(&path, "low 0\noom 3\noom_kill 2\noom_group_kill 0\n").expect("a file");
        let mut file = File::open(&path).expect("a file");
        assert_eq!(kills(&mut file), Some(2));
        assert_eq!(kills(&mut file), Some(2), "it is read from its beginning");
        std::fs::remove_file(path).expect("removed");
    }
}
