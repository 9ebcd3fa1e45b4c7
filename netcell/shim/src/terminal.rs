//! A process's terminal: the runtime sends its master over a socket; bytes are carried between it and containerd's FIFOs.

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::streams::{self, Held, Open, Streams};

/// Where its sockets are: a bundle's path would be too long for one.
const FOLDER: &str = "/run/containerd/s";

/// A socket that waits for the master of a terminal. It is removed when dropped.
pub struct ConsoleSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl ConsoleSocket {
    /// A fresh one.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        std::fs::create_dir_all(FOLDER)?;
        let path = Path::new(FOLDER).join(format!("netcell-pty-{}-{number}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path, listener })
    }

    /// For `--console-socket`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The master. The runtime has ended well, so that it was sent; one that did not is an error, and no wait.
    pub fn master(&self) -> Result<File> {
        self.listener.set_nonblocking(true)?;
        let (stream, _) = self.listener.accept().context("the runtime sent no terminal")?;
        receive(&stream).map(File::from)
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The descriptor that comes with the next message.
fn receive(stream: &UnixStream) -> Result<OwnedFd> {
    let mut name = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut pieces = [io::IoSliceMut::new(&mut name)];
    recvmsg(stream, &mut pieces, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
            && let Some(descriptor) = descriptors.next()
        {
            return Ok(descriptor);
        }
    }
    bail!("the runtime sent no terminal")
}

/// Carries bytes both ways, to standard output, until the terminal or its process is gone. Gives what is held for it.
pub fn carry(master: &File, targets: &Streams, output: Option<Open>) -> Result<Held> {
    let mut held = Held::default();
    if let Some(open) = streams::input(&targets.stdin)? {
        held.stdin = open.held;
        let mut master = master.try_clone()?;
        thread::Builder::new()
            .name("terminal in".into())
            .spawn(move || drop(copy(open.end, &mut master)))?;
    }
    if let Some(open) = output {
        let (from, mut to) = (master.try_clone()?, open.end);
        let other_end = open.held;
        thread::Builder::new().name("terminal out".into()).spawn(move || {
            // EIO: nobody has the terminal open any more.
            let _ = copy(from, &mut to);
            drop(other_end);
        })?;
    }
    Ok(held)
}

/// Copies small pieces at once, as a terminal wants it.
fn copy(mut from: File, to: &mut File) -> io::Result<()> {
    let mut room = vec![0; 32 << 10];
    loop {
        match from.read(&mut room) {
            Ok(0) => return Ok(()),
            Ok(len) => to.write_all(&room[..len])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Tells a terminal its size, in characters.
pub fn resize(master: &File, width: u32, height: u32) -> Result<()> {
    let cells = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    let size = Winsize { ws_row: cells(height), ws_col: cells(width), ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(master.as_fd(), size)?)
}
