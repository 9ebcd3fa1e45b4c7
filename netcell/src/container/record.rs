//! A container's folder and what is written there: enough to find its process, and to clean up after whoever was killed.

use std::collections::HashMap;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::control::{Connection, Request, SOCKET, check_id, lock, remove};
use crate::oci::spec::CONFIG;
use crate::oci::{VERSION, spec};

/// The record within a container's folder.
pub const RECORD: &str = "container.json";
/// How often the end of a process that is no child is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How far a container has come, as its own processes know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its sandbox is being made.
    Creating,
    /// Its sandbox waits for `start`.
    Created,
    /// Its program runs.
    Running,
    /// Its programs are held.
    Paused,
    /// It has ended; never written, but found where the process is gone.
    Stopped,
}

impl Status {
    /// The word of the specification.
    pub fn word(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// A process of the host, told from later ones of the same number by when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostProcess {
    /// Its number.
    pub pid: i32,
    /// When it began, in ticks since the host's boot (field 22 of /proc/PID/stat).
    pub start_ticks: u64,
}

impl HostProcess {
    /// The process of this number now. Errors: it is not there.
    pub fn of(pid: i32) -> Result<Self> {
        let (_, start_ticks) = look(pid).with_context(|| format!("no process {pid}"))?;
        Ok(Self { pid, start_ticks })
    }

    /// Whether it still runs; a zombie does not.
    pub fn is_alive(self) -> bool {
        look(self.pid)
            .is_some_and(|(state, start)| start == self.start_ticks && !matches!(state, 'Z' | 'X'))
    }

    /// Sends it a signal of the host. One that is gone needs none.
    pub fn signal(self, signal: Signal) -> Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => bail!("cannot signal process {}: {errno}", self.pid),
        }
    }

    /// Ends it and waits until it is gone.
    pub fn kill(self) -> Result<()> {
        while self.is_alive() {
            self.signal(Signal::SIGKILL)?;
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

/// State and begin of a process, from /proc/PID/stat.
fn look(pid: i32) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// What is written of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub id: String,
    /// The container whose sandbox it is in, where that is not its own.
    #[serde(default)]
    pub sandbox: Option<String>,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its root directory.
    pub rootfs: PathBuf,
    /// How far it has come.
    pub status: Status,
    /// The process of its sandbox, or the one that stands for it where the sandbox is another's; once there is one.
    pub process: Option<HostProcess>,
    /// When it was created, in seconds since the epoch.
    pub created_s: u64,
    /// Its annotations.
    pub annotations: HashMap<String, String>,
    /// Its cgroup below the host's, where it has one of its own.
    pub cgroup: Option<PathBuf>,
    /// The program and its arguments.
    pub command: Vec<String>,
}

impl Record {
    /// A record of a container that is about to be made.
    pub fn new(id: &str, bundle: &Path, rootfs: &Path, spec: &Spec) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let command = spec.process().as_ref().and_then(|process| process.args().clone());
        Ok(Self {
            id: id.to_owned(),
            sandbox: spec::sandbox(spec)?.map(str::to_owned),
            bundle: bundle.to_owned(),
            rootfs: rootfs.to_owned(),
            status: Status::Creating,
            process: None,
            created_s: now.as_secs(),
            annotations: spec.annotations().clone().unwrap_or_default(),
            cgroup: None,
            command: command.unwrap_or_default(),
        })
    }

    /// How far it has come, with a look at its process.
    pub fn status(&self) -> Status {
        match self.process {
            Some(process) if !process.is_alive() => Status::Stopped,
            // Whoever made it was killed before there was a process, or makes it right now.
            _ => self.status,
        }
    }

    /// The state of the specification (runtime.md, "State"); `pid` is 0 once it has stopped, as callers of runc know it.
    pub fn state(&self, status: Status) -> Value {
        let pid = self.process.filter(|_| status != Status::Stopped).map_or(0, |p| p.pid);
        json!({
            "ociVersion": VERSION,
            "id": self.id,
            "status": status.word(),
            "pid": pid,
            "bundle": self.bundle,
            "annotations": self.annotations,
        })
    }

    /// The state with what `state` and `list` of runc tell beyond it.
    pub fn told(&self) -> Value {
        let mut told = self.state(self.status());
        told["rootfs"] = json!(self.rootfs);
        told["created"] = json!(self.created());
        told["owner"] = json!("root");
        told
    }

    /// When it was created, as RFC 3339 has it.
    pub fn created(&self) -> String {
        let time = UNIX_EPOCH.checked_add(Duration::from_secs(self.created_s));
        humantime::format_rfc3339_seconds(time.unwrap_or(UNIX_EPOCH)).to_string()
    }
}

