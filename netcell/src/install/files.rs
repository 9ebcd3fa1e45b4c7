//! Files below a prefix: read, and replaced whole. A link that leads out of the prefix is refused.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The folder that stands for `/`.
pub(super) struct Root(PathBuf);

impl Root {
    /// An existing folder.
    pub(super) fn new(prefix: &Path) -> Result<Self> {
        let path =
            fs::canonicalize(prefix).with_context(|| format!("no folder {}", prefix.display()))?;
        if !path.is_dir() {
            bail!("{} is no folder", prefix.display());
        }
        Ok(Self(path))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The place of a file, links resolved as far as the path exists.
    pub(super) fn resolve(&self, name: &str) -> Result<PathBuf> {
        let whole = self.0.join(name);
        let mut missing = Vec::new();
        let mut existing = whole.as_path();
        let found = loop {
            match fs::canonicalize(existing) {
                Ok(found) => break found,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    if fs::symlink_metadata(existing).is_ok() {
                        bail!("{} is a link that leads nowhere", existing.display());
                    }
                }
                Err(e) => {
                    return Err(e)
                        .with_context(|| format!("cannot look at {}", existing.display()));
                }
            }
            missing.extend(existing.file_name());
            existing = existing.parent().unwrap_or(&self.0);
        };
        if !found.starts_with(&self.0) {
            bail!(
                "{} leads to {}, out of {}",
                existing.display(),
                found.display(),
                self.0.display()
            );
        }
        Ok(missing.iter().rev().fold(found, |path, part| path.join(part)))
    }

    /// The content of a file, or None where there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.resolve(name)?;
        match fs::read(&path) {
            Ok(content) => Ok(Some(content)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

/// Puts content in the place of a file, which keeps its permissions where it is there; None removes it.
pub(super) fn replace(path: &Path, content: Option<&[u8]>, mode: u32) -> Result<()> {
    let done = match content {
        Some(content) => write(path, content, mode),
        None => match fs::remove_file(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        },
    };
    let what = if content.is_some() { "write" } else { "remove" };
    done.with_context(|| format!("cannot {what} {}", path.display()))
}

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mode = fs::metadata(path).map_or(mode, |m| m.permissions().mode() & 0o7777);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let written = (|| {
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(content)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}
