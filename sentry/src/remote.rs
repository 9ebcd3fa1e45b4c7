//! What the outside can do to a running container and its sandbox: signals, terminals, captures, further programs and containers.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use netstack_host::capture::{Capture, CaptureError};
use sentry_abi::signal::{SI_KERNEL, SigInfo, Signal};
use sentry_fs::proc::command_line;
use sentry_kernel::task::{Container, ContainerUsage, Task, ThreadGroup};
use sentry_net::netns::{CaptureStart, NetNamespace};

use crate::boot::{BootError, Outcome};
use crate::config::{ContainerFiles, MemberConfig, Process, Stdio};
use crate::member::{Console, Member, Place};
use crate::world::World;

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

/// A limit of a container; `None` is none ([`ContainerLimits`](crate::ContainerLimits)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContainerLimit {
    /// Of the number of tasks.
    Tasks(Option<u64>),
    /// Of memory, in bytes.
    Memory(Option<u64>),
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

/// What the outside can do to a running container.
#[derive(Clone)]
pub struct Remote {
    member: Arc<Member>,
    init: Arc<Running>,
}

/// A container beside the first whose program has not started.
pub struct PreparedMember(Arc<Member>);

impl PreparedMember {
    /// Whether a program could be started, as far as can be told before: its working directory and its file are there.
    pub fn check(&self, process: &Process) -> Result<(), BootError> {
        self.0.check(process)
    }

    /// Starts its first program.
    pub fn start(&self, process: Process, stdio: Stdio) -> Result<Remote, BootError> {
        let init = self.0.start(process, stdio, Place::First)?;
        Ok(Remote::new(self.0.clone(), Arc::new(init)))
    }
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
    pub(crate) fn new(member: Arc<Member>, init: Arc<Running>) -> Self {
        Self { member, init }
    }

    pub(crate) fn container(&self) -> &Container {
        &self.member.container
    }

    /// Makes a container beside this one, in the same kernel with the same network.
    pub fn add(
        &self,
        files: ContainerFiles,
        config: MemberConfig<'_>,
    ) -> Result<PreparedMember, BootError> {
        self.member.world.further(files, config).map(|member| PreparedMember(Arc::new(member)))
    }

    /// Waits for the end of the container's first program, and ends the others of the container.
    pub fn wait(&self) -> Outcome {
        let outcome = self.init.wait();
        self.end();
        // Those that are made meanwhile end before they run.
        while let Some(group) = self.container().groups().iter().find(|group| !group.has_ended()) {
            group.wait_until_ended();
        }
        outcome
    }

    /// Ends every program of the container.
    pub fn end(&self) {
        self.container().end();
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
                self.container().groups().iter().for_each(|group| send(group, number));
            }
        }
    }

    /// The host's window has another size.
    pub fn resize(&self, size: platform::host::terminal::WindowSize) {
        self.init.resize(size);
    }

    /// Starts a further program.
    pub fn start(&self, process: Process, stdio: Stdio) -> Result<Running, BootError> {
        self.member.start(process, stdio, Place::Beside)
    }

    /// The processes inside, by ascending id.
    pub fn processes(&self) -> Vec<ProcessInfo> {
        let container = self.container();
        let now = container.kernel().now();
        let living = container.groups().into_iter().filter(|group| !group.has_ended());
        living
            .filter_map(|group| {
                let leader = group.leader()?;
                let cpu = group.cpu_time();
                Some(ProcessInfo {
                    pid: group.pid(),
                    parent: container.pids().parent(group.pid()),
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
        let World { net, kernel, .. } = &*self.member.world;
        let capture = net.capture((file.into(), name), nics, kernel)?;
        capture.stop_after(limit);
        Ok(RunningCapture { net: net.clone(), capture })
    }

    /// What the container's programs use.
    pub fn usage(&self) -> ContainerUsage {
        self.container().usage()
    }

    /// Changes a limit.
    pub fn limit(&self, limit: ContainerLimit) {
        match limit {
            ContainerLimit::Tasks(most) => self.member.container.set_tasks_max(most),
            ContainerLimit::Memory(most) => self.container().set_memory_shown(most),
        }
    }

    /// Keeps the programs from running, or lets them go on.
    pub fn pause(&self, pause: Pause) {
        match pause {
            Pause::Held => self.container().freeze(),
            Pause::Released => self.container().thaw(),
        }
    }
}
