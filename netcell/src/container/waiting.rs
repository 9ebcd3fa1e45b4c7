//! A container between its making and the end of its first program, as those see it who connect to its sandbox.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::Signal;
use oci_spec::runtime::Spec;
use sentry::{ContainerLimit, Pause, Remote, SignalScope};

use super::record::{Folder, Status};
use crate::control::Serve;
use crate::oci::hooks;

/// What somebody asks for before the start.
pub(super) enum Sought {
    /// The start; the answer is none, or why it failed.
    Start(SyncSender<Option<String>>),
    /// The end, by this signal.
    End(i32),
}

/// What is known of the container.
pub(super) struct Shared {
    sought: Sender<Sought>,
    remote: OnceLock<Remote>,
    folder: Folder,
    /// Limits that were changed before it started.
    limits: Mutex<Vec<ContainerLimit>>,
    /// It shall end, also where its program starts right now.
    ends: AtomicBool,
    over: (Mutex<bool>, Condvar),
}

impl Shared {
    /// A container that waits, and where it hears of what is sought.
    pub(super) fn new(folder: &Folder) -> (Arc<Self>, Receiver<Sought>) {
        let (sought, starts) = mpsc::channel();
        let shared = Self {
            sought,
            remote: OnceLock::new(),
            folder: folder.clone(),
            limits: Mutex::default(),
            ends: AtomicBool::new(false),
            over: (Mutex::new(false), Condvar::new()),
        };
        (Arc::new(shared), starts)
    }

    /// Waits for the start and does it; gives what `start` gives beside the container. Errors: the exit status of what ended before it ran.
    pub(super) fn begin<T>(
        &self,
        starts: Receiver<Sought>,
        spec: &Spec,
        start: impl FnOnce() -> Result<(T, Remote)>,
    ) -> Result<T, u8> {
        let sought = starts.recv();
        // Whoever else asks for it hears that there is nobody to ask.
        drop(starts);
        let answer = match sought {
            Ok(Sought::Start(answer)) => answer,
            Ok(Sought::End(signal)) => return Err(128u8.saturating_add(signal as u8)),
            Err(_) => return Err(crate::cli::EXIT_OURS),
        };
        let started = self.start_hooks(spec).and_then(|()| {
            let (started, remote) = start()?;
            let written = self.folder.change(|record| record.status = Status::Running);
            // Without its record nobody would find it to end it: one that is removed while it starts, say.
            written.inspect_err(|_| {
                remote.end();
                remote.wait();
            })?;
            Ok((started, remote))
        });
        let told = started.map(|(started, remote)| {
            let limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
            limits.iter().for_each(|limit| remote.limit(*limit));
            // Set once: nobody else starts.
            let remote = self.remote.get_or_init(|| remote);
            if self.ends.load(Ordering::SeqCst) {
                remote.end();
            }
            started
        });
        let why = told.as_ref().err().map(|error| format!("{error:#}"));
        // Whoever asked may have gone.
        let _ = answer.send(why);
        told.map_err(|_| crate::cli::EXIT_OURS)
    }

    fn start_hooks(&self, spec: &Spec) -> Result<()> {
        let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.start_container().as_ref());
        let state = self.folder.read()?.state(Status::Created).to_string();
        hooks::run("startContainer", hooks, &state)
    }

    /// Ends its programs, or keeps the first from starting.
    pub(super) fn end(&self) {
        self.ends.store(true, Ordering::SeqCst);
        match self.remote.get() {
            Some(remote) => remote.end(),
            // It starts right now, and looks at the word above.
            None => _ = self.sought.send(Sought::End(Signal::SIGKILL as i32)),
        }
    }

    /// It has ended.
    pub(super) fn is_over(&self) {
        *self.over.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.over.1.notify_all();
    }
}

impl Serve for Shared {
    fn remote(&self) -> Result<Remote> {
        self.remote.get().cloned().context("the container is not running")
    }

    fn start(&self) -> Result<()> {
        let (answer, answered) = mpsc::sync_channel(1);
        let told = || "cannot start a container in the running state";
        if self.remote.get().is_some() {
            bail!(told());
        }
        self.sought.send(Sought::Start(answer)).map_err(|_| anyhow!(told()))?;
        match answered.recv() {
            Ok(None) => Ok(()),
            Ok(Some(why)) => bail!(why),
            Err(_) => bail!(told()),
        }
    }

    fn signal(&self, number: i32, scope: SignalScope) -> Result<()> {
        if let Some(remote) = self.remote.get() {
            remote.signal_scope(number, scope);
            return Ok(());
        }
        // Until it has started, a signal does what it does to a process without handlers.
        let ends = Signal::try_from(number).is_ok_and(|signal| {
            !matches!(signal, Signal::SIGCHLD | Signal::SIGCONT | Signal::SIGURG | Signal::SIGWINCH)
        });
        if ends {
            self.sought.send(Sought::End(number)).map_err(|_| anyhow!("it ends already"))?;
        }
        Ok(())
    }

    fn pause(&self, pause: Pause) -> Result<()> {
        self.remote()?.pause(pause);
        let status = match pause {
            Pause::Held => Status::Paused,
            Pause::Released => Status::Running,
        };
        self.folder.change(|record| record.status = status).map(drop)
    }

    fn limit(&self, limit: ContainerLimit) -> Result<()> {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        match self.remote.get() {
            Some(remote) => remote.limit(limit),
            None => limits.push(limit),
        }
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        let mut over = self.over.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*over {
            over = self.over.1.wait(over).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}
