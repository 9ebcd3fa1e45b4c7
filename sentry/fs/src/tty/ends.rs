//! The two ends of a terminal as open files: the program's (/dev/pts/N, /dev/tty) and the master's (/dev/ptmx).

use std::sync::Arc;

use sentry_abi::UserAddr;
use sentry_abi::termios::cc;
use sentry_kernel::error::Result;
use sentry_kernel::file::{FileOps, WriteAt, Written};
use sentry_kernel::io::{Sink, Source};
use sentry_kernel::task::CurrentTask;
use sentry_kernel::vfs::Access;
use sentry_kernel::wait::{Events, WaitQueue};

use crate::tty::control;
use crate::tty::terminal::Terminal;
use crate::tty::terminals::Terminals;

/// The end that a program has as its terminal.
pub struct ProgramEnd {
    terminal: Arc<Terminal>,
}

impl ProgramEnd {
    /// Opens it. Errors: EIO.
    pub fn open(terminal: &Arc<Terminal>) -> Result<Arc<Self>> {
        terminal.open_program_end()?;
        Ok(Arc::new(Self { terminal: terminal.clone() }))
    }

    /// The terminal.
    pub fn terminal(&self) -> &Arc<Terminal> {
        &self.terminal
    }
}

impl Drop for ProgramEnd {
    fn drop(&mut self) {
        self.terminal.close_program_end();
    }
}

impl FileOps for ProgramEnd {
    fn read(&self, _offset: u64, dst: &mut dyn Sink) -> Result<usize> {
        self.terminal.read(dst)
    }

    fn write(&self, _at: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let len = self.terminal.write(src)?;
        Ok(Written { len, end: 0 })
    }

    fn admit(&self, task: &CurrentTask, access: Access) -> Result<()> {
        control::admit(&self.terminal, task, access)
    }

    fn read_timeout_ns(&self) -> Option<u64> {
        let state = self.terminal.lock();
        let termios = state.line.termios();
        let (min, tenths) = (termios.cc[cc::VMIN], termios.cc[cc::VTIME]);
        // With VMIN above 0 the timer would start at the first byte; our reads then return that byte at once.
        (!termios.is_canonical() && min == 0 && tenths > 0)
            .then_some(u64::from(tenths) * 100_000_000)
    }

    fn readiness(&self) -> Events {
        self.terminal.program_readiness()
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.terminal.program_queue)
    }

    fn ioctl(&self, task: &CurrentTask, request: u32, arg: UserAddr) -> Result<u64> {
        control::program_ioctl(&self.terminal, task, request, arg)
    }
}

/// The end that a terminal emulator, ssh or script(1) has.
pub struct MasterEnd {
    terminal: Arc<Terminal>,
    terminals: Arc<Terminals>,
}

impl MasterEnd {
    pub(super) fn new(terminal: Arc<Terminal>, terminals: Arc<Terminals>) -> Self {
        Self { terminal, terminals }
    }
}

impl Drop for MasterEnd {
    fn drop(&mut self) {
        self.terminals.remove(self.terminal.index());
        self.terminal.disconnect();
    }
}

impl FileOps for MasterEnd {
    fn read(&self, _offset: u64, dst: &mut dyn Sink) -> Result<usize> {
        self.terminal.read_output(dst)
    }

    fn write(&self, _at: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let mut chunk = [0; 1024];
        let mut len = 0;
        while src.remaining() > 0 {
            let n = src.read(&mut chunk)?;
            let taken = self.terminal.type_bytes(&chunk[..n]);
            len += taken;
            if taken < n {
                break;
            }
        }
        Ok(Written { len, end: 0 })
    }

    fn readiness(&self) -> Events {
        self.terminal.master_readiness()
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.terminal.master_queue)
    }

    fn ioctl(&self, task: &CurrentTask, request: u32, arg: UserAddr) -> Result<u64> {
        control::master_ioctl(&self.terminal, task, request, arg)
    }
}