/// A container's folder.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes the folder of a container with its record and its configuration. Errors: the name is taken, or is none.
    pub fn make(root: &Path, record: &Record, spec: &Spec) -> Result<Self> {
        check_id(&record.id)?;
        let told = || format!("cannot make a folder for the container in {}", root.display());
        DirBuilder::new().recursive(true).mode(0o700).create(root).with_context(told)?;
        let _lock = lock(root).with_context(told)?;
        let path = root.join(&record.id);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("container with given ID already exists: {}", record.id)
            }
            other => other.with_context(told)?,
        }
        let folder = Self { path };
        let write = || -> Result<()> {
            if let Some(sandbox) = &record.sandbox {
                symlink(Path::new("..").join(sandbox).join(SOCKET), folder.path.join(SOCKET))?;
            }
            folder.write(record)?;
            Ok(fs::write(folder.config(), serde_json::to_vec(spec)?)?)
        };
        write().inspect_err(|_| _ = folder.remove())?;
        Ok(folder)
    }

    /// The folder of a container. Errors: there is none of this name.
    pub fn open(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        let path = root.join(id);
        ensure!(path.join(RECORD).exists(), "container does not exist: {id}");
        Ok(Self { path })
    }

    /// All containers, by name. What is no container is left out.
    pub fn all(root: &Path) -> Result<Vec<Self>> {
        let entries = match fs::read_dir(root) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| root.display().to_string())?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.join(RECORD).exists() {
                all.push(Self { path });
            }
        }
        all.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(all)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The copy of the configuration.
    pub fn config(&self) -> PathBuf {
        self.path.join(CONFIG)
    }

    /// Reads the record.
    pub fn read(&self) -> Result<Record> {
        let path = self.path.join(RECORD);
        let told = || path.display().to_string();
        serde_json::from_slice(&fs::read(&path).with_context(told)?).with_context(told)
    }

    /// Writes the record: the old or the new one is there at any moment.
    pub fn write(&self, record: &Record) -> Result<()> {
        // Two writers at once must not share a file.
        let new = self.path.join(format!(".{RECORD}.{}", std::process::id()));
        fs::write(&new, serde_json::to_vec(record)?)?;
        Ok(fs::rename(new, self.path.join(RECORD))?)
    }

    /// Changes the record.
    pub fn change(&self, change: impl FnOnce(&mut Record)) -> Result<Record> {
        let mut record = self.read()?;
        change(&mut record);
        self.write(&record)?;
        Ok(record)
    }

    /// Connects to the sandbox, to speak of this container. Errors: it has gone.
    pub fn connect(&self) -> Result<Connection> {
        let Record { id, sandbox, .. } = self.read()?;
        let told = "container not running";
        let connection = Connection::open(&self.path).context(told)?;
        if sandbox.is_some() {
            connection.tell(&Request::Of { container: id }).context(told)?;
        }
        Ok(connection)
    }

    /// Removes everything.
    pub fn remove(&self) -> Result<()> {
        remove(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_when_it_began() {
        let own = HostProcess::of(std::process::id() as i32).expect("this process");
        assert!(own.is_alive());
        assert!(!HostProcess { start_ticks: own.start_ticks + 1, ..own }.is_alive());
        let mut child = std::process::Command::new("true").spawn().expect("true");
        let gone = HostProcess::of(child.id() as i32).expect("a child, at least as a zombie");
        gone.kill().expect("a zombie counts as gone, at the latest after the signal");
        child.wait().expect("a child");
    }
}
