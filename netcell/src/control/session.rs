//! A program that was started over a connection: what its keeper says, and how it ended.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::thread;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use oci_spec::runtime;
use platform::host::packets::Connection;
use platform::host::terminal::WindowSize;
use sentry::{Remote, Stdio};

use super::message::{Answer, Request, receive, send};
use crate::oci::{process, spec};

/// A `process` object is no longer than this in bytes.
const PROCESS_MAX: u64 = 4 << 20;

/// Starts a program and tells how it ended. Its end is told also where its keeper has gone before.
pub(super) fn exec(socket: &Connection, remote: &Remote, descriptors: Vec<OwnedFd>) -> Result<()> {
    let (description, streams) = description_and_streams(descriptors)?;
    let text = spec::read_bounded(File::from(description), PROCESS_MAX).context("the process")?;
    let asked: runtime::Process =
        serde_json::from_slice(&text).context("the process makes no sense")?;
    let terminals = process::terminals(&asked);
    let stdio = Stdio { descriptors: streams.map(Some), terminals };
    let running = remote.start(process::of_spec(&asked)?, stdio)?;
    send(socket, &Answer::Started, &[])?;
    thread::scope(|scope| -> Result<()> {
        let listener = thread::Builder::new().name("exec".into());
        listener.spawn_scoped(scope, || {
            heed(socket, |number| running.signal(number), |size| running.resize(size));
            // Without a keeper there is no program.
            running.signal(Signal::SIGKILL as i32);
        })?;
        let status = running.wait().exit_status();
        // The keeper may have gone.
        let _ = send(socket, &Answer::Exited { status }, &[]);
        let _ = socket.close();
        Ok(())
    })
}

/// What comes with the request for a program: what it is, and its standard streams.
pub(super) fn description_and_streams(
    descriptors: Vec<OwnedFd>,
) -> Result<(OwnedFd, [OwnedFd; 3])> {
    let Ok([description, input, output, error]) = <[OwnedFd; 4]>::try_from(descriptors) else {
        bail!("a program needs its description and three streams");
    };
    Ok((description, [input, output, error]))
}

/// Does what a keeper asks for, until it has gone.
pub(crate) fn heed(socket: &Connection, signal: impl Fn(i32), resize: impl Fn(WindowSize)) {
    loop {
        match receive(socket) {
            Ok(Some((Request::Signal { number, .. }, _))) => signal(number),
            Ok(Some((Request::Resize { rows, columns }, _))) => {
                resize(WindowSize { rows, columns, ..WindowSize::default() });
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return,
        }
    }
}
