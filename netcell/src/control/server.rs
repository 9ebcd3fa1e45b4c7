//! The sandbox's end of the way to it: a thread that accepts, and one for each that connects.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::unistd::geteuid;
use platform::host::packets::{Connection, Listener};
use sentry::Remote;

use super::message::{Answer, Request, receive, send};

/// How often a capture looks whether it is over.
const LOOK_EVERY_MS: u16 = 100;
/// Connections at the same time.
const MOST: usize = 32;

/// Serves the socket of a sandbox.
pub struct Server {
    talks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Server {
    /// Begins to accept connections.
    pub fn start(listener: Listener, remote: Remote) -> Result<Self> {
        let talks: Arc<Mutex<Vec<JoinHandle<()>>>> = Arc::default();
        let all = talks.clone();
        let serve = move || {
            // It ends where no descriptors are left, say: who asks then finds nobody.
            while let Ok(connection) = listener.accept() {
                begin(&all, connection, &remote);
            }
        };
        thread::Builder::new().name("control".into()).spawn(serve)?;
        Ok(Self { talks })
    }

    /// The sandbox has ended: waits until those that were connected have heard of it.
    pub fn end(self) {
        let talks = std::mem::take(&mut *locked(&self.talks));
        for talk in talks {
            // One that panicked has told so.
            let _ = talk.join();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn begin(talks: &Mutex<Vec<JoinHandle<()>>>, socket: Connection, remote: &Remote) {
    let mut talks = locked(talks);
    talks.retain(|talk| !talk.is_finished());
    let allowed = socket.peer_uid().is_ok_and(|uid| uid == 0 || uid == geteuid().as_raw());
    if !allowed || talks.len() == MOST {
        return;
    }
    let remote = remote.clone();
    let talk = move || {
        if let Err(error) = talk(&socket, &remote) {
            // Who does not listen any more need not hear of it.
            let _ = send(&socket, &Answer::Refused { why: format!("{error:#}") }, None);
        }
    };
    talks.extend(thread::Builder::new().name("control".into()).spawn(talk));
}

fn talk(socket: &Connection, remote: &Remote) -> Result<()> {
    let Some((request, descriptor)) = receive(socket)? else { return Ok(()) };
    match request {
        Request::Capture { interfaces, limit, name } => {
            let file = descriptor.context("a capture needs a file to write to")?;
            let capture = remote.capture((file, Path::new(&name)), &interfaces, limit)?;
            send(socket, &Answer::Started, None)?;
            while !capture.is_over() && !has_gone(socket)? {}
            let error = capture.finish().err().map(|error| error.to_string());
            let (frames, dropped) = capture.counts();
            send(socket, &Answer::Ended { frames, dropped, error }, None)
        }
    }
}

/// Whether the other side wants no more; looks for a moment.
fn has_gone(socket: &Connection) -> Result<bool> {
    match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], LOOK_EVERY_MS) {
        Ok(0) | Err(Errno::EINTR) => Ok(false),
        Ok(_) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}
