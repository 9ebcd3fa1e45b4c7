//! `netcell capture`: what passes the interfaces of a sandbox that runs, from now on.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use platform::host::signals::SignalSource;

use super::Globals;
use crate::control::{Answer, Connection, Request};

const EXAMPLES: &str = "\
Examples:
  netcell capture web -w t.pcapng                 until ^C, or until the sandbox ends
  netcell capture web -c 100 -w t.pcapng          a hundred frames
  netcell capture web -i lo | tcpdump -nr -       what its programs say to each other
  netcell capture web | wireshark -k -i -         as it happens

Each packet has its direction, and a comment that names the process whose socket it is.";

/// Capture what passes a running sandbox's interfaces, as pcapng.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct CaptureArgs {
    /// The sandbox: its name, as netcell list shows it
    #[arg(value_name = "ID")]
    id: String,
    /// An interface; may be repeated. Without it: all but loopback
    #[arg(long, short, value_name = "NAME")]
    interface: Vec<String>,
    /// Where to; - is standard output
    #[arg(long, short, value_name = "FILE.pcapng|-", default_value = "-")]
    write: PathBuf,
    /// End after so many frames
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
}

/// Captures, and gives the exit status.
pub fn run(globals: &Globals, args: CaptureArgs) -> Result<u8> {
    // An end by ^C is an end in order: what was captured is whole.
    let signals = SignalSource::new(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])?;
    let sandbox = Connection::to(&globals.root(), &args.id)?;
    let file = output(&args.write)?;
    let name = args.write.display().to_string();
    let request = Request::Capture { interfaces: args.interface, limit: args.count, name };
    sandbox.ask(&request, &[file.as_fd()])?;
    drop(file);
    let until = args.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    wait(&sandbox, &signals, until)?;
    sandbox.end()?;
    match sandbox.answer()? {
        Some(Answer::Ended { frames, dropped, error }) => {
            let lost =
                if dropped > 0 { format!(", {dropped} of them lost") } else { String::new() };
            eprintln!("netcell: {frames} frames captured{lost}");
            error.map_or(Ok(0), |error| bail!("{error}"))
        }
        Some(Answer::Refused { why }) => bail!("{why}"),
        Some(other) => bail!("the sandbox answers what makes no sense: {other:?}"),
        None => bail!("the sandbox was killed: the capture may end within a frame"),
    }
}

fn output(path: &PathBuf) -> Result<OwnedFd> {
    if path.as_os_str() != "-" {
        let told = || format!("cannot write {}", path.display());
        return Ok(File::create(path).with_context(told)?.into());
    }
    if io::stdout().is_terminal() {
        bail!("a capture is nothing to read on a terminal: give -w FILE, or a pipe to a program");
    }
    Ok(io::stdout().as_fd().try_clone_to_owned()?)
}

/// Waits for a signal, the time, or an answer of the sandbox.
fn wait(sandbox: &Connection, signals: &SignalSource, until: Option<Instant>) -> Result<()> {
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = match left {
            None => PollTimeout::NONE,
            Some(left) => PollTimeout::try_from(left + Duration::from_millis(1))?,
        };
        let mut ready = [sandbox.as_fd(), signals.descriptor()]
            .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN));
        match poll(&mut ready, timeout) {
            Ok(0) if left.is_some_and(|left| !left.is_zero()) => {}
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => return Ok(()),
        }
    }
}
