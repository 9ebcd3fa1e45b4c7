//! Programs that get what a process writes (streams to `binary://`), as containerd's own shim starts them: descriptors 3 and 4 are the
//! process's standard output and error, and the end of 5 says that the program is ready.

use std::ffi::CString;
use std::fs::File;
use std::io::pipe;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal as Known};
use nix::sys::stat::Mode;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::reaper::Reaper;

/// The scheme of such streams.
pub const SCHEME: &str = "binary";
/// Where the program finds the streams, and what it closes when it is ready.
const TARGETS: [i32; 3] = [3, 4, 5];
/// For it to be ready.
const START: Duration = Duration::from_secs(60);
/// For it to end when there is nothing more to read, and then when it was told to.
const ENDS: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(2)];

/// Whose output it is.
pub struct Source<'a> {
    /// containerd's namespace.
    pub namespace: &'a str,
    /// The container, or the process that is executed in it.
    pub id: &'a str,
    pub reaper: &'a Arc<Reaper>,
}

/// A program that runs.
pub struct Logger(OwnedFd);

/// What a process writes to.
pub struct Ends {
    pub stdout: File,
    pub stderr: File,
}

impl Logger {
    /// Starts the program that a URI names (`binary:///path?key=value`), and waits until it is ready.
    pub fn start(uri: &str, source: &Source<'_>) -> Result<(Self, Ends)> {
        let told = || format!("the stream {uri}");
        let (program, words) = parse(uri).with_context(told)?;
        let ((stdout_from, stdout), (stderr_from, stderr)) = (pipe()?, pipe()?);
        let (ready, ready_to) = pipe()?;
        let given = [stdout_from.as_fd(), stderr_from.as_fd(), ready_to.as_fd()];
        // None of them may be what another one becomes.
        let above = TARGETS[2] + 1;
        let given = given.map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, above));
        let mut actions = PosixSpawnFileActions::init()?;
        for standard in 0..3 {
            actions.add_open(standard, c"/dev/null", OFlag::O_RDWR, Mode::empty())?;
        }
        let mut kept = Vec::new();
        for (from, to) in given.into_iter().zip(TARGETS) {
            let from = from?;
            actions.add_dup2(from.as_raw_fd(), to)?;
            kept.push(from);
        }
        let mut attributes = PosixSpawnAttr::init()?;
        attributes.set_flags(
            PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF,
        )?;
        attributes.set_sigmask(&SigSet::empty())?;
        attributes.set_sigdefault(&SigSet::from(Known::SIGPIPE))?;
        let environment = [("CONTAINER_ID", source.id), ("CONTAINER_NAMESPACE", source.namespace)]
            .map(|(name, value)| CString::new(format!("{name}={value}")));
        let environment = environment.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut process = None;
        source.reaper.start_child(|| {
            let path = Path::new(&program);
            let pid = posix_spawn(path, &actions, &attributes, &words, &environment)
                .with_context(|| format!("cannot run {program}"))?;
            // While nobody can have waited for it: the number is its own.
            let known = Pid::from_raw(pid.as_raw()).context("a process has a number")?;
            process = Some(pidfd_open(known, PidfdFlags::empty())?);
            Ok(pid.as_raw())
        })?;
        let logger = Self(process.context("it was started")?);
        drop((kept, ready_to, stdout_from, stderr_from));
        if !readable(ready, START)? {
            logger.end();
            bail!("{program} did not close descriptor 5, as one does that is ready");
        }
        let file = |end: std::io::PipeWriter| File::from(OwnedFd::from(end));
        Ok((logger, Ends { stdout: file(stdout), stderr: file(stderr) }))
    }

    /// Lets it read what there is, and ends it where it does not end then.
    pub fn end(self) {
        let last_words = [Signal::TERM, Signal::KILL];
        for (patience, signal) in ENDS.into_iter().zip(last_words) {
            match readable(&self.0, patience) {
                Ok(true) => return,
                // One that has ended meanwhile needs no signal.
                Ok(false) | Err(_) => drop(pidfd_send_signal(&self.0, signal)),
            }
        }
    }
}

/// Whether there is something to read, or an end, before the time is over.
fn readable(what: impl AsFd, patience: Duration) -> Result<bool> {
    let mut asked = [PollFd::new(what.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(patience)?;
    loop {
        match poll(&mut asked, patience) {
            Ok(count) => return Ok(count > 0),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The program of a URI, and its words: its own name, and each key and value of the query.
fn parse(uri: &str) -> Result<(String, Vec<CString>)> {
    let rest = uri.strip_prefix(SCHEME).and_then(|rest| rest.strip_prefix("://"));
    let rest = rest.context("it is no binary://")?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = unescape(path)?;
    ensure!(path.starts_with('/'), "{path:?} is no absolute path");
    let mut words = vec![CString::new(path.as_str())?];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        for word in [key, value] {
            // In a query a space may be a plus.
            words.push(CString::new(unescape(&word.replace('+', " "))?)?);
        }
    }
    Ok((path, words))
}

/// RFC 3986, section 2.1: "percent-encoded octet".
fn unescape(text: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, after) = after.split_at_checked(2).context("a % without two digits")?;
        ensure!(digits.iter().all(u8::is_ascii_hexdigit), "a % without two digits");
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits)?, 16)?);
        rest = after;
    }
    String::from_utf8(bytes).context("it is no UTF-8")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_query_becomes_words() {
        let (path, words) = parse("binary:///a%20b/c?x=1+2&y=%2Fz&flag").expect("a URI");
        assert_eq!(path, "/a b/c");
        let words: Vec<&str> = words.iter().map(|word| word.to_str().expect("text")).collect();
        assert_eq!(words, ["/a b/c", "x", "1 2", "y", "/z", "flag", ""]);
        for bad in ["binary://host/x", "binary://", "binary:///%", "binary:///%zz", "binary:///%00"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_logger_has_both_streams_and_ends_with_them() {
        let folder = std::env::temp_dir().join(format!("netcell-logger-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (program, log) = (folder.join("logger"), folder.join("log"));
        let script = "#!/bin/sh\nexec 5>&-\necho \"$CONTAINER_NAMESPACE $CONTAINER_ID $2\" >> \"$2\"\n/bin/cat <&3 >> \"$2\"\n/bin/cat <&4 >> \"$2\"\n";
        std::fs::write(&program, script).expect("a file");
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("a program");
        let reaper = Reaper::start().expect("a reaper");
        let source = Source { namespace: "space", id: "one", reaper: &reaper };
        let uri = format!("binary://{}?log={}", program.display(), log.display());
        let (logger, mut ends) = Logger::start(&uri, &source).expect("a logger");
        ends.stdout.write_all(b"out\n").expect("room");
        ends.stderr.write_all(b"err\n").expect("room");
        drop(ends);
        logger.end();
        let text = std::fs::read_to_string(&log).expect("a log");
        assert_eq!(text, format!("space one {}\nout\nerr\n", log.display()));
        assert!(Logger::start("binary:///none/at/all", &source).is_err());
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
