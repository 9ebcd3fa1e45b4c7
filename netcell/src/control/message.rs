//! What is said over the socket.

use std::os::fd::{BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use platform::host::packets::Connection;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// No message is longer.
const LONGEST: usize = 16 * 1024;

/// What a sandbox is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// To write what passes its interfaces onto the descriptor that comes with this, until the connection ends.
    Capture {
        /// Their names; none: all but loopback.
        interfaces: Vec<String>,
        /// After how many frames it ends by itself.
        limit: Option<u64>,
        /// What the descriptor is called in errors.
        name: String,
    },
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// It is done from now on.
    Started,
    /// It is over.
    Ended {
        /// Frames captured.
        frames: u64,
        /// Frames lost because nobody took them in time.
        dropped: u64,
        /// What went wrong.
        error: Option<String>,
    },
    /// It cannot be done.
    Refused {
        /// Why.
        why: String,
    },
}

/// Sends a message, and a descriptor with it.
pub fn send(
    to: &Connection,
    message: &impl Serialize,
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > LONGEST {
        bail!("the message is too long");
    }
    Ok(to.send(&bytes, descriptor)?)
}

/// The next message with its descriptor; None where the other side has gone.
pub fn receive<T: DeserializeOwned>(from: &Connection) -> Result<Option<(T, Option<OwnedFd>)>> {
    let mut bytes = vec![0; LONGEST];
    let Some(packet) = from.receive(&mut bytes)? else { return Ok(None) };
    if packet.is_cut {
        bail!("a message is longer than {LONGEST} bytes");
    }
    let text = &bytes[..packet.len];
    let message = serde_json::from_slice(text).context("a message that makes no sense")?;
    Ok(Some((message, packet.descriptor)))
}
