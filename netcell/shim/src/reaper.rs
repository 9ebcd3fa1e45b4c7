//! Who waits for processes. The shim is the subreaper of the runtime's detached children, so that all of them end as its own; one
//! thread takes every ended child, and tells who asked for it.

use std::collections::VecDeque;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use parking_lot::{Condvar, Mutex};

/// How long the end of a process that nobody asked for yet is remembered: its number may be given again.
const KEPT: Duration = Duration::from_secs(60);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its status, or 128 and the number of the signal.
    pub code: u32,
    /// When.
    pub at: SystemTime,
}

struct Ended {
    pid: i32,
    exit: Exit,
    seen: Instant,
}

#[derive(Default)]
struct State {
    ended: VecDeque<Ended>,
    /// Counts children that were started, for a reaper that has none.
    started: u64,
}

/// The ends of processes.
#[derive(Default)]
pub struct Reaper {
    state: Mutex<State>,
    changed: Condvar,
}

impl Reaper {
    /// Becomes the subreaper, and begins to take ended children.
    pub fn start() -> Result<Arc<Self>> {
        nix::sys::prctl::set_child_subreaper(true).context("cannot become a subreaper")?;
        let reaper = Arc::new(Self::default());
        let of_thread = Arc::clone(&reaper);
        std::thread::Builder::new().name("reaper".into()).spawn(move || of_thread.reap())?;
        Ok(reaper)
    }

    fn reap(&self) {
        loop {
            let started = self.state.lock().started;
            // Looked at first: the child's number stays taken until the lock is held.
            let ended = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
            match ended.map(|status| status.pid()) {
                Ok(Some(pid)) => self.take(pid),
                Err(Errno::ECHILD) => {
                    let mut state = self.state.lock();
                    while state.started == started {
                        self.changed.wait(&mut state);
                    }
                }
                Ok(None) | Err(_) => {}
            }
        }
    }

    fn take(&self, pid: Pid) {
        let mut state = self.state.lock();
        let code = match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, code)) => code as u32,
            Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as u32,
            _ => return,
        };
        let now = Instant::now();
        state.ended.retain(|ended| now - ended.seen < KEPT && ended.pid != pid.as_raw());
        let exit = Exit { code, at: SystemTime::now() };
        state.ended.push_back(Ended { pid: pid.as_raw(), exit, seen: now });
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for the end of a process.
    pub fn wait(&self, pid: i32) -> Exit {
        let mut state = self.state.lock();
        loop {
            let found = state.ended.iter().position(|ended| ended.pid == pid);
            if let Some(ended) = found.and_then(|at| state.ended.remove(at)) {
                return ended.exit;
            }
            self.changed.wait(&mut state);
        }
    }

    /// Runs a command to its end.
    pub fn run(&self, command: &mut Command) -> Result<Exit> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut spawned = || command.spawn().with_context(|| format!("cannot run {name}"));
        let pid = self.start_child(|| Ok(spawned()?.id() as i32))?;
        Ok(self.wait(pid))
    }

    /// Starts a child, whose number is given: nobody takes its end before that.
    pub fn start_child(&self, start: impl FnOnce() -> Result<i32>) -> Result<i32> {
        let mut state = self.state.lock();
        let pid = start()?;
        state.ended.retain(|ended| ended.pid != pid);
        state.started += 1;
        drop(state);
        self.changed.notify_all();
        Ok(pid)
    }
}
