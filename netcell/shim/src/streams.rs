//! Standard streams: the FIFOs and files that containerd names are handed to the container as they are, and nothing is copied. Where it
//! names a program, that has the other ends.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::logger::{self, Logger, Source};

/// Where the streams of a process lead, as containerd says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
    pub terminal: bool,
}

/// A stream that is open: what the container gets, and the other end, which is held so that the FIFO lives.
#[derive(Debug)]
pub struct Open {
    pub end: File,
    pub held: Option<File>,
}

/// What is held while a process lives.
#[derive(Default)]
pub struct Held {
    /// Whoever reads the FIFO sees no end before this is gone.
    pub stdin: Option<File>,
    /// Whoever writes sees no broken pipe before these are gone, also when containerd is restarted.
    pub outputs: Vec<File>,
}

/// Opens standard input. None: there is none.
pub fn input(target: &str) -> Result<Option<Open>> {
    let Some(path) = fifo_or_file(target)? else { return Ok(None) };
    let told = || format!("standard input {}", path.display());
    // A writer that comes later must not be waited for; reads wait afterwards.
    let end = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(&path)
        .with_context(told)?;
    let is_fifo = end.metadata()?.file_type().is_fifo();
    let held = is_fifo.then(|| OpenOptions::new().write(true).open(&path)).transpose();
    let held = held.with_context(told)?;
    fcntl(&end, FcntlArg::F_SETFL(OFlag::empty())).with_context(told)?;
    Ok(Some(Open { end, held }))
}

/// Opens standard output or error. None: there is none.
pub fn output(target: &str) -> Result<Option<Open>> {
    let Some(path) = fifo_or_file(target)? else { return Ok(None) };
    let told = || format!("standard output {}", path.display());
    let is_fifo = path.metadata().is_ok_and(|meta| meta.file_type().is_fifo());
    if !is_fifo {
        let end = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        return Ok(Some(Open { end: end.with_context(told)?, held: None }));
    }
    let held = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(&path)
        .with_context(told)?;
    let end = OpenOptions::new().write(true).open(&path).with_context(told)?;
    Ok(Some(Open { end, held: Some(held) }))
}

/// What a process writes to.
#[derive(Default)]
pub struct Outputs {
    pub stdout: Option<Open>,
    pub stderr: Option<Open>,
    /// The program that reads both.
    pub logger: Option<Logger>,
}

/// A path, `fifo://` or `file://` with one; nothing for nothing.
fn fifo_or_file(target: &str) -> Result<Option<PathBuf>> {
    let path = match target.split_once("://") {
        None => target,
        Some(("fifo" | "file", path)) => path.split('?').next().unwrap_or(path),
        Some((scheme, _)) => {
            bail!("streams to {scheme}: are not supported; fifo:, file: and binary: are")
        }
    };
    match Path::new(path) {
        path if path.as_os_str().is_empty() => Ok(None),
        path if path.is_absolute() => Ok(Some(path.to_owned())),
        path => bail!("the stream {} is no absolute path", path.display()),
    }
}

impl Streams {
    /// Opens standard output and error.
    pub fn outputs(&self, source: &Source<'_>) -> Result<Outputs> {
        let is_program = self.stdout.split_once("://").is_some_and(|(s, _)| s == logger::SCHEME);
        if !is_program {
            let (stdout, stderr) = (output(&self.stdout)?, output(&self.stderr)?);
            return Ok(Outputs { stdout, stderr, logger: None });
        }
        // One program has both, also where a terminal is all that there is.
        if !self.stderr.is_empty() && self.stderr != self.stdout {
            bail!("standard error goes to {}, and output to {}", self.stderr, self.stdout);
        }
        let (logger, ends) = Logger::start(&self.stdout, source)?;
        let open = |end| Some(Open { end, held: None });
        Ok(Outputs { stdout: open(ends.stdout), stderr: open(ends.stderr), logger: Some(logger) })
    }

    /// Standard input, and what is held for it.
    pub fn open_input(&self) -> Result<(Stdio, Option<File>)> {
        let open = input(&self.stdin)?;
        Ok(open.map_or_else(|| (Stdio::null(), None), |open| (open.end.into(), open.held)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn fifos_need_nobody_at_the_other_end() {
        let folder = std::env::temp_dir().join(format!("netcell-shim-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = |name: &str| folder.join(name).to_str().expect("a path").to_owned();
        for name in ["in", "out"] {
            nix::unistd::mkfifo(folder.join(name).as_path(), Mode::S_IRWXU).expect("a FIFO");
        }
        let mut out = output(&path("out")).expect("an output").expect("a stream");
        out.end.write_all(b"hello").expect("room");
        let mut reader = File::open(path("out")).expect("a reader");
        drop(out);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("an end");
        assert_eq!(text, "hello");

        let mut stdin = input(&path("in")).expect("an input").expect("a stream");
        File::create(path("in")).expect("a writer").write_all(b"abc").expect("room");
        // The end comes when it is no longer held.
        drop(stdin.held.take());
        let mut text = String::new();
        stdin.end.read_to_string(&mut text).expect("an end");
        assert_eq!(text, "abc");
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn other_targets_are_refused() {
        assert!(output("tcp://host:1").is_err());
        assert!(output("relative/path").is_err());
        assert!(output("").expect("nothing").is_none() && input("").expect("nothing").is_none());
    }
}
