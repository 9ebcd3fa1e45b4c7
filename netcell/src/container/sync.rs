//! What the process that creates a container and its sandbox say to each other until it is made.

use anyhow::{Context, Result, bail};
use platform::host::packets::Connection;
use serde::{Deserialize, Serialize};

use crate::control::{receive, send};

/// A word between the two. The sandbox begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// The sandbox is in its namespaces, and its record names it.
    Joined,
    /// To the sandbox: go on.
    Go,
    /// The sandbox is made.
    Made {
        /// What of its configuration is not there, a line each.
        left_out: Vec<String>,
    },
    /// A program was started.
    Started,
    /// It could not be made.
    Failed {
        /// Why.
        why: String,
    },
}

/// Says a word.
pub fn say(to: &Connection, word: &Word) -> Result<()> {
    send(to, word, &[])
}

/// Says why it could not be made, as far as somebody hears it; gives the exit status of that.
pub fn fail(to: &Connection, error: &anyhow::Error) -> u8 {
    // Its maker may have been killed.
    let _ = say(to, &Word::Failed { why: format!("{error:#}") });
    crate::cli::EXIT_OURS
}

/// Waits for a word. Errors: the other side has failed or gone.
pub fn hear(from: &Connection) -> Result<Word> {
    match receive(from)? {
        Some((Word::Failed { why }, _)) => bail!("{why}"),
        Some((word, _)) => Ok(word),
        None => None.context("the process at the other end has gone"),
    }
}
