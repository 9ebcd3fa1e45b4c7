//! `containerd-shim-netcell-v1`: containerd starts one for each pod or container, and speaks ttrpc with it. It calls the OCI runtime,
//! carries standard streams, waits for processes and tells what happened to them.
#![forbid(unsafe_code)]

mod args;
mod bundle;
mod cgroup;
mod container;
mod events;
mod logger;
mod oom;
mod options;
mod process;
mod reaper;
mod runtime;
mod serve;
mod service;
mod start;
mod streams;
mod terminal;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};

use args::{Action, Args};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("containerd-shim-netcell-v1: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args = Args::of_process()?;
    match args.action {
        Action::Start => start::start(&args),
        Action::Serve => serve::serve(&args),
        Action::Delete => start::delete(&args),
        Action::Version => {
            println!("containerd-shim-netcell-v1 {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Action::Info => {
            let info = RuntimeInfo {
                name: "io.containerd.netcell.v1".into(),
                version: MessageField::some(RuntimeVersion {
                    version: env!("CARGO_PKG_VERSION").into(),
                    ..RuntimeVersion::default()
                }),
                ..RuntimeInfo::default()
            };
            std::io::stdout().write_all(&info.write_to_bytes()?)?;
            Ok(())
        }
    }
}
