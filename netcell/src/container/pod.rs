//! The containers of a pod in its sandbox's process (ADR 12): the first, which is the sandbox, and those that were added to it.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};
use oci_spec::runtime::Spec;
use platform::host::packets::Connection;
use sentry::{
    ContainerLimit, MemberConfig, Names, Pause, PreparedMember, Process, Remote, SignalScope, Stdio,
};

use super::record::Folder;
use super::waiting::{Shared, Sought};
use crate::control::{Addition, Answer, Serve, heed, send};
use crate::oci::files::{self, HandedOver};
use crate::oci::{process, seccomp, spec};

/// All containers of a sandbox.
pub(super) struct Pod {
    /// Where all of them have their folders.
    root: PathBuf,
    /// The sandbox's own name.
    id: String,
    first: Arc<Shared>,
    others: Mutex<Others>,
}

#[derive(Default)]
struct Others {
    by_id: HashMap<String, Arc<Shared>>,
    /// The sandbox ends: there will be no further ones.
    are_over: bool,
}

/// A container that is made and waits for its start.
struct Waiting {
    spec: Spec,
    prepared: PreparedMember,
    process: Process,
    stdio: Stdio,
}

impl Pod {
    /// A pod whose sandbox is this container, in the folder of all at `root`.
    pub(super) fn new(root: &Path, id: &str, first: Arc<Shared>) -> Arc<Self> {
        let (root, id) = (root.to_owned(), id.to_owned());
        Arc::new(Self { root, id, first, others: Mutex::default() })
    }

    fn others(&self) -> MutexGuard<'_, Others> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sandbox's own program has ended, and so do the others.
    pub(super) fn end(&self) {
        let all: Vec<_> = {
            let mut others = self.others();
            others.are_over = true;
            others.by_id.values().cloned().collect()
        };
        all.iter().for_each(|other| other.end());
        self.first.is_over();
    }

    /// A container whose namespace another one joins.
    fn remote_of(&self, id: Option<&String>) -> Result<Option<Remote>> {
        let Some(id) = id else { return Ok(None) };
        if *id == self.id {
            return self.first.remote().map(Some);
        }
        let other = self.others().by_id.get(id).cloned();
        other.with_context(|| format!("{id} is not in this sandbox"))?.remote().map(Some)
    }

    fn make(&self, addition: Addition) -> Result<Waiting> {
        let Addition { sources, joined, description, streams, descriptors, .. } = addition;
        let spec = spec::read(File::from(description))?;
        let pids = self.remote_of(joined.pids.as_ref())?;
        let segments = self.remote_of(joined.ipc.as_ref())?;
        let uts = self.remote_of(joined.uts.as_ref())?;
        let linux = spec.linux().as_ref().context("linux is missing")?;
        let profile = linux.seccomp().as_ref().map(seccomp::profile).transpose();
        let asked = spec.process().as_ref().context("process is missing")?;
        let config = MemberConfig {
            pids: pids.as_ref(),
            segments: segments.as_ref(),
            names: match &uts {
                Some(other) => Names::Shared(other),
                None => Names::Own {
                    hostname: spec.hostname().clone().unwrap_or_else(super::sandbox::host_name),
                    domainname: spec.domainname().clone(),
                },
            },
            seccomp: profile.context("linux.seccomp")?,
            limits: process::limits(linux.resources().as_ref()),
        };
        let opened = files::take_over(&spec, HandedOver { sources, descriptors })?;
        let prepared = self.first.remote()?.add(opened.files, config)?;
        let terminals = process::terminals(asked);
        let process = process::of_spec(asked).context("process")?;
        prepared.check(&process)?;
        let stdio = Stdio { descriptors: streams.map(Some), terminals };
        Ok(Waiting { spec, prepared, process, stdio })
    }

    fn enter(&self, id: &str, shared: &Arc<Shared>) -> Result<()> {
        let mut others = self.others();
        ensure!(!others.are_over, "the pod's sandbox ends");
        ensure!(!others.by_id.contains_key(id), "container {id} is in this sandbox already");
        others.by_id.insert(id.to_owned(), shared.clone());
        Ok(())
    }
}

impl Serve for Pod {
    fn remote(&self) -> Result<Remote> {
        self.first.remote()
    }

    fn start(&self) -> Result<()> {
        self.first.start()
    }

    fn signal(&self, number: i32, scope: SignalScope) -> Result<()> {
        self.first.signal(number, scope)
    }

    fn pause(&self, pause: Pause) -> Result<()> {
        self.first.pause(pause)
    }

    fn limit(&self, limit: ContainerLimit) -> Result<()> {
        self.first.limit(limit)
    }

    fn wait(&self) -> Result<()> {
        self.first.wait()
    }

    fn member(&self, id: &str) -> Result<Arc<dyn Serve>> {
        let found = self.others().by_id.get(id).cloned();
        let member = found.with_context(|| format!("container not running: {id}"))?;
        Ok(member)
    }

    /// Makes a container, and is its keeper's partner until it has ended.
    fn add(&self, socket: &Connection, addition: Addition) -> Result<()> {
        let id = addition.id.clone();
        let folder = Folder::open(&self.root, &id)?;
        let waiting = self.make(addition)?;
        let (shared, starts) = Shared::new(&folder);
        self.enter(&id, &shared)?;
        thread::scope(|scope| {
            let keeper = thread::Builder::new().name("keeper".into());
            let listener = keeper.spawn_scoped(scope, || follow(socket, &shared));
            let begun = listener.map(drop).map_err(Into::into);
            let status = match begun.and_then(|()| send(socket, &Answer::Started, &[])) {
                Ok(()) => live(&shared, starts, waiting),
                Err(_) => crate::cli::EXIT_OURS,
            };
            // Nobody finds it any more once its end is told.
            self.others().by_id.remove(&id);
            shared.is_over();
            // The keeper may have gone.
            let _ = send(socket, &Answer::Exited { status }, &[]);
            let _ = socket.close();
        });
        Ok(())
    }
}

/// From its start to its end; gives its exit status.
fn live(shared: &Shared, starts: Receiver<Sought>, waiting: Waiting) -> u8 {
    let Waiting { spec, prepared, process, stdio } = waiting;
    let begun = shared.begin(starts, &spec, || {
        let remote = prepared.start(process, stdio)?;
        Ok((remote.clone(), remote))
    });
    begun.map_or_else(|status| status, |remote| remote.wait().exit_status())
}

/// Does what the process asks for that stands for the container. Without it there is no container.
fn follow(socket: &Connection, shared: &Shared) {
    let signal = |number| {
        // One that has ended needs no signals.
        let _ = shared.signal(number, SignalScope::First);
    };
    let resize = |size| {
        if let Ok(remote) = shared.remote() {
            remote.resize(size);
        }
    };
    heed(socket, signal, resize);
    shared.end();
}
