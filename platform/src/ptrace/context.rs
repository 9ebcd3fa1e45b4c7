//! A context: a thread in the stub process, traced by the sentry thread that runs the task.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;

use super::access::{self, INSTRUCTION_MAX};
use super::space::PtraceSpace;
use super::trace::{self, SignalInfo, Stop};
use super::{Shared, code};
use crate::arch::registers::{NO_SYSCALL, USER_CS};
use crate::stub::cores::PlaceId;
use crate::stub::kick::StubKick;
use crate::stub::process::StubProcess;
use crate::stub::usage::Usage;
use crate::stub::{AUDIT_ARCH_X86_64, KICK_SIGNAL, VSYSCALL_PAGE, own_tid};
use crate::{
    Access, AddressSpace, Context, Event, FpuState, HostSignal, Kick, PlatformError, Registers,
};

/// `si_code` of exceptions without a cause of their own.
const SI_KERNEL: i32 = 0x80;
/// `si_code` of a fault where nothing is mapped, and of one by protection.
const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
/// More than any XSAVE image that a processor has today (AMX: 11 KiB).
const XSTATE_MAX: usize = 64 * 1024;

/// A guest thread's place.
pub(super) struct PtraceContext {
    shared: Arc<Shared>,
    kick: Arc<StubKick>,
    thread: Option<StubThread>,
    /// The thread that traces, once it has switched.
    owner: Option<i32>,
    place: Option<PlaceId>,
    /// The FPU state that the stub thread does not have yet.
    pending_fpu: Option<FpuState>,
    /// The last fault if nothing else happened since: the same again means that the guess was wrong.
    last_fault: Option<(u64, u64, Access)>,
    /// CPU time of the stub threads that are gone.
    past_cpu_ns: u64,
}

/// A seized thread, stopped whenever `switch` does not run.
struct StubThread {
    tid: i32,
    space: Arc<dyn AddressSpace>,
    usage: Usage,
}

impl PtraceContext {
    pub(super) fn new(shared: Arc<Shared>) -> PtraceContext {
        PtraceContext {
            shared,
            kick: Arc::default(),
            thread: None,
            owner: None,
            place: None,
            pending_fpu: Some(FpuState::initial()),
            last_fault: None,
            past_cpu_ns: 0,
        }
    }

    fn check_owner(&mut self) -> Result<(), PlatformError> {
        let own = own_tid();
        match self.owner {
            Some(owner) if owner != own => Err(PlatformError::WrongThread),
            _ => {
                self.owner = Some(own);
                Ok(())
            }
        }
    }

    /// The number of the stub thread in that space; makes it if the context was elsewhere.
    fn enter_space(&mut self, space: &Arc<dyn AddressSpace>) -> Result<i32, PlatformError> {
        if let Some(thread) = &self.thread
            && std::ptr::addr_eq(Arc::as_ptr(&thread.space), Arc::as_ptr(space))
        {
            return Ok(thread.tid);
        }
        let target = stub_of(space)?;
        self.check_owner()?;
        if self.thread.is_some() {
            self.pending_fpu = Some(self.save_fpu()?);
            self.past_cpu_ns = self.cpu_ns();
            self.leave_space();
        }
        let tid = target.spawn_thread(None, 0)?;
        if let Err(errno) = seize(tid) {
            // The thread cannot be ended without tracing it, and its space is useless without.
            target.kill();
            reap(tid);
            return Err(match errno {
                Errno::EPERM | Errno::ENOSYS => {
                    code::image().not_permitted("ptrace of our own child", errno)
                }
                Errno::ESRCH | Errno::ECHILD => PlatformError::StubDied,
                errno => PlatformError::Host { what: "ptrace of a stub thread", errno },
            });
        }
        self.thread = Some(StubThread { tid, space: space.clone(), usage: Usage::default() });
        self.kick.aim(Some((target.pid(), tid)));
        match self.place {
            Some(place) => self.shared.cores.set_stub(place, Some(tid)),
            None => self.place = self.shared.cores.bind(tid),
        }
        Ok(tid)
    }

    /// The stub thread, of which from now on nobody else knows.
    fn take_thread(&mut self) -> Option<StubThread> {
        self.kick.aim(None);
        self.place.iter().for_each(|place| self.shared.cores.set_stub(*place, None));
        self.thread.take()
    }

    /// Ends the stub thread.
    fn leave_space(&mut self) {
        let Some(thread) = self.take_thread() else { return };
        let exit = Registers::at_entry(self.shared.zygote.base() + code::exit_offset(), 0);
        let mut ended = trace::set_registers(thread.tid, &exit).map(|()| Stop::Event);
        while let Ok(stop) = ended {
            if stop == Stop::Gone {
                return;
            }
            ended = trace::run_freely(thread.tid).and_then(|()| trace::wait(thread.tid));
        }
        // Only a thread that was killed from outside, or a drop on another thread than the owner's,
        // comes here; what is left of the stub must not run on.
        if let Ok(space) = stub_of(&thread.space) {
            space.kill();
        }
        reap(thread.tid);
    }

