//! A context: a thread in the stub process, which stands in its signal handler whenever the guest
//! does not run.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::call::{self, Met};
use super::code::{
    FPU_SAVED, FROM_FRAME, FROM_FS_BASE, FROM_GS_BASE, GO, GO_BACK, GO_ON, GO_ON_WITH_FPU, Places,
    SAVE_FPU, SITES_MAX, SPIN_TICKS, SPUN_TICKS, TO_FRAME, TO_FS_BASE, TO_GS_BASE, WAS_KICKED,
    restorer,
};
use super::frame::{Frame, Signal};
use super::handoff::{Handoff, Waited};
use super::policy::{Policy, Room, SPIN};
use super::sites::HotSites;
use super::space::{Past, Stands, SystrapSpace, Thread};
use super::{Corrupted, Shared};
use crate::arch::registers::NO_SYSCALL;
use crate::stub::cores::{PlaceId, Spread};
use crate::stub::kick::StubKick;
use crate::stub::process::CHECK_INTERVAL;
use crate::stub::usage::Usage;
use crate::stub::{AUDIT_ARCH_X86_64, KICK_SIGNAL, VSYSCALL_PAGE};
use crate::{
    Access, AddressSpace, CallSite, Context, Event, FpuState, HostSignal, Kick, MemoryFile,
    PlatformError, Registers,
};

/// What `rax` holds at the entry of a system call: ENOSYS, as a tracer sees it on Linux.
const NOT_ANSWERED: u64 = (-38i64) as u64;
/// Bytes of the instruction `syscall`.
const SYSCALL_LEN: u64 = 2;
/// `uretprobe`, a call for the kernel's own use.
const URETPROBE: u64 = 335;
/// `si_code` of a signal that the kernel sends without a cause of its own.
const SI_KERNEL: i32 = 0x80;
/// The x86 vector of page faults, and the bits of its error code.
const PAGE_FAULT: u32 = 14;
const FAULT_WRITE: u32 = 2;
const FAULT_FETCH: u32 = 16;
/// How many checks a kicked thread may take to stop. One that has blocked the signal never does.
const UNHEARD_KICKS_MAX: u32 = 30;

/// A guest thread's place.
pub(super) struct SystrapContext {
    shared: Arc<Shared>,
    kick: Arc<StubKick>,
    thread: Option<StubThread>,
    place: Option<PlaceId>,
    policy: Policy,
    /// The FPU state that the stub thread does not have yet.
    pending_fpu: Option<FpuState>,
    /// The one that it was given for this turn, at a patched call.
    given_fpu: Option<FpuState>,
    /// The base of `fs` at the last patched call.
    called_fs_base: u64,
    hot_sites: HotSites,
    /// CPU time of the stub threads that are gone.
    past_cpu_ns: u64,
}

/// A thread that waits, whenever `switch` does not run.
struct StubThread {
    thread: Thread,
    space: Arc<dyn AddressSpace>,
    /// In its handler, where it stands; none before it first runs.
    frame: Option<Frame>,
    /// By which word it goes on.
    turn: u32,
    usage: Usage,
    /// What it had used before it came to this context.
    used_before_ns: u64,
}

impl StubThread {
    /// CPU time of the thread in all, in nanoseconds, without what it has spun.
    fn used_ns(&mut self, shared: &Shared) -> u64 {
        let used = space_of(&self.space)
            .map_or(0, |space| self.usage.used_ns(space.stub.process.pid(), self.thread.tid));
        let spun = shared.memory.atomic_u64(self.thread.area.file + SPUN_TICKS);
        let spun = spun.map_or(0, |word| shared.ticks.nanoseconds(word.load(Ordering::Relaxed)));
        // A program that forges the word hides its time from itself alone.
        used.saturating_sub(spun)
    }
}

impl SystrapContext {
    pub(super) fn new(shared: Arc<Shared>) -> SystrapContext {
        SystrapContext {
            shared,
            kick: Arc::default(),
            thread: None,
            place: None,
            policy: Policy::new(),
            pending_fpu: Some(FpuState::initial()),
            given_fpu: None,
            called_fs_base: 0,
            hot_sites: HotSites::default(),
            past_cpu_ns: 0,
        }
    }

