//! Whose kernel scripts and replays run over.

use clap::ValueEnum;
use pcap_tests::script::System;

/// Whose kernel.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum On {
    /// The stack of netcell, in virtual time
    #[default]
    Stack,
    /// The host's Linux in a network namespace of its own, in real time; needs root, iproute2 and python3
    Linux,
}

impl From<On> for System {
    fn from(on: On) -> System {
        match on {
            On::Stack => System::Ours,
            On::Linux => System::Linux,
        }
    }
}
