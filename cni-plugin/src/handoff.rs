//! The hand-off file: what the runtime is told about one interface of one container (`docs/cni.md` has the format).
//!
//! `DIR/CONTAINER ID/IFNAME.json`, mode 0600 in a folder of mode 0700. It is written whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::config::Bandwidth;
use crate::error::{CniError, Code};
use crate::result::Dns;

/// The version of the format that this file describes. A reader refuses a greater one.
pub(crate) const FORMAT: u32 = 1;

/// The whole file.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Handoff {
    pub(crate) version: u32,
    pub(crate) container_id: String,
    pub(crate) ifname: String,
    /// Path of the container's network namespace, as the plugin was given it.
    pub(crate) netns: String,
    /// Name of the network in the CNI configuration.
    pub(crate) network: String,
    /// `NAMESPACE/NAME` of the pod, where the runtime tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<String>,
    pub(crate) mode: Carrier,
    /// The device of mode `tap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tap: Option<Tap>,
    pub(crate) mac: String,
    /// In bytes.
    pub(crate) mtu: u32,
    pub(crate) addresses: Vec<Address>,
    pub(crate) routes: Vec<Route>,
    /// Permanent neighbours.
    pub(crate) neighbours: Vec<Neighbour>,
    pub(crate) dns: Dns,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bandwidth: Option<Bandwidth>,
    /// What the pod's policy is called; opaque here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
}

/// How frames come and go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Carrier {
    /// AF_PACKET on the interface itself.
    Packet,
    /// A TAP device that waits for the runtime to open it.
    Tap,
}

/// A TAP device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Tap {
    pub(crate) name: String,
    /// Path of the namespace that it is in; none for the node's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) netns: Option<String>,
}

/// An address of the interface.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Address {
    pub(crate) address: IpNet,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<IpAddr>,
    /// No route follows from its prefix.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) no_prefix_route: bool,
}

/// A route through the interface, besides those that follow from addresses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Route {
    pub(crate) dst: IpNet,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gw: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) src: Option<IpAddr>,
    /// The gateway is on the link whatever the addresses say.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) onlink: bool,
    pub(crate) table: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<u32>,
    pub(crate) scope: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advmss: Option<u32>,
}

/// A neighbour that is not to be asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Neighbour {
    pub(crate) address: IpAddr,
    pub(crate) mac: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(it: &bool) -> bool {
    !it
}

/// What a file must say about itself for it to be ours to remove.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Head {
    pub(crate) network: String,
    pub(crate) netns: String,
}

/// Held while what several pods share is looked at and changed: bridges, the table of rules.
pub(crate) struct Lock {
    _file: Flock<File>,
}

/// The folder of all hand-off files.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// The folder of a configuration; it need not exist.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where an interface's file is. Both names were checked and are no paths.
    pub(crate) fn file(&self, container_id: &str, ifname: &str) -> PathBuf {
        self.0.join(container_id).join(format!("{ifname}.json"))
    }

    /// Writes a file, in place of an older one.
    pub(crate) fn write(&self, handoff: &Handoff) -> Result<(), CniError> {
        let path = self.file(&handoff.container_id, &handoff.ifname);
        let text = serde_json::to_vec_pretty(handoff).map_err(io::Error::from);
        let text = text.map(|text| [text, b"\n".to_vec()].concat());
        text.and_then(|text| write_whole(&path, &text)).map_err(|e| failed("write", &path, &e))
    }

    /// The file's text, or None where there is none.
    pub(crate) fn read(
        &self,
        container_id: &str,
        ifname: &str,
    ) -> Result<Option<Vec<u8>>, CniError> {
        let path = self.file(container_id, ifname);
        match fs::read(&path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(failed("read", &path, &e)),
        }
    }

    /// Removes a file, and the container's folder with its last one.
    pub(crate) fn remove(&self, container_id: &str, ifname: &str) -> Result<(), CniError> {
        let path = self.file(container_id, ifname);
        match fs::remove_file(&path) {
            Err(e) if !is_absent(&e) => return Err(failed("remove", &path, &e)),
            _ => {}
        }
        // Another interface's file may be in it, or be written just now.
        let _ = fs::remove_dir(self.0.join(container_id));
        Ok(())
    }

    /// Every attachment that has a file: container id, name of the interface. What else lies there is nobody's business.
    pub(crate) fn attachments(&self) -> Result<Vec<(String, String)>, CniError> {
        let list = |path: &Path| match fs::read_dir(path) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>(),
            Err(e) if is_absent(&e) => Ok(Vec::new()),
            Err(e) => Err(e),
        };
        let mut found = Vec::new();
        for container in list(&self.0).map_err(|e| failed("read", &self.0, &e))? {
            let Ok(container_id) = container.file_name().into_string() else { continue };
            let path = container.path();
            if !container.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            for file in list(&path).map_err(|e| failed("read", &path, &e))? {
                let name = file.file_name();
                let ifname = name.to_str().and_then(|name| name.strip_suffix(".json"));
                if let Some(ifname) = ifname.filter(|name| !name.is_empty()) {
                    found.push((container_id.clone(), ifname.to_owned()));
                }
            }
        }
        Ok(found)
    }

    /// Waits for the lock that all calls with this folder share.
    pub(crate) fn lock(&self) -> Result<Lock, CniError> {
        // No container id begins with a dot.
        let path = self.0.join(".lock");
        let open = || {
            make_folder(&self.0)?;
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600).open(&path)
        };
        let file = open().map_err(|e| failed("open", &path, &e))?;
        let locked = Flock::lock(file, FlockArg::LockExclusive);
        let file = locked.map_err(|(_, errno)| failed("lock", &path, &errno.into()))?;
        Ok(Lock { _file: file })
    }

    /// Makes the folder where it is absent: whether ADD could write.
    pub(crate) fn prepare(&self) -> Result<(), CniError> {
        let tried = make_folder(&self.0).and_then(|()| {
            nix::unistd::access(&self.0, nix::unistd::AccessFlags::W_OK).map_err(io::Error::from)
        });
        tried.map_err(|e| failed("write into", &self.0, &e))
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn failed(what: &str, path: &Path, why: &io::Error) -> CniError {
    CniError::new(Code::Io, format!("cannot {what} {}", path.display())).because(why)
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes beside the file and renames, so that a reader sees all of it or nothing.
fn write_whole(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    make_folder(folder)?;
    // No name of an interface has more than 15 letters, so that this is no hand-off file of another one.
    let beside = path.with_extension(format!("{}.writing", std::process::id()));
    let written = (|| {
        // Left by a plugin that was killed, which had our process's number.
        let _ = fs::remove_file(&beside);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
        // Only where it is empty.
        let _ = fs::remove_dir(folder);
    }
    written
}
