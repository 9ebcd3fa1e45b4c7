//! A container: its bundle, its first process, those that are executed in it, and the runtime's verbs on it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use containerd_shim_protos::types::mount::Mount;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;

use crate::bundle;
use crate::process::{Process, Stage};
use crate::runtime::Runtime;
use crate::streams::{Held, Open, Outputs, Streams};
use crate::terminal::{self, ConsoleSocket};

/// SIGKILL, as containerd numbers it.
const SIGKILL: u32 = 9;

/// A process that is to be executed, or was.
pub struct Exec {
    pub process: Arc<Process>,
    /// Its part of the specification, in JSON.
    spec: Vec<u8>,
}

/// A container.
pub struct Container {
    pub id: String,
    pub bundle: PathBuf,
    pub init: Arc<Process>,
    pub is_paused: AtomicBool,
    /// Whether it is in the sandbox of another one.
    pub is_member: bool,
    runtime: Runtime,
    execs: Mutex<HashMap<String, Arc<Exec>>>,
    files: AtomicU64,
}

impl Container {
    /// Mounts its root filesystem and creates it; it waits to be started. What fails leaves nothing.
    pub fn create(
        id: &str,
        bundle: &Path,
        mounts: &[Mount],
        streams: Streams,
        runtime: Runtime,
    ) -> Result<Arc<Self>> {
        let root = bundle.join("rootfs");
        let is_member = bundle::sandbox_of(bundle)?.is_some_and(|sandbox| sandbox != id);
        bundle::mount_root(mounts, &root)?;
        let container = Arc::new(Self {
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            init: Process::new(streams),
            is_paused: AtomicBool::new(false),
            is_member,
            runtime,
            execs: Mutex::default(),
            files: AtomicU64::new(0),
        });
        if let Err(error) = container.run_create() {
            let _ = container.force_delete();
            bundle::unmount_root(&root);
            return Err(error);
        }
        Ok(container)
    }

    fn run_create(&self) -> Result<()> {
        let pid_file = self.bundle.join("init.pid");
        let call = self.runtime.call(&self.bundle, "create").arg("--bundle").arg(&self.bundle);
        self.launch(&self.init, &self.id, call, &pid_file)
    }

    /// Runs what makes a process of this name, with its streams or its terminal, and reads its number.
    fn launch(
        &self,
        process: &Process,
        id: &str,
        call: crate::runtime::Call<'_>,
        pid_file: &Path,
    ) -> Result<()> {
        let source = self.runtime.source(id);
        let mut outputs = process.streams.outputs(&source)?;
        let logger = outputs.logger.take();
        let launched = self.launch_with(process, outputs, call.arg("--pid-file").arg(pid_file));
        let read = launched.and_then(|()| {
            let text = std::fs::read_to_string(pid_file);
            let text =
                text.with_context(|| format!("the runtime wrote no {}", pid_file.display()))?;
            text.trim().parse().with_context(|| format!("{text:?} is no process"))
        });
        match read {
            Ok(pid) => {
                let mut life = process.life();
                life.logger = logger;
                life.pid = pid;
                Ok(())
            }
            Err(error) => {
                if let Some(logger) = logger {
                    logger.end();
                }
                Err(error)
            }
        }
    }

    fn launch_with(
        &self,
        process: &Process,
        outputs: Outputs,
        mut call: crate::runtime::Call<'_>,
    ) -> Result<()> {
        let mut life = process.life();
        if process.streams.terminal {
            let socket = ConsoleSocket::new()?;
            call.arg("--console-socket").arg(socket.path()).arg(&self.id).run()?;
            let master = socket.master()?;
            life.held = terminal::carry(&master, &process.streams, outputs.stdout)?;
            life.master = Some(master);
            return Ok(());
        }
        let (stdin, held) = process.streams.open_input()?;
        let mut held = Held { stdin: held, outputs: Vec::new() };
        let mut given = |open: Option<Open>| match open {
            Some(open) => {
                held.outputs.extend(open.held);
                Stdio::from(open.end)
            }
            None => Stdio::null(),
        };
        let (stdout, stderr) = (given(outputs.stdout), given(outputs.stderr));
        call.command.stdin(stdin).stdout(stdout).stderr(stderr);
        call.arg(&self.id).run()?;
        life.held = held;
        Ok(())
    }

    /// A process of this container: the first where no other is named.
    pub fn process(&self, exec: &str) -> Result<Arc<Process>> {
        if exec.is_empty() {
            return Ok(Arc::clone(&self.init));
        }
        Ok(Arc::clone(&self.exec(exec)?.process))
    }

    fn exec(&self, id: &str) -> Result<Arc<Exec>> {
        let found = self.execs.lock().get(id).cloned();
        found.with_context(|| format!("no process {id} in {}", self.id))
    }

