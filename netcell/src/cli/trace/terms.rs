//! What `diff` and `replay` compare: their common options.

use std::time::Duration;

use clap::Args;
use pcap_tests::compare::{Aspect, Terms};

/// What is compared, and how closely.
#[derive(Args, Debug)]
pub struct TermArgs {
    /// Do not compare these
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    ignore: Vec<Aspect>,
    /// Compare these, too
    #[arg(long, value_name = "NAME|all", value_delimiter = ',', value_parser = strict)]
    strict: Vec<Strict>,
    /// Times may differ by so many milliseconds (of the aspect timing)
    #[arg(long, value_name = "MS", default_value_t = 4)]
    tolerance: u64,
    /// Print nothing: the exit status tells
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Clone, Copy, Debug)]
enum Strict {
    All,
    One(Aspect),
}

fn strict(name: &str) -> Result<Strict, String> {
    match name {
        "all" => Ok(Strict::All),
        name => name.parse().map(Strict::One),
    }
}

impl TermArgs {
    pub fn terms(&self) -> Terms {
        let mut aspects = Aspect::DEFAULT.to_vec();
        for strict in &self.strict {
            match strict {
                Strict::All => aspects.extend(Aspect::ALL),
                Strict::One(aspect) => aspects.push(*aspect),
            }
        }
        aspects.retain(|aspect| !self.ignore.contains(aspect));
        Terms { aspects, tolerance: Duration::from_millis(self.tolerance) }
    }
}
