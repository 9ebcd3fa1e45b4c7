//! One terminal: what its program end and its master end share (tty(4), pty(7)).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use sentry_abi::Errno;
use sentry_abi::signal::Signal;
use sentry_abi::termios::{KernelTermios, WinSize};
use sentry_kernel::error::Result;
use sentry_kernel::io::{Sink, Source};
use sentry_kernel::sync::{Mutex, MutexGuard, Rank};
use sentry_kernel::task::{Container, ControllingTerminal};
use sentry_kernel::wait::{Events, WaitQueue};

use crate::tty::line::{Line, LineDiscipline, TtySignal};

/// Most bytes of output that wait for the master's reader.
const OUTPUT_LIMIT: usize = 64 * 1024;
/// Bytes that one turn takes from a writer.
const CHUNK: usize = 4096;

/// Where a terminal's output goes.
pub trait Output: Send + Sync {
    /// Takes all of it.
    fn write(&self, bytes: &[u8]);
}

pub(super) struct State {
    pub(super) line: LineDiscipline,
    pub(super) window: WinSize,
    /// Output that the master has not read.
    pending: VecDeque<u8>,
    session: Option<u32>,
    foreground: Option<u32>,
    program_ends: usize,
    /// A program's end was open at some time; before, a master's reader waits instead of hearing of a hang-up.
    was_opened: bool,
    hung_up: bool,
    pub(super) locked: bool,
}

/// A terminal.
pub struct Terminal {
    index: u32,
    rdev: u64,
    container: Weak<Container>,
    state: Mutex<State>,
    /// Where output goes at once; `None` keeps it for the master's reader.
    output: Option<Arc<dyn Output>>,
    pub(super) program_queue: WaitQueue,
    pub(super) master_queue: WaitQueue,
    opened: AtomicUsize,
}

impl Terminal {
    /// A terminal in the standard modes. With `output`, its output goes there and not to a master's reader.
    pub fn new(
        container: &Arc<Container>,
        index: u32,
        rdev: u64,
        output: Option<Arc<dyn Output>>,
    ) -> Arc<Self> {
        let state = State {
            line: LineDiscipline::new(),
            window: WinSize::default(),
            pending: VecDeque::new(),
            session: None,
            foreground: None,
            program_ends: 0,
            was_opened: false,
            hung_up: false,
            locked: output.is_none(),
        };
        Arc::new(Self {
            index,
            rdev,
            container: Arc::downgrade(container),
            state: Mutex::new(Rank::FILE, state),
            output,
            program_queue: WaitQueue::new(),
            master_queue: WaitQueue::new(),
            opened: AtomicUsize::new(0),
        })
    }

