//! One process that containerd knows: a container's first, or one that was executed in it.

use std::fs::File;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Result, bail};
use containerd_shim_protos::types::task::Status;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::logger::Logger;
use crate::reaper::Exit;
use crate::streams::{Held, Streams};

/// The status of a process that could not be started.
const NEVER_RAN: u32 = 255;

/// Where a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits to be started; a process that is to be executed has no number yet.
    Created,
    Running,
    Stopped(Exit),
}

/// What changes in a process's life.
pub struct Life {
    pub stage: Stage,
    /// Its number on the host, 0 where there is none yet.
    pub pid: u32,
    pub held: Held,
    /// Its terminal.
    pub master: Option<File>,
    /// The program that gets what it writes.
    pub logger: Option<Logger>,
}

/// A process.
pub struct Process {
    pub streams: Streams,
    life: Mutex<Life>,
    changed: Condvar,
}

impl Process {
    /// One that waits to be started.
    pub fn new(streams: Streams) -> Arc<Self> {
        let life = Life {
            stage: Stage::Created,
            pid: 0,
            held: Held::default(),
            master: None,
            logger: None,
        };
        Arc::new(Self { streams, life: Mutex::new(life), changed: Condvar::new() })
    }

    /// Its life, which stands still meanwhile: an end that comes is told afterwards.
    pub fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock()
    }

    /// It has ended; `tell` is called before anybody who waits is woken.
    pub fn ended(&self, exit: Exit, tell: impl FnOnce(u32)) {
        let mut life = self.life.lock();
        life.stage = Stage::Stopped(exit);
        // Readers see the end of its output, once all that is on its way was read.
        life.held = Held::default();
        life.master = None;
        tell(life.pid);
        drop(life);
        self.changed.notify_all();
    }

    /// There will be no such process.
    pub fn never_ran(&self) {
        self.ended(Exit { code: NEVER_RAN, at: SystemTime::now() }, |_| ());
    }

    /// Waits for its end.
    pub fn wait(&self) -> Exit {
        let mut life = self.life.lock();
        loop {
            if let Stage::Stopped(exit) = life.stage {
                return exit;
            }
            self.changed.wait(&mut life);
        }
    }

    /// How it ended. Errors: it has not.
    pub fn exit(&self) -> Result<Exit> {
        match self.life.lock().stage {
            Stage::Stopped(exit) => Ok(exit),
            Stage::Created | Stage::Running => bail!("the process has not ended"),
        }
    }

    /// Nothing of it is wanted any more: whoever gets what it wrote has read all.
    pub fn close(&self) {
        let logger = self.life.lock().logger.take();
        if let Some(logger) = logger {
            logger.end();
        }
    }

    /// Its number while it runs.
    pub fn pid(&self) -> Option<u32> {
        let life = self.life.lock();
        Some(life.pid).filter(|pid| *pid != 0 && !matches!(life.stage, Stage::Stopped(_)))
    }
}

impl Stage {
    /// As containerd says it.
    pub fn status(self) -> Status {
        match self {
            Self::Created => Status::CREATED,
            Self::Running => Status::RUNNING,
            Self::Stopped(_) => Status::STOPPED,
        }
    }
}
