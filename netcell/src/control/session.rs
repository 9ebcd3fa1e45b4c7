//! A program that was started over a connection: what its keeper says, and how it ended.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::thread;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use oci_spec::runtime;
use platform::host::packets::Connection;
use platform::host::terminal::WindowSize;
use sentry::{HostTerminals, Remote, Running, Stdio};

use super::message::{Answer, Request, receive, send};
use crate::oci::process;

/// A `process` object is no longer than this in bytes.
const PROCESS_MAX: u64 = 4 << 20;

/// Starts a program and tells how it ended. Its end is told also where its keeper has gone before.
pub(super) fn exec(socket: &Connection, remote: &Remote, descriptors: Vec<OwnedFd>) -> Result<()> {
    let Ok([description, input, output, error]) = <[OwnedFd; 4]>::try_from(descriptors) else {
        bail!("a program needs its description and three streams");
    };
    let mut text = Vec::new();
    File::from(description).take(PROCESS_MAX).read_to_end(&mut text)?;
    let asked: runtime::Process =
        serde_json::from_slice(&text).context("the process makes no sense")?;
    let terminals = match asked.terminal().unwrap_or(false) {
        true => HostTerminals::Connected,
        false => HostTerminals::Streams,
    };
    let stdio = Stdio { descriptors: [Some(input), Some(output), Some(error)], terminals };
    let running = remote.start(process::of_spec(&asked)?, stdio)?;
    send(socket, &Answer::Started, &[])?;
    thread::scope(|scope| -> Result<()> {
        let listener = thread::Builder::new().name("exec".into());
        listener.spawn_scoped(scope, || listen(socket, &running))?;
        let status = running.wait().exit_status();
        // The keeper may have gone.
        let _ = send(socket, &Answer::Exited { status }, &[]);
        let _ = socket.close();
        Ok(())
    })
}

/// Does what the keeper asks for. Without a keeper there is no program.
fn listen(socket: &Connection, running: &Running) {
    loop {
        match receive(socket) {
            Ok(Some((Request::Signal { number, .. }, _))) => running.signal(number),
            Ok(Some((Request::Resize { rows, columns }, _))) => {
                running.resize(WindowSize { rows, columns, ..WindowSize::default() });
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    running.signal(Signal::SIGKILL as i32);
}
