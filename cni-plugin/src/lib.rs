//! The CNI plugin of netcell, CNI specification 0.3.0 to 1.1.0: a file per verb.
//!
//! It knows the specification, the host's links, addresses and rules, and the hand-off file; it knows neither the stack nor the kernel
//! that pods run on: what it shares with them is the documented file (`docs/cni.md`).
#![forbid(unsafe_code)]
#![expect(
    dead_code,
    reason = "names of links and changes of rtnetlink wait for the modes that make interfaces"
)]

mod attach;
mod call;
mod config;
mod error;
mod handoff;
mod ipam;
mod names;
mod netlink;
mod netns;
mod nft;
mod program;
mod result;
mod survey;
mod undo;
mod verbs;
mod version;

use std::io::{Read, Write};
use std::process::ExitCode;

use serde_json::Value;

use crate::call::{Call, Environment, Verb};
use crate::error::{CniError, Code};
use crate::version::Version;

/// No configuration is longer than this; what is, is an accident or an attack.
const INPUT_BYTES_MAX: u64 = 1 << 20;

/// Runs the verb that the environment names over the configuration on standard input. The result, or the error as the
/// specification's JSON, goes to standard output; the status is 0 or 1.
pub fn main() -> ExitCode {
    let mut version = Version::NEWEST;
    match run(&mut version) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(result)) => print(&result).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
        Err(error) => {
            // Nothing is left to do where even the error cannot be written.
            let _ = print(&error.to_json(version));
            ExitCode::FAILURE
        }
    }
}

fn print(value: &Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value:#}")?;
    out.flush()
}

/// Answers one call. `version` becomes the configuration's once it is known, so that an error is told in it too.
fn run(version: &mut Version) -> Result<Option<Value>, CniError> {
    let environment = Environment::of_process();
    let verb = environment.verb()?;
    let input = read_input()?;
    if verb == Verb::Version {
        return verbs::version(&input).map(Some);
    }
    let input = config::Input::parse(&input)?;
    *version = input.version;
    let call = Call::new(verb, &environment, input)?;
    match verb {
        Verb::Add => verbs::add(&call).map(Some),
        Verb::Check => verbs::check(&call).map(|()| None),
        Verb::Del => verbs::del(&call).map(|()| None),
        Verb::Gc => verbs::gc(&call).map(|()| None),
        Verb::Status => verbs::status(&call).map(|()| None),
        Verb::Version => Ok(None),
    }
}

fn read_input() -> Result<Vec<u8>, CniError> {
    let mut input = Vec::new();
    std::io::stdin().lock().take(INPUT_BYTES_MAX + 1).read_to_end(&mut input).map_err(|e| {
        CniError::new(Code::Io, "cannot read the configuration from standard input").because(e)
    })?;
    if input.len() as u64 > INPUT_BYTES_MAX {
        let msg =
            format!("the configuration on standard input is longer than {INPUT_BYTES_MAX} bytes");
        return Err(CniError::new(Code::Decode, msg));
    }
    Ok(input)
}
