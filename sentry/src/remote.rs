//! What the outside can do to a running sandbox: signals, terminals, captures, further programs.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use netstack_host::capture::{Capture, CaptureError};
use sentry_abi::signal::{SI_KERNEL, SigInfo, Signal};
use sentry_fs::proc::command_line;
use sentry_kernel::task::{Task, ThreadGroup};
use sentry_net::netns::{CaptureStart, NetNamespace};

use crate::boot::{BootError, Outcome};
use crate::config::{Process, Stdio};
use crate::world::{Console, Place, World};

/// Bytes of a command line that are told.
const COMMAND_MAX: usize = 4096;

/// A program that was started from outside.
pub struct Running {
    group: Arc<ThreadGroup>,
    console: Option<Console>,
}

impl Running {
    pub(crate) fn new(group: Arc<ThreadGroup>, console: Option<Console>) -> Self {
        Self { group, console }
    }

    /// Its process id inside.
    pub fn pid(&self) -> u32 {
        self.group.pid()
    }

    /// Sends it a signal. Numbers that are no signal do nothing.
    pub fn signal(&self, number: i32) {
        send(&self.group, number);
    }

    /// The window of its terminal has another size.
    pub fn resize(&self, size: platform::host::terminal::WindowSize) {
        if let Some(console) = &self.console {
            console.resize(size);
        }
    }

    /// Waits for its end.
    pub fn wait(&self) -> Outcome {
        Outcome::of(self.group.wait_until_ended())
    }
}

fn send(group: &ThreadGroup, number: i32) {
    if let Ok(signal) = Signal::new(number) {
        // A full queue keeps the fact that the signal came.
        let _ = group.send_signal(signal, SigInfo::new(signal, SI_KERNEL));
    }
}

/// Whom a signal is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignalScope {
    /// The first program.
    First,
    /// Every process.
    All,
}

/// Whether programs run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pause {
    /// They do not.
    Held,
    /// They do.
    Released,
}

/// A process inside, for those who list them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its id.
    pub pid: u32,
    /// Its parent's; 0 where that is outside.
    pub parent: u32,
    /// Its real user id.
    pub uid: u32,
    /// CPU time in nanoseconds.
    pub cpu_ns: u64,
    /// Seconds since it began.
    pub age_s: u64,
    /// Its command line, or its name where it has none.
    pub command: String,
}

/// The command line of a process as ps(1) shows it.
fn command(leader: &Task) -> String {
    let mut line = command_line(leader);
    line.truncate(COMMAND_MAX);
    let words: Vec<_> = line.split(|b| *b == 0).filter(|word| !word.is_empty()).collect();
    match words.is_empty() {
        true => {
            let name = leader.details(|details| details.comm.clone());
            format!("[{}]", String::from_utf8_lossy(&name))
        }
        false => String::from_utf8_lossy(&words.join(&b' ')).into_owned(),
    }
}

/// What the outside can do to a running sandbox.
#[derive(Clone)]
pub struct Remote {
    world: Arc<World>,
    init: Arc<Running>,
}

/// A capture that was begun while the sandbox runs. It ends with this, or with the sandbox.
pub struct RunningCapture {
    net: Arc<NetNamespace>,
    capture: Arc<Capture>,
}

impl RunningCapture {
    /// Frames seen, and frames of those that were lost because the reader was too slow.
    pub fn counts(&self) -> (u64, u64) {
        self.capture.counts()
    }

    /// Whether no more frames come: the sandbox has ended, or the reader has gone.
    pub fn is_over(&self) -> bool {
        self.capture.is_over()
    }

    /// Ends it. Errors: what went wrong while it was written.
    pub fn finish(&self) -> Result<(), CaptureError> {
        self.net.end_capture(&self.capture)
    }
}

impl Drop for RunningCapture {
    fn drop(&mut self) {
        // Whoever wants to know of errors has called it before.
        let _ = self.finish();
    }
}

impl Remote {
    pub(crate) fn new(world: Arc<World>, init: Arc<Running>) -> Self {
        Self { world, init }
    }

    /// Sends a signal to the first program. Numbers that are no signal do nothing.
    pub fn signal(&self, number: i32) {
        self.init.signal(number);
    }

    /// Sends a signal to the first program, or to every process.
    pub fn signal_scope(&self, number: i32, scope: SignalScope) {
        match scope {
            SignalScope::First => self.init.signal(number),
            SignalScope::All => {
                self.world.kernel.pids().groups().iter().for_each(|group| send(group, number));
            }
        }
    }

    /// The host's window has another size.
    pub fn resize(&self, size: platform::host::terminal::WindowSize) {
        self.init.resize(size);
    }

    /// Starts a further program.
    pub fn start(&self, process: Process, stdio: Stdio) -> Result<Running, BootError> {
        self.world.start(process, stdio, Place::Beside)
    }

    /// The processes inside, by ascending id.
    pub fn processes(&self) -> Vec<ProcessInfo> {
        let kernel = &self.world.kernel;
        let now = kernel.now();
        let living = kernel.pids().groups().into_iter().filter(|group| !group.has_ended());
        living
            .filter_map(|group| {
                let leader = group.leader()?;
                let cpu = group.cpu_time();
                Some(ProcessInfo {
                    pid: group.pid(),
                    parent: kernel.pids().parent(group.pid()),
                    uid: leader.credentials().uid,
                    cpu_ns: cpu.user_ns.saturating_add(cpu.system_ns),
                    age_s: now.0.saturating_sub(group.start_time().0) / 1_000_000_000,
                    command: command(&leader),
                })
            })
            .collect()
    }

    /// Begins to write what passes the interfaces of these names (without names: all but loopback) onto a file or pipe that is
    /// called `name`; after `limit` frames it is over.
    pub fn capture(
        &self,
        (file, name): (OwnedFd, &Path),
        nics: &[String],
        limit: Option<u64>,
    ) -> Result<RunningCapture, CaptureStart> {
        let net = &self.world.net;
        let capture = net.capture((file.into(), name), nics, &self.world.kernel)?;
        capture.stop_after(limit);
        Ok(RunningCapture { net: net.clone(), capture })
    }

    /// Changes how many tasks programs may have together; `None` is the kernel's own limit.
    pub fn limit_tasks(&self, most: Option<u64>) {
        self.world.tasks.set(most);
    }

    /// Keeps the programs from running, or lets them go on.
    pub fn pause(&self, pause: Pause) {
        match pause {
            Pause::Held => self.world.kernel.freeze(),
            Pause::Released => self.world.kernel.thaw(),
        }
    }

    /// Ends the sandbox at once.
    pub fn kill(&self) {
        self.world.kernel.pids().kill_all();
    }
}