    /// Notes a process to be executed.
    pub fn add_exec(&self, id: &str, spec: Vec<u8>, streams: Streams) -> Result<()> {
        let mut execs = self.execs.lock();
        if execs.contains_key(id) {
            bail!("there is a process {id} already");
        }
        let exec = Exec { process: Process::new(streams), spec };
        execs.insert(id.to_owned(), Arc::new(exec));
        Ok(())
    }

    /// Starts the container, or executes a process; `tell` is called before its end can be told.
    pub fn start(&self, exec: &str, tell: impl FnOnce(u32)) -> Result<u32> {
        let process = self.process(exec)?;
        if process.life().stage != Stage::Created {
            bail!("it was started before");
        }
        if exec.is_empty() {
            // Its end may come at once, and waits until the start was told.
            let mut life = process.life();
            self.call("start").arg(&self.id).run()?;
            life.stage = Stage::Running;
            tell(life.pid);
            return Ok(life.pid);
        }
        let (id, exec) = (exec, self.exec(exec)?);
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let file = |kind: &str| self.bundle.join(format!("exec-{number}.{kind}"));
        let (spec, pid_file) = (file("json"), file("pid"));
        let call = self.call("exec").arg("--process").arg(&spec).arg("--detach");
        let written = std::fs::write(&spec, &exec.spec).map_err(Into::into);
        let launched = written.and_then(|()| self.launch(&process, id, call, &pid_file));
        for done in [&spec, &pid_file] {
            let _ = std::fs::remove_file(done);
        }
        // Whoever waits for it waits no longer.
        launched.inspect_err(|_| process.never_ran())?;
        let mut life = process.life();
        life.stage = Stage::Running;
        tell(life.pid);
        Ok(life.pid)
    }

    /// Sends a signal to a process, or to all.
    pub fn kill(&self, exec: &str, signal: u32, all: bool) -> Result<()> {
        if !exec.is_empty() {
            let process = self.process(exec)?;
            let pid = process.pid().context("process already finished: not found")?;
            let signal = i32::try_from(signal).ok().and_then(|n| Signal::try_from(n).ok());
            return Ok(kill(Pid::from_raw(pid as i32), signal.context("no such signal")?)?);
        }
        if !all && self.init.pid().is_none() {
            bail!("process already finished: not found");
        }
        let call = self.call("kill");
        let call = if all { call.arg("--all") } else { call };
        call.arg(&self.id).arg(signal.to_string()).run()
    }

    /// Forgets a process that was executed; takes away the container, for which its first process has ended.
    pub fn delete(&self, exec: &str) -> Result<()> {
        if !exec.is_empty() {
            let gone = self.execs.lock().remove(exec);
            if let Some(exec) = gone {
                exec.process.close();
            }
            return Ok(());
        }
        // It may be gone already, with all that it had.
        self.call("delete").arg(&self.id).run().or_else(|_| self.force_delete())?;
        bundle::unmount_root(&self.bundle.join("rootfs"));
        self.init.close();
        Ok(())
    }

    fn force_delete(&self) -> Result<()> {
        self.call("delete").arg("--force").arg(&self.id).run()
    }

    /// Everything of it ends, where it has not.
    pub fn destroy(&self) {
        if self.init.pid().is_some() {
            let _ = self.kill("", SIGKILL, true);
        }
    }

    /// Stops all of its processes for a while.
    pub fn pause(&self) -> Result<()> {
        self.call("pause").arg(&self.id).run()?;
        self.is_paused.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Lets them go on.
    pub fn resume(&self) -> Result<()> {
        self.call("resume").arg(&self.id).run()?;
        self.is_paused.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Changes its limits: `LinuxResources` of the specification, in JSON.
    pub fn update(&self, resources: &[u8]) -> Result<()> {
        let file = self.bundle.join("resources.json");
        std::fs::write(&file, resources)?;
        let updated = self.call("update").arg("--resources").arg(&file).arg(&self.id).run();
        let _ = std::fs::remove_file(&file);
        updated
    }

    /// Its processes, by their numbers on the host.
    pub fn pids(&self) -> Result<Vec<u32>> {
        let text = self.read(self.call("ps").arg("--format").arg("json"))?;
        serde_json::from_str(&text).with_context(|| format!("the runtime's ps wrote {text:?}"))
    }

    /// What it uses, as the runtime tells it.
    pub fn usage(&self) -> Result<String> {
        self.read(self.call("events").arg("--stats"))
    }

    /// What a call about this container prints.
    fn read(&self, call: crate::runtime::Call<'_>) -> Result<String> {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        call.arg(&self.id).read(&self.bundle.join(format!("output-{number}.json")))
    }

    fn call(&self, verb: &str) -> crate::runtime::Call<'_> {
        self.runtime.call(&self.bundle, verb)
    }
}
