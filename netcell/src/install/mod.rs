//! What `netcell install` changes on a host, as a plan that can be shown before it is carried out, and taken back.
//!
//! Absent: any restart of a service, and any change of a file that is not in the plan.

mod containerd;
mod docker;
mod files;
mod show;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use files::Root;
pub use show::diff;

/// Where the note of what was installed is, below the prefix.
const MANIFEST: &str = "var/lib/netcell/installed.json";
/// The runtime's executable.
const NETCELL: &str = "usr/local/bin/netcell";
/// The shim's, where containerd finds it in its PATH and it finds the runtime beside itself.
const SHIM: &str = "usr/local/bin/containerd-shim-netcell-v1";
/// The CNI plugin's.
const CNI_PLUGIN: &str = "opt/cni/bin/netcell-cni";
/// A list of plugins to copy from; runtimes read no file of this name.
const SAMPLE: &str = "etc/cni/net.d/99-netcell.conflist.sample";
const SAMPLE_TEXT: &str = include_str!("sample.conflist");
/// What people read is below it.
const SHARE: &str = "usr/local/share/";
/// Where bash, fish and zsh look for completions below it.
pub const COMPLETIONS: [&str; 3] = [
    "bash-completion/completions/netcell",
    "fish/vendor_completions.d/netcell.fish",
    "zsh/site-functions/_netcell",
];
const CONTAINERD: &str = "etc/containerd/config.toml";
const DOCKER: &str = "etc/docker/daemon.json";

/// A part of what is installed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Part {
    /// The CNI plugin and a sample list of plugins.
    Cni,
    /// The runtime entry of containerd, its shim, and the runtime.
    Containerd,
    /// The runtime entry of Docker, and the runtime.
    Docker,
    /// Manual pages, and completions of shells.
    Manuals,
}

/// A file that people or shells read.
pub struct Manual {
    /// Its place below the folder of what programs share.
    place: String,
    text: Vec<u8>,
}

impl Manual {
    /// A file at a place below `/usr/local/share`.
    pub fn new(place: impl Into<String>, text: Vec<u8>) -> Self {
        Self { place: place.into(), text }
    }
}

/// One file that changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Where it is: absolute, links resolved.
    path: PathBuf,
    /// What is there now. None: nothing.
    before: Option<Vec<u8>>,
    /// What shall be there. None: nothing.
    after: Option<Vec<u8>>,
    /// Permission bits of a new file.
    mode: u32,
}

/// All changes, in order.
#[derive(Debug, Default)]
pub struct Plan {
    changes: Vec<Change>,
}

/// What is installed from where.
pub struct Sources {
    /// Content of the executable `netcell`.
    pub netcell: Vec<u8>,
    /// Content of the executable `netcell-cni`; None where there is none.
    pub cni_plugin: Option<Vec<u8>>,
    /// Content of the executable `containerd-shim-netcell-v1`; None where there is none.
    pub shim: Option<Vec<u8>>,
    /// Manual pages and completions.
    pub manuals: Vec<Manual>,
}

/// The note of what was installed.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Manifest {
    /// Files that are ours alone, below the prefix.
    files: Vec<String>,
    /// Files of configuration that were not there before: without our entry they go again.
    #[serde(default)]
    created: Vec<String>,
}

impl Plan {
    /// What has to change below a prefix for some parts; without any named, for those whose folder of configuration is there.
    pub fn install(prefix: &Path, parts: &[Part], sources: &Sources) -> Result<Self> {
        let root = Root::new(prefix)?;
        let is_there = |folder: &str| root.path().join(folder).is_dir();
        let wants = |part: Part| match (parts.is_empty(), part) {
            (false, part) => parts.contains(&part),
            (true, Part::Cni | Part::Manuals) => true,
            (true, Part::Containerd) => is_there("etc/containerd"),
            (true, Part::Docker) => is_there("etc/docker"),
        };
        let mut manifest = read_manifest(&root)?;
        let mut plan = Self::default();
        if wants(Part::Containerd) || wants(Part::Docker) {
            plan.add_ours(&root, &mut manifest, NETCELL, &sources.netcell, 0o755)?;
        }
        let missing = |name: &str, flag: &str| {
            format!(
                "there is no {name} beside netcell: name it with {flag} FILE, or leave it out with --only"
            )
        };
        if wants(Part::Containerd) {
            let shim = sources.shim.as_ref();
            let shim = shim.with_context(|| missing("containerd-shim-netcell-v1", "--shim"))?;
            plan.add_ours(&root, &mut manifest, SHIM, shim, 0o755)?;
        }
        if wants(Part::Cni) {
            let plugin = sources.cni_plugin.as_ref();
            let plugin = plugin.with_context(|| missing("netcell-cni", "--cni-plugin"))?;
            plan.add_ours(&root, &mut manifest, CNI_PLUGIN, plugin, 0o755)?;
            plan.add_ours(&root, &mut manifest, SAMPLE, SAMPLE_TEXT.as_bytes(), 0o644)?;
        }
        if wants(Part::Manuals) {
            for Manual { place, text } in &sources.manuals {
                plan.add_ours(&root, &mut manifest, &format!("{SHARE}{place}"), text, 0o644)?;
            }
        }
        if wants(Part::Containerd) {
            plan.edit(&root, &mut manifest, CONTAINERD, containerd::add)?;
        }
        if wants(Part::Docker) {
            plan.edit(&root, &mut manifest, DOCKER, docker::add)?;
        }
        let note = serde_json::to_vec_pretty(&manifest).context("the note of what is installed")?;
        plan.set(&root, MANIFEST, Some(note), 0o644)?;
        Ok(plan)
    }

