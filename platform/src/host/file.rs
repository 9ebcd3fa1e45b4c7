//! Reading, writing and waiting on host descriptors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::retry;

/// Reads at an offset; 0 at the end of the file.
pub fn read_at(fd: BorrowedFd<'_>, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let offset = i64::try_from(offset).map_err(|_| Errno::EINVAL)?;
    retry(|| nix::sys::uio::pread(fd, buffer, offset))
}

/// Reads until the buffer is full or the file ends.
pub fn read_all_at(fd: BorrowedFd<'_>, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut done = 0;
    while done < buffer.len() {
        let at = offset.checked_add(done as u64).ok_or(Errno::EINVAL)?;
        match read_at(fd, at, &mut buffer[done..])? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}

/// Writes at an offset.
pub fn write_at(fd: BorrowedFd<'_>, offset: u64, data: &[u8]) -> Result<usize, Errno> {
    let offset = i64::try_from(offset).map_err(|_| Errno::EINVAL)?;
    retry(|| nix::sys::uio::pwrite(fd, data, offset))
}

/// Reads from a stream (terminal, pipe, socket).
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    retry(|| nix::unistd::read(fd, buffer))
}

/// Writes to a stream.
pub fn write(fd: BorrowedFd<'_>, data: &[u8]) -> Result<usize, Errno> {
    retry(|| nix::unistd::write(fd, data))
}

/// A second descriptor of the same open file, close-on-exec.
pub fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    fd.try_clone_to_owned().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}

/// The flags of the open file.
pub fn status_flags(fd: BorrowedFd<'_>) -> Result<OFlag, Errno> {
    fcntl(fd, FcntlArg::F_GETFL).map(OFlag::from_bits_retain)
}

/// Whether reads and writes of a descriptor wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    Wait,
    Never,
}

/// Sets whether reads and writes wait. Concerns the open file, so everybody who shares it.
pub fn set_blocking(fd: BorrowedFd<'_>, blocking: Blocking) -> Result<(), Errno> {
    let mut flags = status_flags(fd)?;
    flags.set(OFlag::O_NONBLOCK, blocking == Blocking::Never);
    fcntl(fd, FcntlArg::F_SETFL(flags)).map(drop)
}

/// A pipe: its reading and its writing end, close-on-exec.
pub fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    nix::unistd::pipe2(OFlag::O_CLOEXEC)
}

/// An empty file in memory, close-on-exec.
pub fn memory_file(name: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    nix::sys::memfd::memfd_create(name, nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
}

/// The size of a file in bytes.
pub fn size(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    let stat = nix::sys::stat::fstat(fd.as_fd())?;
    Ok(u64::try_from(stat.st_size).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let file = memory_file(c"test").unwrap();
        assert_eq!(write_at(file.as_fd(), 2, b"abc"), Ok(3));
        let mut buffer = [9; 8];
        assert_eq!(read_all_at(file.as_fd(), 0, &mut buffer), Ok(5));
        assert_eq!(&buffer[..5], b"\0\0abc");
        assert_eq!(size(file.as_fd()), Ok(5));
        assert_eq!(read_at(file.as_fd(), u64::MAX, &mut buffer), Err(Errno::EINVAL));
    }

    #[test]
    fn a_pipe_that_must_not_wait_says_so() {
        let (reader, writer) = pipe().unwrap();
        set_blocking(reader.as_fd(), Blocking::Never).unwrap();
        assert_eq!(read(reader.as_fd(), &mut [0; 4]), Err(Errno::EAGAIN));
        assert_eq!(write(writer.as_fd(), b"xy"), Ok(2));
        assert_eq!(read(reader.as_fd(), &mut [0; 4]), Ok(2));
    }
}
