//! All terminals of a container: the table behind /dev/pts, and the drivers of /dev/tty, /dev/console, /dev/ptmx and /dev/pts/N.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use sentry_abi::Errno;
use sentry_kernel::device::{Device, makedev, minor};
use sentry_kernel::error::Result;
use sentry_kernel::file::FileOps;
use sentry_kernel::sync::{Mutex, Rank};
use sentry_kernel::task::{Container, ControllingTerminal, Task};
use sentry_kernel::vfs::OpenFlags;

use crate::tty::control;
use crate::tty::ends::{MasterEnd, ProgramEnd};
use crate::tty::terminal::{Output, Terminal};

/// Major number of /dev/pts/N.
const PTS_MAJOR: u32 = 136;
/// /dev/tty
pub const TTY_RDEV: u64 = makedev(5, 0);
/// /dev/console
pub const CONSOLE_RDEV: u64 = makedev(5, 1);
/// /dev/ptmx
pub const PTMX_RDEV: u64 = makedev(5, 2);
/// Most pseudo-terminals (kernel.pty.max).
const MOST: usize = 4096;

/// Owner and permissions of a /dev/pts node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Who opened the master, until somebody changes it.
    pub uid: u32,
    /// The group; `None` is the filesystem's own.
    pub gid: Option<u32>,
    /// Permission bits.
    pub permissions: u32,
}

/// A terminal of the table with its node's owner.
#[derive(Clone)]
pub struct Listed {
    terminal: Weak<Terminal>,
    owner: Owner,
}

/// The table of terminals.
pub struct Terminals {
    container: Weak<Container>,
    table: Mutex<BTreeMap<u32, Listed>>,
    console: Mutex<Option<Arc<Terminal>>>,
}

impl Terminals {
    /// A container's table, without terminals; its drivers are registered.
    pub fn register(container: &Arc<Container>) -> Arc<Self> {
        let terminals = Arc::new(Self {
            container: Arc::downgrade(container),
            table: Mutex::new(Rank::LEAF, BTreeMap::new()),
            console: Mutex::new(Rank::LEAF, None),
        });
        let device = || Arc::new(TerminalDevice { terminals: terminals.clone() });
        for rdev in [TTY_RDEV, CONSOLE_RDEV, PTMX_RDEV] {
            container.devices().register(rdev, device());
        }
        container.devices().register_major(PTS_MAJOR, device());
        terminals
    }

    /// Device number of /dev/pts/`index`.
    pub fn rdev_of(index: u32) -> u64 {
        makedev(PTS_MAJOR, index)
    }

    /// The terminals now, by index.
    pub fn list(&self) -> Vec<(u32, Listed)> {
        self.table.lock().iter().map(|(i, l)| (*i, l.clone())).collect()
    }

    /// The terminal of this index. Errors: ENXIO.
    pub fn find(&self, index: u32) -> Result<Arc<Terminal>> {
        let listed = self.table.lock().get(&index).cloned().ok_or(Errno::ENXIO)?;
        Ok(listed.terminal.upgrade().ok_or(Errno::ENXIO)?)
    }

    /// Owner and permissions of a node. Errors: ENXIO.
    pub fn owner(&self, index: u32) -> Result<Owner> {
        Ok(self.table.lock().get(&index).ok_or(Errno::ENXIO)?.owner)
    }

    /// Changes owner or permissions of a node. Errors: ENXIO.
    pub fn change_owner(&self, index: u32, change: impl FnOnce(&mut Owner)) -> Result<()> {
        change(&mut self.table.lock().get_mut(&index).ok_or(Errno::ENXIO)?.owner);
        Ok(())
    }

    /// The terminal that the user sits at, as /dev/pts/N and /dev/console; it lives as long as this table.
    pub fn make_console(&self, output: Arc<dyn Output>) -> Result<Arc<Terminal>> {
        let terminal = self.make(Some(output), 0)?;
        *self.console.lock() = Some(terminal.clone());
        Ok(terminal)
    }

    /// A further terminal whose output goes outside, as /dev/pts/N; it is forgotten with what this returns.
    pub fn make_attached(self: &Arc<Self>, output: Arc<dyn Output>) -> Result<Attached> {
        let terminal = self.make(Some(output), 0)?;
        Ok(Attached { terminal, terminals: self.clone() })
    }

    fn make(&self, output: Option<Arc<dyn Output>>, uid: u32) -> Result<Arc<Terminal>> {
        let container = self.container.upgrade().ok_or(Errno::EIO)?;
        let mut table = self.table.lock();
        if table.len() >= MOST {
            return Err(Errno::ENOSPC.into());
        }
        let index = (0..).find(|i| !table.contains_key(i)).ok_or(Errno::ENOSPC)?;
        let terminal = Terminal::new(&container, index, Self::rdev_of(index), output);
        let owner = Owner { uid, gid: None, permissions: 0o620 };
        table.insert(index, Listed { terminal: Arc::downgrade(&terminal), owner });
        Ok(terminal)
    }

    pub(super) fn remove(&self, index: u32) {
        self.table.lock().remove(&index);
    }

    fn open_program_end(
        &self,
        task: &Task,
        terminal: &Arc<Terminal>,
        flags: OpenFlags,
    ) -> Result<Arc<dyn FileOps>> {
        let end = ProgramEnd::open(terminal)?;
        if !flags.contains(OpenFlags::NOCTTY) && terminal.session().is_none() {
            // As on Linux, only a session leader without a terminal takes it; for others nothing happens.
            let _ = control::take(terminal, task, 0);
        }
        Ok(end)
    }

    fn open_own(&self, task: &Task) -> Result<Arc<dyn FileOps>> {
        let group = task.pids().process_group_of(task.pid()).ok_or(Errno::ENXIO)?;
        let terminal = group.session().terminal().ok_or(Errno::ENXIO)?;
        let terminal = self.find(minor(terminal.rdev()))?;
        Ok(ProgramEnd::open(&terminal)?)
    }
}

/// A terminal whose other end is outside; it hangs up when this goes.
pub struct Attached {
    terminal: Arc<Terminal>,
    terminals: Arc<Terminals>,
}

impl Attached {
    /// The terminal.
    pub fn terminal(&self) -> &Arc<Terminal> {
        &self.terminal
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.terminals.remove(self.terminal.index());
        self.terminal.disconnect();
    }
}

/// The driver of the terminal device numbers.
pub struct TerminalDevice {
    terminals: Arc<Terminals>,
}

impl Device for TerminalDevice {
    fn name(&self) -> &str {
        "tty"
    }

    fn open(&self, task: &Task, rdev: u64, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        match rdev {
            TTY_RDEV => self.terminals.open_own(task),
            PTMX_RDEV => {
                let terminal = self.terminals.make(None, task.credentials().fsuid)?;
                Ok(Arc::new(MasterEnd::new(terminal, self.terminals.clone())))
            }
            CONSOLE_RDEV => {
                let console = self.terminals.console.lock().clone().ok_or(Errno::EIO)?;
                self.terminals.open_program_end(task, &console, flags | OpenFlags::NOCTTY)
            }
            _ => {
                let terminal = self.terminals.find(minor(rdev))?;
                self.terminals.open_program_end(task, &terminal, flags)
            }
        }
    }
}
