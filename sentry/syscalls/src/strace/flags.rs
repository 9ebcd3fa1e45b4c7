//! Names of bits and numbers for the trace, and the words of errors.

use sentry_abi::Errno;

/// A table of names: how the value is read, and the names.
pub enum Names {
    /// Bits joined by `|`; what has no name follows in hexadecimal.
    Bits(&'static [(u64, &'static str)]),
    /// One number in the bits of `mask`, and bits besides.
    Mixed(u64, &'static [(u64, &'static str)], &'static [(u64, &'static str)]),
}

macro_rules! names {
    ($($name:literal = $value:expr),* $(,)?) => { &[$(($value, $name)),*] };
}

const OPEN_MODES: &[(u64, &str)] = names! { "O_RDONLY" = 0, "O_WRONLY" = 1, "O_RDWR" = 2 };
const OPEN_BITS: &[(u64, &str)] = names! {
    "O_CREAT" = 0o100, "O_EXCL" = 0o200, "O_NOCTTY" = 0o400, "O_TRUNC" = 0o1000, "O_APPEND" = 0o2000,
    "O_NONBLOCK" = 0o4000, "O_TMPFILE" = 0o20200000, "O_SYNC" = 0o4010000, "O_DSYNC" = 0o10000,
    "O_DIRECT" = 0o40000, "O_LARGEFILE" = 0o100000, "O_DIRECTORY" = 0o200000, "O_NOFOLLOW" = 0o400000,
    "O_NOATIME" = 0o1000000, "O_CLOEXEC" = 0o2000000, "O_PATH" = 0o10000000,
};
const PROT: &[(u64, &str)] = names! { "PROT_READ" = 1, "PROT_WRITE" = 2, "PROT_EXEC" = 4 };
const MAP_KINDS: &[(u64, &str)] =
    names! { "MAP_SHARED" = 1, "MAP_PRIVATE" = 2, "MAP_SHARED_VALIDATE" = 3 };
const MAP_BITS: &[(u64, &str)] = names! {
    "MAP_FIXED" = 0x10, "MAP_ANONYMOUS" = 0x20, "MAP_32BIT" = 0x40, "MAP_GROWSDOWN" = 0x100,
    "MAP_DENYWRITE" = 0x800, "MAP_EXECUTABLE" = 0x1000, "MAP_LOCKED" = 0x2000, "MAP_NORESERVE" = 0x4000,
    "MAP_POPULATE" = 0x8000, "MAP_NONBLOCK" = 0x1_0000, "MAP_STACK" = 0x2_0000, "MAP_HUGETLB" = 0x4_0000,
    "MAP_SYNC" = 0x8_0000, "MAP_FIXED_NOREPLACE" = 0x10_0000,
};
const AT_FLAGS: &[(u64, &str)] = names! {
    "AT_SYMLINK_NOFOLLOW" = 0x100, "AT_REMOVEDIR" = 0x200, "AT_SYMLINK_FOLLOW" = 0x400,
    "AT_NO_AUTOMOUNT" = 0x800, "AT_EMPTY_PATH" = 0x1000,
};
const ACCESS: &[(u64, &str)] = names! { "X_OK" = 1, "W_OK" = 2, "R_OK" = 4 };
const WHENCE: &[(u64, &str)] = names! {
    "SEEK_SET" = 0, "SEEK_CUR" = 1, "SEEK_END" = 2, "SEEK_DATA" = 3, "SEEK_HOLE" = 4,
};
const SIGHOW: &[(u64, &str)] = names! { "SIG_BLOCK" = 0, "SIG_UNBLOCK" = 1, "SIG_SETMASK" = 2 };
const WAIT: &[(u64, &str)] = names! {
    "WNOHANG" = 1, "WUNTRACED" = 2, "WEXITED" = 4, "WCONTINUED" = 8, "WNOWAIT" = 0x100_0000,
    "__WNOTHREAD" = 0x2000_0000, "__WALL" = 0x4000_0000, "__WCLONE" = 0x8000_0000,
};
const WAITID: &[(u64, &str)] = names! { "P_ALL" = 0, "P_PID" = 1, "P_PGID" = 2, "P_PIDFD" = 3 };
/// CLONE_* without the exit signal.
pub const CLONE: &[(u64, &str)] = names! {
    "CLONE_VM" = 0x100, "CLONE_FS" = 0x200, "CLONE_FILES" = 0x400, "CLONE_SIGHAND" = 0x800,
    "CLONE_PIDFD" = 0x1000, "CLONE_VFORK" = 0x4000, "CLONE_PARENT" = 0x8000, "CLONE_THREAD" = 0x1_0000,
    "CLONE_NEWNS" = 0x2_0000, "CLONE_SYSVSEM" = 0x4_0000, "CLONE_SETTLS" = 0x8_0000,
    "CLONE_PARENT_SETTID" = 0x10_0000, "CLONE_CHILD_CLEARTID" = 0x20_0000, "CLONE_DETACHED" = 0x40_0000,
    "CLONE_UNTRACED" = 0x80_0000, "CLONE_CHILD_SETTID" = 0x100_0000, "CLONE_NEWCGROUP" = 0x200_0000,
    "CLONE_NEWUTS" = 0x400_0000, "CLONE_NEWIPC" = 0x800_0000, "CLONE_NEWUSER" = 0x1000_0000,
    "CLONE_NEWPID" = 0x2000_0000, "CLONE_NEWNET" = 0x4000_0000, "CLONE_IO" = 0x8000_0000,
};
const FUTEX_OPS: &[(u64, &str)] = names! {
    "FUTEX_WAIT" = 0, "FUTEX_WAKE" = 1, "FUTEX_REQUEUE" = 3, "FUTEX_CMP_REQUEUE" = 4, "FUTEX_WAKE_OP" = 5,
    "FUTEX_LOCK_PI" = 6, "FUTEX_UNLOCK_PI" = 7, "FUTEX_TRYLOCK_PI" = 8, "FUTEX_WAIT_BITSET" = 9,
    "FUTEX_WAKE_BITSET" = 10, "FUTEX_WAIT_REQUEUE_PI" = 11, "FUTEX_CMP_REQUEUE_PI" = 12,
};
const FUTEX_BITS: &[(u64, &str)] =
    names! { "FUTEX_PRIVATE_FLAG" = 128, "FUTEX_CLOCK_REALTIME" = 256 };
