//! The run loop: program code until it does something, the answer, signals, and again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use platform::{Event, PlatformError};
use sentry_abi::signal::{SI_KERNEL, SIG_DFL, SigAction, SigInfo, Signal};
use sentry_abi::{Errno, UserAddr};

use crate::error::{Cause, Restart};
use crate::log::Level;
use crate::signal::deliver::Next;
use crate::task::current::CurrentTask;
use crate::task::task::Attention;
use crate::task::times::Mode;

/// Bit 30 of a call's number asks for the x32 ABI, which is not there.
const X32_BIT: u64 = 1 << 30;

impl CurrentTask {
    /// Runs the task to its end, on its host thread. A panic or a failure of the platform ends the whole guest with a message, but a lost
    /// host process only the program that ran in it; nothing hangs.
    pub(crate) fn run(mut self) {
        let kernel = self.kernel().clone();
        let task = self.task.clone();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.run_until_exit()));
        let failure = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("task {} cannot go on: {error}", task.tid())),
            Err(panic) => {
                Some(format!("the kernel failed in task {}: {}", task.tid(), panic_text(&*panic)))
            }
        };
        if let Some(message) = failure {
            kernel.abort(message);
        }
        // The end itself may find broken state after a panic: that must not take the process down either.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.end())) {
            kernel.abort(format!(
                "the kernel failed at the end of task {}: {}",
                task.tid(),
                panic_text(&*panic)
            ));
        }
        CurrentTask::unbind();
    }

    fn run_until_exit(&mut self) -> Result<(), PlatformError> {
        self.account().change(Mode::System, self.kernel().now());
        loop {
            match self.run_once() {
                Ok(Prepared::Run) => {}
                Ok(Prepared::Exit) => return Ok(()),
                Err(error @ (PlatformError::StubDied | PlatformError::StubCorrupted)) => {
                    self.lose_program(&error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Runs the program to its next event and answers that, unless the task is to end.
    fn run_once(&mut self) -> Result<Prepared, PlatformError> {
        if self.prepare_to_run()? == Prepared::Exit {
            return Ok(Prepared::Exit);
        }
        match self.run_program()? {
            Event::Syscall => {
                if let Some(site) = self.context.hot_call() {
                    self.resources.mm.offer_call_site(site);
                }
                self.answer_syscall();
            }
            Event::CompatSyscall => {
                self.registers.set_result(-i64::from(Errno::ENOSYS.number()));
            }
            Event::Fault { addr, access, error_code } => {
                self.answer_fault(addr, access, error_code);
            }
            Event::Signal(host) => self.answer_exception(&host),
            Event::Interrupted => {}
        }
        Ok(Prepared::Run)
    }

    /// The program's memory or registers are lost with its host process: it ends as by SIGKILL. Others have processes of their own.
    fn lose_program(&self, error: &PlatformError) {
        let group = self.thread_group();
        if group.members.lock().exiting.is_none() {
            let line = format_args!("program {} is ended: {error}", group.pid());
            self.kernel().log().write(Level::Warn, line);
        }
        group.kill();
    }

    /// Deals with everything that asks for attention. After this `in_user` is set, and a later demand kicks the context.
    fn prepare_to_run(&mut self) -> Result<Prepared, PlatformError> {
        loop {
            self.task.in_user.store(false, Ordering::SeqCst);
            let attention = self.task.attention();
            if attention.contains(Attention::EXIT) {
                return Ok(Prepared::Exit);
            }
            if attention.contains(Attention::FREEZE) || self.container().is_held() {
                self.park_held();
                continue;
            }
            if attention.contains(Attention::STOP) {
                self.park_stopped();
                continue;
            }
            let pending_call = self.interrupted.is_some();
            if attention.contains(Attention::SIGNAL) || pending_call {
                if self.deliver_signals()? == Next::Again {
                    continue;
                }
            } else {
                self.restore_saved_mask();
            }
            self.task.in_user.store(true, Ordering::SeqCst);
            if self.task.attention().is_empty() {
                return Ok(Prepared::Run);
            }
        }
    }

    fn run_program(&mut self) -> Result<Event, PlatformError> {
        let kernel = self.task.kernel();
        self.task.account().change(Mode::User, kernel.now());
        let space = self.resources.mm.address_space();
        let event = self.context.switch(space, &mut self.registers);
        self.task.account().change(Mode::System, kernel.now());
        self.task.in_user.store(false, Ordering::SeqCst);
        event
    }

    fn answer_syscall(&mut self) {
        let number = self.registers.nr();
        let args = self.registers.args();
        let table = self.container().syscalls().clone();
        self.registers_replaced = false;
        let result = if number & X32_BIT != 0 && number <= u64::from(u32::MAX) {
            Err(Errno::ENOSYS.into())
        } else {
            table.dispatch(self, number, &args)
        };
        if std::mem::take(&mut self.registers_replaced) {
            return;
        }
        match result {
            Ok(value) => self.registers.rax = value,
            Err(error) => match error.cause() {
                Cause::Errno(errno) => self.registers.rax = errno.to_result(),
                Cause::Interrupted(restart) => {
                    self.registers.rax = Errno::EINTR.to_result();
                    self.interrupted = Some((restart, number));
                    return;
                }
            },
        }
        // The call is over: a signal that comes now finds nothing to restart.
        self.registers.orig_rax = platform::arch::registers::NO_SYSCALL;
    }

    fn answer_fault(&mut self, addr: u64, access: platform::Access, error_code: u32) {
        let Err(fault) = self.resources.mm.handle_fault(addr, access) else { return };
        self.trap.cr2 = addr;
        self.trap.err = u64::from(error_code);
        self.trap.trapno = 14;
        if let Ok(signal) = Signal::new(fault.signo) {
            self.task.force_signal(signal, SigInfo::fault(signal, fault.code, fault.addr));
        }
    }

    fn answer_exception(&mut self, host: &platform::HostSignal) {
        self.trap.err = u64::from(host.err);
        self.trap.trapno = u64::from(host.trapno);
        let signal = Signal::new(host.signo).unwrap_or(Signal::SIGSEGV);
        self.task.force_signal(signal, SigInfo::fault(signal, host.code, host.addr));
    }

    /// Ends the program with SIGSEGV, whatever it handles: it cannot go on (execve past the point of no return).
    pub(crate) fn kill_by_segv(&self) {
        let handlers = self.thread_group().handlers();
        handlers
            .set_action(Signal::SIGSEGV, SigAction { handler: SIG_DFL, ..SigAction::default() });
        self.task.force_signal(Signal::SIGSEGV, SigInfo::new(Signal::SIGSEGV, SI_KERNEL));
    }

    /// The address of the instruction that the program will go on at, for messages.
    pub fn instruction_pointer(&self) -> UserAddr {
        UserAddr(self.registers.rip)
    }

    /// How the call in flight was interrupted, until signals are dealt with.
    pub fn interruption(&self) -> Option<Restart> {
        self.interrupted.map(|(restart, _)| restart)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Prepared {
    Run,
    Exit,
}

/// The words of a panic.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    match panic.downcast_ref::<&str>() {
        Some(text) => text,
        None => panic.downcast_ref::<String>().map_or("without words", String::as_str),
    }
}