    /// Sees to it that the thread is in that space.
    fn enter_space(&mut self, space: &Arc<dyn AddressSpace>) -> Result<(), PlatformError> {
        let here =
            |thread: &StubThread| std::ptr::addr_eq(Arc::as_ptr(&thread.space), Arc::as_ptr(space));
        if self.thread.as_ref().is_some_and(here) {
            return Ok(());
        }
        let target = space_of(space)?;
        if self.thread.is_some() {
            self.pending_fpu = Some(self.save_fpu()?);
            self.past_cpu_ns = self.cpu_ns();
            self.leave_space();
        }
        let (thread, past) = target.stub.take_thread()?;
        self.kick.aim(Some((target.stub.process.pid(), thread.tid)));
        let mut thread = StubThread {
            thread,
            space: space.clone(),
            frame: None,
            turn: GO,
            usage: Usage::default(),
            used_before_ns: 0,
        };
        if past == Past::Used {
            thread.used_before_ns = thread.used_ns(&self.shared);
        }
        let tid = thread.thread.tid;
        self.thread = Some(thread);
        self.let_stub_spin(self.policy.spread());
        match self.place {
            Some(place) => self.shared.cores.set_stub(place, Some(tid)),
            None => self.place = self.shared.cores.bind(tid),
        }
        Ok(())
    }

    /// The stub thread, of which from now on nobody else knows.
    fn take_thread(&mut self) -> Option<StubThread> {
        self.kick.aim(None);
        self.place.iter().for_each(|place| self.shared.cores.set_stub(*place, None));
        self.thread.take()
    }

    /// Gives the stub thread back to its space.
    fn leave_space(&mut self) {
        let Some(thread) = self.take_thread() else { return };
        if let Ok(space) = space_of(&thread.space) {
            space.stub.park_thread(thread.thread);
        }
    }

    /// Puts the registers where the stub thread takes them from, and the FPU state that it does not
    /// have yet.
    fn prepare(&mut self, regs: &Registers) -> Result<(), Corrupted> {
        let memory = &self.shared.memory;
        let thread = self.thread.as_mut().ok_or(Corrupted)?;
        let area = thread.thread.area;
        let fpu = self.pending_fpu.take();
        // Trampolines find their area by the base of gs, where the program has none of its own.
        let patched = space_of(&thread.space).is_ok_and(|space| space.patches.are_used());
        let gs_base = if patched && regs.gs_base == 0 { area.addr } else { regs.gs_base };
        for (at, word) in [(TO_FS_BASE, regs.fs_base), (TO_GS_BASE, gs_base)] {
            memory.atomic_u64(area.file + at)?.store(word, Ordering::Relaxed);
        }
        if thread.thread.stands == Stands::Call {
            let as_called = self.called_fs_base == regs.fs_base && gs_base == area.addr;
            thread.turn = match &fpu {
                Some(_) => GO_ON_WITH_FPU,
                None if as_called && call::is_plain_return(regs) => GO_BACK,
                None => GO_ON,
            };
            if let Some(fpu) = &fpu {
                call::write_fpu(memory, &area, fpu)?;
            }
            self.given_fpu = fpu;
            return call::write_registers(memory, &area, regs);
        }
        thread.turn = GO;
        let frame = match (&mut thread.frame, fpu) {
            (Some(frame), None) => {
                frame.write_registers(memory, &area, regs)?;
                frame
            }
            (frame, fpu) => {
                let fpu = fpu.unwrap_or_else(FpuState::initial);
                let restorer = restorer(self.shared.zygote.base());
                frame.insert(Frame::write_new(memory, &area, restorer, regs, &fpu)?)
            }
        };
        let stack = frame.stack_pointer(&area);
        memory.atomic_u64(area.file + TO_FRAME)?.store(stack, Ordering::Relaxed);
        Ok(())
    }

