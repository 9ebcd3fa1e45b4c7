//! `netcell trace plot`: the picture of one connection.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use pcap_tests::flows::{Detail, Summary};
use pcap_tests::plot;

use super::progress;

/// Draw a connection: the time-sequence graph, round trips, rate and bytes in flight.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  netcell trace info t.pcapng                      which flows are there?
  netcell trace plot t.pcapng --flow 3 -o slow.svg
  netcell trace plot t.pcapng --flow 3 --from 1.5 --to 2 -o stall.svg
  netcell trace plot t.pcapng --flow 3 --graph throughput -o rate.png

Each segment is an upright bar from its first byte to its last: blue when sent first, red when sent again. The green line
is what was acknowledged, the yellow one the edge of the window, purple bars are SACK blocks; S, F and R are SYN, FIN and RST.")]
pub struct PlotArgs {
    /// pcap or pcapng, also compressed with gzip or zstd
    file: PathBuf,
    /// The flow, by its number in `netcell trace info`
    #[arg(long, value_name = "N", default_value_t = 1)]
    flow: u64,
    /// The side whose bytes are drawn; by default the one that sent more
    #[arg(long, value_enum)]
    side: Option<Side>,
    /// Seconds of the flow from which on is drawn
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    from: f64,
    /// Seconds of the flow up to which is drawn
    #[arg(long, value_name = "S")]
    to: Option<f64>,
    /// Which picture
    #[arg(long, value_enum, default_value_t = Graph::All)]
    graph: Graph,
    /// The picture: a file that ends in .svg or .png
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Graph {
    /// All of them in one
    All,
    /// Segments, acknowledgments, the window's edge, SACK blocks
    TimeSequence,
    /// Round trips
    Rtt,
    /// Acknowledged bytes a second
    Throughput,
    /// Bytes in flight under the offered window
    Window,
}

impl From<Graph> for plot::Graph {
    fn from(graph: Graph) -> Self {
        match graph {
            Graph::All => Self::All,
            Graph::TimeSequence => Self::TimeSequence,
            Graph::Rtt => Self::Rtt,
            Graph::Throughput => Self::Throughput,
            Graph::Window => Self::Window,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Side {
    Caller,
    Called,
}

pub fn run(args: &PlotArgs) -> Result<u8> {
    let name = args.file.display().to_string();
    let end = args.output.extension().and_then(|end| end.to_str());
    let is_png = match end {
        Some("svg") => false,
        Some("png") => true,
        _ => bail!("{}: give a name that ends in .svg or .png", args.output.display()),
    };
    let seconds = |value: f64| {
        Duration::try_from_secs_f64(value).with_context(|| format!("{value} is no time in seconds"))
    };
    let options = plot::Options {
        graph: args.graph.into(),
        side: args.side.map(|side| side as usize),
        from: seconds(args.from)?,
        to: args.to.map(seconds).transpose()?,
    };
    let mut reader = progress::open(&args.file).with_context(|| name.clone())?;
    let mut summary = Summary::watching(args.flow, Detail::Steps);
    let end = summary.read(&mut reader);
    super::told_end(&args.file, &reader, &summary, end)?;
    let Some(flow) = summary.flows().into_iter().find(|flow| flow.number == args.flow) else {
        bail!("{name}: no flow {}; there are {}", args.flow, summary.flow_count());
    };
    let Some(picture) = plot::svg(flow, options) else {
        bail!("{name}: flow {} is no TCP connection", args.flow);
    };
    let picture = if is_png { plot::png(&picture)? } else { picture.into_bytes() };
    std::fs::write(&args.output, picture).with_context(|| args.output.display().to_string())?;
    Ok(0)
}
