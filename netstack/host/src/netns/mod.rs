//! A network namespace of the host as the truth about a network: what stands there is read ([`read`]), its interfaces are taken
//! by packet sockets while the host's own stack is silenced on them ([`take`], [`silence`]), and changes are told ([`follow`]).
//! What cannot be honoured there is found ([`foreign`]). What the messages of rtnetlink say of addresses and routes is not known
//! here: they are handed on as they came.

pub mod follow;
pub mod foreign;
pub mod read;
pub mod silence;
pub mod take;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use crate::device::Offloading;
use crate::tap::Tap;
pub use follow::{Follower, Following};
pub use foreign::Foreign;
pub use read::{LinkInfo, Snapshot};
pub use take::{Redirected, TakeError, Taken, TakenNic, Taking};

/// A network namespace of the host.
#[derive(Clone)]
pub struct Namespace(Option<Arc<OwnedFd>>);

impl Namespace {
    /// That of the thread which uses it.
    pub fn own() -> Namespace {
        Namespace(None)
    }

    /// The one behind a descriptor of /proc/PID/ns/net or of a file that it is bound to.
    pub fn of(file: OwnedFd) -> Namespace {
        Namespace(Some(Arc::new(file)))
    }

    /// Takes the calling thread there for good. Errors: EINVAL where the descriptor is of no network namespace, EPERM.
    pub(crate) fn enter(&self) -> Result<(), Errno> {
        match &self.0 {
            None => Ok(()),
            Some(file) => setns(file, CloneFlags::CLONE_NEWNET),
        }
    }

    /// What settings say there, of those of `paths` (below /proc/sys/net) that are there, without the ends of their lines.
    pub fn settings(&self, paths: &[String]) -> Result<HashMap<String, Vec<u8>>, TakeError> {
        self.within(|| {
            let read = |path: &String| Some((path.clone(), read::setting(path)?));
            Ok(paths.iter().filter_map(read).collect())
        })
    }

    /// Opens a TAP device that is there ([`crate::tap::Tap::join`]).
    pub fn join_tap(
        &self,
        name: &str,
        mtu: u32,
        offloading: Offloading,
    ) -> Result<Arc<Tap>, TakeError> {
        self.within(|| Ok(Tap::join(name, mtu, offloading)?))
    }

    /// Does something there, on a thread of its own; what it opens stays of that namespace. Errors: no thread is to be had.
    pub(crate) fn within<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, TakeError> + Send,
    ) -> Result<T, TakeError> {
        let joined = || {
            self.enter().map_err(TakeError::enter)?;
            work()
        };
        let done = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("net namespace".into());
            Ok::<_, io::Error>(thread.spawn_scoped(scope, joined)?.join())
        });
        match done.map_err(TakeError::Thread)? {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
