//! Making a container: its folder, its cgroup, the process of its sandbox, the hooks in between.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use oci_spec::runtime::{Process, Spec};
use platform::host::packets::Connection;

use super::lifecycle::Force;
use super::member;
use super::record::{Folder, Record, Status};
use super::sandbox::Session;
use super::sync::{Word, hear, say};
use super::{Runtime, cgroup};
use crate::oci::{hooks, spec};
use crate::sandbox::signals;
use crate::sandbox::terminal::RawMode;

/// What `create` is asked for.
#[derive(Clone, Debug)]
pub struct Create {
    /// The container's name.
    pub id: String,
    /// Where its configuration is.
    pub bundle: PathBuf,
    /// Where to write the number of its process.
    pub pid_file: Option<PathBuf>,
    /// Who gets the master of its terminal.
    pub console_socket: Option<PathBuf>,
    /// Whose session its process is in.
    pub session: Session,
}

/// A container that was made by this process.
pub struct Created {
    /// Its folder.
    pub folder: Folder,
    /// The process of its sandbox.
    pub sandbox: Child,
    /// Its program.
    pub process: Process,
}

/// Makes a container that waits for its start. Where that fails, nothing is left of it.
pub fn create(runtime: &Runtime, asked: &Create) -> Result<Created> {
    let bundle = asked.bundle.canonicalize();
    let bundle = bundle.with_context(|| format!("--bundle {}", asked.bundle.display()))?;
    let spec = spec::load(&bundle.join(spec::CONFIG))?;
    let process = spec.process().clone().context("process is missing")?;
    check_terminal(&process, asked)?;
    let rootfs = spec::rootfs(&spec, &bundle)?;
    let record = Record::new(&asked.id, &bundle, &rootfs, &spec)?;
    if let Some(sandbox) = &record.sandbox {
        member::check(runtime, sandbox, &spec)?;
    }
    let folder = Folder::make(&runtime.root, &record, &spec)?;
    let made = make(runtime, asked, &spec, &folder);
    match made {
        Ok(sandbox) => Ok(Created { folder, sandbox, process }),
        Err(error) => {
            clean(runtime, &folder);
            Err(error)
        }
    }
}

impl Runtime {
    /// Makes a container, starts it, waits for its end and removes it; gives its exit status.
    pub fn run(&self, asked: &Create) -> Result<u8> {
        // The program's signals: this process is who its user knows.
        let signals = signals::Source::new().context("cannot receive signals")?;
        let mut created = create(self, asked)?;
        let terminal = created.process.terminal().unwrap_or(false);
        let raw = (terminal && asked.console_socket.is_none()).then(RawMode::enter).flatten();
        let process = created.folder.read()?.process;
        let status = self.start(&asked.id).and_then(|()| {
            signals.forward(move |number| {
                if let (Some(process), Ok(signal)) = (process, Signal::try_from(number)) {
                    // One that has ended needs none.
                    let _ = process.signal(signal);
                }
            })?;
            Ok(created.sandbox.wait()?)
        });
        drop(raw);
        self.delete(&asked.id, Force::Given)?;
        let status = status?;
        Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(255))
    }
}

fn check_terminal(process: &Process, asked: &Create) -> Result<()> {
    match (process.terminal().unwrap_or(false), &asked.console_socket) {
        (true, None) if asked.session == Session::Own => {
            bail!("process.terminal is set: give --console-socket")
        }
        (false, Some(_)) => bail!("--console-socket is given, and process.terminal is not set"),
        _ => Ok(()),
    }
}

/// Removes what a failed attempt has left.
fn clean(runtime: &Runtime, folder: &Folder) {
    let record = folder.read();
    let ended = record.as_ref().ok().and_then(|record| record.process);
    if let Some(Err(error)) = ended.map(|process| process.kill()) {
        runtime.journal.warn(&format!("{error:#}"));
    }
    if let Ok(Some(path)) = record.map(|record| record.cgroup)
        && let Err(error) = cgroup::remove(&path)
    {
        runtime.journal.warn(&format!("{error:#}"));
    }
    if let Err(error) = folder.remove() {
        runtime.journal.warn(&format!("{error:#}"));
    }
}

fn make(runtime: &Runtime, asked: &Create, spec: &Spec, folder: &Folder) -> Result<Child> {
    let (ours, theirs) = Connection::pair()?;
    let mut child = start(runtime, asked, &theirs)?;
    drop(theirs);
    let made = guide(runtime, asked, spec, folder, &ours);
    if made.is_err() {
        // It may have failed by itself, or waits for a word that does not come.
        let _ = child.kill();
        child.wait()?;
    }
    made.map(|()| child)
}

fn start(runtime: &Runtime, asked: &Create, theirs: &Connection) -> Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("--root").arg(&runtime.root).args(runtime.journal.flags());
    command.arg("sandbox").args(["--sync", &theirs.leave_open()?.to_string()]);
    if let Some(socket) = &asked.console_socket {
        command.arg("--console-socket").arg(socket.canonicalize().unwrap_or(socket.clone()));
    }
    if asked.session == Session::Makers {
        command.arg("--attached");
    }
    command.arg(&asked.id).current_dir("/");
    command.spawn().context("cannot start the sandbox's process")
}

/// Leads the sandbox through its making.
fn guide(
    runtime: &Runtime,
    asked: &Create,
    spec: &Spec,
    folder: &Folder,
    sandbox: &Connection,
) -> Result<()> {
    let word = hear(sandbox)?;
    ensure!(word == Word::Joined, "the sandbox says what makes no sense: {word:?}");
    let record = folder.read()?;
    let process = record.process.context("the sandbox has not told its process")?;
    let linux = spec.linux().as_ref();
    if let Some(path) = linux.and_then(|linux| linux.cgroups_path().as_ref()) {
        cgroup::check(path)?;
        // Before it is made: whoever is killed in between must be found by it.
        folder.change(|record| record.cgroup = Some(path.clone()))?;
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        cgroup::make(path, resources, process.pid, &runtime.journal)?;
    }
    set_oom_score(runtime, spec, process.pid);
    let hooks = spec.hooks().as_ref();
    let state = record.state(Status::Creating).to_string();
    hooks::run("prestart", hooks.and_then(|hooks| hooks.prestart().as_ref()), &state)?;
    hooks::run("createRuntime", hooks.and_then(|hooks| hooks.create_runtime().as_ref()), &state)?;
    say(sandbox, &Word::Go)?;
    match hear(sandbox)? {
        Word::Made { left_out } => left_out.iter().for_each(|line| runtime.journal.inform(line)),
        word => bail!("the sandbox says what makes no sense: {word:?}"),
    }
    folder.change(|record| record.status = Status::Created)?;
    if let Some(path) = &asked.pid_file {
        write_pid(path, process.pid)?;
    }
    Ok(())
}

/// Writes the number of a process for whoever waits for the file: it is there whole or not at all.
pub fn write_pid(path: &Path, pid: i32) -> Result<()> {
    let told = || format!("--pid-file {}", path.display());
    let name = path.file_name().with_context(told)?.to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    fs::write(&new, pid.to_string()).with_context(told)?;
    fs::rename(new, path).with_context(told)
}

/// oomScoreAdj is about the host's memory, so it is the sandbox's. Without the right to lower it, it stays as it is.
fn set_oom_score(runtime: &Runtime, spec: &Spec, pid: i32) {
    let Some(score) = spec.process().as_ref().and_then(|process| process.oom_score_adj()) else {
        return;
    };
    if let Err(error) = fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()) {
        runtime.journal.warn(&format!("process.oomScoreAdj {score} is not set: {error}"));
    }
}