    /// Runs the stub thread until there is an event.
    fn run(&mut self, regs: &mut Registers) -> Result<Event, PlatformError> {
        loop {
            let memory = self.shared.memory.clone();
            let thread = self.thread.as_ref().ok_or(PlatformError::StubDied)?;
            Handoff::of(&memory, &thread.thread.area)?.tell(thread.turn);
            self.wait_turn()?;
            match self.read(&memory, regs) {
                Ok(Some(event)) => return Ok(event),
                Ok(None) => self.prepare(regs).map_err(|_| PlatformError::StubCorrupted)?,
                Err(Corrupted) => return Err(PlatformError::StubCorrupted),
            }
        }
    }

    /// Waits for the end of the guest's turn, and lets the policy know.
    fn wait_turn(&mut self) -> Result<(), PlatformError> {
        let room = if self.shared.cores.has_room_apart() { Room::Enough } else { Room::Short };
        let start = Instant::now();
        self.wait(self.policy.spin(room))?;
        let now = Instant::now();
        let took = now.saturating_duration_since(start);
        if let Some(spread) = self.policy.turn(took, room, now, &self.shared.patience) {
            self.place.iter().for_each(|place| self.shared.cores.set_spread(*place, spread));
            self.let_stub_spin(spread);
        }
        Ok(())
    }

    /// Says how long the stub's thread may spin.
    fn let_stub_spin(&self, spread: Spread) {
        let ticks = match spread {
            Spread::Together => 0,
            Spread::Apart => self.shared.ticks.of(SPIN),
        };
        if let Some(thread) = &self.thread
            && let Ok(word) = self.shared.memory.atomic_u64(thread.thread.area.file + SPIN_TICKS)
        {
            word.store(ticks, Ordering::Relaxed);
        }
    }

    /// Waits for the stub thread, spinning for so long at first.
    fn wait(&mut self, spin: Duration) -> Result<(), PlatformError> {
        let thread = self.thread.as_ref().ok_or(PlatformError::StubDied)?;
        let handoff = Handoff::of(&self.shared.memory, &thread.thread.area)?;
        let stub = &space_of(&thread.space)?.stub;
        let mut unheard = 0;
        while handoff.wait(spin, CHECK_INTERVAL) == Waited::Nothing {
            if !stub.is_alive(&thread.thread) {
                return Err(PlatformError::StubDied);
            }
            if self.kick.is_pending() {
                // What the guest writes over its frame can block the signal.
                unheard += 1;
                self.kick.signal();
                if unheard > UNHEARD_KICKS_MAX {
                    return Err(PlatformError::StubCorrupted);
                }
            }
        }
        Ok(())
    }

    /// Has the thread save the FPU state that is still in its processor.
    fn save_fpu_at_call(&mut self) -> Result<FpuState, PlatformError> {
        let memory = self.shared.memory.clone();
        let thread = self.thread.as_ref().ok_or(PlatformError::StubDied)?;
        let area = thread.thread.area;
        Handoff::of(&memory, &area)?.tell(SAVE_FPU);
        self.wait(Duration::ZERO)?;
        let said = memory.atomic_u64(area.file + FROM_FRAME)?.load(Ordering::Relaxed);
        let state = call::read_fpu(&memory, &area);
        match state {
            Ok(state) if said == FPU_SAVED => Ok(state),
            _ => Err(PlatformError::StubCorrupted),
        }
    }

