//! Replay: a kernel plays one side of a recorded conversation: our stack in virtual time, or Linux behind a TAP device. What the other
//! side sent is fed in when it was recorded; what the program on our side did (connect, write, close, reset) is read from the record.
//! Then both are compared.

mod kernel;
mod linux;
mod live;
mod lives;
mod messages;
mod ours;
mod plan;
mod player;
mod program;
mod reading;
mod script;
mod sent;
mod stamps;
mod wire;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use crate::capture::{ReadError, Reader};
use crate::compare::{Terms, Verdict};
use crate::namespace::KernelError;
use crate::packet::{Endpoint, Sums};
use crate::script::System;
pub use program::App;
pub use script::Script;

use kernel::Kernel;
use plan::Plan;
use player::Player;

/// Whom the stack plays: a host, or one port of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its address.
    pub host: IpAddr,
    /// Its port; none: every port.
    pub port: Option<u16>,
}

impl Role {
    fn plays(&self, (host, port): Endpoint) -> bool {
        self.host == host && self.port.is_none_or(|only| only == port)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => std::net::SocketAddr::new(self.host, port).fmt(f),
            None => self.host.fmt(f),
        }
    }
}

impl FromStr for Role {
    type Err = String;

    /// `10.0.0.1`, `10.0.0.1:80`, `fd00::1` or `[fd00::1]:80`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<std::net::SocketAddr>() {
            return Ok(Self { host: address.ip(), port: Some(address.port()) });
        }
        let host =
            text.parse().map_err(|_| format!("{text:?} is no address, or address and port"))?;
        Ok(Self { host, port: None })
    }
}

/// Who plays what.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whom the kernel plays.
    pub roles: Vec<Role>,
    /// Whose kernel plays.
    pub system: System,
    /// In real time: no longer is waited for the next frame while something is under way. What is at rest waits a second.
    pub max_gap: Duration,
    /// What is compared.
    pub terms: Terms,
    /// What the programs of its connections do.
    pub app: App,
}

impl Settings {
    /// The longest wait in real time unless told otherwise.
    pub const MAX_GAP: Duration = Duration::from_secs(10);

    /// Our stack plays these.
    pub fn of(roles: &[Role]) -> Self {
        Self {
            roles: roles.to_vec(),
            system: System::Ours,
            max_gap: Self::MAX_GAP,
            terms: Terms::default(),
            app: App::Recorded,
        }
    }
}

/// What a replay gave.
pub struct Outcome {
    /// Flows that were replayed.
    pub flows: u64,
    /// In what they differ from what was recorded. The second trace is what was played.
    pub verdict: Verdict,
    /// Flows of ours that could not be replayed: number in the capture, why.
    pub left_out: Vec<(u64, &'static str)>,
    /// What the comparison does not show, although it is no agreement.
    pub notes: Vec<String>,
    /// In real time: gaps that were cut short, and by how much in all. First while nothing was under way, then the others.
    pub shortened: [(u64, Duration); 2],
}

/// Why a capture could not be played.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no kernel, or it failed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// What was played could not be kept.
    #[error(transparent)]
    Keep(#[from] std::io::Error),
}

/// Takes each frame of the replay: time, whether the kernel sent it, bytes.
pub type Sink<'a> = &'a mut (dyn FnMut(Duration, bool, &[u8]) -> std::io::Result<()> + Send);

/// Gives a reader of the capture at its start.
pub type Open<'a> = &'a (dyn Fn() -> Result<Reader, ReadError> + Sync);

/// Plays the roles in a capture. `open` is asked twice. A file that ends early is played up to there, with a note.
pub fn replay(
    open: Open<'_>,
    settings: &Settings,
    sink: Option<Sink<'_>>,
) -> Result<Outcome, ReplayError> {
    let plan = Plan::of(&mut open()?, &settings.roles);
    match settings.system {
        System::Ours => {
            // What nobody keeps, nobody looks at.
            let sums = if sink.is_some() { Sums::Checked } else { Sums::Ignored };
            let mut stack = ours::Ours::new(plan.mtu(), sums);
            play(open, (settings, &plan), &mut stack, (sink, sums))
        }
        // The thread stays in the namespace, and ends with it.
        System::Linux => std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let mut linux = linux::Linux::new(plan.mtu())?;
                play(open, (settings, &plan), &mut linux, (sink, Sums::Checked))
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        }),
    }
}

fn play(
    open: Open<'_>,
    (settings, plan): (&Settings, &Plan),
    kernel: &mut dyn Kernel,
    (sink, sums): (Option<Sink<'_>>, Sums),
) -> Result<Outcome, ReplayError> {
    // Lives no longer than the kernel from here on.
    let sink = sink.map(|sink| sink as Sink<'_>);
    let mut player = Player::new(settings, plan, kernel, (sink, sums))?;
    let mut reader = open()?;
    let end = loop {
        match reader.next() {
            Ok(Some(frame)) => player.frame(&frame)?,
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    let mut outcome = player.finish()?;
    outcome.notes.extend(end.map(|error| error.to_string()));
    Ok(outcome)
}

#[cfg(test)]
mod tests;
