//! Delivery: which signal comes next, what its action is, the frame on the program's stack, and the way back (rt_sigreturn).

use platform::FpuState;
use platform::arch::signal_frame::{self, AltStack, FrameInput};
use sentry_abi::Errno;
use sentry_abi::UserAddr;
use sentry_abi::signal::{
    SA_NODEFER, SA_ONSTACK, SA_RESETHAND, SA_RESTART, SI_KERNEL, SIG_DFL, SIG_IGN, SS_AUTODISARM,
    SS_DISABLE, SS_ONSTACK, SigAction, SigInfo, SigSet, Signal, StackT,
};
use zerocopy::IntoBytes;

use crate::error::{Restart, Result};
use crate::kernel::TraceEvent;
use crate::task::{Attention, CurrentTask, WaitStatus};

use super::{DefaultAction, default_action};

/// restart_syscall's number: the one call that the kernel itself names in a program's registers.
const NR_RESTART_SYSCALL: u64 = 219;

/// What a task does after its signals were dealt with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Goes on in program code.
    Run,
    /// Looks again: it was stopped, or something else came.
    Again,
}

impl CurrentTask {
    /// Deals with one deliverable signal, or none: sets up a handler's frame, stops or ends the group.
    pub(crate) fn deliver_signals(&mut self) -> Result<Next, platform::PlatformError> {
        self.task.clear_attention(Attention::SIGNAL);
        let group = self.task.thread_group().clone();
        if group.take_continued() {
            self.pids().job_changed(&group, WaitStatus::Continued);
        }
        loop {
            let taken = {
                let mut shared = group.signals.lock();
                let mut own = self.task.signals.lock();
                let open = SigSet::ALL.without(own.blocked);
                own.pending.take(open).or_else(|| shared.pending.take(open))
            };
            let Some((signal, info)) = taken else {
                self.finish_interrupted_call(None);
                self.restore_saved_mask();
                return Ok(Next::Run);
            };
            group.timers().signal_taken(&info);
            let action = group.handlers().action(signal);
            match action.handler {
                SIG_IGN if signal != Signal::SIGKILL && signal != Signal::SIGSTOP => continue,
                SIG_DFL | SIG_IGN => match self.default_disposition(signal) {
                    DefaultAction::Ignore | DefaultAction::Continue => continue,
                    DefaultAction::Stop => {
                        self.container()
                            .syscalls()
                            .clone()
                            .trace_event(self, TraceEvent::Signal(info));
                        group.begin_stop(signal);
                        return Ok(Next::Again);
                    }
                    DefaultAction::Terminate => {
                        self.container()
                            .syscalls()
                            .clone()
                            .trace_event(self, TraceEvent::Signal(info));
                        group.begin_exit(WaitStatus::Signaled(signal));
                        return Ok(Next::Again);
                    }
                },
                _ => {
                    self.container().syscalls().clone().trace_event(self, TraceEvent::Signal(info));
                    self.finish_interrupted_call(Some(&action));
                    self.enter_handler(signal, &info, action)?;
                    // Further signals nest on this frame, or wait for its mask.
                    self.task.recheck_signals();
                    return Ok(Next::Run);
                }
            }
        }
    }

    /// The default action, with the exceptions: init takes only what it handles (but the kernel's own faults and what its keeper sends);
    /// the terminal's stops do nothing in an orphaned process group.
    fn default_disposition(&self, signal: Signal) -> DefaultAction {
        let default = default_action(signal);
        let by_terminal = SigSet::STOPS.contains(signal) && signal != Signal::SIGSTOP;
        if default == DefaultAction::Stop && by_terminal {
            let pids = self.pids();
            let own = pids.process_group_of(self.pid());
            if own.is_none_or(|g| pids.is_orphaned(g.id())) && self.pid() != crate::task::INIT_PID {
                return DefaultAction::Ignore;
            }
        }
        default
    }