    /// Reads what has happened. `None`: nothing that anybody should know.
    fn read(
        &mut self,
        memory: &MemoryFile,
        regs: &mut Registers,
    ) -> Result<Option<Event>, Corrupted> {
        let thread = self.thread.as_mut().ok_or(Corrupted)?;
        let area = thread.thread.area;
        let word =
            |at| Ok::<_, Corrupted>(memory.atomic_u64(area.file + at)?.load(Ordering::Relaxed));
        let (from, given_fpu) = (word(FROM_FRAME)?, self.given_fpu.take());
        let fs_base = word(FROM_FS_BASE)?;
        match from {
            WAS_KICKED => {
                self.pending_fpu = given_fpu;
                return Ok(self.kick.take().then_some(Event::Interrupted));
            }
            ..SITES_MAX => {
                let site = space_of(&thread.space).ok().and_then(|space| space.patches.site(from));
                let CallSite { behind, nr } = site.ok_or(Corrupted)?;
                *regs = Registers { fs_base, ..call::read_registers(memory, &area)? };
                regs.sanitize();
                // What the instruction itself would have left there.
                (regs.rip, regs.rcx, regs.r11) = (behind, behind, regs.eflags);
                (regs.orig_rax, regs.rax) = (nr, NOT_ANSWERED);
                self.called_fs_base = fs_base;
                thread.thread.stands = Stands::Call;
                thread.frame = None;
                return Ok(Some(Event::Syscall));
            }
            _ => {}
        }
        let frame = Frame::read(memory, &area, from)?;
        let gs_base = Some(word(FROM_GS_BASE)?).filter(|base| *base != area.addr);
        let seen = frame.registers(fs_base, gs_base.unwrap_or(0));
        let signal = frame.signal();
        thread.frame = Some(frame);
        thread.thread.stands = Stands::Handler;
        let site = |number| space_of(&thread.space).ok()?.patches.site(number);
        match Met::with(&seen, &Places::of(self.shared.zygote.base())) {
            // It goes on with what it was given.
            Met::GoingOn => self.pending_fpu = given_fpu,
            Met::GoingOut(number) if let Some(site) = site(number) => {
                *regs = at_syscall(seen, site);
                return Ok(None);
            }
            Met::AtSite(number) if let Some(site) = site(number) => *regs = at_syscall(seen, site),
            Met::AtSite(_) | Met::GoingOut(_) | Met::Elsewhere => *regs = seen,
        }
        Ok(self.event_of(&signal, regs))
    }

    /// What a signal means; `None` for signals from outside, which are dropped.
    fn event_of(&mut self, signal: &Signal, regs: &mut Registers) -> Option<Event> {
        if signal.signo == KICK_SIGNAL {
            let kicked = self.kick.take();
            return kicked.then_some(Event::Interrupted);
        }
        if signal.code <= 0 {
            return None;
        }
        match signal.signo {
            // Linux's filters let this one call through (6.11 and newer), also from where user
            // dispatch does not look, and its answer outside of a probe is SIGILL.
            libc::SIGILL if signal.code == SI_KERNEL => {
                regs.orig_rax = URETPROBE;
                regs.rax = NOT_ANSWERED;
                Some(Event::Syscall)
            }
            // The host has returned from a call into the vsyscall page already. Undo that.
            libc::SIGSYS if signal.addr & !0xfff == VSYSCALL_PAGE => {
                regs.rip = signal.addr;
                regs.rsp = regs.rsp.wrapping_sub(8);
                Some(Event::Fault { addr: signal.addr, access: Access::Execute, error_code: 0x14 })
            }
            libc::SIGSYS => {
                regs.orig_rax = regs.rax;
                regs.rax = NOT_ANSWERED;
                let native = signal.arch == AUDIT_ARCH_X86_64;
                if native {
                    self.hot_sites.count(CallSite { behind: regs.rip, nr: regs.orig_rax });
                }
                Some(if native { Event::Syscall } else { Event::CompatSyscall })
            }
            libc::SIGSEGV if signal.trapno == PAGE_FAULT => {
                let access = if signal.err & FAULT_FETCH != 0 {
                    Access::Execute
                } else if signal.err & FAULT_WRITE != 0 {
                    Access::Write
                } else {
                    Access::Read
                };
                Some(Event::Fault { addr: signal.addr, access, error_code: signal.err })
            }
            libc::SIGFPE | libc::SIGILL | libc::SIGTRAP | libc::SIGBUS | libc::SIGSEGV => {
                Some(Event::Signal(HostSignal {
                    signo: signal.signo,
                    code: signal.code,
                    addr: signal.addr,
                    trapno: signal.trapno,
                    err: signal.err,
                }))
            }
            _ => None,
        }
    }

