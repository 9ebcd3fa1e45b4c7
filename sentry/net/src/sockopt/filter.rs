//! The options that attach filters to sockets (socket(7), SO_ATTACH_FILTER and its kin). Programs of eBPF cannot be made in the
//! sandbox, so that no descriptor is one.

use std::sync::atomic::{AtomicBool, Ordering};

use netstack::filter::bpf::MAX_INSTRUCTIONS;
use netstack::filter::{Instruction, Program};
use sentry_abi::if_packet::{SockFilter, SockFprog};
use sentry_abi::socket::*;
use sentry_abi::{Errno, UserAddr};
use sentry_kernel::Result;
use sentry_kernel::task::CurrentTask;
use zerocopy::{FromBytes, IntoBytes};

use super::value;

/// Whether a socket's filter stays as it is (SO_LOCK_FILTER).
#[derive(Debug, Default)]
pub struct FilterLock(AtomicBool);

/// A change of a socket's filter.
pub enum Change {
    /// Frames and messages must pass this program.
    Attach(Program),
    /// They need not any more; ENOENT where they did not.
    Detach,
    /// This program, or none, chooses among the sockets of a group (SO_ATTACH_REUSEPORT_CBPF, SO_DETACH_REUSEPORT_BPF).
    Choose(Option<Program>),
    /// Nothing.
    None,
}

/// Whether an option is one of these.
pub fn is_filter(name: i32) -> bool {
    matches!(
        name,
        SO_ATTACH_FILTER
            | SO_DETACH_FILTER
            | SO_LOCK_FILTER
            | SO_ATTACH_BPF
            | SO_ATTACH_REUSEPORT_CBPF
            | SO_ATTACH_REUSEPORT_EBPF
            | SO_DETACH_REUSEPORT_BPF
    )
}

/// Reads struct sock_fprog and what it points to. Errors: EINVAL, EFAULT.
fn program(task: &CurrentTask, bytes: &[u8]) -> Result<Program> {
    let known = SockFprog::read_from_bytes(bytes).map_err(|_| Errno::EINVAL)?;
    let count = usize::from(known.len);
    if known.filter == 0 || count == 0 || count > MAX_INSTRUCTIONS {
        return Err(Errno::EINVAL.into());
    }
    let mut raw = vec![SockFilter::default(); count];
    task.mm().read(UserAddr(known.filter), raw.as_mut_bytes())?;
    let instruction = |f: &SockFilter| Instruction { code: f.code, jt: f.jt, jf: f.jf, k: f.k };
    let instructions: Vec<Instruction> = raw.iter().map(instruction).collect();
    Program::new(&instructions).map_err(|_| Errno::EINVAL.into())
}

/// The bytes of a program, as SO_GET_FILTER gives them.
pub fn encode(program: &Program) -> Vec<u8> {
    let raw = |i: &Instruction| SockFilter { code: i.code, jt: i.jt, jf: i.jf, k: i.k };
    let raw: Vec<SockFilter> = program.instructions().iter().map(raw).collect();
    raw.as_bytes().to_vec()
}

/// What a descriptor that should be a program of eBPF is instead. Errors: always EBADF or EINVAL.
fn no_program(task: &CurrentTask, bytes: &[u8]) -> Errno {
    let open = value::int(bytes).is_ok_and(|fd| task.fds().any(fd).is_ok());
    if open { Errno::EINVAL } else { Errno::EBADF }
}

impl FilterLock {
    /// What setsockopt(2) asks for. Errors: EINVAL, EFAULT, EPERM for a locked socket, EBADF.
    pub fn change(&self, task: &CurrentTask, name: i32, bytes: &[u8]) -> Result<Change> {
        let number = value::int(bytes)?;
        let locked = self.0.load(Ordering::Relaxed);
        match name {
            SO_LOCK_FILTER if locked && number == 0 => Err(Errno::EPERM.into()),
            SO_LOCK_FILTER => {
                self.0.store(number != 0, Ordering::Relaxed);
                Ok(Change::None)
            }
            SO_ATTACH_BPF | SO_ATTACH_REUSEPORT_EBPF if bytes.len() != 4 => {
                Err(Errno::EINVAL.into())
            }
            SO_ATTACH_FILTER | SO_ATTACH_REUSEPORT_CBPF
                if bytes.len() != size_of::<SockFprog>() =>
            {
                Err(Errno::EINVAL.into())
            }
            SO_DETACH_REUSEPORT_BPF => Ok(Change::Choose(None)),
            _ if locked => Err(Errno::EPERM.into()),
            SO_ATTACH_BPF | SO_ATTACH_REUSEPORT_EBPF => Err(no_program(task, bytes).into()),
            SO_DETACH_FILTER => Ok(Change::Detach),
            SO_ATTACH_REUSEPORT_CBPF => {
                program(task, bytes).map(|program| Change::Choose(Some(program)))
            }
            _ => program(task, bytes).map(Change::Attach),
        }
    }

    /// SO_LOCK_FILTER
    pub fn is_locked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
