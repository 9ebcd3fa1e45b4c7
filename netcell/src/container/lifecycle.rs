//! What is done to a container by its name: start, kill, delete, pause, resume, update, and what is told of it.

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

use super::record::{Folder, Record, Status};
use super::{Runtime, cgroup};
use crate::control::{Answer, ProcessLine, Request};
use crate::oci::{hooks, process, spec};

/// Whether `delete` ends a container that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// It does; and a container that is not there is no failure.
    Given,
    /// It does not.
    Absent,
}

/// Whom `kill` signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The container's first program.
    Init,
    /// Every program of it.
    All,
}

impl Runtime {
    fn find(&self, id: &str) -> Result<(Folder, Record)> {
        let folder = Folder::open(&self.root, id)?;
        let record = folder.read()?;
        Ok((folder, record))
    }

    /// Starts the program of a container that was created, and runs the poststart hooks.
    pub fn start(&self, id: &str) -> Result<()> {
        let (folder, record) = self.find(id)?;
        match record.status() {
            Status::Created => {}
            status => bail!("cannot start a container in the {} state", status.word()),
        }
        folder.connect()?.ask(&Request::Start, &[])?;
        let spec = spec::load(&folder.config())?;
        let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_ref());
        let state = folder.read()?.state(Status::Running).to_string();
        // runtime.md, "Lifecycle": a failure of these is told and changes nothing.
        if let Err(error) = hooks::run("poststart", hooks, &state) {
            self.journal.warn(&format!("{error:#}"));
        }
        Ok(())
    }

    /// The state of a container, as JSON.
    pub fn state(&self, id: &str) -> Result<Value> {
        Ok(self.find(id)?.1.told())
    }

    /// Every container's record.
    pub fn records(&self) -> Result<Vec<Record>> {
        let all = Folder::all(&self.root)?;
        // One that is deleted right now is none.
        Ok(all.iter().filter_map(|folder| folder.read().ok()).collect())
    }

    /// Sends a signal.
    pub fn kill(&self, id: &str, signal: i32, scope: Scope) -> Result<()> {
        let (folder, record) = self.find(id)?;
        if record.status() == Status::Stopped {
            return match scope {
                // The others have ended with the first one.
                Scope::All => Ok(()),
                Scope::Init => bail!("container not running"),
            };
        }
        if signal == Signal::SIGKILL as i32
            && let Some(process) = record.process
        {
            return match record.sandbox {
                // A sandbox ends with its first program, and so it need not be asked.
                None => process.signal(Signal::SIGKILL),
                // Its process ends once its programs have.
                Some(_) => end_in_sandbox(&folder).or_else(|_| process.signal(Signal::SIGKILL)),
            };
        }
        let request = Request::Signal { number: signal, all: scope == Scope::All };
        folder.connect()?.ask(&request, &[])
    }

    /// Removes a container and all that is left of it.
    pub fn delete(&self, id: &str, force: Force) -> Result<()> {
        let folder = match Folder::open(&self.root, id) {
            Err(_) if force == Force::Given && crate::control::check_id(id).is_ok() => {
                return Ok(());
            }
            other => other?,
        };
        let record = match folder.read() {
            Err(_) if force == Force::Given => return folder.remove(),
            other => other?,
        };
        let status = record.status();
        if matches!(status, Status::Running | Status::Paused) && force == Force::Absent {
            bail!("cannot delete container {id} that is not stopped: {}", status.word());
        }
        if let Some(process) = record.process {
            process.kill()?;
        }
        // With the process that stood for it a container of a pod ends, also one that was about to start.
        if record.sandbox.is_some() {
            wait_in_sandbox(&folder);
        }
        if let Some(path) = &record.cgroup {
            cgroup::remove(path)?;
        }
        // A configuration that cannot be read has no hooks that could be run.
        if let Ok(spec) = spec::load(&folder.config()) {
            let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_ref());
            let state = record.state(Status::Stopped).to_string();
            // runtime.md, "Lifecycle": a failure of these is told, and the rest is done all the same.
            if let Err(error) = hooks::run("poststop", hooks, &state) {
                self.journal.warn(&format!("{error:#}"));
            }
        }
        folder.remove()
    }

    /// Holds the programs of a container.
    pub fn pause(&self, id: &str) -> Result<()> {
        self.change(id, Status::Running, &Request::Pause)
    }

    /// Lets them go on.
    pub fn resume(&self, id: &str) -> Result<()> {
        self.change(id, Status::Paused, &Request::Resume)
    }

    fn change(&self, id: &str, from: Status, request: &Request) -> Result<()> {
        let (folder, record) = self.find(id)?;
        let status = record.status();
        if status != from {
            bail!("container {id} is {}, not {}", status.word(), from.word());
        }
        folder.connect()?.ask(request, &[])
    }

    /// The processes of a container, by ascending id inside.
    pub fn processes(&self, id: &str) -> Result<Vec<ProcessLine>> {
        let (folder, _) = self.find(id)?;
        match folder.connect()?.query(&Request::Processes)? {
            Answer::Processes { all } => Ok(all),
            other => bail!("the sandbox answers what makes no sense: {other:?}"),
        }
    }

    /// Changes the limits of a container: the number of tasks in its kernel, the others of its cgroup.
    pub fn update(&self, id: &str, resources: &LinuxResources) -> Result<()> {
        let (folder, record) = self.find(id)?;
        if record.status() == Status::Stopped {
            bail!("container not running");
        }
        if resources.pids().is_some() {
            let most = process::tasks_max(resources);
            folder.connect()?.ask(&Request::LimitTasks { most }, &[])?;
        }
        if resources.memory().as_ref().is_some_and(|memory| memory.limit().is_some()) {
            let most = process::memory_max(resources);
            folder.connect()?.ask(&Request::ShowMemory { most }, &[])?;
        }
        if cgroup::is_empty(resources) {
            return Ok(());
        }
        let path = record.cgroup.context("the container has no cgroup (linux.cgroupsPath)")?;
        cgroup::update(&path, resources, &self.journal)
    }

    /// What a container uses, as `events --stats` of runc tells it.
    pub fn stats(&self, id: &str) -> Result<Value> {
        let (folder, record) = self.find(id)?;
        if record.status() == Status::Stopped {
            bail!("container not running");
        }
        if record.sandbox.is_some() {
            return usage_in_sandbox(&folder, id);
        }
        let path = record.cgroup.context("the container has no cgroup (linux.cgroupsPath)")?;
        let stats = cgroup::stats(&path)?;
        let tasks = self.processes(id).map_or(0, |all| all.len());
        let memory = |data: &libcgroups::stats::MemoryData| {
            json!({
                "limit": data.limit, "usage": data.usage, "max": data.max_usage,
                "failcnt": data.fail_count,
            })
        };
        let usage = &stats.cpu.usage;
        let throttling = &stats.cpu.throttling;
        Ok(json!({
            "type": "stats",
            "id": id,
            "data": {
                "cpu": {
                    "usage": {
                        "total": usage.usage_total, "percpu": usage.per_core_usage_total,
                        "kernel": usage.usage_kernel, "user": usage.usage_user,
                    },
                    "throttling": {
                        "periods": throttling.periods,
                        "throttledPeriods": throttling.throttled_periods,
                        "throttledTime": throttling.throttled_time,
                    },
                },
                "memory": {
                    "cache": stats.memory.cache,
                    "usage": memory(&stats.memory.memory),
                    "swap": memory(&stats.memory.memswap),
                    "kernel": memory(&stats.memory.kernel),
                    "kernelTCP": memory(&stats.memory.kernel_tcp),
                    "raw": stats.memory.stats,
                },
                "pids": { "current": tasks },
            },
        }))
    }
}

