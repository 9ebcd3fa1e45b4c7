//! Which platform runs the programs: the one that was asked for, or the fastest that works here.

use std::sync::Arc;

use anyhow::{Context, Result};
use platform::{Backend, BackendOptions, Platform, PlatformError};

use crate::cli::run::{LogLevel, PlatformChoice};

/// Starts it. To be called before this process has threads.
pub fn start(choice: PlatformChoice, log_level: LogLevel) -> Result<Arc<dyn Platform>> {
    let named = match choice {
        PlatformChoice::Systrap => "systrap",
        PlatformChoice::Ptrace => "ptrace",
        PlatformChoice::Auto => return fastest(log_level),
    };
    let backend = platform::by_name(named).context("this build has no such platform")?;
    started(backend).context("cannot run programs here")
}

fn started(backend: &Backend) -> Result<Arc<dyn Platform>, PlatformError> {
    (backend.start)(BackendOptions::default())
}

/// The first that starts and runs a test program.
fn fastest(log_level: LogLevel) -> Result<Arc<dyn Platform>> {
    let mut last = None;
    for backend in platform::all() {
        let platform = started(backend).and_then(|platform| {
            platform::self_test(&platform)?;
            Ok(platform)
        });
        match platform {
            Ok(platform) => {
                if log_level >= LogLevel::Info {
                    eprintln!("netcell: programs run on the {} platform", platform.name());
                }
                return Ok(platform);
            }
            Err(error) => {
                if log_level >= LogLevel::Info {
                    eprintln!("netcell: not the {} platform: {error}", backend.name);
                }
                last = Some(error);
            }
        }
    }
    let none = last.map_or_else(|| anyhow::anyhow!("this build has no platform"), Into::into);
    Err(none).context("cannot run programs here")
}