const CLOCKS: &[(u64, &str)] = names! {
    "CLOCK_REALTIME" = 0, "CLOCK_MONOTONIC" = 1, "CLOCK_PROCESS_CPUTIME_ID" = 2,
    "CLOCK_THREAD_CPUTIME_ID" = 3, "CLOCK_MONOTONIC_RAW" = 4, "CLOCK_REALTIME_COARSE" = 5,
    "CLOCK_MONOTONIC_COARSE" = 6, "CLOCK_BOOTTIME" = 7,
};
const FAMILIES: &[(u64, &str)] = names! {
    "AF_UNSPEC" = 0, "AF_UNIX" = 1, "AF_INET" = 2, "AF_INET6" = 10, "AF_NETLINK" = 16, "AF_PACKET" = 17,
};
const SOCK_KINDS: &[(u64, &str)] = names! {
    "SOCK_STREAM" = 1, "SOCK_DGRAM" = 2, "SOCK_RAW" = 3, "SOCK_SEQPACKET" = 5,
};
const SOCK_BITS: &[(u64, &str)] = names! { "SOCK_NONBLOCK" = 0o4000, "SOCK_CLOEXEC" = 0o2000000 };
const MSG: &[(u64, &str)] = names! {
    "MSG_OOB" = 1, "MSG_PEEK" = 2, "MSG_DONTROUTE" = 4, "MSG_CTRUNC" = 8, "MSG_TRUNC" = 0x20,
    "MSG_DONTWAIT" = 0x40, "MSG_EOR" = 0x80, "MSG_WAITALL" = 0x100, "MSG_NOSIGNAL" = 0x4000,
    "MSG_MORE" = 0x8000, "MSG_CMSG_CLOEXEC" = 0x4000_0000,
};
const FCNTL: &[(u64, &str)] = names! {
    "F_DUPFD" = 0, "F_GETFD" = 1, "F_SETFD" = 2, "F_GETFL" = 3, "F_SETFL" = 4, "F_GETLK" = 5, "F_SETLK" = 6,
    "F_SETLKW" = 7, "F_SETOWN" = 8, "F_GETOWN" = 9, "F_OFD_GETLK" = 36, "F_OFD_SETLK" = 37,
    "F_OFD_SETLKW" = 38, "F_DUPFD_CLOEXEC" = 1030, "F_SETPIPE_SZ" = 1031, "F_GETPIPE_SZ" = 1032,
    "F_ADD_SEALS" = 1033, "F_GET_SEALS" = 1034,
};
const IOCTL: &[(u64, &str)] = names! {
    "TCGETS" = 0x5401, "TCSETS" = 0x5402, "TCSETSW" = 0x5403, "TCSETSF" = 0x5404, "TIOCSCTTY" = 0x540e,
    "TIOCGPGRP" = 0x540f, "TIOCSPGRP" = 0x5410, "TIOCGWINSZ" = 0x5413, "TIOCSWINSZ" = 0x5414,
    "FIONREAD" = 0x541b, "FIONBIO" = 0x5421, "TIOCNOTTY" = 0x5422, "TIOCGSID" = 0x5429,
    "FIONCLEX" = 0x5450, "FIOCLEX" = 0x5451, "TIOCGPTN" = 0x8004_5430, "TIOCSPTLCK" = 0x4004_5431,
};
const MADVICE: &[(u64, &str)] = names! {
    "MADV_NORMAL" = 0, "MADV_RANDOM" = 1, "MADV_SEQUENTIAL" = 2, "MADV_WILLNEED" = 3, "MADV_DONTNEED" = 4,
    "MADV_FREE" = 8, "MADV_REMOVE" = 9, "MADV_HUGEPAGE" = 14, "MADV_NOHUGEPAGE" = 15,
};
const MREMAP: &[(u64, &str)] =
    names! { "MREMAP_MAYMOVE" = 1, "MREMAP_FIXED" = 2, "MREMAP_DONTUNMAP" = 4 };
