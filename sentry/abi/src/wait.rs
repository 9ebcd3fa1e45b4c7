//! linux/wait.h: options and id types of wait4(2) and waitid(2).

bitflags::bitflags! {
    /// Options of wait4 and waitid.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct WaitOptions: u32 {
        /// WNOHANG
        const NOHANG = 1;
        /// WUNTRACED, WSTOPPED
        const UNTRACED = 2;
        /// WEXITED
        const EXITED = 4;
        /// WCONTINUED
        const CONTINUED = 8;
        /// WNOWAIT
        const NOWAIT = 0x0100_0000;
        /// __WNOTHREAD
        const NOTHREAD = 0x2000_0000;
        /// __WALL
        const ALL = 0x4000_0000;
        /// __WCLONE
        const CLONE = 0x8000_0000;
    }
}

/// P_ALL
pub const P_ALL: i32 = 0;
/// P_PID
pub const P_PID: i32 = 1;
/// P_PGID
pub const P_PGID: i32 = 2;
/// P_PIDFD
pub const P_PIDFD: i32 = 3;
