//! What is said over the socket.

use std::os::fd::{BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use platform::host::packets::Connection;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::oci::files::Source;

/// No message is longer.
const LONGEST: usize = 128 * 1024;

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
    /// To start the first program of a container that was created.
    Start,
    /// To send a signal to the first program, or to all.
    Signal {
        /// Its number.
        number: i32,
        /// Whether every process gets it.
        all: bool,
    },
    /// To start a further program. Beside it come a file with the `process` object of the runtime specification, and standard input,
    /// output and error. The connection is the program's from then on: [`Self::Signal`] and [`Self::Resize`] may follow, and its end ends
    /// the program.
    Exec,
    /// The window of the program's terminal has another size.
    Resize {
        /// Lines.
        rows: u16,
        /// Characters of a line.
        columns: u16,
    },
    /// To list the processes.
    Processes,
    /// To tell what the programs use.
    Usage,
    /// To limit the number of tasks.
    LimitTasks {
        /// How many there may be; none is no limit.
        most: Option<u64>,
    },
    /// To tell programs of so much memory.
    ShowMemory {
        /// How many bytes; none is no limit.
        most: Option<u64>,
    },
    /// To keep every program from running, until [`Self::Resume`].
    Pause,
    /// To let them go on.
    Resume,
    /// What follows is about this container, which was added to the sandbox. It has no answer of its own.
    Of {
        /// Its name.
        container: String,
    },
    /// To make a further container. Beside it come a file with its configuration, and standard input, output and error; [`Self::Descriptors`]
    /// with the files that it needs follow. The connection is the container's from then on: [`Self::Signal`] and [`Self::Resize`] may
    /// follow, and its end ends the container.
    Add {
        /// Its name.
        id: String,
        /// What there is for each bind mount.
        sources: Vec<Source>,
        /// How many descriptors follow.
        descriptors: usize,
        /// Whose namespaces it shares.
        joined: Joined,
    },
    /// Descriptors for what came before.
    Descriptors,
    /// To wait for the end of the container, which is told by the connection's.
    Wait,
}

/// The containers whose namespaces another one shares, by name; where there is none, it has its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Joined {
    /// Processes.
    pub pids: Option<String>,
    /// System V shared memory.
    pub ipc: Option<String>,
    /// Host and domain name.
    pub uts: Option<String>,
}

/// A container that is to be added, with all that came for it.
#[derive(Debug)]
pub struct Addition {
    /// Its name.
    pub id: String,
    /// What there is for each bind mount.
    pub sources: Vec<Source>,
    /// Whose namespaces it shares.
    pub joined: Joined,
    /// A file with its configuration.
    pub description: OwnedFd,
    /// Its standard streams.
    pub streams: [OwnedFd; 3],
    /// The root directory, and what goes with the sources.
    pub descriptors: Vec<OwnedFd>,
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
    /// The program that was asked for has ended.
    Exited {
        /// Its exit status, 128 and more where a signal ended it.
        status: u8,
    },
    /// The processes.
    Processes {
        /// By ascending id.
        all: Vec<ProcessLine>,
    },
    /// What the programs use.
    Usage {
        /// CPU time in nanoseconds.
        cpu_ns: u64,
        /// Resident memory in bytes.
        memory: u64,
        /// Tasks.
        tasks: u64,
        /// The limit of memory in bytes, where there is one.
        memory_max: Option<u64>,
    },
    /// It cannot be done.
    Refused {
        /// Why.
        why: String,
    },
}

/// A process inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessLine {
    /// Its id inside.
    pub pid: u32,
    /// Its parent's; 0 where that is outside.
    pub ppid: u32,
    /// Its real user id.
    pub uid: u32,
    /// CPU time in nanoseconds.
    pub cpu_ns: u64,
    /// Seconds since it began.
    pub age_s: u64,
    /// Its command line, or its name where it has none.
    pub command: String,
}

/// Sends a message, and descriptors with it.
pub fn send(
    to: &Connection,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > LONGEST {
        bail!("the message is too long");
    }
    Ok(to.send(&bytes, descriptors)?)
}

/// The next message with its descriptors; None where the other side has gone.
pub fn receive<T: DeserializeOwned>(from: &Connection) -> Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; LONGEST];
    let Some(packet) = from.receive(&mut bytes)? else { return Ok(None) };
    if packet.is_cut {
        bail!("a message is longer than {LONGEST} bytes");
    }
    let text = &bytes[..packet.len];
    let message = serde_json::from_slice(text).context("a message that makes no sense")?;
    Ok(Some((message, packet.descriptors)))
}
