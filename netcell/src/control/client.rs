//! Our end of the way to a sandbox.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use platform::host::packets;

use super::folder::Within;
use super::message::{Answer, Request, receive, send};

/// A connection to a sandbox.
#[derive(Debug)]
pub struct Connection(packets::Connection);

impl Connection {
    /// Connects to the sandbox of a folder. Errors: nobody is there.
    pub fn open(folder: &Path) -> Result<Self> {
        let within = Within::open(folder)?;
        Ok(Self(packets::Connection::open(&within.path())?))
    }

    /// Connects to a sandbox by its name. Errors say what to do.
    pub fn to(root: &Path, id: &str) -> Result<Self> {
        let is_name = !id.is_empty() && !id.contains('/') && !id.starts_with('.');
        let open = is_name.then(|| Self::open(&root.join(id)).ok()).flatten();
        open.with_context(|| {
            format!("no sandbox called {id:?} runs: netcell list shows those that do")
        })
    }

    /// Sends a request, and descriptors with it.
    pub fn send(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        send(&self.0, request, descriptors)
    }

    /// Sends a request.
    pub fn tell(&self, request: &Request) -> Result<()> {
        send(&self.0, request, &[])
    }

    /// Asks for something that is begun or done at once. Errors: it is refused.
    pub fn ask(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        self.send(request, descriptors)?;
        self.started()
    }

    /// Waits until what was asked for is begun or done. Errors: it is refused.
    pub fn started(&self) -> Result<()> {
        match self.answer()? {
            Some(Answer::Started) => Ok(()),
            Some(Answer::Refused { why }) => bail!("{why}"),
            other => bail!("the sandbox answers what makes no sense: {other:?}"),
        }
    }

    /// Asks for what is told at once. Errors: it is refused.
    pub fn query(&self, request: &Request) -> Result<Answer> {
        self.tell(request)?;
        match self.answer()? {
            Some(Answer::Refused { why }) => bail!("{why}"),
            answer => answer.context("the sandbox has gone"),
        }
    }

    /// The next answer; None where the sandbox has gone.
    pub fn answer(&self) -> Result<Option<Answer>> {
        Ok(receive(&self.0)?.map(|(answer, _)| answer))
    }

    /// Nothing more is asked for: what runs on our behalf ends.
    pub fn end(&self) -> Result<()> {
        Ok(self.0.end()?)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
