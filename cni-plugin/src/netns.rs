//! Network namespaces by path, and work within one.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use crate::error::{CniError, Code};

/// The namespace in which this process runs.
const OWN: &str = "/proc/self/ns/net";

/// An open network namespace.
pub(crate) struct Netns {
    file: File,
    path: String,
}

impl Netns {
    /// Opens the namespace of a container, which must not be the one that we run in.
    pub(crate) fn of_container(path: &str) -> Result<Self, CniError> {
        let netns = Self::open(path).map_err(|why| {
            CniError::new(Code::InvalidEnvironment, "CNI_NETNS is no network namespace")
                .because(format!("{path}: {why}"))
        })?;
        let own = std::fs::metadata(OWN).map_err(|e| unreadable(OWN, &e))?;
        let its = netns.file.metadata().map_err(|e| unreadable(path, &e))?;
        // Specification, section "Error", code 8: "the plugin's netns and netns from CNI_NETNS should not be the same".
        if (own.dev(), own.ino()) == (its.dev(), its.ino()) {
            let msg = "CNI_NETNS is the network namespace in which the plugin runs";
            return Err(CniError::new(Code::InvalidNetns, msg).because(path));
        }
        Ok(netns)
    }

    /// Opens the namespace of a container that may be gone: its path may lead nowhere, or to the empty file on which it was mounted.
    pub(crate) fn if_there(path: &str) -> Option<Self> {
        Self::of_container(path).ok()
    }

    fn open(path: &str) -> std::io::Result<Self> {
        let file = File::open(path)?;
        // A device or a FIFO by this name would have been a surprise at the open already; what is no namespace ends here.
        if fstatfs(&file)?.filesystem_type() != NSFS_MAGIC {
            return Err(std::io::Error::other("it is a file of another kind"));
        }
        Ok(Self { file, path: path.to_owned() })
    }

    /// Its path, as it was given.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Runs something in it: on a thread of its own, so that nothing can come back in the wrong namespace.
    pub(crate) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, CniError> + Send,
    ) -> Result<T, CniError> {
        let inside =
            || {
                setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|e| {
                    CniError::new(Code::InvalidEnvironment, "cannot enter CNI_NETNS")
                        .because(format!("{}: {}", self.path, e.desc()))
                })?;
                work()
            };
        thread::scope(|scope| scope.spawn(inside).join()).map_err(|_| {
            CniError::new(Code::Internal, "the plugin failed in the container's namespace")
        })?
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn unreadable(path: &str, why: &std::io::Error) -> CniError {
    CniError::new(Code::Io, format!("cannot read {path}")).because(why)
}