    /// Gives the stub thread the FPU state that was loaded while it could not take it.
    fn flush_fpu(&mut self, tid: i32) -> Result<(), PlatformError> {
        let Some(state) = self.pending_fpu.take() else { return Ok(()) };
        let mut image = host_xstate(tid)?;
        let bytes = state.as_bytes();
        if image.len() < bytes.len() {
            image.resize(bytes.len(), 0);
        }
        image[..bytes.len()].copy_from_slice(bytes);
        trace::set_xstate(tid, &mut image).map_err(died_or("ptrace SETREGSET"))
    }

    /// Runs the stub thread until there is an event.
    fn run(&mut self, tid: i32, regs: &mut Registers) -> Result<Event, PlatformError> {
        loop {
            trace::run_until_syscall(tid).map_err(died_or("ptrace SYSEMU"))?;
            match trace::wait(tid).map_err(died_or("wait for a stub thread"))? {
                Stop::Gone => return Err(PlatformError::StubDied),
                Stop::Event => {}
                Stop::Syscall => {
                    trace::registers(tid, regs).map_err(died_or("ptrace GETREGS"))?;
                    self.last_fault = None;
                    return syscall_event(tid, regs);
                }
                Stop::Signal(KICK_SIGNAL) => {
                    if self.kick.take() {
                        trace::registers(tid, regs).map_err(died_or("ptrace GETREGS"))?;
                        return Ok(Event::Interrupted);
                    }
                }
                Stop::Signal(_) => {
                    let info = trace::signal_info(tid).map_err(died_or("ptrace GETSIGINFO"))?;
                    trace::registers(tid, regs).map_err(died_or("ptrace GETREGS"))?;
                    if let Some(event) = self.signal_event(tid, &info, regs) {
                        return Ok(event);
                    }
                }
            }
        }
    }

    /// The stub thread was killed from outside: its state is lost, and the context may go on from
    /// the initial one in another space.
    fn forget_thread(&mut self) {
        if let Some(thread) = self.take_thread() {
            stub_of(&thread.space).iter().for_each(|space| space.kill());
            reap(thread.tid);
            self.pending_fpu = Some(FpuState::initial());
        }
    }

    /// `switch`, once it is sure that nobody has kicked before.
    fn switch_to(
        &mut self,
        space: &Arc<dyn AddressSpace>,
        regs: &mut Registers,
    ) -> Result<Event, PlatformError> {
        let tid = self.enter_space(space)?;
        self.flush_fpu(tid)?;
        regs.sanitize();
        // The host would otherwise restart what it takes for a system call of its own.
        regs.orig_rax = NO_SYSCALL;
        trace::set_registers(tid, regs).map_err(died_or("ptrace SETREGS"))?;
        let result = if self.kick.begin() { Ok(Event::Interrupted) } else { self.run(tid, regs) };
        self.kick.end();
        result
    }

    /// What an exception means; `None` for signals from outside, which are dropped.
    fn signal_event(&mut self, tid: i32, info: &SignalInfo, regs: &mut Registers) -> Option<Event> {
        if info.code <= 0 {
            return None;
        }
        let last = self.last_fault.take();
        match (info.signo, info.code) {
            (libc::SIGSEGV, SEGV_MAPERR | SEGV_ACCERR) => {
                let access = self.access_of(tid, info.addr, regs, last);
                Some(fault(info, access))
            }
            // The filter has refused a call from the vsyscall page; by then the host has returned
            // from it. Undo that.
            (libc::SIGSYS, _) if info.addr & !0xfff == VSYSCALL_PAGE => {
                regs.rip = info.addr;
                regs.rsp = regs.rsp.wrapping_sub(8);
                Some(Event::Fault { addr: info.addr, access: Access::Execute, error_code: 0x14 })
            }
            (libc::SIGFPE | libc::SIGILL | libc::SIGTRAP | libc::SIGBUS | libc::SIGSEGV, _) => {
                Some(Event::Signal(host_signal(info)))
            }
            _ => None,
        }
    }

    fn access_of(
        &mut self,
        tid: i32,
        addr: u64,
        regs: &Registers,
        last: Option<(u64, u64, Access)>,
    ) -> Access {
        let mut code = [0; INSTRUCTION_MAX];
        let read = trace::read_memory(tid, regs.rip, &mut code);
        let mut access = access::classify(regs, &code[..read], addr);
        if last == Some((regs.rip, addr, Access::Read)) {
            // The kernel has let it read there, and it faults again.
            access = Access::Write;
        }
        self.last_fault = Some((regs.rip, addr, access));
        access
    }
}

/// The stub behind an address space of this platform.
fn stub_of(space: &Arc<dyn AddressSpace>) -> Result<&StubProcess, PlatformError> {
    let any: &dyn std::any::Any = &**space;
    let space = any.downcast_ref::<PtraceSpace>();
    space.map(|space| &space.0).ok_or(PlatformError::ForeignSpace)
}

/// Makes the calling thread the tracer of a thread that waits for it, and stops it.
fn seize(tid: i32) -> Result<(), Errno> {
    trace::seize(tid)?;
    trace::interrupt(tid)?;
    while trace::wait(tid)? != Stop::Event {
        trace::run_freely(tid)?;
    }
    trace::unblock_signals(tid)
}

