//! How each call's arguments are shown: a word an argument. A call that is not here is shown as plain words.

use crate::table::Row;

/// How one argument is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Small numbers in decimal, others in hexadecimal.
    Word,
    /// A signed 32-bit number.
    Int,
    /// A signed 64-bit number.
    Long,
    /// An unsigned number.
    Unsigned,
    /// Hexadecimal.
    Hex,
    /// Octal mode.
    Mode,
    /// A pointer, not followed.
    Pointer,
    /// A descriptor that may be AT_FDCWD.
    Dir,
    /// A string.
    Text,
    /// Bytes that the call reads; the length is the next argument.
    Bytes,
    /// Bytes that the call writes; the length is the result.
    Filled,
    /// A NULL-ended array of strings.
    Strings,
    /// A NULL-ended array of strings, counted only.
    Count,
    /// A set of named bits or a named number.
    Named(&'static str),
    /// A signal's number.
    Signal,
    /// A signal set that is read.
    SetIn,
    /// A signal set that is written.
    SetOut,
    /// A sigaction that is read.
    ActionIn,
    /// A sigaction that is written.
    ActionOut,
    /// A timespec that is read.
    TimeIn,
    /// A timespec that is written.
    TimeOut,
    /// A stat that is written.
    Stat,
    /// A socket address that is read; the length is the next argument.
    AddressIn,
    /// A socket address that is written; the next argument points at the length.
    AddressOut,
    /// An int that is written.
    IntOut,
    /// A pair of ints that is written.
    PairOut,
    /// A wait status that is written.
    Status,
    /// A pair of limits that is read.
    LimitIn,
    /// A pair of limits that is written.
    LimitOut,
    /// Flags of clone with the exit signal.
    Clone,
}

/// When an argument is decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// At the entry.
    In,
    /// At the end.
    Out,
}

impl Format {
    /// When it is decoded.
    pub fn side(self) -> Side {
        match self {
            Self::Filled
            | Self::SetOut
            | Self::ActionOut
            | Self::TimeOut
            | Self::Stat
            | Self::AddressOut
            | Self::IntOut
            | Self::PairOut
            | Self::Status
            | Self::LimitOut => Side::Out,
            _ => Side::In,
        }
    }
}

fn parse(word: &'static str) -> Format {
    match word {
        "i" => Format::Int,
        "l" => Format::Long,
        "u" => Format::Unsigned,
        "x" => Format::Hex,
        "mode" => Format::Mode,
        "p" => Format::Pointer,
        "dir" => Format::Dir,
        "s" => Format::Text,
        "bytes" => Format::Bytes,
        "filled" => Format::Filled,
        "strings" => Format::Strings,
        "count" => Format::Count,
        "sig" => Format::Signal,
        "set" => Format::SetIn,
        "set>" => Format::SetOut,
        "act" => Format::ActionIn,
        "act>" => Format::ActionOut,
        "ts" => Format::TimeIn,
        "ts>" => Format::TimeOut,
        "stat>" => Format::Stat,
        "addr" => Format::AddressIn,
        "addr>" => Format::AddressOut,
        "i>" => Format::IntOut,
        "pair>" => Format::PairOut,
        "status>" => Format::Status,
        "lim" => Format::LimitIn,
        "lim>" => Format::LimitOut,
        "clone" => Format::Clone,
        "w" => Format::Word,
        named => Format::Named(named),
    }
}

/// Calls whose result is an address.
pub fn returns_address(name: &str) -> bool {
    matches!(name, "mmap" | "brk" | "mremap" | "shmat")
}

/// The formats of a call's arguments.
pub fn of(row: &Row) -> Vec<Format> {
    match CALLS.iter().find(|(name, _)| *name == row.name) {
        Some((_, words)) => words.split_ascii_whitespace().map(parse).collect(),
        None => vec![Format::Word; row.words],
    }
}

