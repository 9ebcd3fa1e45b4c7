//! Host directories: opening beneath a directory without leaving it, listing, links and attributes.

use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode};

use super::retry;

/// How a path may be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolve {
    /// An absolute link or `..` that leads out of the directory is EXDEV.
    Beneath,
    /// The directory is the root: absolute links and `..` stay in it, as after chroot.
    InRoot,
    /// As `Beneath`, and any symbolic link is ELOOP.
    BeneathNoLinks,
}

/// Opens a host directory by its path, to be the top of what is reached from it.
pub fn open_root(path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    retry(|| nix::fcntl::open(path, flags, Mode::empty()))
}

/// Opens `path` from `dir` (openat2(2)), close-on-exec, and never through a magic link of /proc.
pub fn open_at(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlag,
    mode: Mode,
    resolve: Resolve,
) -> Result<OwnedFd, Errno> {
    let rule = match resolve {
        Resolve::Beneath => ResolveFlag::RESOLVE_BENEATH,
        Resolve::InRoot => ResolveFlag::RESOLVE_IN_ROOT,
        Resolve::BeneathNoLinks => ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS,
    };
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(mode)
        .resolve(rule | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    // EAGAIN: a rename elsewhere raced with a `..`; the kernel asks to try again.
    let mut tries = 0;
    loop {
        match openat2(dir, path, how) {
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if tries < 128 => tries += 1,
            result => return result,
        }
    }
}

/// Attributes of an open file, also of one opened with O_PATH.
pub fn stat(fd: BorrowedFd<'_>) -> Result<FileStat, Errno> {
    nix::sys::stat::fstat(fd)
}

/// Attributes of a single name in `dir`; a symbolic link is not followed.
pub fn stat_at(dir: BorrowedFd<'_>, name: &CStr) -> Result<FileStat, Errno> {
    nix::sys::stat::fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// Extended attributes of an entry (statx(2)): birth time, mount id and attributes beside the usual.
/// An empty name means `dir` itself.
pub fn statx(dir: BorrowedFd<'_>, name: &CStr, mask: u32) -> Result<libc::statx, Errno> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_STATX_SYNC_AS_STAT;
    let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the name is a C string and the kernel writes at most one `statx` structure.
    let result =
        unsafe { libc::statx(dir.as_raw_fd(), name.as_ptr(), flags, mask, found.as_mut_ptr()) };
    Errno::result(result)?;
    // SAFETY: the structure is plain integers and was zeroed before the kernel filled it.
    Ok(unsafe { found.assume_init() })
}

/// The target of a symbolic link; an empty name means the link that `dir` itself is (O_PATH).
pub fn read_link(dir: BorrowedFd<'_>, name: &CStr) -> Result<OsString, Errno> {
    nix::fcntl::readlinkat(dir, name)
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    pub ino: u64,
    /// `DT_REG` and so on; `DT_UNKNOWN` where the filesystem does not say.
    pub kind: u8,
    pub name: OsString,
}

/// Offset of the name in `struct linux_dirent64` (getdents64(2)).
const NAME: usize = 19;

/// All entries of an open directory but `.` and `..`, from its start. The descriptor must not be
/// O_PATH; its position moves.
pub fn entries(dir: BorrowedFd<'_>) -> Result<Vec<DirEntry>, Errno> {
    nix::unistd::lseek(dir, 0, nix::unistd::Whence::SeekSet)?;
    let mut buffer = vec![0u8; 32 * 1024];
    let mut found = Vec::new();
    loop {
        let read = retry(|| read_entries(dir, &mut buffer))?;
        if read == 0 {
            return Ok(found);
        }
        parse_entries(&buffer[..read.min(buffer.len())], &mut found);
    }
}

fn read_entries(dir: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    let fd = dir.as_raw_fd();
    // SAFETY: the kernel writes at most the length of a live buffer.
    let read =
        unsafe { libc::syscall(libc::SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len()) };
    super::count(read as isize)
}

fn parse_entries(mut bytes: &[u8], found: &mut Vec<DirEntry>) {
    while let (Some(ino), Some(len), Some(kind)) =
        (bytes.first_chunk::<8>(), bytes.get(16..18), bytes.get(18))
    {
        let len = usize::from(len[0]) | usize::from(len[1]) << 8;
        let Some(name) = bytes.get(NAME..len) else { return };
        let name: Vec<u8> = name.iter().copied().take_while(|byte| *byte != 0).collect();
        if name != b"." && name != b".." {
            let (ino, name) = (u64::from_ne_bytes(*ino), OsString::from_vec(name));
            found.push(DirEntry { ino, kind: *kind, name });
        }
        bytes = &bytes[len..];
    }
}

/// An extended attribute (fgetxattr(2)) of an open file: its bytes.
pub fn xattr(fd: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0u8; 65536];
    // SAFETY: the name is a C string and the kernel writes at most the length of a live buffer.
    let read = unsafe {
        libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
    };
    value.truncate(super::count(read)?);
    Ok(value)
}

/// The path by which an open file can be opened again: a link of /proc.
pub fn proc_path(fd: BorrowedFd<'_>) -> CString {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    // The text holds no zero byte.
    CString::new(path).unwrap_or_default()
}

/// Opens a file again that is open with O_PATH, now for use.
pub fn reopen(fd: BorrowedFd<'_>, flags: OFlag) -> Result<OwnedFd, Errno> {
    let path = proc_path(fd);
    retry(|| nix::fcntl::open(path.as_c_str(), flags | OFlag::O_CLOEXEC, Mode::empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_lists_itself_and_paths_stay_beneath() {
        let root = open_root(c"/proc").unwrap();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let resolve = Resolve::Beneath;
        let dir = open_at(root.as_fd(), c".", flags, Mode::empty(), resolve).unwrap();
        let names: Vec<_> = entries(dir.as_fd()).unwrap();
        assert!(names.iter().any(|entry| entry.name == "self" && entry.kind == libc::DT_LNK));
        assert!(names.iter().all(|entry| entry.name != "."));
        assert!(!entries(dir.as_fd()).unwrap().is_empty(), "listing starts at the beginning");
        let out = open_at(root.as_fd(), c"../etc", OFlag::O_PATH, Mode::empty(), resolve);
        assert_eq!(out.unwrap_err(), Errno::EXDEV);
        let magic = open_at(root.as_fd(), c"self/root", OFlag::O_PATH, Mode::empty(), resolve);
        assert!(magic.is_err());
        let pid = read_link(root.as_fd(), c"self").unwrap();
        assert_eq!(pid, std::process::id().to_string().as_str());
    }

    #[test]
    fn attributes_agree() {
        let root = open_root(c"/").unwrap();
        let first = stat(root.as_fd()).unwrap();
        let second = statx(root.as_fd(), c"", libc::STATX_BASIC_STATS).unwrap();
        assert_eq!(first.st_ino, second.stx_ino);
        assert_eq!(stat_at(root.as_fd(), c"no such name").unwrap_err(), Errno::ENOENT);
        let again = reopen(root.as_fd(), OFlag::O_RDONLY | OFlag::O_DIRECTORY).unwrap();
        assert_eq!(stat(again.as_fd()).unwrap().st_ino, first.st_ino);
    }
}
