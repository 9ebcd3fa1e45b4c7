//! A further program in a container: asked for by this process, which lives as long as the program does, or by one that it leaves behind.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use oci_spec::runtime::Process;
use platform::host::packets;
use serde::Serialize;
use serde_json::Value;

use super::create::write_pid;
use super::record::{Folder, Status};
use super::sync::{Word, fail, hear, say};
use super::{Runtime, pty};
use crate::control::{Answer, Connection, Request, receive};
use crate::oci::{process, spec};
use crate::sandbox::signals;
use crate::sandbox::terminal::RawMode;

/// What `exec` is asked for.
#[derive(Clone, Debug)]
pub struct Exec {
    /// The container's name.
    pub id: String,
    /// The program.
    pub process: Process,
    /// Whether this process waits for its end.
    pub attendance: Attendance,
    /// Where to write the number of the process that stands for the program on the host.
    pub pid_file: Option<PathBuf>,
    /// Who gets the master of its terminal.
    pub console_socket: Option<PathBuf>,
    /// What a container that is paused means.
    pub paused: Paused,
}

/// Who waits for a program's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attendance {
    /// This process.
    Stay,
    /// Another one, which is left behind.
    Detach,
}

/// What a container that is paused means for a new program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    /// It is refused.
    Refused,
    /// It starts, and is held as the others.
    Held,
}

/// What may be changed of the container's own process for a further one.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Further environment, as `NAME=value`.
    pub env: Vec<String>,
    /// Its working directory.
    pub cwd: Option<PathBuf>,
    /// User and group.
    pub user: Option<(u32, Option<u32>)>,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Capabilities beyond the container's own, as `CAP_NAME`.
    pub capabilities: Vec<String>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Whether it may gain privileges: true takes that from it.
    pub no_new_privileges: bool,
}

impl Runtime {
    /// The process of a container with these changes.
    pub fn changed_process(&self, id: &str, changes: &Changes) -> Result<Process> {
        let folder = Folder::open(&self.root, id)?;
        let spec = spec::load(&folder.config())?;
        let process = spec.process().as_ref().context("process is missing")?;
        let mut value = serde_json::to_value(process)?;
        value["args"] = changes.args.clone().into();
        value["terminal"] = changes.terminal.into();
        let mut env = process.env().clone().unwrap_or_default();
        for variable in &changes.env {
            let name = variable.split_once('=').map_or(variable.as_str(), |(name, _)| name);
            env.retain(|old| old.split_once('=').is_none_or(|(known, _)| known != name));
            env.push(variable.clone());
        }
        value["env"] = env.into();
        if let Some(cwd) = &changes.cwd {
            value["cwd"] = cwd.to_string_lossy().into();
        }
        if let Some((uid, gid)) = changes.user {
            value["user"]["uid"] = uid.into();
            value["user"]["gid"] = gid.unwrap_or(process.user().gid()).into();
        }
        if !changes.groups.is_empty() {
            value["user"]["additionalGids"] = changes.groups.clone().into();
        }
        for set in ["bounding", "effective", "permitted", "inheritable"] {
            if changes.capabilities.is_empty() {
                break;
            }
            let held = &mut value["capabilities"][set];
            if !held.is_array() {
                *held = Value::Array(Vec::new());
            }
            if let Value::Array(held) = held {
                held.extend(changes.capabilities.iter().cloned().map(Value::from));
            }
        }
        if changes.no_new_privileges {
            value["noNewPrivileges"] = true.into();
        }
        Ok(serde_json::from_value(value)?)
    }

    /// Starts a further program; gives its exit status, or 0 where it is left behind.
    pub fn exec(&self, asked: &Exec) -> Result<u8> {
        // Errors of the process itself are this command's to tell.
        process::of_spec(&asked.process).context("process")?;
        let terminal = asked.process.terminal().unwrap_or(false);
        match (terminal, &asked.console_socket, asked.attendance) {
            (true, None, Attendance::Detach) => {
                bail!("a program with a terminal that is left behind needs --console-socket")
            }
            (false, Some(_), _) => bail!("--console-socket is for programs with a terminal"),
            _ => {}
        }
        let folder = Folder::open(&self.root, &asked.id)?;
        match folder.read()?.status() {
            Status::Running => {}
            Status::Paused if asked.paused == Paused::Held => {}
            Status::Paused => bail!("cannot exec in a paused container"),
            status => bail!("cannot exec in a container that is {}", status.word()),
        }
        if asked.attendance == Attendance::Detach || asked.console_socket.is_some() {
            return self.leave_behind(asked);
        }
        let signals = signals::Source::new().context("cannot receive signals")?;
        let program = start(&folder, &asked.process, None)?;
        if let Some(path) = &asked.pid_file {
            write_pid(path, std::process::id() as i32)?;
        }
        let raw = terminal.then(RawMode::enter).flatten();
        let status = attend(program, signals, None);
        drop(raw);
        status
    }

