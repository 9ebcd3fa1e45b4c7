//! The numbers of namespaces, as /proc/PID/ns shows them: the first of each kind has Linux's number (include/linux/proc_ns.h), others
//! have any that no first one has.

/// The first pid namespace.
pub const FIRST_PID: u32 = 0xeffffffc;
/// The first ipc namespace.
pub const FIRST_IPC: u32 = 0xefffffff;
/// The first uts namespace.
pub const FIRST_UTS: u32 = 0xeffffffe;
/// The mount namespace of the first container; those of further ones follow.
pub const FIRST_MNT: u32 = 0xf0000001;
/// What the numbers of further namespaces begin with.
const FURTHER: u32 = 0xf0010000;

/// A namespace's kind, as far as containers have ones of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Processes.
    Pid,
    /// Shared memory.
    Ipc,
    /// Names.
    Uts,
}

/// The number of the namespace that the container of this number (from 0) makes.
pub const fn number(kind: Kind, container: u32) -> u32 {
    match (kind, container) {
        (Kind::Pid, 0) => FIRST_PID,
        (Kind::Ipc, 0) => FIRST_IPC,
        (Kind::Uts, 0) => FIRST_UTS,
        (kind, container) => FURTHER.wrapping_add(container.wrapping_mul(4)) + kind as u32,
    }
}
