//! asm/signal.h, asm-generic/siginfo.h: signal numbers, sets, actions and siginfo for x86-64.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::Errno;

/// The highest signal number.
pub const NSIG: u32 = 64;
/// The first real-time signal.
pub const SIGRTMIN: u32 = 32;

/// A signal number, 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

macro_rules! signals {
    ($($name:ident = $number:literal,)*) => {
        impl Signal {
            $(#[doc = stringify!($name)] pub const $name: Self = Self($number);)*

            /// The symbolic name of a standard signal.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

signals! {
    SIGHUP = 1,
    SIGINT = 2,
    SIGQUIT = 3,
    SIGILL = 4,
    SIGTRAP = 5,
    SIGABRT = 6,
    SIGBUS = 7,
    SIGFPE = 8,
    SIGKILL = 9,
    SIGUSR1 = 10,
    SIGSEGV = 11,
    SIGUSR2 = 12,
    SIGPIPE = 13,
    SIGALRM = 14,
    SIGTERM = 15,
    SIGSTKFLT = 16,
    SIGCHLD = 17,
    SIGCONT = 18,
    SIGSTOP = 19,
    SIGTSTP = 20,
    SIGTTIN = 21,
    SIGTTOU = 22,
    SIGURG = 23,
    SIGXCPU = 24,
    SIGXFSZ = 25,
    SIGVTALRM = 26,
    SIGPROF = 27,
    SIGWINCH = 28,
    SIGIO = 29,
    SIGPWR = 30,
    SIGSYS = 31,
}

impl Signal {
    /// The signal of this number. Errors: EINVAL outside 1 to 64.
    pub const fn new(number: i32) -> Result<Self, Errno> {
        if number >= 1 && number <= NSIG as i32 {
            Ok(Self(number as u8))
        } else {
            Err(Errno::EINVAL)
        }
    }

    /// Its number, 1 to 64.
    pub const fn number(self) -> i32 {
        self.0 as i32
    }

    /// Position in a table of 64.
    pub const fn index(self) -> usize {
        self.0 as usize - 1
    }

    /// True for real-time signals: each instance is queued.
    pub const fn is_realtime(self) -> bool {
        self.0 as u32 >= SIGRTMIN
    }

    /// The set of only this.
    pub const fn to_set(self) -> SigSet {
        SigSet(1 << (self.0 - 1))
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "SIGRT_{}", self.0 as u32 - SIGRTMIN),
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// `sigset_t` of the kernel: 64 bits, bit n-1 for signal n.
#[derive(
    Clone, Copy, PartialEq, Eq, Default, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct SigSet(pub u64);

impl SigSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);
    /// Every signal.
    pub const ALL: Self = Self(u64::MAX);
    /// SIGKILL and SIGSTOP: never blocked, caught or ignored.
    pub const UNBLOCKABLE: Self = Signal::SIGKILL.to_set().union(Signal::SIGSTOP.to_set());
    /// SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU.
    pub const STOPS: Self = Signal::SIGSTOP
        .to_set()
        .union(Signal::SIGTSTP.to_set())
        .union(Signal::SIGTTIN.to_set())
        .union(Signal::SIGTTOU.to_set());
    /// The signals that the program's own instructions raise; delivered before others.
    pub const SYNCHRONOUS: Self = Signal::SIGSEGV
        .to_set()
        .union(Signal::SIGBUS.to_set())
        .union(Signal::SIGILL.to_set())
        .union(Signal::SIGTRAP.to_set())
        .union(Signal::SIGFPE.to_set())
        .union(Signal::SIGSYS.to_set());

    /// True where it holds `signal`.
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & signal.to_set().0 != 0
    }

    /// Either's signals.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This one's signals without `other`'s.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Both's signals.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// True without signals.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds one.
    pub fn insert(&mut self, signal: Signal) {
        self.0 |= signal.to_set().0;
    }

    /// Removes one.
    pub fn remove(&mut self, signal: Signal) {
        self.0 &= !signal.to_set().0;
    }

    /// The lowest signal.
    pub const fn first(self) -> Option<Signal> {
        if self.0 == 0 { None } else { Some(Signal(self.0.trailing_zeros() as u8 + 1)) }
    }

    /// Its signals, lowest first.
    pub fn iter(self) -> impl Iterator<Item = Signal> {
        (1..=NSIG as u8).map(Signal).filter(move |s| self.contains(*s))
    }
}

impl fmt::Debug for SigSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// SIG_DFL
pub const SIG_DFL: u64 = 0;
/// SIG_IGN
pub const SIG_IGN: u64 = 1;

/// SA_NOCLDSTOP
pub const SA_NOCLDSTOP: u64 = 1;
/// SA_NOCLDWAIT
pub const SA_NOCLDWAIT: u64 = 2;
/// SA_SIGINFO
pub const SA_SIGINFO: u64 = 4;
/// SA_EXPOSE_TAGBITS
pub const SA_EXPOSE_TAGBITS: u64 = 0x800;
/// SA_RESTORER
pub const SA_RESTORER: u64 = 0x0400_0000;
/// SA_ONSTACK
pub const SA_ONSTACK: u64 = 0x0800_0000;
/// SA_RESTART
pub const SA_RESTART: u64 = 0x1000_0000;
/// SA_NODEFER
pub const SA_NODEFER: u64 = 0x4000_0000;
/// SA_RESETHAND
pub const SA_RESETHAND: u64 = 0x8000_0000;
/// The flags that the kernel knows; others are cleared, so that a program can probe.
pub const SA_KNOWN: u64 = SA_NOCLDSTOP
    | SA_NOCLDWAIT
    | SA_SIGINFO
    | SA_EXPOSE_TAGBITS
    | SA_RESTORER
    | SA_ONSTACK
    | SA_RESTART
    | SA_NODEFER
    | SA_RESETHAND;

/// `struct kernel_sigaction`: what rt_sigaction(2) takes.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SigAction {
    /// SIG_DFL, SIG_IGN or an address.
    pub handler: u64,
    /// SA_* flags.
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Blocked while the handler runs.
    pub mask: SigSet,
}
const _: () = assert!(size_of::<SigAction>() == 32);

/// SS_ONSTACK
pub const SS_ONSTACK: i32 = 1;
/// SS_DISABLE
pub const SS_DISABLE: i32 = 2;
/// SS_AUTODISARM
pub const SS_AUTODISARM: i32 = 1 << 31;

/// `stack_t`
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct StackT {
    /// Lowest address.
    pub sp: u64,
    /// SS_* flags.
    pub flags: i32,
    /// Padding.
    pub pad: u32,
    /// Bytes.
    pub size: u64,
}
const _: () = assert!(size_of::<StackT>() == 24);

/// SIG_BLOCK
pub const SIG_BLOCK: i32 = 0;
/// SIG_UNBLOCK
pub const SIG_UNBLOCK: i32 = 1;
/// SIG_SETMASK
pub const SIG_SETMASK: i32 = 2;

/// SI_USER
pub const SI_USER: i32 = 0;
/// SI_KERNEL
pub const SI_KERNEL: i32 = 0x80;
/// SI_QUEUE
pub const SI_QUEUE: i32 = -1;
/// SI_TIMER
pub const SI_TIMER: i32 = -2;
/// SI_TKILL
pub const SI_TKILL: i32 = -6;
/// CLD_EXITED
pub const CLD_EXITED: i32 = 1;
/// CLD_KILLED
pub const CLD_KILLED: i32 = 2;
/// CLD_DUMPED
pub const CLD_DUMPED: i32 = 3;
/// CLD_STOPPED
pub const CLD_STOPPED: i32 = 5;
/// CLD_CONTINUED
pub const CLD_CONTINUED: i32 = 6;
/// SEGV_MAPERR
pub const SEGV_MAPERR: i32 = 1;
/// SEGV_ACCERR
pub const SEGV_ACCERR: i32 = 2;
/// BUS_ADRERR
pub const BUS_ADRERR: i32 = 2;

/// `siginfo_t`: 128 bytes; which fields mean something depends on the signal and code.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigInfo {
    /// si_signo
    pub signo: i32,
    /// si_errno
    pub errno: i32,
    /// si_code
    pub code: i32,
    /// Padding.
    pub pad: i32,
    /// The union, as words.
    pub fields: [u64; 14],
}
const _: () = assert!(size_of::<SigInfo>() == 128);

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

