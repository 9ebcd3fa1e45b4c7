//! The user's own terminal as the console: what is typed goes in, what is shown goes out.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::Thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{read, write};
use sentry_kernel::wait::{Events, Sharing, Wake};

use crate::tty::terminal::{Output, Terminal};

/// Writes to a terminal of the host.
pub struct HostOutput(pub OwnedFd);

impl Output for HostOutput {
    fn write(&self, mut bytes: &[u8]) {
        use std::os::fd::AsFd;
        while !bytes.is_empty() {
            match write(&self.0, bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
                    let _ = poll(&mut fds, PollTimeout::NONE);
                }
                // The terminal is gone, and nobody is left to tell.
                Err(_) => return,
            }
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(&self, _: Events) {
        self.0.unpark();
    }
}

/// The thread that types what comes from outside; it ends with this, and its input is closed then.
pub struct Pump {
    /// Closing it is the word to end.
    _end: OwnedFd,
}

/// Starts the thread that types into `terminal` what comes from `input`. At the end of the input the terminal hangs up.
pub fn pump_input(terminal: Arc<Terminal>, input: OwnedFd) -> std::io::Result<Pump> {
    let (told, end) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let pump = move || {
        let mut chunk = [0; 1024];
        while wait_readable(&input, &told) {
            match read(&input, &mut chunk) {
                Ok(0) => break,
                Ok(n) => type_all(&terminal, &chunk[..n]),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(_) => break,
            }
        }
        terminal.disconnect();
    };
    std::thread::Builder::new().name("console".into()).spawn(pump)?;
    Ok(Pump { _end: end })
}

/// Waits for input; false where the pump shall end.
fn wait_readable(input: &OwnedFd, told: &OwnedFd) -> bool {
    use std::os::fd::AsFd;
    let mut fds = [input, told].map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN));
    match poll(&mut fds, PollTimeout::NONE) {
        Err(Errno::EINTR) => true,
        Err(_) => false,
        Ok(_) => fds[1].revents().is_none_or(|events| events.is_empty()),
    }
}

/// Types all of it; waits while the program does not read.
fn type_all(terminal: &Terminal, mut bytes: &[u8]) {
    let key = terminal.master_queue.add(
        Events::OUT,
        Sharing::All,
        Arc::new(Unpark(std::thread::current())),
    );
    while !bytes.is_empty() && !terminal.is_hung_up() {
        let taken = terminal.type_bytes(bytes);
        bytes = &bytes[taken..];
        if !bytes.is_empty() {
            std::thread::park();
        }
    }
    terminal.master_queue.remove(key);
}
