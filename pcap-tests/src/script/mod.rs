//! Scripts in the language of packetdrill: system calls, the packets that arrive, and those that must be sent, with their times. A
//! script runs over a [`kernel::Kernel`]: our stack in virtual time ([`ours`]), or Linux behind a TAP device ([`linux`]).
//!
//! ```
//! use pcap_tests::script::{Script, ours::Ours, run};
//!
//! let script = Script::parse(
//!     "0   socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
//!      +0  bind(3, ..., ...) = 0
//!      +0  listen(3, 1) = 0
//!      +0  < S 0:0(0) win 1000 <mss 1000>
//!      +0  > S. 0:0(0) ack 1 <...>",
//! )
//! .expect("a script");
//! let mut kernel = Ours::new(&script.settings);
//! run(&script, &mut kernel, &mut |_| ()).expect("the stack answers so");
//! ```

mod calls;
mod code;
mod flow;
pub mod kernel;
mod lexer;
pub mod linux;
mod numbers;
pub mod ours;
mod parser;
mod run;
mod shell;
pub mod syntax;
mod verify;
pub(crate) mod wire;

use std::time::Duration;

pub use run::{Watch, run};
pub use syntax::Script;

use kernel::KernelError;

/// What is wrong with the text of a script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct SyntaxError {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// In words.
    pub what: String,
}

impl SyntaxError {
    /// At a byte of the text.
    fn at(text: &str, at: usize, what: impl Into<String>) -> SyntaxError {
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        SyntaxError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            what: what.into(),
        }
    }

    /// At the beginning of a line.
    fn on(line: usize, what: impl Into<String>) -> SyntaxError {
        SyntaxError { line, column: 1, what: what.into() }
    }
}

impl Script {
    /// Reads a script.
    pub fn parse(text: &str) -> Result<Script, SyntaxError> {
        parser::parse(text)
    }
}

/// Where a kernel did otherwise than a script says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The line of the script.
    pub line: usize,
    /// What differs.
    pub what: String,
    /// What the script says.
    pub expected: String,
    /// What came.
    pub came: String,
    /// Where it is written how it should be.
    pub rule: Option<&'static str>,
    /// What the script shows.
    pub about: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)?;
        write!(f, "\n  expected: {}\n  came:     {}", self.expected, self.came)?;
        self.rule.map_or(Ok(()), |rule| write!(f, "\n  rule:     {rule}"))?;
        if self.about.is_empty() { Ok(()) } else { write!(f, "\n  script:   {}", self.about) }
    }
}

/// Why a script did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The kernel did otherwise.
    #[error("{0}")]
    Failed(Box<Failure>),
    /// A line that cannot be run.
    #[error("line {line}: {why}")]
    Refused {
        /// The line.
        line: usize,
        /// Why.
        why: String,
    },
    /// There is no kernel to run it over.
    #[error(transparent)]
    NoKernel(KernelError),
}

/// Whose kernel a script runs over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum System {
    /// Our stack, in virtual time.
    #[default]
    Ours,
    /// The host's, in a network namespace of its own, in real time. It needs root.
    Linux,
}

impl System {
    /// Runs a script over such a kernel, made for it. Errors: as [`run`]'s.
    pub fn play(self, script: &Script, watch: Watch<'_>) -> Result<(), Stop> {
        match self {
            System::Ours => run(script, &mut ours::Ours::new(&script.settings), watch),
            // The thread stays in the namespace, and ends with it.
            System::Linux => std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    let mut linux = linux::Linux::new(&script.settings).map_err(Stop::NoKernel)?;
                    run(script, &mut linux, watch)
                });
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }),
        }
    }
}

impl Stop {
    /// With what the script shows.
    fn of(mut self, script: &Script) -> Stop {
        if let Stop::Failed(failure) = &mut self {
            failure.about.clone_from(&script.about);
        }
        self
    }

    fn refused(line: usize, error: KernelError) -> Stop {
        Stop::Refused { line, why: error.to_string() }
    }
}

/// What happens while a script runs, for who watches.
#[derive(Clone, Copy, Debug)]
pub enum Note<'a> {
    /// A packet, from its IP header on: when, whether the kernel sent it, and its bytes.
    Packet(Duration, Way, &'a [u8]),
    /// A packet of the kernel in the script's notation, or a call that returned.
    Line(Duration, &'a str),
}

/// The way of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the kernel.
    In,
    /// From the kernel.
    Out,
}

#[cfg(test)]
mod tests;