impl SigInfo {
    /// A signal of this code without fields.
    pub const fn new(signal: Signal, code: i32) -> Self {
        Self { signo: signal.number(), errno: 0, code, pad: 0, fields: [0; 14] }
    }

    /// kill, tkill, tgkill: the sender's process id and user.
    pub fn user(signal: Signal, code: i32, pid: u32, uid: u32) -> Self {
        let mut info = Self::new(signal, code);
        info.fields[0] = pair(pid, uid);
        info
    }

    /// SIGCHLD: the child, its user, its exit status or signal, its times in ticks.
    pub fn child(code: i32, pid: u32, uid: u32, status: i32, ticks: (u64, u64)) -> Self {
        let mut info = Self::new(Signal::SIGCHLD, code);
        info.fields[0] = pair(pid, uid);
        info.fields[1] = status as u32 as u64;
        info.fields[2] = ticks.0;
        info.fields[3] = ticks.1;
        info
    }

    /// SIGSEGV and its kin: the address.
    pub fn fault(signal: Signal, code: i32, addr: u64) -> Self {
        let mut info = Self::new(signal, code);
        info.fields[0] = addr;
        info
    }

    /// A POSIX timer: its id, how often it overran, its sigval.
    pub fn timer(signal: Signal, id: i32, overrun: i32, value: u64) -> Self {
        let mut info = Self::new(signal, SI_TIMER);
        info.fields[0] = pair(id as u32, overrun as u32);
        info.fields[1] = value;
        info
    }

