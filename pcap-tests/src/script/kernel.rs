//! A kernel under test as the runner sees it: it takes packets and system calls, and lets time pass.

use std::net::SocketAddr;
use std::time::Duration;

pub use crate::namespace::KernelError;

/// A socket of a kernel; not the descriptor of a script.
pub type Handle = usize;

/// A system call with its arguments decoded. Numbers are those of Linux's headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SystemCall {
    /// socket(2): family, type and protocol. Returns a handle.
    Socket(i32, i32, i32),
    /// bind(2)
    Bind(Handle, SocketAddr),
    /// listen(2)
    Listen(Handle, i32),
    /// accept4(2) with its flags. Returns a handle.
    Accept(Handle, i32),
    /// connect(2)
    Connect(Handle, SocketAddr),
    /// recv(2) and its kin: the length of the buffer, flags.
    Receive(Handle, usize, i32),
    /// send(2) and its kin: bytes, flags, destination.
    Send(Handle, Vec<u8>, i32, Option<SocketAddr>),
    /// shutdown(2)
    Shutdown(Handle, i32),
    /// close(2)
    Close(Handle),
    /// setsockopt(2): level, name, value.
    SetOption(Handle, i32, i32, Vec<u8>),
    /// getsockopt(2): level, name, room in bytes.
    GetOption(Handle, i32, i32, usize),
    /// fcntl(2) with F_SETFL: whether O_NONBLOCK is among the flags.
    SetNonblocking(Handle, Nonblocking),
    /// fcntl(2) with F_GETFL.
    GetFlags(Handle),
    /// ioctl(2) that gives a number.
    Ioctl(Handle, u64),
    /// poll(2): sockets with the events that are asked for, and how long to wait; none: for ever.
    Poll(Vec<(Handle, i16)>, Option<Duration>),
}

/// O_NONBLOCK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonblocking {
    /// Calls wait.
    Off,
    /// Calls answer EAGAIN.
    On,
}

/// What a system call returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Returned {
    /// When, since the beginning of the script.
    pub at: Duration,
    /// The value, or the number of the error.
    pub result: Outcome,
    /// Bytes that were received, or the value of an option.
    pub data: Vec<u8>,
    /// Whose they are, or who was accepted.
    pub address: Option<SocketAddr>,
    /// The events of each socket of a poll.
    pub events: Vec<i16>,
}

/// A value, or the number of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Success.
    Value(i64),
    /// errno
    Errno(i32),
}

impl Default for Outcome {
    fn default() -> Self {
        Outcome::Value(0)
    }
}

/// What happened while time passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The kernel sent a packet: when, and its bytes from the IP header on.
    Sent(Duration, Vec<u8>),
    /// The call under way returned.
    Returned(Returned),
    /// Nothing, and the time is over.
    Time,
}

/// A kernel. One call is under way at a time.
pub trait Kernel {
    /// Time since the beginning.
    fn now(&mut self) -> Duration;

    /// Lets time pass until something happens, or until `limit`.
    fn run(&mut self, limit: Duration) -> Result<Happening, KernelError>;

    /// A packet arrives.
    fn arrive(&mut self, packet: &[u8]) -> Result<(), KernelError>;

    /// Begins a call; [`Kernel::run`] tells its end.
    fn call(&mut self, call: SystemCall) -> Result<(), KernelError>;

    /// Sets a value below /proc/sys: `net/ipv4/tcp_sack`.
    fn sysctl(&mut self, path: &str, value: &str) -> Result<(), KernelError>;

    /// The members of struct tcp_info of a connection, by name.
    fn tcp_info(&mut self, socket: Handle) -> Result<Vec<(String, i64)>, KernelError>;

    /// What was due at `at` is done: what the machinery itself took since is no time of the script. A kernel in virtual time takes none.
    fn settle(&mut self, _at: Duration) {}

    /// How far this kernel's times may be off besides what a script allows: its clock's ticks and the machine's load.
    fn slack(&self) -> Duration {
        Duration::ZERO
    }

    /// How long a call may take that does not block.
    fn patience(&self) -> Duration;
}
