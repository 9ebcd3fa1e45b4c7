//! asm-generic/poll.h, linux/eventpoll.h, linux/eventfd.h, linux/timerfd.h, linux/signalfd.h, linux/inotify.h: waiting for files.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct pollfd`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PollFd {
    /// The descriptor; a negative one is skipped.
    pub fd: i32,
    /// What is asked for.
    pub events: u16,
    /// What is true.
    pub revents: u16,
}
const _: () = assert!(size_of::<PollFd>() == 8);

/// `struct epoll_event`, packed on x86-64: `data` is split into its halves.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct EpollEvent {
    /// EPOLL* bits.
    pub events: u32,
    /// Lower half of the program's word.
    pub data_low: u32,
    /// Upper half.
    pub data_high: u32,
}
const _: () = assert!(size_of::<EpollEvent>() == 12);

impl EpollEvent {
    /// With the program's word.
    pub const fn new(events: u32, data: u64) -> Self {
        Self { events, data_low: data as u32, data_high: (data >> 32) as u32 }
    }

    /// The program's word.
    pub const fn data(self) -> u64 {
        (self.data_high as u64) << 32 | self.data_low as u64
    }
}

/// EPOLL_CTL_ADD
pub const EPOLL_CTL_ADD: i32 = 1;
/// EPOLL_CTL_DEL
pub const EPOLL_CTL_DEL: i32 = 2;
/// EPOLL_CTL_MOD
pub const EPOLL_CTL_MOD: i32 = 3;

/// EFD_SEMAPHORE; EFD_CLOEXEC and EFD_NONBLOCK are O_CLOEXEC and O_NONBLOCK.
pub const EFD_SEMAPHORE: u32 = 1;

/// TFD_TIMER_ABSTIME
pub const TFD_TIMER_ABSTIME: u32 = 1;
/// TFD_TIMER_CANCEL_ON_SET
pub const TFD_TIMER_CANCEL_ON_SET: u32 = 2;

/// MFD_CLOEXEC
pub const MFD_CLOEXEC: u32 = 1;
/// MFD_ALLOW_SEALING
pub const MFD_ALLOW_SEALING: u32 = 2;
/// MFD_NOEXEC_SEAL
pub const MFD_NOEXEC_SEAL: u32 = 8;
/// MFD_EXEC
pub const MFD_EXEC: u32 = 16;

/// `struct signalfd_siginfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SignalFdSiginfo {
    /// ssi_signo
    pub signo: u32,
    /// ssi_errno
    pub errno: i32,
    /// ssi_code
    pub code: i32,
    /// ssi_pid
    pub pid: u32,
    /// ssi_uid
    pub uid: u32,
    /// ssi_fd
    pub fd: i32,
    /// ssi_tid
    pub tid: u32,
    /// ssi_band
    pub band: u32,
    /// ssi_overrun
    pub overrun: u32,
    /// ssi_trapno
    pub trapno: u32,
    /// ssi_status
    pub status: i32,
    /// ssi_int
    pub int: i32,
    /// ssi_ptr
    pub ptr: u64,
    /// ssi_utime
    pub utime: u64,
    /// ssi_stime
    pub stime: u64,
    /// ssi_addr
    pub addr: u64,
    /// Padding to 128 bytes.
    pub pad: [u8; 48],
}
const _: () = assert!(size_of::<SignalFdSiginfo>() == 128);
