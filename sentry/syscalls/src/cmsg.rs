//! Control messages in program memory (cmsg(3)): decoded with every length checked, encoded as far as there is room.

use std::sync::Arc;

use sentry_abi::socket::{
    CMsgHdr, MSG_CTRUNC, SCM_CREDENTIALS, SCM_MAX_FD, SCM_RIGHTS, SOL_SOCKET, UCred,
};
use sentry_abi::{Errno, UserAddr};
use sentry_kernel::Result;
use sentry_kernel::file::{FileDescription, OnExec};
use sentry_kernel::socket::Control;
use sentry_kernel::task::CurrentTask;
use zerocopy::{FromBytes, IntoBytes};

use crate::common::install;

/// Most bytes of control messages in one send (net.core.optmem_max).
const CONTROL_MAX: u64 = 131_072;
const HEADER: usize = size_of::<CMsgHdr>();
/// CMSG_ALIGN
const ALIGN: usize = size_of::<u64>();

/// A control message before its descriptors are looked up.
#[derive(Debug, PartialEq, Eq)]
struct Piece<'a> {
    level: i32,
    kind: i32,
    data: &'a [u8],
}

/// Splits a control buffer. Errors: EINVAL for a length that is smaller than a header or exceeds the rest.
fn split(mut bytes: &[u8]) -> Result<Vec<Piece<'_>>> {
    let mut pieces = Vec::new();
    while bytes.len() >= HEADER {
        let (header, _) = CMsgHdr::read_from_prefix(bytes).map_err(|_| Errno::EINVAL)?;
        let len = usize::try_from(header.len).map_err(|_| Errno::EINVAL)?;
        let data = bytes.get(HEADER..len).ok_or(Errno::EINVAL)?;
        pieces.push(Piece { level: header.level, kind: header.kind, data });
        let next = len.checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX);
        bytes = bytes.get(next..).unwrap_or_default();
    }
    Ok(pieces)
}

/// Reads the control messages of a send. Errors: EFAULT, ENOBUFS for too much, EINVAL for broken ones, EBADF.
pub(crate) fn read(task: &CurrentTask, at: UserAddr, len: u64) -> Result<Vec<Control>> {
    if len == 0 {
        return Ok(Vec::new());
    }
    if len > CONTROL_MAX {
        return Err(Errno::ENOBUFS.into());
    }
    let mut bytes = vec![0; len as usize];
    task.mm().read(at, &mut bytes)?;
    split(&bytes)?.into_iter().map(|piece| decode(task, &piece)).collect()
}

fn decode(task: &CurrentTask, piece: &Piece<'_>) -> Result<Control> {
    match (piece.level, piece.kind) {
        (SOL_SOCKET, SCM_RIGHTS) => {
            let fds = piece.data.as_chunks::<4>().0;
            if fds.len() > SCM_MAX_FD as usize {
                return Err(Errno::EINVAL.into());
            }
            let file = |fd: &[u8; 4]| task.fds().any(i32::from_ne_bytes(*fd));
            Ok(Control::Rights(fds.iter().map(file).collect::<Result<_>>()?))
        }
        (SOL_SOCKET, SCM_CREDENTIALS) => {
            let cred = UCred::read_from_bytes(piece.data).map_err(|_| Errno::EINVAL)?;
            Ok(Control::Credentials { pid: cred.pid as u32, uid: cred.uid, gid: cred.gid })
        }
        (level, kind) => Ok(Control::Raw { level, kind, data: piece.data.to_vec() }),
    }
}

/// What was stored of a receive's control messages.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// Bytes: the new msg_controllen.
    pub len: u64,
    /// MSG_CTRUNC where not all had room.
    pub flags: u32,
}