const RLIMITS: &[(u64, &str)] = names! {
    "RLIMIT_CPU" = 0, "RLIMIT_FSIZE" = 1, "RLIMIT_DATA" = 2, "RLIMIT_STACK" = 3, "RLIMIT_CORE" = 4,
    "RLIMIT_RSS" = 5, "RLIMIT_NPROC" = 6, "RLIMIT_NOFILE" = 7, "RLIMIT_MEMLOCK" = 8, "RLIMIT_AS" = 9,
    "RLIMIT_LOCKS" = 10, "RLIMIT_SIGPENDING" = 11, "RLIMIT_MSGQUEUE" = 12, "RLIMIT_NICE" = 13,
    "RLIMIT_RTPRIO" = 14, "RLIMIT_RTTIME" = 15,
};
const ARCH_PRCTL: &[(u64, &str)] = names! {
    "ARCH_SET_GS" = 0x1001, "ARCH_SET_FS" = 0x1002, "ARCH_GET_FS" = 0x1003, "ARCH_GET_GS" = 0x1004,
};
const EPOLL_OPS: &[(u64, &str)] =
    names! { "EPOLL_CTL_ADD" = 1, "EPOLL_CTL_DEL" = 2, "EPOLL_CTL_MOD" = 3 };
/// SA_* of sigaction.
pub const SA: &[(u64, &str)] = names! {
    "SA_NOCLDSTOP" = 1, "SA_NOCLDWAIT" = 2, "SA_SIGINFO" = 4, "SA_RESTORER" = 0x0400_0000,
    "SA_ONSTACK" = 0x0800_0000, "SA_RESTART" = 0x1000_0000, "SA_NODEFER" = 0x4000_0000,
    "SA_RESETHAND" = 0x8000_0000,
};
const ALL: u64 = 0xffff_ffff;

/// The names that a word of the formats stands for.
// tidy: table
pub fn names(table: &str) -> Option<Names> {
    Some(match table {
        "open" => Names::Mixed(3, OPEN_MODES, OPEN_BITS),
        "prot" => Names::Mixed(ALL & !7, &[(0, "")], PROT),
        "map" => Names::Mixed(3, MAP_KINDS, MAP_BITS),
        "atflags" => Names::Bits(AT_FLAGS),
        "access" => Names::Bits(ACCESS),
        "whence" => Names::Mixed(ALL, WHENCE, &[]),
        "sighow" => Names::Mixed(ALL, SIGHOW, &[]),
        "waitopt" => Names::Bits(WAIT),
        "waitid" => Names::Mixed(ALL, WAITID, &[]),
        "futex" => Names::Mixed(127, FUTEX_OPS, FUTEX_BITS),
        "clock" => Names::Mixed(ALL, CLOCKS, &[]),
        "family" => Names::Mixed(ALL, FAMILIES, &[]),
        "socktype" => Names::Mixed(15, SOCK_KINDS, SOCK_BITS),
        "msg" => Names::Bits(MSG),
        "fcntl" => Names::Mixed(ALL, FCNTL, &[]),
        "ioctl" => Names::Mixed(ALL, IOCTL, &[]),
        "madvice" => Names::Mixed(ALL, MADVICE, &[]),
        "mremap" => Names::Bits(MREMAP),
        "rlimit" => Names::Mixed(ALL, RLIMITS, &[]),
        "archprctl" => Names::Mixed(ALL, ARCH_PRCTL, &[]),
        "epollop" => Names::Mixed(ALL, EPOLL_OPS, &[]),
        _ => return None,
    })
}