/// Rows: a call and a word for each argument; words that are no keyword of [`parse`] name a table of `flags`.
pub const CALLS: &[(&str, &str)] = &[
    ("read", "i filled u"),
    ("write", "i bytes u"),
    ("open", "s open mode"),
    ("close", "i"),
    ("stat", "s stat>"),
    ("fstat", "i stat>"),
    ("lstat", "s stat>"),
    ("poll", "p u i"),
    ("lseek", "i l whence"),
    ("mmap", "x u prot map i x"),
    ("mprotect", "x u prot"),
    ("munmap", "x u"),
    ("brk", "x"),
    ("rt_sigaction", "sig act act> u"),
    ("rt_sigprocmask", "sighow set set> u"),
    ("rt_sigreturn", ""),
    ("ioctl", "i ioctl x"),
    ("pread64", "i filled u l"),
    ("pwrite64", "i bytes u l"),
    ("access", "s access"),
    ("pipe", "pair>"),
    ("mremap", "x u u mremap x"),
    ("madvise", "x u madvice"),
    ("dup", "i"),
    ("dup2", "i i"),
    ("nanosleep", "ts ts>"),
    ("sendfile", "i i p u"),
    ("socket", "family socktype i"),
    ("connect", "i addr u"),
    ("accept", "i addr> p"),
    ("sendto", "i bytes u msg addr u"),
    ("recvfrom", "i filled u msg addr> p"),
    ("bind", "i addr u"),
    ("listen", "i i"),
    ("getsockname", "i addr> p"),
    ("getpeername", "i addr> p"),
    ("socketpair", "family socktype i pair>"),
    ("setsockopt", "i i i p u"),
    ("getsockopt", "i i i p p"),
    ("shutdown", "i i"),
    ("clone", "clone x p p x"),
    ("fork", ""),
    ("vfork", ""),
    ("execve", "s strings count"),
    ("execveat", "dir s strings count atflags"),
    ("exit", "i"),
    ("exit_group", "i"),
    ("wait4", "i status> waitopt p"),
    ("waitid", "waitid i p waitopt p"),
    ("kill", "i sig"),
    ("tkill", "i sig"),
    ("tgkill", "i i sig"),
    ("fcntl", "i fcntl w"),
    ("flock", "i x"),
    ("fsync", "i"),
    ("ftruncate", "i l"),
    ("truncate", "s l"),
    ("getdents64", "i p u"),
    ("getcwd", "filled u"),
    ("chdir", "s"),
    ("fchdir", "i"),
    ("rename", "s s"),
    ("mkdir", "s mode"),
    ("rmdir", "s"),
    ("creat", "s mode"),
    ("link", "s s"),
    ("unlink", "s"),
    ("symlink", "s s"),
    ("readlink", "s filled u"),
    ("chmod", "s mode"),
    ("fchmod", "i mode"),
    ("chown", "s i i"),
    ("fchown", "i i i"),
    ("umask", "mode"),
    ("getrlimit", "rlimit lim>"),
    ("setrlimit", "rlimit lim"),
    ("prlimit64", "i rlimit lim lim>"),
    ("rt_sigpending", "set> u"),
    ("rt_sigtimedwait", "set p ts u"),
    ("rt_sigsuspend", "set u"),
    ("statfs", "s p"),
    ("arch_prctl", "archprctl x"),
    ("chroot", "s"),
    ("mount", "s s s x p"),
    ("futex", "p futex u p p x"),
    ("set_tid_address", "p"),
    ("clock_gettime", "clock ts>"),
    ("clock_getres", "clock ts>"),
    ("clock_nanosleep", "clock u ts ts>"),
    ("epoll_wait", "i p i i"),
    ("epoll_ctl", "i epollop i p"),
    ("openat", "dir s open mode"),
    ("mkdirat", "dir s mode"),
    ("newfstatat", "dir s stat> atflags"),
    ("unlinkat", "dir s atflags"),
    ("renameat", "dir s dir s"),
    ("renameat2", "dir s dir s u"),
    ("linkat", "dir s dir s atflags"),
    ("symlinkat", "s dir s"),
    ("readlinkat", "dir s filled u"),
    ("fchmodat", "dir s mode"),
    ("fchownat", "dir s i i atflags"),
    ("faccessat", "dir s access"),
    ("faccessat2", "dir s access atflags"),
    ("statx", "dir s atflags x p"),
    ("openat2", "dir s p u"),
    ("utimensat", "dir s p atflags"),
    ("accept4", "i addr> p socktype"),
    ("dup3", "i i open"),
    ("pipe2", "pair> open"),
    ("getrandom", "p u x"),
    ("set_robust_list", "p u"),
    ("sethostname", "bytes u"),
];
