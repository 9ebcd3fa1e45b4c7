//! The folders of the sandboxes that run.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use platform::host::packets::Listener;
use serde::{Deserialize, Serialize};

use super::client::Connection;

/// Characters of a name that was not chosen.
const RANDOM_LEN: usize = 12;
/// Characters of a name at most.
const LONGEST_ID: usize = 128;
/// What the folder is, within it.
const ABOUT: &str = "sandbox.json";
/// Where to connect, within it.
pub(crate) const SOCKET: &str = "control";

/// The socket of a folder, by a path that is short enough for one (unix(7)), however long the folder's is.
pub(super) struct Within(File);

impl Within {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        Ok(Self(File::open(folder)?))
    }

    pub(super) fn path(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.0.as_raw_fd().to_string()).join(SOCKET)
    }
}

/// Makes the socket of a folder.
pub(crate) fn listen(folder: &Path) -> Result<Listener> {
    let within = Within::open(folder)?;
    Ok(Listener::new(&within.path())?)
}

/// What a sandbox is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its name.
    pub id: String,
    /// The host's process that runs it.
    pub pid: u32,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// When it began, in seconds since the epoch.
    pub created: u64,
}

/// The folder of a sandbox; it vanishes with this.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    id: String,
    listener: Option<Listener>,
}

/// Where the folders are where nothing else is said: /run/netcell for root, else below XDG_RUNTIME_DIR.
pub fn default_root() -> PathBuf {
    if geteuid().is_root() {
        return PathBuf::from("/run/netcell");
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) => Path::new(&folder).join("netcell"),
        None => PathBuf::from(format!("/tmp/netcell-{}", geteuid())),
    }
}

/// Whether a sandbox may be called so: it names a folder.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let known = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    let good = id.chars().all(known) && id.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !good || id.len() > LONGEST_ID {
        bail!(
            "{id:?} is no name of a sandbox: at most {LONGEST_ID} letters, digits and any of _+-. , and a letter or digit first"
        );
    }
    Ok(())
}

fn random_id() -> Result<String> {
    let mut bytes = [0; RANDOM_LEN / 2];
    platform::host::random::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Nobody else makes or sweeps folders while this is held.
pub(crate) fn lock(root: &Path) -> Result<Flock<File>> {
    let file = File::open(root)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

impl Folder {
    /// Makes the folder of a sandbox that is about to run in this process. Errors: the name is taken.
    pub fn make(root: &Path, id: Option<&str>) -> Result<Self> {
        let told = || format!("cannot make a folder for the sandbox in {}", root.display());
        let id = id.map_or_else(random_id, |id| Ok(id.to_owned()))?;
        check_id(&id)?;
        DirBuilder::new().recursive(true).mode(0o700).create(root).with_context(told)?;
        let lock = lock(root).with_context(told)?;
        let path = root.join(&id);
        if path.exists() && Connection::open(&path).is_ok() {
            bail!("a sandbox that is called {id} runs already");
        }
        check_sweepable(&path)?;
        remove(&path)?;
        DirBuilder::new().mode(0o700).create(&path).with_context(told)?;
        let mut folder = Self { path, id, listener: None };
        // Before the lock is given back: who looks next finds somebody there.
        folder.listener = Some(listen(&folder.path).with_context(told)?);
        drop(lock);
        Ok(folder)
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where others connect; the first time it is asked for.
    pub fn take_listener(&mut self) -> Option<Listener> {
        self.listener.take()
    }

    /// Writes what the sandbox is: from now on it is listed.
    pub fn tell(&self, about: &About) -> Result<()> {
        let new = self.path.join(".new");
        fs::write(&new, serde_json::to_vec(about)?)?;
        Ok(fs::rename(new, self.path.join(ABOUT))?)
    }
}

/// Errors: what is in the place of a sandbox's folder is none, as the plugin's hand-off files are.
fn check_sweepable(path: &Path) -> Result<()> {
    let mut entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| path.display().to_string())?,
    };
    let is_sandboxes = [ABOUT, SOCKET].iter().any(|name| path.join(name).exists());
    if !is_sandboxes && entries.next().is_some() {
        bail!("{} is there and is no sandbox's", path.display());
    }
    Ok(())
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind is swept by the next who lists.
        let _ = remove(&self.path);
    }
}

pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The sandboxes that run, the oldest first. Folders of those that were killed are removed.
pub fn running(root: &Path) -> Result<Vec<About>> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| root.display().to_string())?,
    };
    let _lock = lock(root)?;
    let mut all = Vec::new();
    for entry in entries {
        let path = entry?.path();
        // A folder without this is being made, or none of ours.
        let Ok(bytes) = fs::read(path.join(ABOUT)) else { continue };
        let Ok(about) = serde_json::from_slice::<About>(&bytes) else { continue };
        match Connection::open(&path) {
            Ok(_) => all.push(about),
            Err(_) => remove(&path)?,
        }
    }
    all.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_from_the_moment_at_which_it_is_given() {
        let root = std::env::temp_dir().join(format!("netcell-folder-{}", std::process::id()));
        let first = Folder::make(&root, Some("x")).expect("a folder");
        let again = Folder::make(&root, Some("x")).expect_err("the same name");
        assert!(again.to_string().contains("runs already"), "{again}");
        assert!(root.join("x").join(SOCKET).exists(), "the first one's socket is gone");
        drop(first);
        drop(Folder::make(&root, Some("x")).expect("a name that is free again"));
        // What is somebody else's stays.
        fs::create_dir_all(root.join("cni/pod")).expect("folders");
        let theirs = Folder::make(&root, Some("cni")).expect_err("a folder of another kind");
        assert!(theirs.to_string().contains("no sandbox's"), "{theirs}");
        fs::remove_dir(root.join("cni/pod")).expect("it is still there");
        drop(Folder::make(&root, Some("cni")).expect("an empty folder is as good as none"));
        fs::remove_dir(&root).expect("an empty folder");
    }

    #[test]
    fn a_name_is_one_that_a_folder_may_have() {
        for good in ["a", "web-1", "0.2_x+y", &"x".repeat(128)] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "-x", "a b", "ä", &"x".repeat(129)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }
}
