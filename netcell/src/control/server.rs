//! The sandbox's end of the way to it: a thread that accepts, and one for each that connects.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::unistd::geteuid;
use platform::host::packets::{Connection, Listener};
use sentry::{ContainerLimit, ContainerUsage, Pause, ProcessInfo, Remote, SignalScope};

use super::message::{Addition, Answer, ProcessLine, Request, receive, send};
use super::session;

/// How often a capture looks whether it is over.
const LOOK_EVERY_MS: u16 = 100;
/// Descriptors of a container at most: its mounts, and its root directory.
const DESCRIPTORS_MOST: usize = 1024;
/// Connections at the same time.
const MOST: usize = 256;

/// What is behind the socket.
pub trait Serve: Send + Sync {
    /// The sandbox. Errors: its first program has not started.
    fn remote(&self) -> Result<Remote>;

    /// Starts the first program. Errors: it has started, or cannot.
    fn start(&self) -> Result<()>;

    /// Sends a signal to the first program, or to all.
    fn signal(&self, number: i32, scope: SignalScope) -> Result<()>;

    /// Keeps the programs from running, or lets them go on.
    fn pause(&self, pause: Pause) -> Result<()>;

    /// Changes a limit. Errors: it has not started, where that matters.
    fn limit(&self, limit: ContainerLimit) -> Result<()> {
        self.remote()?.limit(limit);
        Ok(())
    }

    /// Waits until all of it has ended.
    fn wait(&self) -> Result<()> {
        bail!("it cannot be waited for")
    }

    /// A container that was added. Errors: there is none of this name.
    fn member(&self, id: &str) -> Result<Arc<dyn Serve>> {
        bail!("{id} is not in this sandbox")
    }

    /// Makes a further container, tells over `socket` when it is made and how it ended, and does what is asked for there meanwhile.
    fn add(&self, socket: &Connection, addition: Addition) -> Result<()> {
        let _ = socket;
        bail!("{} cannot be added: this sandbox takes no further containers", addition.id)
    }
}

impl Serve for Remote {
    fn remote(&self) -> Result<Remote> {
        Ok(self.clone())
    }

    fn start(&self) -> Result<()> {
        bail!("it runs already")
    }

    fn signal(&self, number: i32, scope: SignalScope) -> Result<()> {
        self.signal_scope(number, scope);
        Ok(())
    }

    fn pause(&self, pause: Pause) -> Result<()> {
        Remote::pause(self, pause);
        Ok(())
    }
}

/// Serves the socket of a sandbox.
pub struct Server {
    talks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Server {
    /// Begins to accept connections.
    pub fn start(listener: Listener, what: Arc<dyn Serve>) -> Result<Self> {
        let talks: Arc<Mutex<Vec<JoinHandle<()>>>> = Arc::default();
        let all = talks.clone();
        let serve = move || {
            // It ends where no descriptors are left, say: who asks then finds nobody.
            while let Ok(connection) = listener.accept() {
                begin(&all, connection, &what);
            }
        };
        thread::Builder::new().name("control".into()).spawn(serve)?;
        Ok(Self { talks })
    }

    /// The sandbox has ended: waits until those that were connected have heard of it.
    pub fn end(self) {
        let talks = std::mem::take(&mut *locked(&self.talks));
        for talk in talks {
            // One that panicked has told so.
            let _ = talk.join();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn begin(talks: &Mutex<Vec<JoinHandle<()>>>, socket: Connection, what: &Arc<dyn Serve>) {
    let mut talks = locked(talks);
    talks.retain(|talk| !talk.is_finished());
    let allowed = socket.peer_uid().is_ok_and(|uid| uid == 0 || uid == geteuid().as_raw());
    if !allowed || talks.len() == MOST {
        return;
    }
    let what = what.clone();
    let talk = move || {
        if let Err(error) = talk(&socket, &*what) {
            // Who does not listen any more need not hear of it.
            let _ = send(&socket, &Answer::Refused { why: format!("{error:#}") }, &[]);
        }
    };
    talks.extend(thread::Builder::new().name("control".into()).spawn(talk));
}

fn talk(socket: &Connection, what: &dyn Serve) -> Result<()> {
    let Some((request, descriptors)) = receive(socket)? else { return Ok(()) };
    let done = || send(socket, &Answer::Started, &[]);
    match request {
        Request::Capture { interfaces, limit, name } => {
            let file = descriptors.into_iter().next();
            let file = file.context("a capture needs a file to write to")?;
            let capture = what.remote()?.capture((file, Path::new(&name)), &interfaces, limit)?;
            done()?;
            while !capture.is_over() && !has_gone(socket)? {}
            let error = capture.finish().err().map(|error| error.to_string());
            let (frames, dropped) = capture.counts();
            send(socket, &Answer::Ended { frames, dropped, error }, &[])
        }
        Request::Start => {
            what.start()?;
            done()
        }
        Request::Signal { number, all } => {
            what.signal(number, if all { SignalScope::All } else { SignalScope::First })?;
            done()
        }
        Request::Exec => session::exec(socket, &what.remote()?, descriptors),
        Request::Resize { .. } | Request::Descriptors => {
            bail!("nothing was started over this connection")
        }
        Request::Of { container } => talk(socket, &*what.member(&container)?),
        Request::Add { id, sources, descriptors: count, joined } => {
            let (description, streams) = session::description_and_streams(descriptors)?;
            let descriptors = more(socket, count)?;
            what.add(socket, Addition { id, sources, joined, description, streams, descriptors })
        }
        Request::Wait => what.wait(),
        Request::Processes => {
            let all = what.remote()?.processes().into_iter().map(ProcessLine::from).collect();
            send(socket, &Answer::Processes { all }, &[])
        }
        Request::Usage => {
            let ContainerUsage { cpu_ns, memory, tasks, memory_max } = what.remote()?.usage();
            send(socket, &Answer::Usage { cpu_ns, memory, tasks, memory_max }, &[])
        }
        Request::LimitTasks { most } => {
            what.limit(ContainerLimit::Tasks(most))?;
            done()
        }
        Request::ShowMemory { most } => {
            what.limit(ContainerLimit::Memory(most))?;
            done()
        }
        Request::Pause => {
            what.pause(Pause::Held)?;
            done()
        }
        Request::Resume => {
            what.pause(Pause::Released)?;
            done()
        }
    }
}

/// The descriptors that follow a request.
fn more(socket: &Connection, count: usize) -> Result<Vec<OwnedFd>> {
    ensure!(count <= DESCRIPTORS_MOST, "{count} descriptors are more than {DESCRIPTORS_MOST}");
    let mut all = Vec::new();
    while all.len() < count {
        let Some((Request::Descriptors, some)) = receive(socket)? else {
            bail!("descriptors are missing: {} of {count} came", all.len());
        };
        ensure!(!some.is_empty(), "a packet without descriptors");
        all.extend(some);
    }
    ensure!(all.len() == count, "{} descriptors came, not {count}", all.len());
    Ok(all)
}

impl From<ProcessInfo> for ProcessLine {
    fn from(info: ProcessInfo) -> Self {
        let ProcessInfo { pid, parent, uid, cpu_ns, age_s, command } = info;
        Self { pid, ppid: parent, uid, cpu_ns, age_s, command }
    }
}

/// Whether the other side wants no more; looks for a moment.
fn has_gone(socket: &Connection) -> Result<bool> {
    match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], LOOK_EVERY_MS) {
        Ok(0) | Err(Errno::EINTR) => Ok(false),
        Ok(_) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}