    /// Starts the process that stands for the program, and waits until the program has started.
    fn leave_behind(&self, asked: &Exec) -> Result<u8> {
        let (ours, theirs) = packets::Connection::pair()?;
        let mut command = Command::new("/proc/self/exe");
        command.arg("--root").arg(&self.root).args(self.journal.flags());
        command.arg("attend").args(["--sync", &theirs.leave_open()?.to_string()]);
        if let Some(socket) = &asked.console_socket {
            command.arg("--console-socket").arg(socket.canonicalize().unwrap_or(socket.clone()));
        }
        command.arg(&asked.id).current_dir("/");
        let mut child = command.spawn().context("cannot start a process")?;
        drop(theirs);
        let description = describe(&asked.process)?;
        crate::control::send(&ours, &Word::Go, &[description.as_fd()])?;
        match hear(&ours) {
            Ok(Word::Started) => {}
            Ok(word) => bail!("the process says what makes no sense: {word:?}"),
            Err(error) => {
                child.wait()?;
                return Err(error);
            }
        }
        if let Some(path) = &asked.pid_file {
            write_pid(path, child.id() as i32)?;
        }
        match asked.attendance {
            Attendance::Detach => Ok(0),
            Attendance::Stay => {
                Ok(child.wait()?.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(255))
            }
        }
    }
}

/// What the process that stands for a program is told.
#[derive(Clone, Debug)]
pub struct Attend {
    /// The container's name.
    pub id: String,
    /// The descriptor over which its maker talks to it.
    pub sync: RawFd,
    /// Who gets the master of the program's terminal.
    pub console_socket: Option<PathBuf>,
}

/// Is the process that stands for a program, and ends with its status.
pub fn stand_in(runtime: &Runtime, told: &Attend) -> Result<u8> {
    let maker =
        packets::Connection::inherited(told.sync).context("this command is netcell's own")?;
    match begin(runtime, told, &maker) {
        Ok((program, signals, terminal)) => {
            say(&maker, &Word::Started)?;
            drop(maker);
            attend(program, signals, terminal)
        }
        Err(error) => Ok(fail(&maker, &error)),
    }
}

type Begun = (Connection, signals::Source, Option<OwnedFd>);

fn begin(runtime: &Runtime, told: &Attend, maker: &packets::Connection) -> Result<Begun> {
    nix::unistd::setsid().context("cannot lead a session")?;
    let Some((Word::Go, descriptors)) = receive(maker)? else { bail!("its maker has gone") };
    let description = descriptors.into_iter().next().context("no description came")?;
    let mut description = File::from(description);
    description.rewind()?;
    let process: Process = serde_json::from_reader(&description)?;
    let signals = signals::Source::new().context("cannot receive signals")?;
    let terminal = match &told.console_socket {
        Some(socket) => Some(pty::open(socket, &process)?),
        None => None,
    };
    let folder = Folder::open(&runtime.root, &told.id)?;
    let program = start(&folder, &process, terminal.as_ref())?;
    Ok((program, signals, terminal))
}

/// A process object or a whole configuration as a file, of any length.
pub(super) fn describe(what: &impl Serialize) -> Result<OwnedFd> {
    let mut file = File::from(platform::host::file::memory_file(c"description")?);
    file.write_all(&serde_json::to_vec(what)?)?;
    file.rewind()?;
    Ok(file.into())
}

/// Starts a program in the sandbox with this process's streams, or with a terminal.
fn start(folder: &Folder, process: &Process, terminal: Option<&OwnedFd>) -> Result<Connection> {
    let sandbox = folder.connect()?;
    let description = describe(process)?;
    let streams = streams(terminal)?;
    let mut descriptors = vec![description.as_fd()];
    descriptors.extend(streams.iter().map(AsFd::as_fd));
    sandbox.ask(&Request::Exec, &descriptors)?;
    Ok(sandbox)
}

/// Standard input, output and error for a program: the terminal, or this process's own.
pub(super) fn streams(terminal: Option<&OwnedFd>) -> Result<Vec<OwnedFd>> {
    let mut streams = Vec::new();
    for own in crate::sandbox::standard_streams() {
        streams.push(match (terminal, own) {
            (Some(terminal), _) => terminal.try_clone()?,
            (None, Some(own)) => own,
            (None, None) => File::options().read(true).write(true).open("/dev/null")?.into(),
        });
    }
    Ok(streams)
}

/// Passes signals and sizes on until the program has ended; gives its status.
pub(super) fn attend(
    program: Connection,
    signals: signals::Source,
    terminal: Option<OwnedFd>,
) -> Result<u8> {
    let program = Arc::new(program);
    let sender = program.clone();
    signals.forward(move |number| {
        let request = if number != Signal::SIGWINCH as i32 {
            Request::Signal { number, all: false }
        } else if let Some(size) = signals::size(terminal.as_ref()) {
            Request::Resize { rows: size.rows, columns: size.columns }
        } else {
            return;
        };
        // A program that has ended needs no signals.
        let _ = sender.tell(&request);
    })?;
    match program.answer()? {
        Some(Answer::Exited { status }) => Ok(status),
        Some(other) => bail!("the sandbox answers what makes no sense: {other:?}"),
        // Its kernel has gone, and the program with it: as by SIGKILL.
        None => Ok(128 + Signal::SIGKILL as u8),
    }
}
