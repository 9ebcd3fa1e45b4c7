//! Calls of the OCI runtime, with its errors as it logs them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Result, bail};
use serde::Deserialize;

use crate::logger::Source;
use crate::options::Options;
use crate::reaper::Reaper;

/// Bytes of its log that a call can add and that are read.
const LOG_MAX: u64 = 1 << 20;

/// An OCI runtime with the folder of its state.
#[derive(Clone)]
pub struct Runtime {
    binary: PathBuf,
    root: PathBuf,
    systemd_cgroup: bool,
    debug: bool,
    namespace: String,
    reaper: Arc<Reaper>,
}

/// A line of its log.
#[derive(Deserialize)]
struct Line {
    level: String,
    msg: String,
}

impl Runtime {
    /// That of a namespace of containerd.
    pub fn new(options: &Options, namespace: &str, debug: bool, reaper: Arc<Reaper>) -> Self {
        Self {
            binary: options.runtime(),
            root: options.root().join(namespace),
            systemd_cgroup: options.systemd_cgroup,
            debug: debug || options.debug,
            namespace: namespace.to_owned(),
            reaper,
        }
    }

    /// Whose output a logger gets.
    pub fn source<'a>(&'a self, id: &'a str) -> Source<'a> {
        Source { namespace: &self.namespace, id, reaper: &self.reaper }
    }

    /// A call: its words follow. Its log is in the bundle.
    pub fn call(&self, bundle: &Path, verb: &str) -> Call<'_> {
        let log = bundle.join("log.json");
        let mut command = Command::new(&self.binary);
        command.arg("--root").arg(&self.root).arg("--log").arg(&log);
        command.args(["--log-format", "json"]);
        if self.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        if self.debug {
            command.arg("--debug");
        }
        command.arg(verb).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Call { runtime: self, verb: verb.to_owned(), command, log }
    }
}

/// A call of the runtime that is being put together.
pub struct Call<'a> {
    runtime: &'a Runtime,
    verb: String,
    /// For words and streams.
    pub command: Command,
    log: PathBuf,
}

impl Call<'_> {
    /// Adds a word.
    pub fn arg(mut self, word: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(word);
        self
    }

    /// Runs it to its end. Errors: what its log says last, else its status.
    pub fn run(mut self) -> Result<()> {
        // The log stays: the sandbox writes its warnings there. Lines of calls before are not this one's.
        let before = std::fs::metadata(&self.log).map_or(0, |log| log.len());
        let exit = self.runtime.reaper.run(&mut self.command)?;
        if exit.code == 0 {
            return Ok(());
        }
        match last_error(&self.said_since(before).unwrap_or_default()) {
            Some(why) => bail!("{} {}: {why}", self.runtime.binary.display(), self.verb),
            None => bail!(
                "{} {} ended with status {}",
                self.runtime.binary.display(),
                self.verb,
                exit.code
            ),
        }
    }

    /// What the log says beyond its first bytes.
    fn said_since(&self, before: u64) -> std::io::Result<String> {
        let mut log = File::open(&self.log)?;
        log.seek(SeekFrom::Start(before))?;
        let mut text = Vec::new();
        log.take(LOG_MAX).read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Runs it, and gives what it wrote to standard output.
    pub fn read(mut self, into: &Path) -> Result<String> {
        self.command.stdout(File::create(into)?);
        self.run()?;
        let text = std::fs::read_to_string(into)?;
        let _ = std::fs::remove_file(into);
        Ok(text)
    }
}

fn last_error(log: &str) -> Option<String> {
    let lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let mut errors = lines.filter(|line| matches!(line.level.as_str(), "error" | "fatal"));
    errors.next().map(|line| line.msg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_a_log_is_told() {
        let log = r#"{"level":"error","msg":"first","time":"t"}
{"level":"error","msg":"no such rootfs","time":"t"}
{"level":"info","msg":"later","time":"t"}
half a li"#;
        assert_eq!(last_error(log).as_deref(), Some("no such rootfs"));
        assert_eq!(last_error("plain words"), None);
    }
}