/// Takes notice of a thread whose process was killed, so that nothing of it stays behind. An error
/// means that it is not ours to wait for.
fn reap(tid: i32) {
    while let Ok(stop) = trace::wait(tid) {
        if stop == Stop::Gone {
            return;
        }
    }
}

/// The host's XSAVE image of a stub thread, which may be longer than ours.
fn host_xstate(tid: i32) -> Result<Vec<u8>, PlatformError> {
    // The same for all threads; asked for once with a generous buffer.
    static SIZE: AtomicUsize = AtomicUsize::new(XSTATE_MAX);
    let mut image = vec![0; SIZE.load(Ordering::Relaxed)];
    let size = trace::xstate(tid, &mut image).map_err(died_or("ptrace GETREGSET"))?;
    SIZE.store(size, Ordering::Relaxed);
    image.truncate(size);
    Ok(image)
}

/// A thread that was killed answers ESRCH to every request.
fn died_or(what: &'static str) -> impl Fn(Errno) -> PlatformError {
    move |errno| match errno {
        Errno::ESRCH | Errno::ECHILD => PlatformError::StubDied,
        errno => PlatformError::Host { what, errno },
    }
}

/// Tells a 64-bit call from a 32-bit entry. The `syscall` instruction leaves `rip` in rcx and the
/// flags in r11, so the slow question is asked only when they differ.
fn syscall_event(tid: i32, regs: &Registers) -> Result<Event, PlatformError> {
    let by_instruction = regs.rcx == regs.rip && regs.r11 == regs.eflags && regs.cs == USER_CS;
    if by_instruction {
        return Ok(Event::Syscall);
    }
    let arch = trace::syscall_arch(tid).map_err(died_or("ptrace GET_SYSCALL_INFO"))?;
    Ok(if arch == AUDIT_ARCH_X86_64 { Event::Syscall } else { Event::CompatSyscall })
}

fn fault(info: &SignalInfo, access: Access) -> Event {
    let present = u32::from(info.code == SEGV_ACCERR);
    let kind = match access {
        Access::Read => 0,
        Access::Write => 2,
        Access::Execute => 16,
    };
    Event::Fault { addr: info.addr, access, error_code: present | kind | 4 }
}

/// The x86 vector is not told either, but follows from the signal and its code.
fn host_signal(info: &SignalInfo) -> HostSignal {
    const FPE_INTDIV: i32 = 1;
    const BUS_ADRALN: i32 = 1;
    let trapno = match (info.signo, info.code) {
        (libc::SIGFPE, FPE_INTDIV) => 0,
        (libc::SIGFPE, _) => 16,
        (libc::SIGILL, _) => 6,
        (libc::SIGTRAP, SI_KERNEL) => 3,
        (libc::SIGTRAP, _) => 1,
        (libc::SIGBUS, BUS_ADRALN) => 17,
        (libc::SIGBUS, _) => 14,
        _ => 13,
    };
    HostSignal { signo: info.signo, code: info.code, addr: info.addr, trapno, err: 0 }
}

impl Context for PtraceContext {
    fn switch(
        &mut self,
        space: &Arc<dyn AddressSpace>,
        regs: &mut Registers,
    ) -> Result<Event, PlatformError> {
        if self.kick.take() {
            return Ok(Event::Interrupted);
        }
        let result = self.switch_to(space, regs);
        if matches!(result, Err(PlatformError::StubDied)) {
            if self.owner.is_some_and(|owner| owner != own_tid()) {
                return Err(PlatformError::WrongThread);
            }
            self.forget_thread();
        }
        result
    }

    fn kick_handle(&self) -> Arc<dyn Kick> {
        self.kick.clone()
    }

    fn sleeps(&self) {
        self.place.iter().for_each(|place| self.shared.cores.sleeps(*place));
    }

    fn wakes(&self) {
        self.place.iter().for_each(|place| self.shared.cores.wakes(*place));
    }

    fn save_fpu(&mut self) -> Result<FpuState, PlatformError> {
        if let Some(state) = &self.pending_fpu {
            return Ok(state.clone());
        }
        let Some(thread) = &self.thread else { return Ok(FpuState::initial()) };
        let tid = thread.tid;
        self.check_owner()?;
        let image = host_xstate(tid)?;
        FpuState::from_host(&image)
            .map_err(|_| PlatformError::Host { what: "ptrace GETREGSET", errno: Errno::EINVAL })
    }

    fn load_fpu(&mut self, state: &FpuState) -> Result<(), PlatformError> {
        self.pending_fpu = Some(state.clone());
        Ok(())
    }

    fn cpu_ns(&mut self) -> u64 {
        let Some(thread) = &mut self.thread else { return self.past_cpu_ns };
        let used =
            stub_of(&thread.space).map_or(0, |stub| thread.usage.used_ns(stub.pid(), thread.tid));
        self.past_cpu_ns.saturating_add(used)
    }
}

impl Drop for PtraceContext {
    fn drop(&mut self) {
        self.leave_space();
        self.place.iter().for_each(|place| self.shared.cores.unbind(*place));
    }
}