    /// Resolves a call that returned an interruption: restart it, or EINTR, as the action of the handler that runs says (signal(7)).
    fn finish_interrupted_call(&mut self, handler: Option<&SigAction>) {
        let Some((restart, number)) = self.interrupted.take() else { return };
        let again = match (restart, handler) {
            (Restart::Always, _) | (_, None) => true,
            (Restart::Sys, Some(action)) => action.flags & SA_RESTART != 0,
            (Restart::NoHandler | Restart::Block, Some(_)) => false,
        };
        self.registers.orig_rax = number;
        if !again {
            self.registers.set_result(-i64::from(Errno::EINTR.number()));
        } else if restart == Restart::Block {
            self.registers.rewind_syscall_as(NR_RESTART_SYSCALL);
        } else {
            self.registers.rewind_syscall();
        }
    }

    /// Gives back the mask of before sigsuspend or ppoll, where no handler took it over.
    pub(crate) fn restore_saved_mask(&self) {
        if !self.temporary_mask.take() {
            return;
        }
        let restored = {
            let mut own = self.task.signals.lock();
            match own.saved_mask.take() {
                Some(mask) => {
                    own.blocked = mask;
                    true
                }
                None => false,
            }
        };
        if restored {
            self.task.recheck_signals();
        }
    }

    /// Builds the frame, and sets the registers to the handler. A frame that cannot be written ends the program with SIGSEGV.
    fn enter_handler(
        &mut self,
        signal: Signal,
        info: &SigInfo,
        action: SigAction,
    ) -> Result<(), platform::PlatformError> {
        let (alt, mask_now, mask_after) = {
            let mut own = self.task.signals.lock();
            let now = own.blocked;
            (own.alt_stack, now, own.saved_mask.take().unwrap_or(now))
        };
        let rsp = self.registers.rsp;
        let on_alt = is_on(&alt, rsp);
        let switch_stack = action.flags & SA_ONSTACK != 0 && alt.flags & SS_DISABLE == 0 && !on_alt;
        let stack_top = if switch_stack {
            alt.sp.wrapping_add(alt.size)
        } else {
            rsp.wrapping_sub(signal_frame::RED_ZONE)
        };
        let fpu = self.context.save_fpu()?;
        let mut info_bytes = [0u8; signal_frame::SIGINFO_SIZE];
        info_bytes.copy_from_slice(info.as_bytes());
        let frame = signal_frame::build(&FrameInput {
            stack_top,
            signo: signal.number(),
            handler: action.handler,
            restorer: action.restorer,
            regs: &self.registers,
            fpu: &fpu,
            info: &info_bytes,
            mask: mask_after.0,
            alt_stack: AltStack { sp: alt.sp, flags: shown_flags(&alt, rsp), size: alt.size },
            trap: self.trap,
        });
        let fits = |addr: u64| {
            !(switch_stack || on_alt && alt.flags & SS_AUTODISARM == 0) || addr >= alt.sp
        };
        let written = frame
            .filter(|f| fits(f.addr))
            .filter(|f| self.mm().write(UserAddr(f.addr), &f.bytes).is_ok());
        let Some(frame) = written else {
            self.frame_failed(signal);
            return Ok(());
        };
        self.registers = frame.regs;
        self.context.load_fpu(&FpuState::initial())?;
        let mut own = self.task.signals.lock();
        own.blocked = mask_now.union(action.mask).without(SigSet::UNBLOCKABLE);
        if action.flags & SA_NODEFER == 0 {
            own.blocked.insert(signal);
        }
        if switch_stack && alt.flags & SS_AUTODISARM != 0 {
            own.alt_stack = StackT { flags: SS_DISABLE, ..StackT::default() };
        }
        drop(own);
        if action.flags & SA_RESETHAND != 0 {
            let handlers = self.task.thread_group().handlers();
            handlers.set_action(signal, SigAction { handler: SIG_DFL, ..action });
        }
        Ok(())
    }