    /// What has to change for all of it to be gone.
    pub fn uninstall(prefix: &Path) -> Result<Self> {
        let root = Root::new(prefix)?;
        let mut manifest = read_manifest(&root)?;
        let mut plan = Self::default();
        plan.edit(&root, &mut manifest, CONTAINERD, containerd::remove)?;
        plan.edit(&root, &mut manifest, DOCKER, docker::remove)?;
        for file in &manifest.files {
            plan.set(&root, file, None, 0)?;
        }
        plan.set(&root, MANIFEST, None, 0)?;
        Ok(plan)
    }

    /// The files that change.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Makes the changes; where one fails, those before it are taken back.
    pub fn carry_out(&self) -> Result<()> {
        for (done, change) in self.changes.iter().enumerate() {
            let Err(error) = files::replace(&change.path, change.after.as_deref(), change.mode)
            else {
                continue;
            };
            for change in self.changes[..done].iter().rev() {
                if let Err(error) =
                    files::replace(&change.path, change.before.as_deref(), change.mode)
                {
                    eprintln!("netcell: cannot take back {}: {error:#}", change.path.display());
                }
            }
            return Err(error.context("nothing was changed"));
        }
        Ok(())
    }

    /// A file that is ours alone. Where somebody else's is in its place, that stays.
    fn add_ours(
        &mut self,
        root: &Root,
        manifest: &mut Manifest,
        name: &str,
        content: &[u8],
        mode: u32,
    ) -> Result<()> {
        let known = manifest.files.iter().any(|file| file == name);
        let there = root.read(name)?;
        if !known && there.as_ref().is_some_and(|there| there != content) {
            bail!(
                "{} is there and was not installed by netcell: move it away first",
                root.path().join(name).display()
            );
        }
        if !known && there.is_none() {
            manifest.files.push(name.to_owned());
        }
        self.set(root, name, Some(content.to_owned()), mode)
    }

    /// A file of somebody else in which something of ours is added or removed.
    fn edit(
        &mut self,
        root: &Root,
        manifest: &mut Manifest,
        name: &str,
        edit: impl FnOnce(&str) -> Result<String>,
    ) -> Result<()> {
        let path = root.path().join(name);
        let before = root.read(name)?;
        let text = String::from_utf8(before.clone().unwrap_or_default())
            .with_context(|| format!("{} is not UTF-8", path.display()))?;
        let after = edit(&text).with_context(|| format!("cannot edit {}", path.display()))?;
        if after == text {
            return Ok(());
        }
        if before.is_none() {
            manifest.created.push(name.to_owned());
        }
        let goes = after.is_empty() && manifest.created.iter().any(|file| file == name);
        let after = Some(after.into_bytes()).filter(|_| !goes);
        self.set(root, name, after, 0o644)
    }

    fn set(&mut self, root: &Root, name: &str, after: Option<Vec<u8>>, mode: u32) -> Result<()> {
        let path = root.resolve(name)?;
        let before = root.read(name)?;
        if before != after {
            self.changes.push(Change { path, before, after, mode });
        }
        Ok(())
    }
}

fn read_manifest(root: &Root) -> Result<Manifest> {
    let Some(text) = root.read(MANIFEST)? else { return Ok(Manifest::default()) };
    let path = root.path().join(MANIFEST);
    let manifest: Manifest =
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
    // It says what is removed: nothing but what we install may stand there.
    match manifest.files.iter().find(|file| !is_ours(file)) {
        None => Ok(manifest),
        Some(file) => bail!("{} names {file:?}, which netcell never installs", path.display()),
    }
}

/// Whether a file below the prefix may be one of those that we install. Pages of commands that a later version no longer has are known by their names.
fn is_ours(file: &str) -> bool {
    let is_manual = |place: &str| match place.rsplit_once('/') {
        Some(("man/man1", page)) => {
            page == "netcell.1" || page.starts_with("netcell-") && page.ends_with(".1")
        }
        _ => COMPLETIONS.contains(&place),
    };
    [NETCELL, SHIM, CNI_PLUGIN, SAMPLE].contains(&file)
        || file.strip_prefix(SHARE).is_some_and(is_manual)
}

#[cfg(test)]
mod tests;
