//! Runs program code and traps what it does: the `Platform`, `AddressSpace` and `Context` traits
//! and their backends. No policy lives here: what a system call means is the kernel's business.
//!
//! A guest task is one [`Context`]; a guest memory map is one [`AddressSpace`]; all guest memory is
//! pages of one [`MemoryFile`](mem::MemoryFile), mapped both in the sentry and in the guest.
//! `Context::switch` runs the guest until it does something that the kernel must answer, and says
//! what as an [`Event`]. With `netstack-host` this is the only package that holds unsafe code.
//!
//! Must not know: tasks, files, sockets, signals' dispositions.

pub mod arch;
pub mod error;
pub mod fake;
pub mod host;
pub mod mem;
pub mod ptrace;
pub mod systrap;

pub mod vdso;

mod check;
mod registry;
mod stub;

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

pub use arch::{FpuState, Registers};
pub use error::PlatformError;
pub use mem::{FileRange, MemoryError, MemoryFile};
pub use registry::{Backend, BackendOptions, all, by_name, self_test};

/// Size of a guest page in bytes. Guest addresses and file offsets of mappings are multiples of it.
pub const PAGE_SIZE: u64 = 4096;

/// A way to run program code: one object for a sandbox.
pub trait Platform: Send + Sync {
    /// The backend's name as users write it (`ptrace`, `fake`).
    fn name(&self) -> &'static str;

    /// The file whose pages are the guest's memory.
    fn memory(&self) -> &Arc<MemoryFile>;

    /// Guest addresses that an address space can map: lowest to highest + 1, page aligned.
    /// What the platform itself needs in the guest's process lies outside.
    fn user_range(&self) -> Range<u64>;

    /// A new, empty address space. It is destroyed when the last reference goes.
    fn new_address_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError>;

    /// A new context with the initial FPU state. It costs nothing in the host until it first runs.
    fn new_context(&self) -> Result<Box<dyn Context>, PlatformError>;
}

/// A guest memory map.
///
/// Any thread may call any method at any time, also while guest threads run in the space; when a
/// call returns, no guest thread uses the old mapping any more. Addresses and lengths are in bytes,
/// page aligned, inside [`Platform::user_range`]; everything else is refused with
/// [`PlatformError::BadRange`] before anything is changed.
pub trait AddressSpace: Any + Send + Sync {
    /// Maps `len` bytes of the memory file from `file_offset` at `addr`, shared, in place of
    /// whatever was there.
    fn map_file(
        &self,
        addr: u64,
        len: u64,
        file_offset: u64,
        prot: Prot,
        populate: Populate,
    ) -> Result<(), PlatformError> {
        self.batch(&[MapOp::MapFile { addr, len, file_offset, prot, populate }])
    }

    /// Removes every mapping in the range; a range with holes is fine.
    fn unmap(&self, addr: u64, len: u64) -> Result<(), PlatformError> {
        self.batch(&[MapOp::Unmap { addr, len }])
    }

    /// Changes the protection of a range that is wholly mapped.
    fn protect(&self, addr: u64, len: u64, prot: Prot) -> Result<(), PlatformError> {
        self.batch(&[MapOp::Protect { addr, len, prot }])
    }

    /// Executes the operations in their order, with one hand-off to the guest's process where the
    /// backend can. On an error the operations before the failed one may have been executed.
    fn batch(&self, ops: &[MapOp]) -> Result<(), PlatformError>;

    /// A backend may have the guest enter the kernel on a shorter way at that site from now on, where it then finds
    /// other bytes of the same length and effect. The caller asks for it where the page of the site is mapped from
    /// `file_offset` for reading and executing, as private text of a file, and changes nothing there meanwhile; what
    /// it maps or makes writable there later undoes it. The memory file's page stays as it is.
    ///
    /// Only where the program has nothing in [`patch_range`](AddressSpace::patch_range).
    fn patch_call(&self, _site: CallSite, _file_offset: u64) {}

    /// The addresses at which patched calls need something of the backend's own. `None`: it patches nothing.
    fn patch_range(&self) -> Option<Range<u64>> {
        None
    }

    /// Undoes all of [`patch_call`](AddressSpace::patch_call) for good, before the program has something of its own in that range.
    fn end_patches(&self) {}
}

/// A system-call instruction of a program that is always run with the same number, as far as anybody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallSite {
    /// The address behind it.
    pub behind: u64,
    pub nr: u64,
}

impl CallSite {
    /// The address of the instruction's last byte, which names the page of the site.
    pub fn last_byte(&self) -> u64 {
        self.behind.wrapping_sub(1)
    }
}

