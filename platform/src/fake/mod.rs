//! A scripted platform for kernel tests: real guest memory, address spaces that record their maps,
//! and contexts that play a list of events instead of running code. No process is made.

mod space;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

pub use space::{FakeAddressSpace, FakeFault, FakeMapping, PATCH_RANGE, Presence};

use crate::mem::MemoryOptions;
use crate::{
    AddressSpace, Context, Event, FpuState, Kick, MemoryFile, Platform, PlatformError, Registers,
};

/// What a step sees of the guest: its memory, through the recorded mappings.
pub type FakeGuest = FakeAddressSpace;

/// One step of a script: changes registers and memory as a program would, and says which event
/// that ended in.
pub type Step = Box<dyn FnMut(&FakeGuest, &mut Registers) -> Event + Send>;

/// What a context does, step by step.
#[derive(Default)]
pub struct Script {
    steps: VecDeque<Step>,
}

impl Script {
    /// A script without steps: its context ends with [`PlatformError::ScriptEnded`].
    pub fn new() -> Script {
        Script::default()
    }

    /// Adds a step.
    pub fn step(
        mut self,
        step: impl FnMut(&FakeGuest, &mut Registers) -> Event + Send + 'static,
    ) -> Script {
        self.steps.push_back(Box::new(step));
        self
    }

    /// Adds a system call with these arguments.
    pub fn syscall(self, nr: u64, args: [u64; 6]) -> Script {
        self.step(move |_, regs| enter_syscall(regs, nr, args))
    }

    /// Adds an event that changes no register.
    pub fn event(self, event: Event) -> Script {
        self.step(move |_, _| event)
    }

    /// Adds a look at what the kernel left (results, memory), before the next step runs.
    pub fn check(self, mut check: impl FnMut(&FakeGuest, &Registers) + Send + 'static) -> Script {
        self.step(move |guest, regs| {
            check(guest, regs);
            SKIP
        })
    }
}

/// The event by which a step says that it only looked: no real context returns this.
const SKIP: Event = Event::Fault { addr: u64::MAX, access: crate::Access::Read, error_code: !0 };

/// Puts registers in the state that the `syscall` instruction leaves, as a step's last act.
pub fn enter_syscall(regs: &mut Registers, nr: u64, args: [u64; 6]) -> Event {
    [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = args;
    regs.orig_rax = nr;
    regs.rip = regs.rip.wrapping_add(2);
    regs.set_result(-i64::from(libc::ENOSYS));
    Event::Syscall
}

/// The platform: hand it the scripts in the order in which the kernel makes contexts.
pub struct FakePlatform {
    memory: Arc<MemoryFile>,
    scripts: Mutex<VecDeque<Script>>,
}

impl FakePlatform {
    /// A platform with 1 GiB of memory and no scripts.
    pub fn new() -> Result<Arc<FakePlatform>, PlatformError> {
        let options = MemoryOptions { size_bytes: 1 << 30, ..MemoryOptions::default() };
        let memory = Arc::new(MemoryFile::new(options)?);
        Ok(Arc::new(FakePlatform { memory, scripts: Mutex::default() }))
    }

    /// Gives the next context that is made its script.
    pub fn push_script(&self, script: Script) {
        self.scripts.lock().push_back(script);
    }
}

impl Platform for FakePlatform {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn memory(&self) -> &Arc<MemoryFile> {
        &self.memory
    }

    fn user_range(&self) -> Range<u64> {
        0x1_0000..0x7fff_ffff_f000
    }

    fn new_address_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        Ok(Arc::new(FakeAddressSpace::new(self.memory.clone(), self.user_range())))
    }

    fn new_context(&self) -> Result<Box<dyn Context>, PlatformError> {
        let script = self.scripts.lock().pop_front().unwrap_or_default();
        Ok(Box::new(FakeContext {
            script,
            fpu: FpuState::initial(),
            kick: Arc::new(FakeKick { pending: AtomicBool::new(false) }),
        }))
    }
}

struct FakeContext {
    script: Script,
    fpu: FpuState,
    kick: Arc<FakeKick>,
}

struct FakeKick {
    pending: AtomicBool,
}

impl Kick for FakeKick {
    fn kick(&self) {
        self.pending.store(true, Ordering::SeqCst);
    }
}

impl Context for FakeContext {
    fn switch(
        &mut self,
        space: &Arc<dyn AddressSpace>,
        regs: &mut Registers,
    ) -> Result<Event, PlatformError> {
        let any: &dyn std::any::Any = &**space;
        let space = any.downcast_ref::<FakeAddressSpace>().ok_or(PlatformError::ForeignSpace)?;
        if self.kick.pending.swap(false, Ordering::SeqCst) {
            return Ok(Event::Interrupted);
        }
        loop {
            let mut step = self.script.steps.pop_front().ok_or(PlatformError::ScriptEnded)?;
            match step(space, regs) {
                SKIP => continue,
                event => return Ok(event),
            }
        }
    }

    fn kick_handle(&self) -> Arc<dyn Kick> {
        self.kick.clone()
    }

    fn save_fpu(&mut self) -> Result<FpuState, PlatformError> {
        Ok(self.fpu.clone())
    }

    fn load_fpu(&mut self, state: &FpuState) -> Result<(), PlatformError> {
        self.fpu = state.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