/// Stores control messages in `room` bytes at `at` and installs the descriptors that come with them. Errors: EFAULT.
pub(crate) fn write(
    task: &CurrentTask,
    at: UserAddr,
    room: usize,
    control: Vec<Control>,
    close_on_exec: bool,
) -> Result<Stored> {
    let mut out = Encoder { bytes: Vec::new(), room, truncated: false };
    let mut installed = Vec::new();
    for message in control {
        match message {
            Control::Rights(files) => {
                let fds = receive_files(task, &mut out, files, close_on_exec);
                installed.extend(fds);
            }
            Control::Credentials { pid, uid, gid } => {
                let cred = UCred { pid: pid as i32, uid, gid };
                out.put(SOL_SOCKET, SCM_CREDENTIALS, cred.as_bytes());
            }
            Control::Raw { level, kind, data } => out.put(level, kind, &data),
        }
    }
    if let Err(error) = task.mm().write(at, &out.bytes) {
        for fd in installed {
            let _ = task.fds().close(fd);
        }
        return Err(error);
    }
    let flags = if out.truncated { MSG_CTRUNC } else { 0 };
    Ok(Stored { len: out.bytes.len() as u64, flags })
}

/// Installs as many files as there is room for and tells their numbers; the others are closed.
fn receive_files(
    task: &CurrentTask,
    out: &mut Encoder,
    files: Vec<Arc<FileDescription>>,
    close_on_exec: bool,
) -> Vec<i32> {
    let fit = out.left().saturating_sub(HEADER) / size_of::<i32>();
    let on_exec = if close_on_exec { OnExec::Close } else { OnExec::Keep };
    let count = files.len();
    let mut fds = Vec::new();
    for file in files.into_iter().take(fit) {
        match install(task, file, on_exec) {
            Ok(fd) => fds.push(fd.0),
            Err(_) => break,
        }
    }
    out.truncated |= fds.len() < count;
    if !fds.is_empty() {
        out.put(SOL_SOCKET, SCM_RIGHTS, fds.as_bytes());
    }
    fds
}

/// Lays control messages out, each aligned, within a bound.
struct Encoder {
    bytes: Vec<u8>,
    room: usize,
    truncated: bool,
}

impl Encoder {
    fn left(&self) -> usize {
        self.room.saturating_sub(self.bytes.len())
    }

    /// Adds a message, cut where it does not fit, as Linux's put_cmsg does.
    fn put(&mut self, level: i32, kind: i32, data: &[u8]) {
        if self.left() < HEADER {
            self.truncated = true;
            return;
        }
        let len = HEADER + data.len();
        let cut = len.min(self.left());
        self.truncated |= cut < len;
        let header = CMsgHdr { len: cut as u64, level, kind };
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(data.get(..cut - HEADER).unwrap_or_default());
        let padded = self.bytes.len().next_multiple_of(ALIGN).min(self.room);
        self.bytes.resize(padded, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(room: usize, messages: &[(i32, i32, &[u8])]) -> Encoder {
        let mut out = Encoder { bytes: Vec::new(), room, truncated: false };
        for (level, kind, data) in messages {
            out.put(*level, *kind, data);
        }
        out
    }

    #[test]
    fn messages_are_aligned_and_read_back() {
        let out = encode(1024, &[(1, 2, b"abc"), (41, 50, b"12345678")]);
        assert_eq!((out.bytes.len(), out.truncated), (24 + 24, false));
        let pieces = split(&out.bytes).unwrap();
        assert_eq!(pieces[0], Piece { level: 1, kind: 2, data: b"abc" });
        assert_eq!(pieces[1], Piece { level: 41, kind: 50, data: b"12345678" });
    }

    #[test]
    fn what_does_not_fit_is_cut_and_told() {
        let out = encode(18, &[(1, 2, b"abcdef")]);
        assert_eq!((out.bytes.len(), out.truncated), (18, true));
        assert_eq!(split(&out.bytes).unwrap()[0].data, b"ab");
        let out = encode(15, &[(1, 2, b"abcdef")]);
        assert_eq!((out.bytes.len(), out.truncated), (0, true));
    }

    #[test]
    fn wild_lengths_are_refused() {
        let header = |len: u64| CMsgHdr { len, level: 1, kind: 1 }.as_bytes().to_vec();
        for len in [0, 15, 17, u64::MAX, u64::MAX - 7] {
            assert!(split(&header(len)).unwrap_err().is(Errno::EINVAL), "{len}");
        }
        assert_eq!(split(&header(16)).unwrap().len(), 1);
        assert_eq!(split(&header(16)[..15]).unwrap().len(), 0);
    }
}