    /// `switch`, once it is sure that nobody has kicked before.
    fn switch_to(
        &mut self,
        space: &Arc<dyn AddressSpace>,
        regs: &mut Registers,
    ) -> Result<Event, PlatformError> {
        self.enter_space(space)?;
        regs.sanitize();
        regs.orig_rax = NO_SYSCALL;
        self.prepare(regs).map_err(|_| PlatformError::StubCorrupted)?;
        let result = if self.kick.begin() { Ok(Event::Interrupted) } else { self.run(regs) };
        self.kick.end();
        result
    }

    /// The stub thread is lost, and the rest of its process is not to be trusted: the context may go
    /// on from the initial state in another space.
    fn forget_thread(&mut self) {
        if let Some(thread) = self.take_thread() {
            space_of(&thread.space).iter().for_each(|space| space.stub.process.kill());
            self.pending_fpu = Some(FpuState::initial());
        }
    }
}

/// The registers in the middle of a patched site: its number is set, and the call is still to be made.
fn at_syscall(seen: Registers, site: CallSite) -> Registers {
    Registers { rax: site.nr, rip: site.behind.wrapping_sub(SYSCALL_LEN), ..seen }
}

/// The stub behind an address space of this platform.
fn space_of(space: &Arc<dyn AddressSpace>) -> Result<&SystrapSpace, PlatformError> {
    let any: &dyn std::any::Any = &**space;
    any.downcast_ref().ok_or(PlatformError::ForeignSpace)
}

impl Context for SystrapContext {
    fn switch(
        &mut self,
        space: &Arc<dyn AddressSpace>,
        regs: &mut Registers,
    ) -> Result<Event, PlatformError> {
        if self.kick.take() {
            return Ok(Event::Interrupted);
        }
        let result = self.switch_to(space, regs);
        if matches!(result, Err(PlatformError::StubDied | PlatformError::StubCorrupted)) {
            self.forget_thread();
        }
        result
    }

    fn kick_handle(&self) -> Arc<dyn Kick> {
        self.kick.clone()
    }

    fn hot_call(&mut self) -> Option<CallSite> {
        self.hot_sites.take()
    }

    fn sleeps(&self) {
        // Nobody will hand over soon; the word is read while the stub spins.
        self.let_stub_spin(Spread::Together);
        self.place.iter().for_each(|place| self.shared.cores.sleeps(*place));
    }

    fn wakes(&self) {
        self.let_stub_spin(self.policy.spread());
        self.place.iter().for_each(|place| self.shared.cores.wakes(*place));
    }

    fn save_fpu(&mut self) -> Result<FpuState, PlatformError> {
        if let Some(state) = &self.pending_fpu {
            return Ok(state.clone());
        }
        if self.thread.as_ref().is_some_and(|thread| thread.thread.stands == Stands::Call) {
            return self.save_fpu_at_call();
        }
        let standing =
            self.thread.as_ref().and_then(|thread| Some((thread.frame.as_ref()?, thread)));
        let Some((frame, thread)) = standing else { return Ok(FpuState::initial()) };
        frame
            .fpu(&self.shared.memory, &thread.thread.area)
            .map_err(|_| PlatformError::StubCorrupted)
    }

    fn load_fpu(&mut self, state: &FpuState) -> Result<(), PlatformError> {
        self.pending_fpu = Some(state.clone());
        Ok(())
    }

    fn cpu_ns(&mut self) -> u64 {
        let Some(thread) = &mut self.thread else { return self.past_cpu_ns };
        let used = thread.used_ns(&self.shared).saturating_sub(thread.used_before_ns);
        self.past_cpu_ns.saturating_add(used)
    }
}

impl Drop for SystrapContext {
    fn drop(&mut self) {
        self.leave_space();
        self.place.iter().for_each(|place| self.shared.cores.unbind(*place));
    }
}