/// Bits by name, joined by `|`; `0` without any.
pub fn bits(value: u64, names: &[(u64, &str)]) -> String {
    let mut left = value;
    let mut parts = Vec::new();
    for (bit, name) in names {
        if *bit != 0 && left & bit == *bit {
            parts.push((*name).to_owned());
            left &= !bit;
        }
    }
    if left != 0 {
        parts.push(format!("{left:#x}"));
    }
    if parts.is_empty() { "0".to_owned() } else { parts.join("|") }
}

/// A value by a table of names.
pub fn named(table: &str, value: u64) -> String {
    let value = value & ALL;
    match (table, names(table)) {
        ("prot", _) if value == 0 => "PROT_NONE".to_owned(),
        ("prot", _) => bits(value, PROT),
        ("access", _) if value == 0 => "F_OK".to_owned(),
        (_, Some(Names::Bits(names))) => bits(value, names),
        (_, Some(Names::Mixed(mask, numbers, extra))) => {
            let number = value & mask;
            let first = numbers.iter().find(|(n, _)| *n == number);
            let first =
                first.map_or_else(|| format!("{number:#x}"), |(_, name)| (*name).to_owned());
            match value & !mask {
                0 => first,
                rest => format!("{first}|{}", bits(rest, extra)),
            }
        }
        (_, None) => format!("{value:#x}"),
    }
}

/// What an error means in words; empty where we have none.
// tidy: table
pub fn errno_message(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM => "Operation not permitted",
        Errno::ENOENT => "No such file or directory",
        Errno::ESRCH => "No such process",
        Errno::EINTR => "Interrupted system call",
        Errno::EIO => "Input/output error",
        Errno::ENXIO => "No such device or address",
        Errno::E2BIG => "Argument list too long",
        Errno::ENOEXEC => "Exec format error",
        Errno::EBADF => "Bad file descriptor",
        Errno::ECHILD => "No child processes",
        Errno::EAGAIN => "Resource temporarily unavailable",
        Errno::ENOMEM => "Cannot allocate memory",
        Errno::EACCES => "Permission denied",
        Errno::EFAULT => "Bad address",
        Errno::EBUSY => "Device or resource busy",
        Errno::EEXIST => "File exists",
        Errno::EXDEV => "Invalid cross-device link",
        Errno::ENODEV => "No such device",
        Errno::ENOTDIR => "Not a directory",
        Errno::EISDIR => "Is a directory",
        Errno::EINVAL => "Invalid argument",
        Errno::EMFILE => "Too many open files",
        Errno::ENOTTY => "Inappropriate ioctl for device",
        Errno::EFBIG => "File too large",
        Errno::ENOSPC => "No space left on device",
        Errno::ESPIPE => "Illegal seek",
        Errno::EROFS => "Read-only file system",
        Errno::EPIPE => "Broken pipe",
        Errno::ERANGE => "Numerical result out of range",
        Errno::ENAMETOOLONG => "File name too long",
        Errno::ENOSYS => "Function not implemented",
        Errno::ENOTEMPTY => "Directory not empty",
        Errno::ELOOP => "Too many levels of symbolic links",
        Errno::ENODATA => "No data available",
        Errno::ENOTSOCK => "Socket operation on non-socket",
        Errno::ENOPROTOOPT => "Protocol not available",
        Errno::EOPNOTSUPP => "Operation not supported",
        Errno::EAFNOSUPPORT => "Address family not supported by protocol",
        Errno::EADDRINUSE => "Address already in use",
        Errno::EADDRNOTAVAIL => "Cannot assign requested address",
        Errno::ENETUNREACH => "Network is unreachable",
        Errno::ECONNRESET => "Connection reset by peer",
        Errno::EISCONN => "Transport endpoint is already connected",
        Errno::ENOTCONN => "Transport endpoint is not connected",
        Errno::ETIMEDOUT => "Connection timed out",
        Errno::ECONNREFUSED => "Connection refused",
        Errno::EHOSTUNREACH => "No route to host",
        Errno::EALREADY => "Operation already in progress",
        Errno::EINPROGRESS => "Operation now in progress",
        _ => "",
    }
}