    /// N of /dev/pts/N.
    pub fn index(&self) -> u32 {
        self.index
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// A program's end opens. Errors: EIO after a hang-up or while the master has it locked.
    pub(super) fn open_program_end(&self) -> Result<()> {
        let mut state = self.state.lock();
        if state.hung_up || state.locked {
            return Err(Errno::EIO.into());
        }
        state.program_ends += 1;
        state.was_opened = true;
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// A program's end closes; after the last one the master's reader hears of it.
    pub(super) fn close_program_end(&self) {
        self.state.lock().program_ends -= 1;
        self.master_queue.notify(Events::IN | Events::HUP);
    }

    /// True where the master is gone.
    pub(super) fn is_hung_up(&self) -> bool {
        self.state.lock().hung_up
    }

    /// The master is gone, or the user's terminal: readers get the end of the file, the session SIGHUP.
    pub fn disconnect(&self) {
        let (session, foreground) = {
            let mut state = self.state.lock();
            state.hung_up = true;
            (state.session.take(), state.foreground.take())
        };
        if let Some(container) = self.container.upgrade() {
            for group in [session, foreground.filter(|f| Some(*f) != session)].into_iter().flatten()
            {
                container.pids().signal_process_group(group, Signal::SIGHUP);
                container.pids().signal_process_group(group, Signal::SIGCONT);
            }
        }
        self.program_queue.notify(Events::EVERY);
        self.master_queue.notify(Events::EVERY);
    }

    /// Bytes are typed. Returns how many were taken: all, but where the reader does not keep up.
    pub fn type_bytes(&self, bytes: &[u8]) -> usize {
        let mut echo = Vec::new();
        let mut signals = Vec::new();
        let (taken, foreground) = {
            let mut state = self.state.lock();
            let mut taken = 0;
            for &byte in bytes {
                // With something to read, a full buffer holds the typist back; without, N_TTY drops what does not fit.
                if state.line.room() == 0 && state.line.is_readable() {
                    break;
                }
                signals.extend(state.line.input(byte, &mut echo));
                taken += 1;
            }
            self.emit(&mut state, &echo);
            (taken, state.foreground)
        };
        self.signal(foreground, &signals);
        self.program_queue.notify(Events::IN | Events::RDNORM | Events::OUT | Events::WRNORM);
        if !echo.is_empty() {
            self.master_queue.notify(Events::IN | Events::RDNORM);
        }
        taken
    }

    fn signal(&self, foreground: Option<u32>, signals: &[TtySignal]) {
        let (Some(group), Some(container)) = (foreground, self.container.upgrade()) else { return };
        for signal in signals {
            let signal = match signal {
                TtySignal::Interrupt => Signal::SIGINT,
                TtySignal::Quit => Signal::SIGQUIT,
                TtySignal::Suspend => Signal::SIGTSTP,
            };
            container.pids().signal_process_group(group, signal);
        }
    }

    fn emit(&self, state: &mut State, bytes: &[u8]) {
        match &self.output {
            Some(_) if bytes.is_empty() => {}
            Some(output) => output.write(bytes),
            None => state.pending.extend(bytes),
        }
    }

    /// A program reads: a line, or what raw mode gives. Errors: EAGAIN.
    pub(super) fn read(&self, dst: &mut dyn Sink) -> Result<usize> {
        let line = {
            let mut state = self.state.lock();
            if state.hung_up {
                return Ok(0);
            }
            state.line.read(dst.room().min(CHUNK))
        };
        match line {
            Line::Wait => Err(Errno::EAGAIN.into()),
            Line::Bytes(bytes) => {
                self.master_queue.notify(Events::OUT | Events::WRNORM);
                dst.write(&bytes)
            }
        }
    }

    /// A program writes. Errors: EAGAIN while output is stopped or the master's reader does not keep up, EIO after a hang-up.
    pub(super) fn write(&self, src: &mut dyn Source) -> Result<usize> {
        let mut chunk = [0; CHUNK];
        let mut done = 0;
        while src.remaining() > 0 {
            if !self.can_write()? {
                return if done > 0 { Ok(done) } else { Err(Errno::EAGAIN.into()) };
            }
            let n = match src.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => n,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            let mut out = Vec::with_capacity(n + n / 8);
            let mut state = self.state.lock();
            state.line.output(&chunk[..n], &mut out);
            self.emit(&mut state, &out);
            done += n;
        }
        self.master_queue.notify(Events::IN | Events::RDNORM);
        Ok(done)
    }

    fn can_write(&self) -> Result<bool> {
        let state = self.state.lock();
        if state.hung_up {
            return Err(Errno::EIO.into());
        }
        Ok(!state.line.is_stopped() && state.pending.len() < OUTPUT_LIMIT)
    }

    /// The master reads output. Errors: EAGAIN, EIO where every program's end is closed.
    pub(super) fn read_output(&self, dst: &mut dyn Sink) -> Result<usize> {
        let bytes: Vec<u8> = {
            let mut state = self.state.lock();
            if state.pending.is_empty() {
                let closed = state.was_opened && state.program_ends == 0;
                return Err(if closed { Errno::EIO } else { Errno::EAGAIN }.into());
            }
            let n = state.pending.len().min(dst.room());
            state.pending.drain(..n).collect()
        };
        self.program_queue.notify(Events::OUT | Events::WRNORM);
        dst.write(&bytes)
    }

    /// What a program's end is ready for.
    pub(super) fn program_readiness(&self) -> Events {
        let state = self.state.lock();
        let mut events = Events::empty();
        if state.hung_up {
            return Events::IN
                | Events::OUT
                | Events::HUP
                | Events::ERR
                | Events::RDNORM
                | Events::WRNORM;
        }
        if state.line.is_readable() {
            events |= Events::IN | Events::RDNORM;
        }
        if !state.line.is_stopped() && state.pending.len() < OUTPUT_LIMIT {
            events |= Events::OUT | Events::WRNORM;
        }
        events
    }

    /// What the master's end is ready for.
    pub(super) fn master_readiness(&self) -> Events {
        let state = self.state.lock();
        let mut events = Events::OUT | Events::WRNORM;
        if !state.pending.is_empty() {
            events |= Events::IN | Events::RDNORM;
        }
        if state.was_opened && state.program_ends == 0 {
            events |= Events::HUP;
        }
        events
    }

    /// Bytes of output that the master has not read (TIOCOUTQ, the master's FIONREAD).
    pub(super) fn pending(&self) -> usize {
        self.state.lock().pending.len()
    }

    /// Throws away output that the master has not read.
    pub(super) fn flush_output(&self) {
        self.state.lock().pending.clear();
    }

    /// Changes the modes.
    pub fn set_termios(&self, termios: KernelTermios) {
        self.state.lock().line.set_termios(termios);
        self.program_queue.notify(Events::IN | Events::OUT | Events::RDNORM | Events::WRNORM);
    }

    /// The window has another size: the foreground group gets SIGWINCH.
    pub fn set_window(&self, window: WinSize) {
        let foreground = {
            let mut state = self.state.lock();
            if state.window == window {
                return;
            }
            state.window = window;
            state.foreground
        };
        if let (Some(group), Some(container)) = (foreground, self.container.upgrade()) {
            container.pids().signal_process_group(group, Signal::SIGWINCH);
        }
    }
}

impl ControllingTerminal for Terminal {
    fn rdev(&self) -> u64 {
        self.rdev
    }

    fn foreground_group(&self) -> Option<u32> {
        self.state.lock().foreground
    }

    fn set_foreground_group(&self, group: Option<u32>) {
        self.state.lock().foreground = group;
    }

    fn session(&self) -> Option<u32> {
        self.state.lock().session
    }

    fn set_session(&self, session: Option<u32>) {
        self.state.lock().session = session;
    }

    fn hang_up(&self) {
        // The console outlives the session that used it; its next session starts clean.
        let mut state = self.state.lock();
        state.session = None;
        state.foreground = None;
    }
}
