//! Terminals for containers: a pseudo-terminal of the host whose master goes to the caller's console socket.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use oci_spec::runtime::Process;
use platform::host::terminal::{self, When, WindowSize};
use std::io::IoSlice;
use std::os::fd::AsRawFd;

/// Makes a pseudo-terminal, sends its master over the socket at `console`, and makes its other end, which this returns, the controlling
/// terminal of this process: changes of its size come as SIGWINCH. This process leads its session.
pub fn open(console: &Path, process: &Process) -> Result<OwnedFd> {
    let told = || format!("--console-socket {}", console.display());
    let pair = nix::pty::openpty(None, None).context("no pseudo-terminal")?;
    let asked = process.console_size();
    if let Some(size) = asked.filter(|size| size.width() > 0 && size.height() > 0) {
        let number = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
        let (rows, columns) = (number(size.height()), number(size.width()));
        let size = WindowSize { rows, columns, ..WindowSize::default() };
        terminal::set_window_size(pair.slave.as_fd(), &size)?;
    }
    // The sandbox's own terminal edits lines and sends signals.
    let settings = terminal::settings(pair.slave.as_fd())?;
    terminal::set_settings(pair.slave.as_fd(), &terminal::raw(&settings), When::Now)?;
    let socket = UnixStream::connect(console).with_context(told)?;
    send(&socket, &pair.master).with_context(told)?;
    terminal::take_control(pair.slave.as_fd()).context("cannot take the terminal")?;
    Ok(pair.slave)
}

/// Sends the master as runc does: its name as the data, the descriptor beside it.
fn send(socket: &UnixStream, master: &OwnedFd) -> Result<()> {
    let descriptors = [master.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let data = [IoSlice::new(b"/dev/ptmx")];
    sendmsg::<()>(socket.as_raw_fd(), &data, &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}
