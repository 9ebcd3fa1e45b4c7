//! Process groups, sessions, and the terminal that controls one.

use std::sync::Arc;

use crate::sync::{Mutex, Rank};

/// A terminal that can control a session (tty_ioctl(4)). The terminal keeps its foreground group itself.
pub trait ControllingTerminal: Send + Sync {
    /// Device number, for /proc/PID/stat.
    fn rdev(&self) -> u64;

    /// The foreground process group; `None` without one.
    fn foreground_group(&self) -> Option<u32>;

    /// Sets the foreground process group (the caller has checked that it belongs to the session).
    fn set_foreground_group(&self, group: Option<u32>);

    /// The session that it controls now; `None` for none.
    fn session(&self) -> Option<u32>;

    /// Sets the session that it controls.
    fn set_session(&self, session: Option<u32>);

    /// The session's leader has ended: readers see the end of the file.
    fn hang_up(&self);
}

/// A session: process groups that share a controlling terminal.
pub struct Session {
    id: u32,
    terminal: Mutex<Option<Arc<dyn ControllingTerminal>>>,
}

impl Session {
    /// Without a terminal.
    pub(crate) fn new(id: u32) -> Arc<Self> {
        Arc::new(Self { id, terminal: Mutex::new(Rank::LEAF, None) })
    }

    /// The id of the group that founded it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its controlling terminal.
    pub fn terminal(&self) -> Option<Arc<dyn ControllingTerminal>> {
        self.terminal.lock().clone()
    }

    pub(crate) fn set_terminal(&self, terminal: Option<Arc<dyn ControllingTerminal>>) {
        let old = std::mem::replace(&mut *self.terminal.lock(), terminal);
        drop(old);
    }
}

/// A process group.
pub struct ProcessGroup {
    id: u32,
    session: Arc<Session>,
}

impl ProcessGroup {
    pub(crate) fn new(id: u32, session: Arc<Session>) -> Arc<Self> {
        Arc::new(Self { id, session })
    }

    /// The id of the thread group that founded it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }
}