/// One change of a guest memory map, as [`AddressSpace::batch`] takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapOp {
    MapFile { addr: u64, len: u64, file_offset: u64, prot: Prot, populate: Populate },
    Unmap { addr: u64, len: u64 },
    Protect { addr: u64, len: u64, prot: Prot },
}

bitflags::bitflags! {
    /// What the guest may do with a page. Values are those of `PROT_*` in mman.h. An empty set maps
    /// the page without any access.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Prot: u8 {
        const READ = 1;
        const WRITE = 2;
        const EXEC = 4;
    }
}

/// Whether a mapping is also entered in the page tables at once, so that the guest does not fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Populate {
    /// Pages are entered when the guest first touches them (a soft fault in the host).
    Lazy,
    /// All pages of the range are allocated and entered now.
    Now,
}

/// A guest thread of execution, one for each guest task.
///
/// It is bound to the host thread that first calls [`switch`](Context::switch): later switches and
/// FPU accesses must come from that thread, and the context must be dropped there (before the first
/// switch it may be sent anywhere). A backend that cannot serve another thread answers
/// [`PlatformError::WrongThread`], and may destroy the address space if a context is dropped on
/// another thread or its thread ends first. The thread's CPU affinity may be changed by the backend.
pub trait Context: Send {
    /// Runs the guest in `space` from `regs` until something happens, and leaves its registers in
    /// `regs`. Another space than the last time (exec) carries the FPU state over.
    fn switch(
        &mut self,
        space: &Arc<dyn AddressSpace>,
        regs: &mut Registers,
    ) -> Result<Event, PlatformError>;

    /// The handle by which any thread makes this context return from `switch`.
    fn kick_handle(&self) -> Arc<dyn Kick>;

    /// The site of the system call that `switch` has just returned for, if it comes so often that
    /// [`AddressSpace::patch_call`] may be worth it.
    fn hot_call(&mut self) -> Option<CallSite> {
        None
    }

    /// Says that the task is about to sleep in the kernel, on its host thread. Backends choose cores
    /// by who is awake at the same time.
    fn sleeps(&self) {}

    /// Says that the sleep is over.
    fn wakes(&self) {}

    /// The FPU and vector state as a program sees it in a signal frame.
    fn save_fpu(&mut self) -> Result<FpuState, PlatformError>;

    /// Replaces the FPU and vector state from the next switch on.
    fn load_fpu(&mut self, state: &FpuState) -> Result<(), PlatformError>;

    /// CPU time that the guest's own code has used in this context, in nanoseconds, summed over the
    /// address spaces that it visited. What the sentry used on its behalf is not in it.
    fn cpu_ns(&mut self) -> u64 {
        0
    }
}

/// Interrupts a running context from any thread.
pub trait Kick: Send + Sync {
    /// Makes the running or the next `switch` return [`Event::Interrupted`]. Idempotent and sticky:
    /// a kick is never lost, and any number of kicks before a return are one. A switch that returns
    /// another event at the same moment leaves the kick for the next one.
    fn kick(&self);
}

/// Why `switch` returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The `syscall` instruction: the number is in `orig_rax`, the arguments are in the registers,
    /// `rip` is behind the instruction. The result goes to `rax`.
    Syscall,
    /// A 32-bit entry (`int 0x80`, `sysenter`): numbers and arguments mean something else, so the
    /// kernel refuses it with ENOSYS in `rax`. (An x32 call is a `Syscall` with bit 30 in its number.)
    CompatSyscall,
    /// A page fault at `addr`; `rip` is at the instruction. `error_code` is the x86 page-fault error
    /// code (present 1, write 2, user 4, fetch 16) as signal frames show it. A call into the vsyscall
    /// page is such a fault at 0xffffffffff600000 and following.
    Fault { addr: u64, access: Access, error_code: u32 },
    /// Another exception of the program's own making.
    Signal(HostSignal),
    /// Somebody kicked this context.
    Interrupted,
}

/// What a faulting instruction wanted to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    Execute,
}

/// An exception as the host reports it: division, invalid opcode, breakpoint, single step,
/// general protection (SIGSEGV with `SI_KERNEL`), a bus error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSignal {
    /// SIGFPE, SIGILL, SIGTRAP, SIGBUS or SIGSEGV.
    pub signo: i32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub addr: u64,
    /// The x86 vector, as in the signal frame's `trapno`.
    pub trapno: u32,
    /// The exception's error code, as in the signal frame's `err`.
    pub err: u32,
}