    /// Readiness of a descriptor (SIGIO with F_SETSIG): the POLL_* code, band and descriptor.
    pub fn poll(signal: Signal, code: i32, band: i64, fd: i32) -> Self {
        let mut info = Self::new(signal, code);
        info.fields[0] = band as u64;
        info.fields[1] = fd as u32 as u64;
        info
    }

    /// si_pid
    pub fn pid(&self) -> u32 {
        self.fields[0] as u32
    }

    /// si_uid
    pub fn uid(&self) -> u32 {
        (self.fields[0] >> 32) as u32
    }

    /// si_status
    pub fn status(&self) -> i32 {
        self.fields[1] as i32
    }

    /// si_value
    pub fn value(&self) -> u64 {
        self.fields[1]
    }

    /// si_addr
    pub fn addr(&self) -> u64 {
        self.fields[0]
    }

    /// si_timerid
    pub fn timer_id(&self) -> i32 {
        self.fields[0] as i32
    }

    /// si_overrun
    pub fn overrun(&self) -> i32 {
        (self.fields[0] >> 32) as i32
    }
}

impl fmt::Debug for SigInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigInfo({}, code {})", self.signo, self.code)
    }
}

/// SIGEV_SIGNAL
pub const SIGEV_SIGNAL: i32 = 0;
/// SIGEV_NONE
pub const SIGEV_NONE: i32 = 1;
/// SIGEV_THREAD
pub const SIGEV_THREAD: i32 = 2;
/// SIGEV_THREAD_ID
pub const SIGEV_THREAD_ID: i32 = 4;

/// `struct sigevent`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigEvent {
    /// sigev_value
    pub value: u64,
    /// sigev_signo
    pub signo: i32,
    /// SIGEV_*
    pub notify: i32,
    /// sigev_notify_thread_id
    pub tid: i32,
    /// Padding.
    pub pad: [i32; 11],
}
const _: () = assert!(size_of::<SigEvent>() == 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_the_range_are_no_signals_and_sets_hold_bit_n_minus_1() {
        assert!(Signal::new(0).is_err() && Signal::new(65).is_err() && Signal::new(-1).is_err());
        assert_eq!(Signal::SIGKILL.to_set().0, 1 << 8);
        assert_eq!(SigSet::ALL.first(), Some(Signal::SIGHUP));
        assert_eq!(SigSet(1 << 63).first(), Signal::new(64).ok());
    }

    #[test]
    fn a_child_info_has_its_fields_where_programs_read_them() {
        let info = SigInfo::child(CLD_KILLED, 7, 1000, 9, (3, 4));
        let bytes = info.as_bytes();
        assert_eq!(bytes[16], 7);
        assert_eq!(u32::from_ne_bytes([bytes[20], bytes[21], bytes[22], bytes[23]]), 1000);
        assert_eq!((bytes[24], bytes[32], bytes[40]), (9, 3, 4));
    }
}