    /// No room for a frame: SIGSEGV, which ends the program where it was SIGSEGV itself that found no room.
    fn frame_failed(&self, signal: Signal) {
        let group = self.task.thread_group();
        if signal == Signal::SIGSEGV {
            group
                .handlers()
                .set_action(signal, SigAction { handler: SIG_DFL, ..SigAction::default() });
        }
        self.task.force_signal(Signal::SIGSEGV, SigInfo::new(Signal::SIGSEGV, SI_KERNEL));
    }

    /// rt_sigreturn(2): everything is as the frame says. A bad frame ends in SIGSEGV.
    pub fn signal_return(&mut self) -> Result<()> {
        if self.restore_frame().is_none() {
            self.task.force_signal(Signal::SIGSEGV, SigInfo::new(Signal::SIGSEGV, SI_KERNEL));
        }
        self.registers_replaced = true;
        Ok(())
    }

    fn restore_frame(&mut self) -> Option<()> {
        let addr = signal_frame::frame_addr(self.registers.rsp);
        let mut bytes = [0u8; signal_frame::FRAME_SIZE];
        self.mm().read(UserAddr(addr), &mut bytes).ok()?;
        let frame = signal_frame::parse(&bytes, &self.registers);
        let fpu = match frame.fpu_addr {
            None => FpuState::initial(),
            Some(at) => {
                let mut head = [0u8; platform::arch::fpu::FXSAVE_SIZE];
                self.mm().read(UserAddr(at), &mut head).ok()?;
                let mut image = vec![0u8; signal_frame::fpu_len(&head)];
                self.mm().read(UserAddr(at), &mut image).ok()?;
                signal_frame::parse_fpu(&image).ok()?
            }
        };
        self.context.load_fpu(&fpu).ok()?;
        self.registers = frame.regs;
        self.task.set_blocked(SigSet(frame.mask));
        let alt = StackT {
            sp: frame.alt_stack.sp,
            flags: frame.alt_stack.flags,
            pad: 0,
            size: frame.alt_stack.size,
        };
        // sigreturn restores the alternate stack as sigaltstack would set it, and ignores a refusal.
        let _ = self.set_alt_stack(alt);
        Some(())
    }

    /// sigaltstack(2): what there is now.
    pub fn alt_stack(&self) -> StackT {
        let alt = self.task.signals.lock().alt_stack;
        StackT { flags: shown_flags(&alt, self.registers.rsp), ..alt }
    }

    /// sigaltstack(2). Errors: EPERM while it is in use, EINVAL for unknown flags, ENOMEM for one that is too small.
    pub fn set_alt_stack(&self, new: StackT) -> Result<()> {
        let mut own = self.task.signals.lock();
        if is_on(&own.alt_stack, self.registers.rsp) {
            return Err(Errno::EPERM.into());
        }
        let mode = new.flags & !SS_AUTODISARM;
        if ![0, SS_ONSTACK, SS_DISABLE].contains(&mode) {
            return Err(Errno::EINVAL.into());
        }
        if mode == SS_DISABLE {
            own.alt_stack = StackT { flags: SS_DISABLE, ..StackT::default() };
            return Ok(());
        }
        if new.size < signal_frame::min_stack_size() as u64 {
            return Err(Errno::ENOMEM.into());
        }
        own.alt_stack = StackT { flags: new.flags & SS_AUTODISARM, pad: 0, ..new };
        Ok(())
    }
}

/// True where `rsp` lies on the alternate stack. One that disarms itself is never "in use" (sigaltstack(2)).
fn is_on(alt: &StackT, rsp: u64) -> bool {
    alt.flags & (SS_DISABLE | SS_AUTODISARM) == 0 && rsp > alt.sp && rsp - alt.sp <= alt.size
}

fn shown_flags(alt: &StackT, rsp: u64) -> i32 {
    let kept = alt.flags & SS_AUTODISARM;
    if alt.flags & SS_DISABLE != 0 || alt.size == 0 {
        SS_DISABLE | kept
    } else if is_on(alt, rsp) {
        SS_ONSTACK | kept
    } else {
        kept
    }
}
