//! The host's terminals: settings as the kernel's own `struct termios`, window size, raw mode.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// `struct termios` of the kernel (asm-generic/termbits.h): four flag words, the line discipline and
/// 19 control characters.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelTermios {
    pub input: u32,
    pub output: u32,
    pub control: u32,
    pub local: u32,
    pub line: u8,
    pub characters: [u8; 19],
}

/// `struct winsize`: characters, then pixels.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowSize {
    pub rows: u16,
    pub columns: u16,
    pub width_px: u16,
    pub height_px: u16,
}

/// When new settings hold (tcsetattr(3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Now,
    /// After what was written is out.
    Drain,
    /// After that, and what was not read is thrown away.
    Flush,
}

/// Whether the descriptor is a terminal.
pub fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    settings(fd).is_ok()
}

/// The terminal's settings (TCGETS).
pub fn settings(fd: BorrowedFd<'_>) -> Result<KernelTermios, Errno> {
    let mut settings = KernelTermios::default();
    // SAFETY: TCGETS writes one `struct termios`, whose layout `KernelTermios` has.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TCGETS, &raw mut settings) };
    Errno::result(result).map(|_| settings)
}

/// Changes the terminal's settings (TCSETS, TCSETSW, TCSETSF).
pub fn set_settings(fd: BorrowedFd<'_>, settings: &KernelTermios, when: When) -> Result<(), Errno> {
    let request = match when {
        When::Now => libc::TCSETS,
        When::Drain => libc::TCSETSW,
        When::Flush => libc::TCSETSF,
    };
    // SAFETY: the request reads one `struct termios`, whose layout `KernelTermios` has.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw const *settings) };
    Errno::result(result).map(drop)
}

/// The settings with every translation and signal character off (cfmakeraw(3)).
pub fn raw(settings: &KernelTermios) -> KernelTermios {
    let mut raw = *settings;
    raw.input &= !(libc::IGNBRK
        | libc::BRKINT
        | libc::PARMRK
        | libc::ISTRIP
        | libc::INLCR
        | libc::IGNCR
        | libc::ICRNL
        | libc::IXON);
    raw.output &= !libc::OPOST;
    raw.local &= !(libc::ECHO | libc::ECHONL | libc::ICANON | libc::ISIG | libc::IEXTEN);
    raw.control = raw.control & !(libc::CSIZE | libc::PARENB) | libc::CS8;
    raw.characters[libc::VMIN] = 1;
    raw.characters[libc::VTIME] = 0;
    raw
}

/// The terminal's size (TIOCGWINSZ).
pub fn window_size(fd: BorrowedFd<'_>) -> Result<WindowSize, Errno> {
    let mut size = WindowSize::default();
    // SAFETY: TIOCGWINSZ writes one `struct winsize`, whose layout `WindowSize` has.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    Errno::result(result).map(|_| size)
}

/// Changes the terminal's size (TIOCSWINSZ).
pub fn set_window_size(fd: BorrowedFd<'_>, size: &WindowSize) -> Result<(), Errno> {
    // SAFETY: TIOCSWINSZ reads one `struct winsize`, whose layout `WindowSize` has.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, &raw const *size) };
    Errno::result(result).map(drop)
}

/// Makes a terminal the controlling one of the session that this process leads (TIOCSCTTY). Errors: EPERM where the session has one, or
/// the terminal another session.
pub fn take_control(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: TIOCSCTTY takes an int and touches no memory of ours.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSCTTY, 0) };
    Errno::result(result).map(drop)
}

/// Bytes that can be read now (FIONREAD).
pub fn readable_bytes(fd: BorrowedFd<'_>) -> Result<usize, Errno> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    Errno::result(result).map(|_| usize::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_pseudo_terminal_keeps_what_it_is_told() {
        let pair = nix::pty::openpty(None, None).unwrap();
        let end = pair.slave.as_fd();
        assert!(is_terminal(end));
        let cooked = settings(end).unwrap();
        set_settings(end, &raw(&cooked), When::Now).unwrap();
        assert_eq!(settings(end).unwrap().local & libc::ICANON, 0);
        set_settings(end, &cooked, When::Flush).unwrap();
        assert_eq!(settings(end).unwrap(), cooked);
        let size = WindowSize { rows: 24, columns: 80, ..WindowSize::default() };
        set_window_size(end, &size).unwrap();
        assert_eq!(window_size(pair.master.as_fd()).unwrap(), size);
    }

    #[test]
    fn a_pipe_is_no_terminal() {
        let (reader, writer) = crate::host::file::pipe().unwrap();
        assert!(!is_terminal(reader.as_fd()));
        crate::host::file::write(writer.as_fd(), b"abc").unwrap();
        assert_eq!(readable_bytes(reader.as_fd()), Ok(3));
    }
}