/// What a container uses that is in another's sandbox: no cgroup of the host tells it.
fn usage_in_sandbox(folder: &Folder, id: &str) -> Result<Value> {
    match folder.connect()?.query(&Request::Usage)? {
        Answer::Usage { cpu_ns, memory, tasks, memory_max } => Ok(json!({
            "type": "stats",
            "id": id,
            "data": {
                "cpu": { "usage": { "total": cpu_ns } },
                "memory": {
                    "usage": { "limit": memory_max.unwrap_or(u64::MAX), "usage": memory },
                    "raw": { "rss": memory },
                },
                "pids": { "current": tasks },
            },
        })),
        other => bail!("the sandbox answers what makes no sense: {other:?}"),
    }
}

/// Ends the programs of a container that is in another's sandbox. Errors: they have ended, or the sandbox has.
fn end_in_sandbox(folder: &Folder) -> Result<()> {
    let request = Request::Signal { number: Signal::SIGKILL as i32, all: true };
    folder.connect()?.ask(&request, &[])
}

/// Waits until they have, and nothing of the container is used there any more.
fn wait_in_sandbox(folder: &Folder) {
    // Where it or the sandbox has gone meanwhile there is nothing to wait for, whatever the connection says.
    if let Ok(sandbox) = folder.connect()
        && sandbox.tell(&Request::Wait).is_ok()
    {
        while let Ok(Some(_)) = sandbox.answer() {}
    }
}

/// The number of a signal that is given as 15, TERM or SIGTERM.
pub fn signal_number(text: &str) -> Result<i32> {
    if let Ok(number) = text.parse::<i32>() {
        let known = (1..=64).contains(&number);
        return if known { Ok(number) } else { bail!("there is no signal {number}") };
    }
    let upper = text.to_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let signal: Signal = name.parse().ok().with_context(|| format!("there is no signal {text}"))?;
    Ok(signal as i32)
}

#[cfg(test)]
mod tests {
    use super::signal_number;

    #[test]
    fn a_signal_is_a_number_or_a_name() {
        for (text, number) in [("15", 15), ("term", 15), ("SIGKILL", 9), ("64", 64)] {
            assert_eq!(signal_number(text).expect(text), number);
        }
        for text in ["", "0", "65", "-1", "SIGNONE"] {
            assert!(signal_number(text).is_err(), "{text}");
        }
    }
}
