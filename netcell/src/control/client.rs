//! Our end of the way to a sandbox.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use platform::host::packets;

use super::folder::SOCKET;
use super::message::{Answer, Request, receive, send};

/// A connection to a sandbox.
#[derive(Debug)]
pub struct Connection(packets::Connection);

impl Connection {
    /// Connects to the sandbox of a folder. Errors: nobody is there.
    pub fn open(folder: &Path) -> Result<Self> {
        Ok(Self(packets::Connection::open(&folder.join(SOCKET))?))
    }

    /// Connects to a sandbox by its name. Errors say what to do.
    pub fn to(root: &Path, id: &str) -> Result<Self> {
        let is_name = !id.is_empty() && !id.contains('/') && !id.starts_with('.');
        let open = is_name.then(|| Self::open(&root.join(id)).ok()).flatten();
        open.with_context(|| {
            format!("no sandbox called {id:?} runs: netcell list shows those that do")
        })
    }

    /// Asks for something that needs a descriptor. Errors: it is refused.
    pub fn ask(&self, request: &Request, descriptor: BorrowedFd<'_>) -> Result<()> {
        send(&self.0, request, Some(descriptor))?;
        match self.answer()? {
            Some(Answer::Started) => Ok(()),
            Some(Answer::Refused { why }) => bail!("{why}"),
            other => bail!("the sandbox answers what makes no sense: {other:?}"),
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
